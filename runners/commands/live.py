"""`horizon live`: the live job on Flink, from start to savepoint."""

import shlex
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer
from confluent_kafka import KafkaException
from rich.markup import escape

from pipelines.options import ConfigError, MarketDataConfig
from pipelines.outputs import Outputs
from runners.beacons import Beacons
from runners.bounds import as_text
from runners.commands.connection import (
    BootstrapServers,
    KafkaConfig,
    StateDir,
    fail,
    reached_by,
    say,
    stack,
    stderr,
    stop_on_signal,
)
from runners.flink_rest import FlinkError
from runners.group import LiveGroup
from runners.kafka_rights import Right, reading
from runners.live import LiveError, LiveOptions
from runners.log import LogError
from runners.resume import ResumeError
from runners.run_note import RunNoteError, options_of
from runners.stack import Endpoints, StackError
from runners.watch import Watch
from transforms.cell_config import CellConfig
from transforms.faults import Limits
from transforms.header_ids import IdHeaders
from transforms.topics import TopicNames

EPILOG = """Examples:

horizon live                                        (until Ctrl-C, then a savepoint)

horizon live --out bars-and-events

horizon live --parallelism 2                        (moves the group's job to two slots)

horizon live --group second-opinion                 (own group: from the topic's start)

horizon live --trade-id-header x-trade-id           (venue's ids in a header of that name)

horizon live --kafka-config desk.properties         (its bootstrap.servers instead of the local stack's Kafka)

horizon live --fresh                                (all anew from the log, which comes to the same)
"""

_LOOK_S = 1.0
_LINE_EVERY_S = 10.0


def live(
    topic: Annotated[str, typer.Option(help="Topic to read.")] = "md.events.raw",
    group: Annotated[str, typer.Option(help="Consumer group; names the job, its offsets and its savepoints.")] = "live",
    out: Annotated[Path | None, typer.Option(help="Directory of the Parquet files; default: STATE/data/GROUP.")] = None,
    prefix: Annotated[str, typer.Option(help="First part of the output topics' names.")] = "md",
    parallelism: Annotated[int, typer.Option(min=1, max=12, help="Flink slots to use; may change at every start.")] = 1,
    horizon_s: Annotated[float, typer.Option(help="Seconds of log lag above which an event is late.")] = 120,
    grace_ms: Annotated[float, typer.Option(help="A bar goes out so long after its end.")] = 500,
    shards: Annotated[int, typer.Option(help="Shards of the instruments; part of the files' names.")] = 2,
    session_gap_s: Annotated[
        int | None, typer.Option(help="Seconds without a trade that end an instrument's session; default: no sessions.")
    ] = None,
    any_price: Annotated[
        list[str] | None, typer.Option(metavar="VENUE", help="Venue where a price may be 0 or below; may be repeated.")
    ] = None,
    trade_id_header: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Header with the venue's trade id; may be repeated. Default: trade_id."),
    ] = None,
    event_id_header: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Header with the producer's event id; may be repeated. Default: horizon-event-id, then ce_id.",
        ),
    ] = None,
    bundle_ms: Annotated[
        int, typer.Option(min=1, help="Bundles end after so long: less for latency, more for rate.")
    ] = 100,
    duration: Annotated[float | None, typer.Option(help="Stop after N seconds; default: at Ctrl-C.")] = None,
    beacons: Annotated[
        bool,
        typer.Option(help="Write beacons to silent partitions; without them the wall clock moves those on."),
    ] = True,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Read the topic from its start, without the group's snapshots.")
    ] = False,
    savepoint: Annotated[
        str | None, typer.Option(help="Go on from this savepoint or checkpoint (path or URI) instead of the newest.")
    ] = None,
    accept_gap: Annotated[
        bool, typer.Option("--accept-gap", help="Go on behind records that retention took before they were read.")
    ] = False,
    bootstrap_servers: BootstrapServers = None,
    kafka_config: KafkaConfig = None,
    state_dir: StateDir = Path(".horizon"),
) -> None:
    """Run the live job: events from the topic, unique events, bars, late and refused ones to topics and Parquet.

    Follows the group's job if it runs already, else goes on from its newest savepoint or checkpoint, else reads the
    topic from its start, and says which. A job that is lost is submitted again; one whose topic got more partitions, or
    that shall have another --parallelism, is moved by way of a savepoint. When retention took what was to be read next,
    or the topic was made anew, nothing is passed over in silence: the command says so and ends. Ctrl-C stops the job
    with a savepoint, so that the next `horizon live` goes on where this one ended, and says how far it read and how to
    replay and compare just that. State in Flink is about 32 bytes an event for the horizon: 100,000/s and 120 s are
    380 MB.
    """
    try:
        headers = id_headers(trade_id_header, event_id_header)
        config = market_config(horizon_s, grace_ms, shards, session_gap_s, any_price or (), headers)
        rights = live_rights(topic, group, TopicNames(prefix), beacons)
        places = stack(bootstrap_servers, kafka_config, state_dir, rights)
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
            bundle_ms=bundle_ms,
            has_beacons=beacons,
        )
        written = Beacons(places.bootstrap_servers, topic, config.cell.horizon_us, say) if beacons else None
        job = LiveGroup(places, options, say, accept_gap=accept_gap)
        with stop_on_signal() as stop, job, written or nullcontext():
            job.start(fresh=fresh, savepoint=savepoint)
            _run(job, places, options, stop.wait, duration, reached_by(bootstrap_servers, kafka_config, state_dir))
    except (StackError, LiveError, FlinkError, ResumeError, LogError, ConfigError, RunNoteError) as error:
        fail(error)
    except KafkaException as error:
        fail(escape(f"the broker does not answer: {error.args[0].str()}; `horizon stack status`"))


