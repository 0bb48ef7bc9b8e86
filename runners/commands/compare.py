"""`horizon compare`: does the replay equal the live run?"""

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from pipelines.options import MarketDataConfig
from runners.commands.connection import AsJson, fail, say
from runners.compare import CompareError, Verdict, compare
from runners.dataset_files import FilesError, count_rows, read_dataset
from runners.reach import NEVER_US, Reach, seen_in
from runners.replay import MANIFEST, ReplayError, manifest_of
from runners.run_note import RunNoteError, differing, read_code_version, read_reach, read_rows, read_run
from schemas.units import LOG_TIME_UNTIL_US, US_PER_S
from transforms.datasets import BARS, EVENTS, STATS
from transforms.read_offsets import Manifest

EPILOG = """Example:

horizon compare .horizon/data/live again
"""


def compare_command(
    live: Annotated[Path, typer.Argument(help="Directory of the live run's files, or of another replay.")],
    replay: Annotated[Path, typer.Argument(help="Directory of a replay.")],
    as_json: AsJson = False,
) -> None:
    """Hold a live run against a replay: unique events, final bars and stats, late events and rejects, value for value.

    Compared is what both have read and filed: where the replay begins within the log, event times from 5 s after the
    newest log time there; up to what holds a record that only one of the two has, or one so new that a stopped live run
    may have had it in its state alone. The output says between which times, and how many rows that leaves out. The
    options of both runs, and how far the live run came, are in their run.json. Exit code 0 when all is equal, 1 with
    the first difference of each kind and its cause otherwise, 2 when there was nothing to compare, or nothing of the
    events, bars or stats.
    """
    for directory, command in ((live, "horizon live"), (replay, "horizon replay")):
        if not directory.is_dir():
            fail(escape(f"{directory} is no directory; name the one that `{command}` wrote its files to"), 2)
    try:
        manifest, config = manifest_of(replay), _options_of_both(live, replay)
        _check_whole(replay)
        cell, reach = config.cell, _reach_of(live, manifest, config)
        verdicts = compare(
            live, replay, manifest, cell.grace_us, *config.sessions, horizon_us=cell.horizon_us, reach=reach
        )
        report(verdicts, as_json)
        if not all(verdict.equal for verdict in verdicts):
            _say_versions(live, replay)
            raise typer.Exit(1)
    except (ReplayError, CompareError, FilesError, RunNoteError) as error:
        fail(error, 2)
    if not any(verdict.live_rows for verdict in verdicts):
        fail("nothing to compare: neither directory holds rows that both runs have read and filed", 2)
    needed = (EVENTS.name, BARS.name, STATS.name)
    if empty := [one.dataset for one in verdicts if one.is_empty and one.dataset in needed]:
        fail(
            f"nothing of {', '.join(empty)} could be compared: the stretch is too short, or the live run's clock "
            "stood; let it go on, or replay more of the log",
            2,
        )


def _options_of_both(live: Path, replay: Path) -> MarketDataConfig:
    """The options of both runs. CompareError where they differ: so would the results."""
    config, other = read_run(live), read_run(replay)
    if found := differing(config, other):
        said = ", ".join(f"{name} was {one} live and {two} in the replay" for name, (one, two) in found.items())
        raise CompareError(f"the runs had other options: {said}; replay with those of the live run")
    return config


def _check_whole(replay: Path) -> None:
    """CompareError unless the replay ended and all its files are there: what is in none of both would seem equal."""
    noted, found = read_rows(replay), count_rows(replay)
    if noted is None:
        raise CompareError(f"the replay into {replay} has not ended; wait for it, or replay again")
    other = [f"{found[name]:,} of {rows:,} {name}" for name, rows in noted.items() if found[name] != rows]
    if other:
        raise CompareError(f"{replay} has not the files that the replay left: {', '.join(other)}; replay again")


def _reach_of(live: Path, manifest: Manifest, config: MarketDataConfig) -> Reach:
    """How far the live run came. CompareError when that was on another topic."""
    if (live / MANIFEST).is_file() and manifest_of(live) == manifest:  # a replay too, which files all that it reads
        _check_whole(live)
        return Reach("", {}, NEVER_US, {one.partition: one.stop for one in manifest.stretches})
    reach = read_reach(live)
    if reach is None:
        say(f"{live} does not say that its run was stopped: it is taken to have come as far as its files show")
        return seen_in(read_dataset(live, EVENTS, ("event_time", "partition", "offset")), config.cell.horizon_us)
    if others := {stretch.topic for stretch in manifest.stretches} - {reach.topic}:
        raise CompareError(
            f"the live run read {reach.topic}, the replay {', '.join(sorted(others))}; replay that topic"
        )
    return reach


def _say_versions(live: Path, replay: Path) -> None:
    one, other = read_code_version(live), read_code_version(replay)
    if one != other:
        say(f"the live run is of code {one}, the replay of {other}")


def report(verdicts: list[Verdict], as_json: bool) -> None:
    """Print the verdicts."""
    if as_json:
        typer.echo(json.dumps([asdict(one) | {"equal": None if one.is_empty else one.equal} for one in verdicts]))
        return
    for verdict in verdicts:
        word = "nothing" if verdict.is_empty else "equal" if verdict.equal else "DIFFERENT"
        rows = f"live {verdict.live_rows:,}, replay {verdict.replay_rows:,}"
        typer.echo(f"{verdict.dataset:8} {word:9} {rows}{_bounds(verdict)}{_left_out(verdict)}")
        if verdict.difference:
            typer.echo(f"         first difference: {verdict.difference}")
        if verdict.cause:
            typer.echo(f"         cause: {verdict.cause}")


def _left_out(verdict: Verdict) -> str:
    """How many rows were not compared."""
    if not (verdict.live_left_out or verdict.replay_left_out):
        return ""
    return f"; left out {verdict.live_left_out:,} and {verdict.replay_left_out:,}"


def _bounds(verdict: Verdict) -> str:
    """Between which event times was compared, where not all of them were."""
    bounds = (("beginning after", verdict.after_us), ("ending by", verdict.until_us))
    known = [(word, time_us) for word, time_us in bounds if time_us is not None and time_us < LOG_TIME_UNTIL_US]
    return "".join(f", {word} {_stamp(time_us)}" for word, time_us in known)


def _stamp(time_us: int) -> str:
    return f"{datetime.fromtimestamp(time_us / US_PER_S, UTC):%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "Z"
