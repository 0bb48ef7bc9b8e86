"""Larger windows as a step: each window of a shard is a key whose state holds the records of its parts.

Like the cell, the step lives in the global window with event-time timers of its own. Beam's windows and triggers gave
the same, but with two steps an interval and record, and a grouping keeps every version of every second of an hour.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import apache_beam as beam
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.coders import BytesCoder
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import (
    BagRuntimeState,
    BagStateSpec,
    ReadModifyWriteRuntimeState,
    ReadModifyWriteStateSpec,
    RuntimeTimer,
    TimerSpec,
    on_timer,
)
from apache_beam.utils.timestamp import Timestamp

from schemas.units import US_PER_S
from transforms.batches import ArrowBatchCoder
from transforms.metrics import count
from transforms.roll_up import Parts, Span, fixed, is_stat, newest, roll_up

ShardRecords = tuple[int, pa.RecordBatch]  # BAR or STAT records of one shard and window
WindowKey = tuple[int, int]  # (window start in s since the epoch, shard)
FoldParts = Callable[[Parts, Span, int], list[pa.RecordBatch]]

_MAX_BATCHES: Final = 16  # of parts that a window which is out keeps, before they are merged


@dataclass(frozen=True)
class Windowing:
    """Times of larger windows, in microseconds of the log's clock."""

    grace_us: int  # a window goes out this long after its end
    lateness_us: int  # and may grow for this long


def newer(records: pa.RecordBatch, published: dict[str, int]) -> tuple[pa.RecordBatch | None, dict[str, int]]:
    """Those of a higher version than is out of their kind, instrument and start, and the versions that are out now."""
    starts = records["window_start"].cast(pa.int64()).cast(pa.string())
    parts = [starts, *(records[name] for name in ("kind", "exchange", "symbol") if name in records.schema.names)]
    names = pc.binary_join_element_wise(*parts, "\t").to_pylist()
    versions = records["version"].to_pylist()
    grown = [row for row, name in enumerate(names) if versions[row] > published.get(name, 0)]
    if not grown:
        return None, published
    return records.take(pa.array(grown)), published | {names[row]: versions[row] for row in grown}


def _by_window(element: ShardRecords, span: Span) -> Iterator[tuple[WindowKey, pa.RecordBatch]]:
    shard, records = element
    start_s = records.column("window_start")[0].value // US_PER_S
    return (((window_s, shard), records) for window_s in span.windows_of(start_s))


class _Window:
    """The state of one window of one shard."""

    def __init__(self, parts: BagRuntimeState, published: ReadModifyWriteRuntimeState) -> None:
        self._parts, self._published = parts, published
        self._versions = published.read()

    @property
    def is_new(self) -> bool:
        return self._versions is None

    @property
    def is_published(self) -> bool:
        return bool(self._versions)

    def add(self, records: pa.RecordBatch) -> None:
        if self.is_new:
            self._published.write(b"")
        self._parts.add(records)

    def grown(self, fold: Callable[[Parts], list[pa.RecordBatch]]) -> Iterator[pa.RecordBatch]:
        """What grew since it went out last."""
        batches = list(self._parts.read())
        if not batches:
            return
        known, versions = newest(batches), json.loads(self._versions or b"{}")
        for records in fold(known):
            grown, versions = newer(records, versions)
            if grown is not None:
                count("stats_published" if is_stat(grown) else "bars_published", grown.num_rows)
                yield grown
        self._published.write(json.dumps(versions).encode())
        if len(batches) > _MAX_BATCHES:
            self._parts.clear()
            for table in known.values():
                self._parts.add(table.combine_chunks().to_batches()[0])

    def forget(self) -> None:
        self._parts.clear()
        self._published.clear()


