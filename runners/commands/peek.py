"""`horizon peek`: look at a topic."""

import json
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from runners.bar_series import plain
from runners.commands.connection import (
    AsJson,
    BootstrapServers,
    KafkaConfig,
    StateDir,
    brokers,
    fail,
    quiet_on_broken_pipe,
)
from runners.kafka_rights import reading
from runners.peek import From, Peeked, PeekError
from runners.peek import peek as records_of

EPILOG = """Examples:

horizon peek md.events.raw                  (the newest ten)

horizon peek md.bars.1s --tail              (as they come, until Ctrl-C)

horizon peek md.late --bootstrap-servers kafka-1:9093 --kafka-config desk.properties

horizon peek md.rejects --from-start --limit 100 --json
"""

_COLOURS = {"beacon": "dim", "tombstone": "dim", "bytes": "red", "Reject": "red", "Late": "yellow", "Bar": "green"}
_HEX_SHOWN = 64


def peek(
    topic: Annotated[str, typer.Argument(help="Topic to look at.")],
    limit: Annotated[int | None, typer.Option(min=1, help="Records to show; default: 10, with --tail no end.")] = None,
    from_start: Annotated[bool, typer.Option("--from-start", help="The oldest ones instead of the newest.")] = False,
    tail: Annotated[bool, typer.Option("--tail", help="Wait for new ones and show them as they come.")] = False,
    bootstrap_servers: BootstrapServers = None,
    kafka_config: KafkaConfig = None,
    state_dir: StateDir = Path(".horizon"),
    as_json: AsJson = False,
) -> None:
    """Show the records of a topic decoded: events, bars, late events, rejects, beacons; bytes as hex otherwise.

    Nothing has to be told about the topic: Avro records carry their schema's fingerprint, events are tried as protobuf.
    """
    if from_start and tail:
        raise typer.BadParameter("--from-start and --tail exclude each other")
    start: From = "tail" if tail else "first" if from_start else "last"
    console = Console(highlight=False, soft_wrap=True)
    servers = brokers(bootstrap_servers, kafka_config, state_dir, reading(topic, "horizon-peek"))
    try:
        for record in records_of(servers, topic, start=start, limit=limit or (None if tail else 10)):
            if as_json:
                typer.echo(json.dumps(as_plain(record)))
            else:
                console.print(as_text(record))
    except PeekError as error:
        fail(error)
    except KeyboardInterrupt:
        raise typer.Exit(0) from None
    except BrokenPipeError:
        quiet_on_broken_pipe()


def as_text(record: Peeked) -> Text:
    """One line for people."""
    text = Text(f"{record.partition:>2}@{record.offset:<8} {_time(record.log_time)} ", style="dim")
    text.append(f"{_key(record.key)} ", style="cyan")
    text.append(f"{record.kind} ", style=_COLOURS.get(record.kind, "bold"))
    text.append(_summary(record.kind, record.row), style="default")
    return text


def _summary(kind: str, row: Mapping[str, Any]) -> str:
    if kind == "Bar":
        prices = " ".join(f"{name[0].upper()} {plain(row[name])}" for name in ("open", "high", "low", "close"))
        return (
            f"{row['interval_s']} s from {_time(row['window_start'])} {prices} volume {plain(row['volume'])} "
            f"trades {row['trade_count']} version {row['version']}"
        )
    if kind == "Reject":
        place = f"{row['topic']} {row['partition']}@{row['offset']}"
        return f"{row['reason']} in {row['step']}: {row['detail']} ({place}, value {_short(row['value'])})"
    if kind == "bytes":
        return (_hex(row["hex"]) or "(empty)") + (f" ({row['error']})" if "error" in row else "")
    return " ".join(f"{name}={_short(value)}" for name, value in row.items() if value not in (None, "", []))


def _short(value: Any) -> str:
    if isinstance(value, bytes):
        return _hex(value.hex())
    if isinstance(value, Decimal | float):
        return plain(value)
    return _time(value) if isinstance(value, datetime) else str(value)


def _hex(text: str) -> str:
    return text if len(text) <= _HEX_SHOWN else f"{text[:_HEX_SHOWN]}... ({len(text) // 2} bytes)"


def _time(time: datetime | int) -> str:
    return str(time) if isinstance(time, int) else time.strftime("%Y-%m-%d %H:%M:%S.%f").rstrip("0").rstrip(".")


def _key(key: bytes | None) -> str:
    """Text where it is printable (`exchange|symbol`), else hex (an identity)."""
    if key is None:
        return "-"
    text = key.decode("utf-8", "replace")
    return text if text.isprintable() and "\ufffd" not in text else key.hex()


def as_plain(record: Peeked) -> dict[str, Any]:
    """The record in JSON's types: times in ISO 8601, decimals as text, bytes as hex."""
    return {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "log_time": plain_value(record.log_time),
        "key": None if record.key is None else _key(record.key),
        "headers": {name: None if value is None else _key(value) for name, value in record.headers},
        "kind": record.kind,
        "row": plain_value(record.row),
    }


def plain_value(value: Any) -> Any:
    """A value in JSON's types."""
    if isinstance(value, Mapping):
        return {name: plain_value(item) for name, item in value.items()}
    if isinstance(value, list):
        return [plain_value(item) for item in value]
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, float) and not abs(value) < float("inf"):  # NaN and infinities are no JSON
        return str(value)
    if isinstance(value, Decimal):
        return f"{value:f}"
    return value.isoformat() if isinstance(value, datetime) else value
