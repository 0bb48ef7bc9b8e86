"""Bars from where they lie, Parquet files or topics, only the highest version of each."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from runners.peek import peek
from schemas.bar import BAR
from schemas.newest import newest
from schemas.records import Record
from transforms.brokers import Brokers
from transforms.topics import INTERVAL_NAMES

INTERVALS: Final = {name: interval_s for interval_s, name in INTERVAL_NAMES.items()}
"""Lengths in seconds of the bars that the pipeline makes, by their names in topics."""


class BarsError(Exception):
    """There are no such bars; the message says where was looked and what there is."""


@dataclass(frozen=True)
class BarQuery:
    """Which bars; None: any."""

    interval_s: int
    symbol: str | None = None
    exchange: str | None = None

    def matches(self, exchange: str, symbol: str, interval_s: int) -> bool:
        """Whether bars of this instrument and length are asked for."""
        return interval_s == self.interval_s and self.symbol in (None, symbol) and self.exchange in (None, exchange)


def bars_in_files(root: Path, query: BarQuery) -> list[dict[str, Any]]:
    """Bars below root/bars, sorted by instrument and window.

    Raises:
        BarsError: there are no bar files.
    """
    directory = root / "bars"
    # a live job writes beside and renames, so every *.parquet is whole
    files = sorted(str(file) for file in directory.rglob("*.parquet"))
    if not files:
        raise BarsError(f"no bars in {directory}; run `horizon live` or `horizon replay`, or name another --dir")
    wanted = pc.field("interval_s") == query.interval_s
    for name, value in (("symbol", query.symbol), ("exchange", query.exchange)):
        if value is not None:
            wanted = wanted & (pc.field(name) == value)
    table: pa.Table = ds.dataset(files, schema=BAR.arrow, format="parquet").to_table(filter=wanted)
    return _series(Record.rows(table))


def bars_on_topic(bootstrap_servers: Brokers, topic: str, query: BarQuery) -> list[dict[str, Any]]:
    """Bars on a topic, sorted by instrument and window; PeekError when it cannot be read."""
    records = peek(bootstrap_servers, topic, start="first", limit=None)
    rows = (dict(record.row) for record in records if record.kind == "Bar")
    return _series(row for row in rows if query.matches(row["exchange"], row["symbol"], row["interval_s"]))


def _series(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for _, row in sorted(newest(rows, BAR.key).items())]


def last_of_each(rows: Iterable[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """The last `count` bars of each instrument; `rows` sorted by instrument and window."""
    series: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        series.setdefault((row["exchange"], row["symbol"]), []).append(row)
    return [row for bars in series.values() for row in bars[max(0, len(bars) - count) :]]


def plain(number: Decimal | float | None) -> str:
    """A number in digits, without an exponent and trailing zeros.

    >>> plain(Decimal("1200.500000000")), plain(1.234e-9)
    ('1200.5', '0.000000001234')
    """
    if number is None:
        return "-"
    text = f"{Decimal(str(number)):f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def instruments(rows: Iterable[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """The different (exchange, symbol), in order."""
    return iter(dict.fromkeys((row["exchange"], row["symbol"]) for row in rows))