def live_rights(topic: str, group: str, names: TopicNames, beacons: bool) -> list[Right]:
    """What the job's and this process's clients do at Kafka."""
    bars = [names.bars(interval_s) for interval_s in (1, *MarketDataConfig().intervals_s)]
    written = [names.unique, *bars, names.stats, names.late, names.rejects, *([topic] if beacons else [])]
    return [
        *reading(topic, "horizon-clock", "horizon-log", "horizon-look"),
        Right("Read", "group", group),
        *(Right("Write", "topic", name) for name in written),
    ]


def id_headers(trade_id: Sequence[str] | None, event_id: Sequence[str] | None) -> IdHeaders:
    """Names as the options have them, in their order; of what was not named, the default."""
    named = {"trade_id": trade_id, "event_id": event_id}
    return IdHeaders(**{field: tuple(names) for field, names in named.items() if names})


def market_config(
    horizon_s: float,
    grace_ms: float,
    shards: int,
    session_gap_s: int | None,
    any_price: Iterable[str] = (),
    headers: IdHeaders | None = None,
) -> MarketDataConfig:
    cell = CellConfig(grace_us=round(grace_ms * 1_000), horizon_us=round(horizon_s * 1_000_000), shards=shards)
    limits = Limits(any_price_venues=frozenset(any_price))
    return MarketDataConfig(limits=limits, id_headers=headers or IdHeaders(), cell=cell, session_gap_s=session_gap_s)


def _run(
    job: LiveGroup,
    places: Endpoints,
    options: LiveOptions,
    wait: Callable[[float], bool],
    duration: float | None,
    connection: list[str],
) -> None:
    """Follow the job until told to stop, then stop it; `connection` is how another command reaches the same brokers."""
    watch = Watch(places.bootstrap_servers, options.topic, options.outputs.topic_prefix, options.config.intervals_s)
    _follow(job, watch, wait, duration)
    files = str(options.outputs.files_root)
    savepoint, tell_reach = job.stop_and_tell()
    typer.echo(f"{watch.counts()}\nsavepoint {savepoint}\nfiles {files}")
    offsets = as_text(tell_reach().offsets)
    again = ["horizon", "replay", "--topic", options.topic, *options_of(options.config), "--to", files]
    again += [*connection, "--out", f"{files}-again"]
    typer.echo(f"read to {offsets} (partition:offset)\n{_compare_line(again, files)}")


def _compare_line(again: list[str], files: str) -> str:
    """The commands that hold a run against its replay, to be pasted into a shell."""
    return f"{shlex.join(again)} && {shlex.join(['horizon', 'compare', files, again[-1]])}"


def _follow(job: LiveGroup, watch: Watch, wait: Callable[[float], bool], duration: float | None) -> None:
    """Report until told to stop. LiveError when the job cannot be kept up."""
    end = time.monotonic() + duration if duration is not None else float("inf")
    before, line_at = watch.counts(), time.monotonic() + _LINE_EVERY_S
    while time.monotonic() < end and not wait(_LOOK_S):
        state = job.look()
        now = watch.counts()
        rate = (now.unique - before.unique) / max(now.at - before.at, 1e-9)
        if stderr.is_terminal or time.monotonic() >= line_at:
            stderr.print(f"{state.lower()}: {now}, {rate:,.0f} unique/s", highlight=False, soft_wrap=True)
            line_at = time.monotonic() + _LINE_EVERY_S
        before = now
