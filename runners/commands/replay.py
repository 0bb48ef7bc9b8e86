"""`horizon replay`: retained offsets through the same graph."""

import json
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from pipelines.options import ConfigError
from runners import direct
from runners.bounds import Bound, BoundError, parse_bound
from runners.commands.connection import AsJson, BootstrapServers, KafkaConfig, StateDir, brokers, fail, stderr
from runners.commands.live import id_headers, market_config
from runners.flink import FlinkRun
from runners.kafka_rights import reading
from runners.log import Log, LogError
from runners.replay import ReplayError, replay
from runners.run_note import RUN, RunNoteError, read_reach
from runners.stack import StackError, endpoints
from transforms.read_offsets import Manifest

EPILOG = """Examples:

horizon replay --out again                                   (all that the topic holds)

horizon replay --from 2026-11-24T09:00 --to 2026-11-24T10:00 --out morning

horizon replay --runner flink --out again-on-flink

horizon replay --from 0:1000,1:1200 --to 0:5000,1:5100 --out stretch    (partition:offset)

horizon replay --to .horizon/data/live --out again           (as far as that live run read)
"""


_GROUPS = ("horizon-replay", "horizon-clock", "horizon-look")  # of its consumers, which never commit


class Runner(StrEnum):
    """Where a replay runs."""

    DIRECT = "direct"
    FLINK = "flink"

    def flags(self, state_dir: Path) -> list[str]:
        """The preset's pipeline options. StackError when Flink is asked for and no stack runs."""
        if self is Runner.DIRECT:
            return direct.FLAGS
        return FlinkRun.on(endpoints(state_dir), f"horizon-replay-{time.time_ns() // 1_000_000}", bounded=True).flags()


def replay_command(
    out: Annotated[Path, typer.Option(file_okay=False, help="Directory of the Parquet files; must be new or empty.")],
    start: Annotated[str | None, typer.Option("--from", help="Log time (ISO, UTC) or partition:offset,...")] = None,
    stop: Annotated[
        str | None, typer.Option("--to", help="The same, or a live run's directory: where that stopped.")
    ] = None,
    topic: Annotated[str, typer.Option(help="Topic to read.")] = "md.events.raw",
    horizon_s: Annotated[float, typer.Option(help="As the live run had it.")] = 120,
    grace_ms: Annotated[float, typer.Option(help="As the live run had it.")] = 500,
    shards: Annotated[int, typer.Option(help="As the live run had it.")] = 2,
    session_gap_s: Annotated[int | None, typer.Option(help="As the live run had it; default: no sessions.")] = None,
    any_price: Annotated[
        list[str] | None, typer.Option(metavar="VENUE", help="As the live run had it; may be repeated.")
    ] = None,
    trade_id_header: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="As the live run had it; may be repeated.")
    ] = None,
    event_id_header: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="As the live run had it; may be repeated.")
    ] = None,
    runner: Annotated[Runner, typer.Option(help="In this process, or on the local stack's Flink.")] = Runner.DIRECT,
    bootstrap_servers: BootstrapServers = None,
    kafka_config: KafkaConfig = None,
    state_dir: StateDir = Path(".horizon"),
    as_json: AsJson = False,
) -> None:
    """Replay a stretch of the log: freeze its offsets, then read exactly those.

    The offsets are kept in OUT/manifest.json. The DirectRunner holds the stretch in memory while it runs: about
    0.75 KB an event.
    """
    try:
        headers = id_headers(trade_id_header, event_id_header)
        config = market_config(horizon_s, grace_ms, shards, session_gap_s, any_price or (), headers)
        servers = brokers(bootstrap_servers, kafka_config, state_dir, reading(topic, *_GROUPS))
        manifest = _freeze(Log(servers, topic), start, stop)
        stderr.print(f"replaying {manifest.records:,} offsets of {topic} into {out}", highlight=False)
        began = time.perf_counter()
        counters = replay(servers, manifest, out, config, runner.flags(state_dir))
    except (LogError, ReplayError, ConfigError, StackError) as error:
        fail(error)
    except (BoundError, RunNoteError) as error:
        fail(error, 2)
    took_s = time.perf_counter() - began
    if as_json:
        typer.echo(json.dumps({"out": str(out), "seconds": round(took_s, 3), "records": manifest.records} | counters))
        return
    rate = manifest.records / took_s
    typer.echo(f"{manifest.records:,} records in {took_s:.1f} s, {rate:,.0f}/s, into {out}")
    typer.echo(", ".join(f"{name} {count:,}" for name, count in sorted(counters.items())))


def _bounds(log: Log, start: str | None, stop: str | None) -> tuple[Bound, Bound]:
    """The edges asked for; as an end also the directory of a live run, for where that stopped. BoundError."""
    if stop is None or not (Path(stop) / RUN).is_file():
        return parse_bound(start), parse_bound(stop)
    reach = read_reach(Path(stop))
    if reach is None or reach.topic != log.topic:
        why = "does not say where its run stopped: end that with Ctrl-C" if reach is None else f"read {reach.topic}"
        raise BoundError(f"{stop} {why}; or name offsets, or a time")
    # a partition that was added since then that run never read, and retention may have passed its end
    return parse_bound(start), {p: max(first, reach.offsets.get(p, 0)) for p, first in log.earliest().items()}


def _freeze(log: Log, start: str | None, stop: str | None) -> Manifest:
    """What lies between the edges. BoundError when that is nothing."""
    manifest = log.freeze(*_bounds(log, start, stop))
    if not manifest.records and (start or stop):
        raise BoundError(f"{log.topic} holds nothing from {start or 'its start'} to {stop or 'its end'}; ask for more")
    return manifest
