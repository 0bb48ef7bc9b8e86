"""`horizon compare`: does the replay equal the live run?"""

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from pipelines.options import MarketDataConfig
from runners.commands.connection import AsJson, fail
from runners.compare import CompareError, Verdict, compare
from runners.replay import ReplayError, manifest_of
from runners.run_note import RunNoteError, differing, read_run
from schemas.units import US_PER_S

EPILOG = """Example:

horizon compare .horizon/data/live again
"""


def compare_command(
    live: Annotated[Path, typer.Argument(help="Directory of the live run's files.")],
    replay: Annotated[Path, typer.Argument(help="Directory of a replay.")],
    as_json: AsJson = False,
) -> None:
    """Hold a live run against a replay: unique events, final bars and stats, late events and rejects, value for value.

    Compared is what the replay's manifest covers, and of that what holds only records that the replay read: where it
    begins within the log, event times from 5 s after the newest log time there; where the live run read on behind its
    end, those that end by horizon + 30 s before the newest log time there. The output says which. The options of both
    runs are in their run.json. Exit code 0 when all is equal, 1 with the first difference of each kind otherwise, 2
    when there was nothing to compare.
    """
    for directory, command in ((live, "horizon live"), (replay, "horizon replay")):
        if not directory.is_dir():
            fail(escape(f"{directory} is no directory; name the one that `{command}` wrote its files to"), 2)
    try:
        manifest, config = manifest_of(replay), _options_of_both(live, replay)
        settled_us = config.cell.horizon_us + config.cell.slack_us
        verdicts = compare(live, replay, manifest, config.cell.grace_us, *config.sessions, settled_us=settled_us)
    except (ReplayError, CompareError, RunNoteError) as error:
        fail(error, 2)
    report(verdicts, as_json)
    if not any(verdict.live_rows for verdict in verdicts):
        fail("nothing to compare: neither directory holds rows that the manifest covers", 2)
    if not all(verdict.equal for verdict in verdicts):
        raise typer.Exit(1)


def _options_of_both(live: Path, replay: Path) -> MarketDataConfig:
    """The options of both runs. CompareError where they differ: so would the results."""
    config, other = read_run(live), read_run(replay)
    if found := differing(config, other):
        said = ", ".join(f"{name} was {one} live and {two} in the replay" for name, (one, two) in found.items())
        raise CompareError(f"the runs had other options: {said}; replay with those of the live run")
    return config


def report(verdicts: list[Verdict], as_json: bool) -> None:
    """Print the verdicts."""
    if as_json:
        typer.echo(json.dumps([asdict(verdict) | {"equal": verdict.equal} for verdict in verdicts]))
        return
    for verdict in verdicts:
        word = "equal" if verdict.equal else "DIFFERENT"
        rows = f"live {verdict.live_rows:,}, replay {verdict.replay_rows:,}"
        typer.echo(f"{verdict.dataset:8} {word:9} {rows}{_bounds(verdict)}")
        if verdict.difference:
            typer.echo(f"         first difference: {verdict.difference}")


def _bounds(verdict: Verdict) -> str:
    """Between which event times was compared, where not all of them were."""
    bounds = (("beginning after", verdict.after_us), ("ending by", verdict.until_us))
    return "".join(f", {word} {_stamp(time_us)}" for word, time_us in bounds if time_us is not None)


def _stamp(time_us: int) -> str:
    return f"{datetime.fromtimestamp(time_us / US_PER_S, UTC):%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "Z"
