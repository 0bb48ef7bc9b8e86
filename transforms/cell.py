"""The cell: one shard in one file window of event time, from which everything of that window is made.

Duplicates, 1 s and 10 s bars and stats and the event file need the same key and the same records, so they share one
crossing: cell_state.py holds the records, cell_fold.py and seconds.py say what follows from them. The step lives in the
global window and holds its own event-time timers: windowed state with allowed lateness would hold back everything after
it (docs/facts.md).
"""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import apache_beam as beam
import pyarrow as pa
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import (
    BagRuntimeState,
    ReadModifyWriteRuntimeState,
    RuntimeTimer,
    TimerSpec,
)
from apache_beam.typehints.decorators import no_annotations
from apache_beam.utils.timestamp import Timestamp

from transforms import cell_state
from transforms.batches import EventBatch
from transforms.cell_config import FILE_US, CellConfig, CellKey
from transforms.cell_state import CellState, Mark
from transforms.cell_work import CellWork
from transforms.late import late_rows
from transforms.metrics import count
from transforms.named_failure import names_record, on_timer
from transforms.window_state import next_revision_us


class _FoldCell(beam.DoFn):
    PUBLISH = TimerSpec("publish", TimeDomain.WATERMARK)
    SETTLE = TimerSpec("settle", TimeDomain.WATERMARK)
    CLOSE = TimerSpec("close", TimeDomain.WATERMARK)
    FORGET = TimerSpec("forget", TimeDomain.WATERMARK)

    def __init__(self, config: CellConfig, files_root: str | None) -> None:
        self._config, self._files_root = config, files_root

    def setup(self) -> None:
        self._work = CellWork(self._config.grace_us, self._files_root)

    @names_record
    def process(
        self,
        element: tuple[CellKey, EventBatch],
        mark: ReadModifyWriteRuntimeState = beam.DoFn.StateParam(cell_state.MARK),
        waiting: BagRuntimeState = beam.DoFn.StateParam(cell_state.WAITING),
        kept: BagRuntimeState = beam.DoFn.StateParam(cell_state.KEPT),
        folded: BagRuntimeState = beam.DoFn.StateParam(cell_state.FOLDED),
        out: BagRuntimeState = beam.DoFn.StateParam(cell_state.OUT),
        publish: RuntimeTimer = beam.DoFn.TimerParam(PUBLISH),
        settle: RuntimeTimer = beam.DoFn.TimerParam(SETTLE),
        close: RuntimeTimer = beam.DoFn.TimerParam(CLOSE),
    ) -> Iterable[Any]:
        key, batch = element
        state = CellState(key[0], mark, waiting, kept, folded, out)
        if state.is_closed:
            count("events_cell_closed", len(batch))
            return [beam.pvalue.TaggedOutput("late", late_rows(batch, "cell_closed"))]
        if state.is_new:
            state.begin()
            state.mark = Mark(0, self._config.settle_us(key))
            settle.set(_timestamp(state.mark.settle_us))
            close.set(_timestamp(self._config.close_us(key)))
        taken = self._work.take(key, state, batch)
        if taken is None:
            return ()
        self._set_timers(state, taken, key[0], publish, settle)
        return self._work.unique(key, taken)

    def _set_timers(
        self, state: CellState, batch: EventBatch, start_s: int, publish: RuntimeTimer, settle: RuntimeTimer
    ) -> None:
        """A timer for each second that is met first, and one to settle what comes after the cell has settled."""
        before = state.mark
        bits = before.seconds | state.bits(batch.rows)
        for second in cell_state.window_seconds(bits & ~before.seconds, start_s):
            publish.set(_timestamp(self._config.publish_us(second)), dynamic_timer_tag=str(second))
        settle_us = before.settle_us or next_revision_us(int(batch.rows["clock_us"].max()))
        if settle_us != before.settle_us:
            settle.set(_timestamp(settle_us))
        after = before._replace(seconds=bits, settle_us=settle_us)
        if after != before:
            state.mark = after

    @on_timer(PUBLISH)
    def publish(
        self,
        key: CellKey = beam.DoFn.KeyParam,
        at: Timestamp = beam.DoFn.TimestampParam,
        mark: ReadModifyWriteRuntimeState = beam.DoFn.StateParam(cell_state.MARK),
        waiting: BagRuntimeState = beam.DoFn.StateParam(cell_state.WAITING),
        kept: BagRuntimeState = beam.DoFn.StateParam(cell_state.KEPT),
        folded: BagRuntimeState = beam.DoFn.StateParam(cell_state.FOLDED),
        out: BagRuntimeState = beam.DoFn.StateParam(cell_state.OUT),
    ) -> Iterator[Any]:
        state = CellState(key[0], mark, waiting, kept, folded, out)
        if not state.is_closed:
            state.mark = state.mark._replace(clock_us=max(state.mark.clock_us, at.micros))
            yield from self._work.published(key, state, self._config.second_of(at.micros), at.micros)

    @on_timer(SETTLE)
    def settle(
        self,
        key: CellKey = beam.DoFn.KeyParam,
        at: Timestamp = beam.DoFn.TimestampParam,
        mark: ReadModifyWriteRuntimeState = beam.DoFn.StateParam(cell_state.MARK),
        waiting: BagRuntimeState = beam.DoFn.StateParam(cell_state.WAITING),
        kept: BagRuntimeState = beam.DoFn.StateParam(cell_state.KEPT),
        folded: BagRuntimeState = beam.DoFn.StateParam(cell_state.FOLDED),
        out: BagRuntimeState = beam.DoFn.StateParam(cell_state.OUT),
        settle: RuntimeTimer = beam.DoFn.TimerParam(SETTLE),
    ) -> Iterator[Any]:
        state = CellState(key[0], mark, waiting, kept, folded, out)
        if state.is_closed or state.is_new:
            return
        before, settle_us, filed_us, work = state.mark, 0, 0, self._work
        yield from work.filed(key, state, before.filed_us) if before.filed_us else work.settled(key, state, at.micros)
        if held := work.clocks(key, state):
            oldest_us, newest_us = held
            # no time that has passed, so that nothing puts it off
            settle_us = next_revision_us(max(newest_us, at.micros))
            if not before.filed_us and oldest_us < at.micros:
                work.begin_file(key, state, at.micros)
                settle_us, filed_us = at.micros + FILE_US, at.micros
            settle.set(_timestamp(settle_us))
        state.mark = Mark(before.seconds, settle_us, max(before.clock_us, at.micros), filed_us)

    @on_timer(CLOSE)
    def close(
        self,
        key: CellKey = beam.DoFn.KeyParam,
        mark: ReadModifyWriteRuntimeState = beam.DoFn.StateParam(cell_state.MARK),
        waiting: BagRuntimeState = beam.DoFn.StateParam(cell_state.WAITING),
        kept: BagRuntimeState = beam.DoFn.StateParam(cell_state.KEPT),
        folded: BagRuntimeState = beam.DoFn.StateParam(cell_state.FOLDED),
        out: BagRuntimeState = beam.DoFn.StateParam(cell_state.OUT),
        forget: RuntimeTimer = beam.DoFn.TimerParam(FORGET),
    ) -> Iterable[Any]:
        state = CellState(key[0], mark, waiting, kept, folded, out)
        found = list(self._work.filed(key, state, state.mark.filed_us)) if state.mark.filed_us else []
        found += self._work.settled(key, state, None)
        found += self._work.filed(key, state, None)
        state.close()
        forget.set(_timestamp(self._config.forget_us(key)))
        return found

    @on_timer(FORGET)
    def forget(self, mark: ReadModifyWriteRuntimeState = beam.DoFn.StateParam(cell_state.MARK)) -> Iterable[Any]:
        mark.clear()
        return ()

    def finish_bundle(self) -> None:
        self._work.finish()

    def teardown(self) -> None:
        self._work.shutdown()


