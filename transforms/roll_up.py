"""Larger windows from 1 s records, by Beam's own windows: per (instrument, second) the highest version counts."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import apache_beam as beam
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.transforms import trigger
from apache_beam.transforms.window import IntervalWindow, SlidingWindows, TimestampedValue
from apache_beam.utils.timestamp import Timestamp

from schemas.units import US_PER_S
from transforms.bar_columns import BARS
from transforms.exact import Ints
from transforms.seconds import united_lineage
from transforms.stat_columns import BOOKS, TICKERS
from transforms.window_columns import Fold, Layout, WindowColumns, one_batch

ShardRecords = tuple[int, pa.RecordBatch]  # bars or stats of one shard and window
FoldWindow = Callable[[Sequence[pa.RecordBatch], "Span", int], pa.RecordBatch]

_SETTLE_US = 10_000  # a larger window closes this long after its last second, whose records are under way
_STATS = (("ticker", TICKERS), ("book", BOOKS))
_FOLDS: dict[Fold, np.ufunc] = {"highest": np.maximum, "lowest": np.minimum, "added": np.add}


@dataclass(frozen=True)
class Span:
    """Windows of `length_s` seconds, one every `every_s` seconds, aligned to the epoch."""

    length_s: int
    every_s: int


@dataclass(frozen=True)
class Windowing:
    """Times of larger windows, in microseconds of the log's clock."""

    grace_us: int  # a window closes this long after its end
    lateness_us: int  # and may grow for this long


def fixed(length_s: int) -> Span:
    """Windows one after the other."""
    return Span(length_s, length_s)


def newest_seconds(records: pa.Table, layout: Layout) -> tuple[WindowColumns, npt.NDArray[np.int32]]:
    """Of each instrument and second the highest version, sorted by both, and the instrument's number row by row."""
    names = pc.binary_join_element_wise(records["exchange"], records["symbol"], "\t").combine_chunks()
    code = names.dictionary_encode().indices.to_numpy()
    second = records["window_start"].cast(pa.int64()).to_numpy()
    order = np.lexsort((-records["version"].to_numpy(), second, code))
    newest = np.concatenate([[True], (np.diff(code[order]) != 0) | (np.diff(second[order]) != 0)])
    order = order[newest]
    return WindowColumns.from_batch(layout, records.take(pa.array(order))), code[order]


def rolled(seconds: WindowColumns, code: npt.NDArray[np.int32], start_us: int | Ints, layout: Layout) -> WindowColumns:
    """Columns of 1 s records, sorted by (code, second), as one row a code; start_us: of all or of each."""
    starts = np.flatnonzero(np.diff(code, prepend=-1))
    ends = np.append(starts[1:], len(code)) - 1

    def folded(values: Ints, fold: Fold) -> Ints:
        if fold in _FOLDS:
            return _FOLDS[fold].reduceat(values, starts)
        return values[starts if fold == "first" else ends]

    lineage = seconds.lineage.copy()
    lineage["row"] = np.repeat(np.arange(len(starts)), ends - starts + 1)[lineage["row"]]
    return WindowColumns(
        [seconds.instruments[row] for row in starts.tolist()],
        np.full(len(starts), start_us, np.int64),
        {name: folded(seconds.ints[name], fold) for name, (_, fold) in layout.ints.items()}
        | {"version": folded(seconds.ints["version"], "added")},
        {name: np.add.reduceat(values, starts) for name, values in seconds.sums.items()},
        np.add.reduceat(seconds.digest, starts, axis=0),
        united_lineage(lineage),
    )


def roll_up_bars(batches: Sequence[pa.RecordBatch], span: Span, start_us: int) -> pa.RecordBatch:
    """One bar per instrument of the 1 s bars in all batches, for the window at `start_us`."""
    return _rolled_batch(pa.Table.from_batches(batches), BARS, span, start_us)


def roll_up_stats(batches: Sequence[pa.RecordBatch], span: Span, start_us: int) -> pa.RecordBatch:
    """One ticker and one book per instrument of the 1 s stats in all batches, for the window at `start_us`."""
    stats = pa.Table.from_batches(batches)
    of_kinds = [(layout, stats.filter(pc.equal(stats["kind"], kind))) for kind, layout in _STATS]
    return one_batch([_rolled_batch(found, layout, span, start_us) for layout, found in of_kinds if len(found)])


def _rolled_batch(records: pa.Table, layout: Layout, span: Span, start_us: int) -> pa.RecordBatch:
    return rolled(*newest_seconds(records, layout), start_us, layout).to_batch(layout, span.length_s)


def _in_event_time(element: ShardRecords, delay_us: int) -> TimestampedValue:
    """The batch at its second + delay, so that a window shifted by the delay closes when the log's clock says so."""
    start_us = element[1].column("window_start")[0].value
    return TimestampedValue(element, Timestamp(micros=start_us + delay_us))


class _FoldWindow(beam.DoFn):
    def __init__(self, fold: FoldWindow, span: Span, delay_us: int) -> None:
        self._fold, self._span, self._delay_us = fold, span, delay_us

    def process(
        self,
        element: tuple[int, Iterable[pa.RecordBatch]],
        window: IntervalWindow = beam.DoFn.WindowParam,
    ) -> Iterator[ShardRecords]:
        batches = list(element[1])
        if batches:  # a window that expires may fire an empty pane (docs/facts.md)
            yield element[0], self._fold(batches, self._span, window.start.micros - self._delay_us)


class RollUp(beam.PTransform):
    """Records of larger windows from 1 s records.

    In:     (shard, records of 1 s of one second), again when they grew.
    Out:    (shard, records of one window), a pane when the window closes and after each later growth; panes may
            repeat a version (KeepNewer removes those).
    Cost:   the 1 s records of a window stay in state until its end + lateness, once for each window they are in.
    Source: docs/specs/market_data.md, step 6.
    """

    def __init__(self, fold: FoldWindow, span: Span, windowing: Windowing) -> None:
        super().__init__()
        self._fold, self._span, self._lateness_us = fold, span, windowing.lateness_us
        self._delay_us = windowing.grace_us + _SETTLE_US

    def expand(self, seconds: beam.PCollection[ShardRecords]) -> beam.PCollection[ShardRecords]:
        offset = Timestamp(micros=self._delay_us % (self._span.every_s * US_PER_S))
        return (
            seconds
            | "Stamp" >> beam.Map(_in_event_time, self._delay_us).with_output_types(tuple[int, pa.RecordBatch])
            | "Window"
            >> beam.WindowInto(
                SlidingWindows(self._span.length_s, self._span.every_s, offset),
                trigger=trigger.AfterWatermark(late=trigger.AfterCount(1)),
                accumulation_mode=trigger.AccumulationMode.ACCUMULATING,
                allowed_lateness=self._lateness_us / US_PER_S,
            )
            | "Group" >> beam.GroupByKey()  # (shard, [records])
            | "Fold"
            >> beam.ParDo(_FoldWindow(self._fold, self._span, self._delay_us)).with_output_types(
                tuple[int, pa.RecordBatch]
            )
            | "LeaveWindows" >> beam.WindowInto(beam.window.GlobalWindows())
        )
