"""Sessions: what an instrument traded between two silences, published once, when nothing in it can grow any more.

Not by Beam's session windows: a grouping keeps every 1 s bar until its session ends, a day of them for an instrument
that never falls silent. Here bars that lie close together are joined as soon as their seconds are final, so that an
open session is one row.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import BagRuntimeState, BagStateSpec, RuntimeTimer, TimerSpec, on_timer
from apache_beam.utils.timestamp import Timestamp

from schemas.stat import STAT
from schemas.units import US_PER_S
from transforms.bar_columns import BARS, vwaps
from transforms.batches import ArrowBatchCoder
from transforms.metrics import count
from transforms.roll_up import BAR_KIND, Parts, Span, fixed, instrument_codes, newest, rolled
from transforms.window_columns import COMMON, WindowColumns
from transforms.windows import FoldWindows, ShardRecords, Windowing

_DAY_US: Final = 86_400 * US_PER_S
_JOINED_S: Final = 10  # seconds that are waited for together
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


def _join_window(parts: Parts, span: Span, start_us: int, *, gap_s: int) -> list[pa.RecordBatch]:
    return [join_runs(parts, gap_s)]


def session_stats(runs: pa.RecordBatch) -> pa.RecordBatch:
    """Whole sessions as STAT records."""
    bars = WindowColumns.from_batch(_RUNS, runs)
    values = {name: bars.values[name] for name in (*COMMON, "version")} | {"event_count": bars.values["trade_count"]}
    values |= {name: bars.values[column] for name, column in _PRICES.items()}
    sums = {name: bars.sums[name] for name in ("volume", "notional")}
    derived = {"kind": ["session"] * len(runs), "vwap": vwaps(sums["notional"], sums["volume"])}
    return replace(bars, values=values, sums=sums).to_records(STAT, runs["interval_s"].to_numpy(), derived)


class _CloseSessions(beam.DoFn):
    RUNS = BagStateSpec("runs", ArrowBatchCoder())
    CLOSE = TimerSpec("close_sessions", TimeDomain.WATERMARK)

    def __init__(self, times: SessionTimes) -> None:
        self._gap_s, self._wait_us = times.gap_s, times.wait_us

    def process(
        self,
        element: ShardRecords,
        runs: BagRuntimeState = beam.DoFn.StateParam(RUNS),
        close: RuntimeTimer = beam.DoFn.TimerParam(CLOSE),
    ) -> None:
        runs.add(element[1])
        due_us = pc.max(element[1]["window_end"]).value + self._wait_us
        close.set(Timestamp(micros=due_us), dynamic_timer_tag=str(due_us))  # a timer each: one would only be moved on

    @on_timer(CLOSE)
    def close(
        self,
        shard: int = beam.DoFn.KeyParam,
        at: Timestamp = beam.DoFn.TimestampParam,
        runs: BagRuntimeState = beam.DoFn.StateParam(RUNS),
    ) -> Iterator[ShardRecords]:
        batches = list(runs.read())
        if not batches:
            return
        joined = join_runs(newest(batches), self._gap_s) if len(batches) > 1 else batches[0]
        over = pc.less_equal(joined["window_end"].cast(pa.int64()), at.micros - self._wait_us)
        final, still_open = joined.filter(over), joined.filter(pc.invert(over))
        if len(final) or len(batches) > 1:  # else nothing is to be changed
            runs.clear()
            if len(still_open):
                runs.add(still_open)
        if len(final):
            count("stats_published", len(final))
            stats = session_stats(final)
            yield from ((shard, stats.take(pa.array([row]))) for row in range(len(stats)))  # each is its own window


class FoldSessions(beam.PTransform):
    """Sessions of each instrument from the 1 s bars; a session ends at the latest with its UTC day.

    In:     (shard, BAR records of 1 s of one second), again when they grew.
    Out:    (shard, one STAT record of kind `session`), once, when the log's clock has passed its end by `wait_us`.
    Units:  SessionTimes.
    Cost:   the 1 s bars stay in state for `settle_us`; then a row per instrument and open session, and one more per
            instrument and 10 s for the gap.
    Source: docs/specs/market_data.md, step 7.
    """

    def __init__(self, times: SessionTimes) -> None:
        super().__init__()
        self._times = times

    def expand(self, seconds: beam.PCollection[ShardRecords]) -> beam.PCollection[ShardRecords]:
        once = Windowing(self._times.settle_us, self._times.settle_us)
        join = partial(_join_window, gap_s=self._times.gap_s)
        return (
            seconds
            | "JoinSeconds" >> FoldWindows("join_seconds", join, fixed(_JOINED_S), once)
            | "Close" >> beam.ParDo(_CloseSessions(self._times)).with_output_types(tuple[int, pa.RecordBatch])
        )
