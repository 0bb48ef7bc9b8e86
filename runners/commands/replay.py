"""`horizon replay`: retained offsets through the same graph."""

import json
import time
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from pipelines.options import ConfigError
from runners import direct
from runners.commands.connection import AsJson, BootstrapServers, KafkaConfig, StateDir, brokers, fail, stderr
from runners.commands.live import id_headers, market_config
from runners.flink import FlinkRun
from runners.kafka_rights import reading
from runners.log import Bound, Log, LogError
from runners.replay import ReplayError, replay
from runners.stack import StackError, endpoints

EPILOG = """Examples:

horizon replay --out again                                   (all that the topic holds)

horizon replay --from 2026-11-24T09:00 --to 2026-11-24T10:00 --out morning

horizon replay --runner flink --out again-on-flink

horizon replay --from 0:1000,1:1200 --to 0:5000,1:5100 --out stretch    (partition:offset)
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
    stop: Annotated[str | None, typer.Option("--to", help="Log time (ISO, UTC) or partition:offset,...")] = None,
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
        manifest = Log(servers, topic).freeze(parse_bound(start), parse_bound(stop))
        stderr.print(f"replaying {manifest.records:,} offsets of {topic} into {out}", highlight=False)
        began = time.perf_counter()
        counters = replay(servers, manifest, out, config, runner.flags(state_dir))
    except (LogError, ReplayError, ConfigError, StackError) as error:
        fail(error)
    took_s = time.perf_counter() - began
    if as_json:
        typer.echo(json.dumps({"out": str(out), "seconds": round(took_s, 3), "records": manifest.records} | counters))
        return
    rate = manifest.records / took_s
    typer.echo(f"{manifest.records:,} records in {took_s:.1f} s, {rate:,.0f}/s, into {out}")
    typer.echo(", ".join(f"{name} {count:,}" for name, count in sorted(counters.items())))


def parse_bound(text: str | None) -> Bound:
    """A log time or offsets from the command line."""
    if text is None:
        return None
    try:
        if ":" in text and all(part.replace(":", "").strip().isdigit() for part in text.split(",")):
            pairs = (part.split(":") for part in text.split(","))
            return {int(partition): int(offset) for partition, offset in pairs}
        time_ = datetime.fromisoformat(text)
        return time_ if time_.tzinfo else time_.replace(tzinfo=UTC)
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is neither a time like 2026-11-24T09:00 nor offsets like 0:100,1:250"
        ) from None