def _timestamp(us: int) -> Timestamp:
    return Timestamp(micros=us)


class Folded(NamedTuple):
    """What FoldCells gives; bars and stats are keyed by shard."""

    events: beam.PCollection[tuple[CellKey, EventBatch]]
    bars: beam.PCollection[tuple[int, pa.RecordBatch]]
    stats: beam.PCollection[tuple[int, pa.RecordBatch]]
    late: beam.PCollection[pa.RecordBatch]
    bad: beam.PCollection[pa.RecordBatch]


class FoldCells(beam.PTransform):
    """Drop duplicates, build bars and stats of 1 s and 10 s and write the event files, each cell for itself.

    In:     (CellKey, EventBatch), each batch of one cell.
    Out:    .events unique events at once, and again, with verdict DECIDED, what stays of a conflict; .bars BAR records
            of 1 s when the log's clock passes end + grace, of 10 s likewise, again when they grow, at most every 10 s
            of the log's clock; .stats STAT records of tickers and books, likewise; .late stragglers of closed cells;
            .bad identity conflicts.
    Cost:   a record and 110 bytes until its window is out, then 32 bytes until end + horizon + slack; one crossing.
    Errors: identity_conflict; cell_closed (0 in a healthy run); OSError of the file system: the runner tries again.
    Source: docs/specs/market_data.md, step 5.
    """

    def __init__(self, config: CellConfig, files_root: str | None) -> None:
        super().__init__()
        self._config, self._files_root = config, files_root

    @no_annotations  # Beam knows no output of several collections, and warns of each
    def expand(self, events: beam.PCollection[tuple[CellKey, EventBatch]]) -> Folded:
        out = events | "FoldCell" >> beam.ParDo(_FoldCell(self._config, self._files_root)).with_outputs(
            "bars", "stats", "late", "bad", main="events"
        )
        return Folded(out.events, out.bars, out.stats, out.late, out.bad)
