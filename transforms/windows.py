"""Larger windows as one step: each window of a shard is a key whose state holds the records of its parts.

Like the cell, the step lives in the global window with event-time timers of its own. All kinds of windows share it, and
it writes the files of bars and stats itself: a step of its own for each would be one more exchange, and on Flink one
more stage between whose tasks and their workers every record travels.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

import apache_beam as beam
import pyarrow as pa
from apache_beam.coders import BytesCoder, VarIntCoder
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import (
    BagRuntimeState,
    BagStateSpec,
    ReadModifyWriteRuntimeState,
    ReadModifyWriteStateSpec,
    RuntimeTimer,
    TimerSpec,
)
from apache_beam.typehints.decorators import no_annotations
from apache_beam.utils.timestamp import Timestamp

from transforms.binary import ArrowBatchCoder
from transforms.datasets import BARS, STATS
from transforms.named_failure import on_timer
from transforms.parquet_file import FileKey, Writers
from transforms.roll_up import is_stat
from transforms.window_kinds import FILE_S, Gone, Kind, Minutes, Windowing, counted, start_s_of
from transforms.window_state import Window

ShardRecords = tuple[int, pa.RecordBatch]  # BAR or STAT records of one shard and window
WindowKey = tuple[str, int, int]  # (kind, window start in s since the epoch, shard)

_MAX_ROWS: Final = 200_000  # that wait for the bundle's end before their files are written


class _Files:
    """What a bundle gives the files of bars and stats: each file is written once, at the bundle's end."""

    def __init__(self, root: str) -> None:
        self._root, self._writers = root, Writers()
        self._waiting: dict[tuple[bool, FileKey], list[pa.RecordBatch]] = defaultdict(list)
        self._rows = 0

    def add(self, shard: int, records: pa.RecordBatch) -> None:
        minute_s = start_s_of(records) // FILE_S * FILE_S
        self._waiting[is_stat(records), (minute_s, shard)].append(records)
        self._rows += records.num_rows
        if self._rows > _MAX_ROWS:
            self.finish()

    def finish(self) -> None:
        waiting, self._rows = dict(self._waiting), 0
        self._waiting.clear()
        for (of_stats, key), batches in waiting.items():
            rows = partial(pa.Table.from_batches, batches)
            self._writers.write(self._root, STATS if of_stats else BARS, key, rows)
        self._writers.finish()

    def shutdown(self) -> None:
        self._writers.shutdown()


def _by_window(element: ShardRecords, kinds: Sequence[Kind]) -> Iterator[tuple[WindowKey, pa.RecordBatch]]:
    shard, records = element
    return (((kind.name, start_s, shard), records) for kind in kinds for start_s in kind.starts(records))


