"""`horizon live`: the live job on Flink, from start to savepoint."""

import json
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from pipelines.options import ConfigError, MarketDataConfig
from pipelines.outputs import Outputs
from runners.beacons import Beacons
from runners.commands.connection import StateDir, fail, stderr, stop_on_signal
from runners.live import ENDED, LiveError, LiveJob, LiveOptions, start
from runners.log import Log, LogError
from runners.stack import Endpoints, StackError, endpoints
from runners.watch import Watch
from transforms.cell import CellConfig

EPILOG = """Examples:

horizon live                                        (until Ctrl-C, then a savepoint)

horizon live --out bars-and-events --parallelism 2

horizon live --fresh --group second-opinion         (own group: from the topic's start)
"""

_LOOK_S = 1.0
_LINE_EVERY_S = 10.0


def live(
    topic: Annotated[str, typer.Option(help="Topic to read.")] = "md.events.raw",
    group: Annotated[str, typer.Option(help="Consumer group; names the job, its offsets and its savepoints.")] = "live",
    out: Annotated[Path | None, typer.Option(help="Directory of the Parquet files; default: STATE/data/GROUP.")] = None,
    prefix: Annotated[str, typer.Option(help="First part of the output topics' names.")] = "md",
    parallelism: Annotated[int, typer.Option(min=1, max=12, help="Flink slots to use.")] = 1,
    max_parallelism: Annotated[
        int | None,
        typer.Option(help="Most slots this group will ever use, fixed at its first start; default: --parallelism."),
    ] = None,
    horizon_s: Annotated[float, typer.Option(help="Seconds of log lag above which an event is late.")] = 120,
    grace_ms: Annotated[float, typer.Option(help="A bar goes out so long after its end.")] = 500,
    shards: Annotated[int, typer.Option(help="Shards of the instruments; part of the files' names.")] = 2,
    bundle_ms: Annotated[
        int, typer.Option(min=1, help="Bundles end after so long: less for latency, more for rate.")
    ] = 100,
    duration: Annotated[float | None, typer.Option(help="Stop after N seconds; default: at Ctrl-C.")] = None,
    beacons: Annotated[bool, typer.Option(help="Write beacons to silent partitions of the topic.")] = True,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start without the group's last savepoint.")] = False,
    savepoint: Annotated[str | None, typer.Option(help="Resume from this savepoint instead of the last.")] = None,
    state_dir: StateDir = Path(".horizon"),
) -> None:
    """Run the live job: events from the topic, unique events, bars, late and refused ones to topics and Parquet.

    Resumes from the group's last savepoint, else from its committed offsets, else from the topic's start. Ctrl-C
    stops it with a savepoint, so that the next `horizon live` goes on where this one ended. State in Flink is about
    32 bytes an event for the horizon: 100,000/s and 120 s are 380 MB.
    """
    try:
        places = endpoints(state_dir)
        config = market_config(horizon_s, grace_ms, shards)
        outputs = Outputs(
            files_root=str((out or state_dir / "data" / group).absolute()),
            bootstrap_servers=places.bootstrap_servers,
            topic_prefix=prefix,
        )
        options = LiveOptions(
            topic=topic,
            group=group,
            outputs=outputs,
            config=config,
            parallelism=parallelism,
            max_parallelism=max_parallelism or parallelism,
            bundle_ms=bundle_ms,
            savepoint=savepoint or (None if fresh else last_savepoint(state_dir, group)),
        )
        _warn_of_old_clock(places.bootstrap_servers, topic, config)
        _run(places, options, state_dir, beacons, duration)
    except (StackError, LiveError, LogError, ConfigError) as error:
        fail(error)


def last_savepoint(state_dir: Path, group: str) -> str | None:
    """The savepoint that the group's last run ended with."""
    note = _note(state_dir, group)
    return json.loads(note.read_text())["savepoint"] if note.exists() else None


def stop_and_note(job: LiveJob, state_dir: Path, group: str) -> str:
    """Stop the job with a savepoint and note it for the next run."""
    savepoint = job.stop((state_dir / "flink" / "savepoints").absolute())
    note = _note(state_dir, group)
    note.parent.mkdir(parents=True, exist_ok=True)
    note.write_text(json.dumps({"savepoint": savepoint, "job": job.job_id}))
    return savepoint


def _note(state_dir: Path, group: str) -> Path:
    return state_dir / "groups" / f"{group}.json"


def market_config(horizon_s: float, grace_ms: float, shards: int) -> MarketDataConfig:
    cell = CellConfig(grace_us=round(grace_ms * 1_000), horizon_us=round(horizon_s * 1_000_000), shards=shards)
    return replace(MarketDataConfig(), cell=cell)


def _warn_of_old_clock(bootstrap_servers: str, topic: str, config: MarketDataConfig) -> None:
    """KafkaIO moves the clock of a drained partition to the wall clock: cells of old log times would close at once."""
    newest_ms = max(Log(bootstrap_servers, topic).newest_ms().values(), default=-1)
    behind_s = time.time() - newest_ms / 1_000
    if newest_ms > 0 and behind_s > config.cell.horizon_us / 1e6:
        stderr.print(
            f"[bold yellow]warning:[/] the newest log time of {topic} is {behind_s:,.0f} s behind the wall clock, more "
            "than the horizon. What is on the topic now is read as it should be; records of such old log times that "
            "are published from now on will find their cells closed and go to late. Publish a capture whole before "
            "the live job starts, or let `horizon publish` move its times to now."
        )


def _run(places: Endpoints, options: LiveOptions, state_dir: Path, beacons: bool, duration: float | None) -> None:
    watch = Watch(places.bootstrap_servers, options.topic, options.outputs.topic_prefix, options.config.intervals_s)
    origin = f"savepoint {options.savepoint}" if options.savepoint else f"the offsets of group {options.group}"
    stderr.print(f"starting on Flink at http://{places.flink_rest} from {origin}", highlight=False, soft_wrap=True)
    with stop_on_signal() as stop, ExitStack() as open_:
        job = start(places, options)
        stderr.print(f"job {job.job_id} runs; Ctrl-C stops it with a savepoint", highlight=False)
        if beacons:
            open_.enter_context(Beacons(places.bootstrap_servers, options.topic))
        _follow(job, watch, stop.wait, duration)
        savepoint = stop_and_note(job, state_dir, options.group)
    typer.echo(f"{watch.counts()}\nsavepoint {savepoint}\nfiles {options.outputs.files_root}")


def _follow(job: LiveJob, watch: Watch, wait: Callable[[float], bool], duration: float | None) -> None:
    """Report until told to stop. LiveError when Flink gives the job up."""
    end = time.monotonic() + duration if duration is not None else float("inf")
    before, line_at = watch.counts(), time.monotonic() + _LINE_EVERY_S
    while time.monotonic() < end and not wait(_LOOK_S):
        state = job.state()
        if state in ENDED:
            raise LiveError(f"job {job.job_id} is {state}; look at the logs of the JobManager and the workers")
        now = watch.counts()
        rate = (now.unique - before.unique) / max(now.at - before.at, 1e-9)
        if stderr.is_terminal or time.monotonic() >= line_at:
            stderr.print(f"{state.lower()}: {now}, {rate:,.0f} unique/s", highlight=False, soft_wrap=True)
            line_at = time.monotonic() + _LINE_EVERY_S
        before = now
