"""Capture files: events as JSON lines or CSV, plain or gzipped, each row turned into a MarketDataEvent.

Columns: exchange, symbol, event_type (a name of EventType or its number), price, volume, timestamp_us; where known
received_us, event_id (a trade's is the venue's trade id), side (BUY or SELL), sequence, source, and log_time_us where
the log time is not received_us. Times are microseconds since the Unix epoch. An empty cell or a null means absent.
"""

import csv
import gzip
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from schemas.market_data_pb2 import EventType, MarketDataEvent, Side

REQUIRED: Final = ("exchange", "symbol", "event_type", "price", "volume", "timestamp_us")

_EVENT_TYPES: Final = dict(EventType.items())
_OLDEST_US: Final = 946_684_800_000_000  # 2000-01-01
_NEWEST_US: Final = 4_102_444_800_000_000  # 2100-01-01


class CaptureError(Exception):
    """A file that is no capture; the message names it and why."""


@dataclass(frozen=True)
class CapturedEvent:
    """One row that can be published."""

    event: MarketDataEvent
    log_us: int  # received_us, else the event time; log_time_us where given


@dataclass(frozen=True)
class BadRow:
    """One row that cannot be encoded."""

    file: Path
    line: int  # from 1
    reason: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.reason}"


def read_capture(file: Path, source: str = "") -> Iterator[CapturedEvent | BadRow]:
    """The rows of a file in its order; `source` is the events' source where the file names none.

    Raises:
        CaptureError: the file cannot be read, is cut off, or is a CSV without the required columns.
    """
    suffixes = [suffix.lower() for suffix in file.suffixes]
    rows = _csv_rows if ".csv" in suffixes[-2:] else _json_rows
    try:
        with _opened(file, ".gz" in suffixes[-1:]) as lines:
            for number, row in rows(file, lines):
                try:
                    yield captured(row(), source)
                except (ValueError, TypeError, OverflowError) as error:
                    yield BadRow(file, number, str(error))
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        raise CaptureError(f"{file} cannot be read: {error}") from error


def captured(row: Mapping[str, Any], source: str = "") -> CapturedEvent:
    """One row as an event; ValueError names the column, the value and what it should be."""
    present = {name: value for name, value in row.items() if value is not None and value != ""}
    # an empty name can be encoded: refusing it is the pipeline's business
    missing = [name for name in REQUIRED if name not in present and row.get(name) != ""]
    if missing:
        raise ValueError(f"column {', '.join(missing)} is missing")
    kind = _event_type(present)
    event = MarketDataEvent(
        exchange=_text(row, "exchange"),
        symbol=_text(row, "symbol"),
        price=_float(present, "price"),
        volume=_float(present, "volume"),
        timestamp=_int64(present, "timestamp_us"),
        source=_text(present, "source") or source,
    )
    event.event_type = kind  # type: ignore[assignment]  # an open enum: unknown numbers are kept
    identity = _text(present, "event_id")
    if kind == EventType.TRADE:
        event.trade_id = identity
    else:
        event.event_id = identity
    if "side" in present:
        event.side = _side(present)
    if "sequence" in present:
        event.sequence = _int64(present, "sequence")
    if "received_us" in present:
        event.received_at = _int64(present, "received_us")
    log_column = next((name for name in ("log_time_us", "received_us") if name in present), "timestamp_us")
    log_us = _int64(present, log_column)
    if not _OLDEST_US <= log_us < _NEWEST_US:  # an event time may be absurd, the pipeline refuses it; the log's may not
        raise ValueError(f"{log_column} {log_us} gives no log time: microseconds since the Unix epoch, 2000 to 2099")
    return CapturedEvent(event, log_us)


def _event_type(row: Mapping[str, Any]) -> int:
    value = str(row.get("event_type", ""))
    if value in _EVENT_TYPES:
        return _EVENT_TYPES[value]
    if value.lstrip("-").isdigit() and -(2**31) <= int(value) < 2**31:
        return int(value)
    raise ValueError(f"event_type {value!r} is neither one of {', '.join(_EVENT_TYPES)} nor a 32-bit number")


def _side(row: Mapping[str, Any]) -> Side:
    value = row["side"]
    if value not in ("BUY", "SELL"):
        raise ValueError(f"side {value!r} is neither BUY nor SELL")
    return Side.BUY if value == "BUY" else Side.SELL


def _text(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name, "")
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)  # numeric ids
    if not isinstance(value, str):
        raise ValueError(f"{name} {value!r} is not a text")
    return value


def _float(row: Mapping[str, Any], name: str) -> float:
    value = row.get(name)
    try:
        if not isinstance(value, bool):
            return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        pass
    raise ValueError(f"{name} {value!r} is not a number")


def _int64(row: Mapping[str, Any], name: str) -> int:
    value = row.get(name)
    try:
        number = value if isinstance(value, int) and not isinstance(value, bool) else int(str(value))
    except ValueError:
        raise ValueError(f"{name} {value!r} is not a whole number") from None
    if not -(2**62) <= number < 2**62:  # a bit to spare, so that a time can be shifted
        raise ValueError(f"{name} {value!r} does not fit into 63 bits")
    return number


_Rows = Iterable[tuple[int, Callable[[], Mapping[str, Any]]]]


def _json_rows(_: Path, lines: IO[str]) -> _Rows:
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield number, lambda line=line: _json_object(line)  # type: ignore[misc]


def _json_object(line: str) -> Mapping[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error}") from None
    if not isinstance(row, dict):
        raise ValueError(f"not a JSON object: {line.strip()[:60]}")
    return row


def _csv_rows(file: Path, lines: IO[str]) -> _Rows:
    table = csv.DictReader(lines)
    missing = [name for name in REQUIRED if name not in (table.fieldnames or ())]
    if missing:
        raise CaptureError(f"{file}: the first line names no column {', '.join(missing)}; a header line is needed")
    for row in table:
        yield table.line_num, lambda row=row: row  # type: ignore[misc]


def _opened(file: Path, zipped: bool) -> IO[str]:
    if zipped:
        return gzip.open(file, "rt", encoding="utf-8", newline="")
    return file.open(encoding="utf-8", newline="")