def _fold_window(name: str, fold: FoldParts, span: Span, windowing: Windowing) -> beam.DoFn:
    """The step. Its timers have names of their own: the DirectRunner may mix up those of one name (docs/facts.md)."""
    parts_spec, published_spec = BagStateSpec("parts", ArrowBatchCoder()), ReadModifyWriteStateSpec("out", BytesCoder())
    publish_spec = TimerSpec(f"publish_{name}", TimeDomain.WATERMARK)
    forget_spec = TimerSpec(f"forget_{name}", TimeDomain.WATERMARK)

    def grown(key: WindowKey, window: _Window) -> Iterator[ShardRecords]:
        start_s, shard = key
        return ((shard, records) for records in window.grown(lambda parts: fold(parts, span, start_s * US_PER_S)))

    class FoldWindow(beam.DoFn):
        def process(
            self,
            element: tuple[WindowKey, pa.RecordBatch],
            timestamp: Timestamp = beam.DoFn.TimestampParam,
            parts: BagRuntimeState = beam.DoFn.StateParam(parts_spec),
            published: ReadModifyWriteRuntimeState = beam.DoFn.StateParam(published_spec),
            publish: RuntimeTimer = beam.DoFn.TimerParam(publish_spec),
            forget: RuntimeTimer = beam.DoFn.TimerParam(forget_spec),
        ) -> None:
            (start_s, _), records = element
            window = _Window(parts, published)
            window.add(records)
            if window.is_new:
                end_us = (start_s + span.length_s) * US_PER_S
                publish.set(Timestamp(micros=end_us + windowing.grace_us))
                forget.set(Timestamp(micros=end_us + windowing.lateness_us))
            elif window.is_published:  # it grew after it went out
                publish.set(timestamp)

        @on_timer(publish_spec)
        def publish(
            self,
            key: WindowKey = beam.DoFn.KeyParam,
            parts: BagRuntimeState = beam.DoFn.StateParam(parts_spec),
            published: ReadModifyWriteRuntimeState = beam.DoFn.StateParam(published_spec),
        ) -> Iterator[ShardRecords]:
            return grown(key, _Window(parts, published))

        @on_timer(forget_spec)
        def forget(
            self,
            key: WindowKey = beam.DoFn.KeyParam,
            parts: BagRuntimeState = beam.DoFn.StateParam(parts_spec),
            published: ReadModifyWriteRuntimeState = beam.DoFn.StateParam(published_spec),
        ) -> Iterator[ShardRecords]:
            window = _Window(parts, published)
            yield from grown(key, window)  # a bounded run fires its timers in any order
            window.forget()

    return FoldWindow()


class FoldWindows(beam.PTransform):
    """Records of larger windows from those of their parts.

    In:     (shard, records of one part), again when they grew.
    Out:    (shard, records of one window) when the log's clock passes its end + grace, and again those that grew: only
            a higher version than the last goes out.
    Units:  name: of the timers, unique in the graph.
    Cost:   the parts' records stay in state until a window's end + lateness, once for each window they are in.
    Source: docs/specs/market_data.md, step 6.
    """

    def __init__(self, name: str, fold: FoldParts, span: Span, windowing: Windowing) -> None:
        super().__init__()
        self._name, self._fold, self._span, self._windowing = name, fold, span, windowing

    def expand(self, parts: beam.PCollection[ShardRecords]) -> beam.PCollection[ShardRecords]:
        keyed = beam.FlatMap(_by_window, self._span).with_output_types(tuple[tuple[int, int], pa.RecordBatch])
        fold = beam.ParDo(_fold_window(self._name, self._fold, self._span, self._windowing))
        return parts | "ByWindow" >> keyed | "Fold" >> fold.with_output_types(tuple[int, pa.RecordBatch])


class RollUp(beam.PTransform):
    """Bars and stats of larger intervals, each from the largest smaller interval that divides it.

    In:     (shard, BAR or STAT records of 1 s of one second), again when they grew.
    Out:    the same, and the records of all intervals, each again when it grew.
    Cost:   an hour holds 12 records of 5 minutes for each kind and instrument, not 3,600 of a second.
    Source: docs/specs/market_data.md, step 6.
    """

    def __init__(self, intervals_s: Sequence[int], windowing: Windowing) -> None:
        super().__init__()
        self._intervals_s, self._windowing = sorted(intervals_s), windowing

    def expand(self, seconds: beam.PCollection[ShardRecords]) -> beam.PCollection[ShardRecords]:
        levels = {1: seconds}
        for interval_s in self._intervals_s:
            parts = levels[max(part_s for part_s in levels if interval_s % part_s == 0)]
            levels[interval_s] = parts | f"{interval_s}s" >> FoldWindows(
                f"roll_up_{interval_s}s", roll_up, fixed(interval_s), self._windowing
            )
        return tuple(levels.values()) | beam.Flatten()
