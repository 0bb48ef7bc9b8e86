"""Sessions: what an instrument traded between two silences, published once, when nothing in it can grow any more.

Not by Beam's session windows: a grouping keeps every 1 s bar until its session ends, a day of them for an instrument
that never falls silent. Here bars that lie close together are joined as soon as their seconds are final, so that an
open session is one row.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.stat import STAT
from schemas.units import US_PER_S
from transforms.bar_columns import BARS, vwaps
from transforms.roll_up import BAR_KIND, Parts, instrument_codes, is_stat, newest, rolled
from transforms.window_columns import COMMON, WindowColumns
from transforms.window_kinds import Kind
from transforms.window_state import Window

_DAY_US: Final = 86_400 * US_PER_S
_JOINED_S: Final = 10  # what became final is joined at most this often
_RUNS: Final = replace(BARS, values={**BARS.values, "window_end": ("-", "highest")})  # bars of any length
_PRICES: Final = {"first_price": "open", "last_price": "close", "min_price": "low", "max_price": "high"}


@dataclass(frozen=True)
class SessionTimes:
    """What ends a session, and when it is published."""

    gap_s: int  # so many seconds without a trade end a session
    settle_us: int  # so long after its end a second has its last version, in microseconds of the log's clock

    @property
    def wait_us(self) -> int:
        """So long after its end a session is final, by the log's clock: whatever would prolong it has been joined."""
        return self.gap_s * US_PER_S + self.settle_us + 2 * _JOINED_S * US_PER_S

    @property
    def published_us(self) -> int:
        """So long after its end a session is published at the latest, by the log's clock."""
        return self.wait_us + _JOINED_S * US_PER_S


def join_runs(parts: Parts, gap_s: int) -> pa.RecordBatch:
    """Bars of any length, those of an instrument and UTC day that lie less than `gap_s` apart as one.

    They must not overlap.
    """
    table = parts[BAR_KIND]
    bars, code = WindowColumns.from_batch(_RUNS, table), instrument_codes(table)
    start, end = bars.start_us, bars.values["window_end"]
    first = np.ones(len(code), np.bool_)
    first[1:] = (np.diff(code) != 0) | (start[1:] - end[:-1] >= gap_s * US_PER_S) | (np.diff(start // _DAY_US) != 0)
    joined = rolled(bars, np.cumsum(first, dtype=np.int32), start[first], _RUNS)
    return joined.to_batch(_RUNS, (joined.values["window_end"] - joined.start_us) // US_PER_S)


def session_stats(runs: pa.RecordBatch) -> pa.RecordBatch:
    """Whole sessions as STAT records."""
    bars = WindowColumns.from_batch(_RUNS, runs)
    values = {name: bars.values[name] for name in (*COMMON, "version")} | {"event_count": bars.values["trade_count"]}
    values |= {name: bars.values[column] for name, column in _PRICES.items()}
    sums = {name: bars.sums[name] for name in ("volume", "notional")}
    derived = {"kind": ["session"] * len(runs), "vwap": vwaps(sums["notional"], sums["volume"])}
    return replace(bars, values=values, sums=sums).to_records(STAT, runs["interval_s"].to_numpy(), derived)


@dataclass(frozen=True)
class Sessions(Kind):
    """Sessions of each instrument of a shard; its one key holds 1 s bars until they are final, and the runs of them."""

    times: SessionTimes
    name: str = "sessions"

    def starts(self, records: pa.RecordBatch) -> Sequence[int]:
        """One window for ever, of the 1 s bars."""
        return () if is_stat(records) or records["interval_s"][0].as_py() != 1 else (0,)

    def add(self, window: Window, start_s: int, records: pa.RecordBatch, at_us: int) -> None:
        """Due when a session that ends with these bars would be over."""
        window.publish_at(_end_us(records) + self.times.wait_us)
        window.add(records)

    def due(self, window: Window, start_s: int, at_us: int) -> Iterator[pa.RecordBatch]:
        """The sessions that are over, each its own window. Runs are final: they are joined with what became so."""
        batches, settled_us = window.parts(), at_us - self.times.settle_us
        final = [batch for batch in batches if _end_us(batch) <= settled_us]
        left = [batch for batch in batches if _end_us(batch) > settled_us]
        if final:
            runs = join_runs(newest(final), self.times.gap_s)
            is_over = pc.less_equal(runs["window_end"].cast(pa.int64()), at_us - self.times.wait_us)
            over, still_open = runs.filter(is_over), runs.filter(pc.invert(is_over))
            left = [batch for batch in (still_open, *left) if len(batch)]
            stats = session_stats(over) if len(over) else over
            yield from (stats.take(pa.array([row])) for row in range(len(over)))
        self._wait(window, left, at_us)

    def _wait(self, window: Window, left: list[pa.RecordBatch], at_us: int) -> None:
        if not left:
            window.clear()
            return
        window.keep(left)
        first_us = min(pc.min(batch["window_end"]).value for batch in left) + self.times.wait_us
        ahead_us = max(map(_end_us, left)) - at_us  # a bounded run has all its bars at once: it goes on in strides
        window.publish_at(max(first_us, at_us + _JOINED_S * US_PER_S, at_us + ahead_us // 8))


def _end_us(records: pa.RecordBatch) -> int:
    return int(pc.max(records["window_end"]).value)
