"""Larger bars from 1 s bars, by Beam's own windows: per (instrument, second) the highest version counts."""

from collections.abc import Iterable, Iterator, Sequence

import apache_beam as beam
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.transforms import trigger
from apache_beam.transforms.window import FixedWindows, IntervalWindow, TimestampedValue
from apache_beam.utils.timestamp import Timestamp

from schemas.units import US_PER_S
from transforms.bar_columns import COUNTS, PRICES, BarColumns
from transforms.second_bars import united_lineage

ShardBars = tuple[int, pa.RecordBatch]
_SETTLE_US = 10_000  # a larger window closes this long after its last second, whose bars are under way


def roll_up(batches: Sequence[pa.RecordBatch], interval_s: int, start_us: int) -> pa.RecordBatch:
    """One bar per instrument of the 1 s bars in all batches, for the window of `interval_s` seconds at `start_us`."""
    bars = pa.Table.from_batches(batches)
    names = pc.binary_join_element_wise(bars["exchange"], bars["symbol"], "\t").combine_chunks()
    codes = names.dictionary_encode()
    code = codes.indices.to_numpy()
    second = bars["window_start"].cast(pa.int64()).to_numpy()
    version = bars["version"].to_numpy()
    order = np.lexsort((-version, second, code))
    newest = np.concatenate([[True], (np.diff(code[order]) != 0) | (np.diff(second[order]) != 0)])
    order = order[newest]
    columns = BarColumns.from_batch(bars.take(pa.array(order)))
    return _rolled(columns, code[order], start_us).to_batch(interval_s)


def _rolled(seconds: BarColumns, code: npt.NDArray[np.int32], start_us: int) -> BarColumns:
    """Columns of 1 s bars, sorted by (code, second), as one row a code."""
    starts = np.flatnonzero(np.diff(code, prepend=-1))
    ends = np.append(starts[1:], len(code)) - 1
    ints = {name: np.add.reduceat(seconds.ints[name], starts) for name in COUNTS}
    folds = {"open": None, "close": None, "high": np.maximum, "low": np.minimum}
    for name in PRICES:
        ufunc, values = folds[name], seconds.ints[name]
        ints[name] = ufunc.reduceat(values, starts) if ufunc else values[starts if name == "open" else ends]
    ints["first_event_time"] = seconds.ints["first_event_time"][starts]
    ints["last_event_time"] = seconds.ints["last_event_time"][ends]
    lineage = seconds.lineage.copy()
    lineage["instrument"] = np.repeat(np.arange(len(starts)), ends - starts + 1)[lineage["instrument"]]
    return BarColumns(
        [seconds.instruments[row] for row in starts.tolist()],
        np.full(len(starts), start_us, np.int64),
        ints,
        {name: np.add.reduceat(values, starts) for name, values in seconds.sums.items()},
        np.add.reduceat(seconds.digest, starts, axis=0),
        united_lineage(lineage),
    )


def _in_event_time(shard_bars: ShardBars, delay_us: int) -> TimestampedValue:
    """The batch at its second + delay, so that a window shifted by the delay closes when the log's clock says so."""
    start_us = shard_bars[1].column("window_start")[0].value
    return TimestampedValue(shard_bars, Timestamp(micros=start_us + delay_us))


class _RollUp(beam.DoFn):
    def __init__(self, interval_s: int, delay_us: int) -> None:
        self._interval_s, self._delay_us = interval_s, delay_us

    def process(
        self,
        element: tuple[int, Iterable[pa.RecordBatch]],
        window: IntervalWindow = beam.DoFn.WindowParam,
    ) -> Iterator[ShardBars]:
        batches = list(element[1])
        if batches:  # a window that expires may fire an empty pane (docs/facts.md)
            yield element[0], roll_up(batches, self._interval_s, window.start.micros - self._delay_us)


class RollUpBars(beam.PTransform):
    """Bars of one larger interval from 1 s bars.

    In:     (shard, BAR records of 1 s of one second), again when they grew.
    Out:    (shard, BAR records of the interval), a pane when the window closes and after each later growth; panes may
            repeat a version (KeepNewer removes those).
    Units:  interval in seconds; grace and lateness in microseconds of the log's clock.
    Cost:   the 1 s bars of a window stay in state until its end + lateness.
    Source: docs/specs/market_data.md, step 6.
    """

    def __init__(self, interval_s: int, grace_us: int, lateness_us: int) -> None:
        super().__init__()
        self._interval_s, self._lateness_us = interval_s, lateness_us
        self._delay_us = grace_us + _SETTLE_US

    def expand(self, bars: beam.PCollection[ShardBars]) -> beam.PCollection[ShardBars]:
        windows = FixedWindows(
            self._interval_s, offset=Timestamp(micros=self._delay_us % (self._interval_s * US_PER_S))
        )
        return (
            bars
            | "StampBars" >> beam.Map(_in_event_time, self._delay_us).with_output_types(tuple[int, pa.RecordBatch])
            | "WindowBars"
            >> beam.WindowInto(
                windows,
                trigger=trigger.AfterWatermark(late=trigger.AfterCount(1)),
                accumulation_mode=trigger.AccumulationMode.ACCUMULATING,
                allowed_lateness=self._lateness_us / US_PER_S,
            )
            | "GroupBars" >> beam.GroupByKey()  # (shard, [BAR records])
            | "FoldBars"
            >> beam.ParDo(_RollUp(self._interval_s, self._delay_us)).with_output_types(tuple[int, pa.RecordBatch])
            | "LeaveWindows" >> beam.WindowInto(beam.window.GlobalWindows())
        )