def _fold_windows(name: str, kinds: Sequence[Kind], files_root: str | None) -> beam.DoFn:
    """The step. Its timers have names of their own: the DirectRunner may mix up those of one name (docs/facts.md)."""
    by_name = {kind.name: kind for kind in kinds}
    parts_spec = BagStateSpec("parts", ArrowBatchCoder())
    versions_spec = ReadModifyWriteStateSpec("out", BytesCoder())
    due_spec = ReadModifyWriteStateSpec("due", VarIntCoder())
    publish_spec = TimerSpec(f"publish_{name}", TimeDomain.WATERMARK)
    forget_spec = TimerSpec(f"forget_{name}", TimeDomain.WATERMARK)

    class FoldWindow(beam.DoFn):
        def setup(self) -> None:
            self._files = _Files(files_root) if files_root is not None else None

        def process(
            self,
            element: tuple[WindowKey, pa.RecordBatch],
            at: Timestamp = beam.DoFn.TimestampParam,
            parts: BagRuntimeState = beam.DoFn.StateParam(parts_spec),
            versions: ReadModifyWriteRuntimeState = beam.DoFn.StateParam(versions_spec),
            due: ReadModifyWriteRuntimeState = beam.DoFn.StateParam(due_spec),
            publish: RuntimeTimer = beam.DoFn.TimerParam(publish_spec),
            forget: RuntimeTimer = beam.DoFn.TimerParam(forget_spec),
        ) -> None:
            (kind, start_s, _), records = element
            by_name[kind].add(Window(parts, versions, due, publish, forget), start_s, records, at.micros)

        @on_timer(publish_spec)
        def publish(
            self,
            key: WindowKey = beam.DoFn.KeyParam,
            at: Timestamp = beam.DoFn.TimestampParam,
            parts: BagRuntimeState = beam.DoFn.StateParam(parts_spec),
            versions: ReadModifyWriteRuntimeState = beam.DoFn.StateParam(versions_spec),
            due: ReadModifyWriteRuntimeState = beam.DoFn.StateParam(due_spec),
            publish: RuntimeTimer = beam.DoFn.TimerParam(publish_spec),
            forget: RuntimeTimer = beam.DoFn.TimerParam(forget_spec),
        ) -> Iterator[Any]:
            window, kind = Window(parts, versions, due, publish, forget), by_name.get(key[0], Gone())
            window.woken()
            yield from self._given(kind, key[2], kind.due(window, key[1], at.micros))

        @on_timer(forget_spec)
        def forget(
            self,
            key: WindowKey = beam.DoFn.KeyParam,
            parts: BagRuntimeState = beam.DoFn.StateParam(parts_spec),
            versions: ReadModifyWriteRuntimeState = beam.DoFn.StateParam(versions_spec),
            due: ReadModifyWriteRuntimeState = beam.DoFn.StateParam(due_spec),
            publish: RuntimeTimer = beam.DoFn.TimerParam(publish_spec),
            forget: RuntimeTimer = beam.DoFn.TimerParam(forget_spec),
        ) -> Iterator[Any]:
            window, kind = Window(parts, versions, due, publish, forget), by_name.get(key[0], Gone())
            yield from self._given(kind, key[2], kind.over(window, key[1]))

        def _given(self, kind: Kind, shard: int, found: Iterator[pa.RecordBatch]) -> Iterator[Any]:
            for records in found:
                if self._files is not None:
                    self._files.add(shard, records)
                if kind.is_published:
                    element = shard, counted(records)
                    yield beam.pvalue.TaggedOutput("stats", element) if is_stat(records) else element

        def finish_bundle(self) -> None:
            if self._files is not None:
                self._files.finish()

        def teardown(self) -> None:
            if self._files is not None:
                self._files.shutdown()

    return FoldWindow()


class Windows(NamedTuple):
    """What FoldWindows gives."""

    bars: beam.PCollection[ShardRecords]
    stats: beam.PCollection[ShardRecords]


class FoldWindows(beam.PTransform):
    """Records of all kinds of larger windows from those of their parts, and the files of all bars and stats.

    In:     (shard, BAR or STAT records of one part), again when they grew.
    Out:    .bars and .stats: (shard, records of one window) when it is due, and again those that grew, at most every
            10 s of the log's clock: only a higher version than the last goes out. Files, when there is a root.
    Units:  name: of the timers, unique in the graph.
    Cost:   the parts' records stay in state until a window's end + lateness, once for each window they are in; those of
            a minute until its end. One crossing.
    Errors: OSError of the file system; the runner tries again.
    Source: docs/specs/market_data.md, steps 6 to 8.
    """

    def __init__(
        self, kinds: Sequence[Kind], windowing: Windowing, files_root: str | None = None, name: str = "windows"
    ) -> None:
        super().__init__()
        self._kinds = [*kinds, Minutes()] if files_root is not None else kinds
        self._files_root, self._name = files_root, name

    @no_annotations  # Beam knows no output of several collections, and warns of each
    def expand(self, parts: beam.PCollection[ShardRecords]) -> Windows:
        keyed = beam.FlatMap(_by_window, self._kinds).with_output_types(tuple[tuple[str, int, int], pa.RecordBatch])
        fold = beam.ParDo(_fold_windows(self._name, self._kinds, self._files_root))
        out = parts | "ByWindow" >> keyed | "FoldWindow" >> fold.with_outputs("stats", main="bars")
        return Windows(out.bars, out.stats)
