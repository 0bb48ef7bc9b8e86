"""The cell: one shard in one file window of event time, from which everything of that window is made.

Duplicates, 1 s and 10 s bars and stats and the event file need the same key and the same records, so they share one
crossing: cell_state.py holds the records, cell_fold.py and seconds.py say what follows from them. The step lives in the
global window and holds its own event-time timers: windowed state with allowed lateness would hold back everything after
it (docs/facts.md).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import (
    BagRuntimeState,
    ReadModifyWriteRuntimeState,
    RuntimeTimer,
    TimerSpec,
    on_timer,
)
from apache_beam.typehints.decorators import no_annotations
from apache_beam.utils.timestamp import Timestamp

from schemas.reject import RejectReason
from schemas.units import US_PER_S
from transforms import cell_fold, cell_state, dedup, seconds
from transforms.batches import EventBatch, Instrument, Rows
from transforms.cell_filing import Filing
from transforms.cell_fold import NOTHING, WHOLE, WINDOW_S, Judged, Known
from transforms.cell_state import CellState, Mark
from transforms.late import late_rows
from transforms.metrics import count
from transforms.rejects import reject_rows
from transforms.seconds import Seconds
from transforms.seen_index import SeenIndex

CellKey = tuple[int, int]  # (window start in s since the epoch, shard)

_MARK_KEPT_US: Final = 7 * 86_400 * US_PER_S  # as long as the topic keeps a record: no older one comes
_REVISION_US: Final = 10 * US_PER_S  # a cell that is out is looked at again at most this often, by the log's clock
_SETTLE_US: Final = 100_000  # the window's file waits for its last second's bars
_SPREAD_US: Final = 400_000  # shards settle one after the other within this, and events pass in between
SETTLED_US: Final = _SETTLE_US + _SPREAD_US  # after its end and grace a window has settled in every shard
_FILE_US: Final = 3_000_000  # by then its file is mostly there, and nothing waits for it


@dataclass(frozen=True, kw_only=True)
class CellConfig:
    """Times of a cell, in microseconds of the log's clock."""

    grace_us: int = 500_000  # bars and stats go out this long after their end
    horizon_us: int = 120 * US_PER_S  # log lag above which an event is late; duplicates are known this long
    slack_us: int = 30 * US_PER_S  # for records whose log time is older than their neighbours'
    shards: int = 2


class _FoldCell(beam.DoFn):
    PUBLISH = TimerSpec("publish", TimeDomain.WATERMARK)
    SETTLE = TimerSpec("settle", TimeDomain.WATERMARK)
    CLOSE = TimerSpec("close", TimeDomain.WATERMARK)
    FORGET = TimerSpec("forget", TimeDomain.WATERMARK)

    def __init__(self, config: CellConfig, files_root: str | None) -> None:
        self._config, self._files_root = config, files_root

    def setup(self) -> None:
        self._filing, self._seen = Filing(self._files_root), SeenIndex()

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
        end_us = (key[0] + WINDOW_S) * US_PER_S
        if state.is_new:
            state.begin()
            turn_us = key[1] * _SPREAD_US // self._config.shards
            state.mark = Mark(0, end_us + self._config.grace_us + _SETTLE_US + turn_us)
            settle.set(_timestamp(state.mark.settle_us))
            close.set(_timestamp(end_us + self._config.horizon_us + self._config.slack_us))
        count("records_behind_clock", int((batch.rows["clock_us"] < state.mark.clock_us).sum()))
        batch = batch.read_at(state.mark.clock_us, self._seen.verdicts(key, state.chunks(), state.kept(), batch.rows))
        taken = np.flatnonzero(batch.rows["verdict"] != dedup.AGAIN)
        count("records_read_again", len(batch) - len(taken))
        if not len(taken):
            return ()
        batch = batch if len(taken) == len(batch) else batch.take(taken)
        self._seen.add(key, state.add(batch))
        self._set_timers(state, batch, key[0], publish, settle)
        return self._unique(key, batch)

    def _set_timers(
        self, state: CellState, batch: EventBatch, start_s: int, publish: RuntimeTimer, settle: RuntimeTimer
    ) -> None:
        """A timer for each second that is met first, and one to settle what comes after the cell has settled."""
        before = state.mark
        bits = before.seconds | state.bits(batch.rows)
        for second in cell_state.window_seconds(bits & ~before.seconds, start_s):
            due_us = (second + 1) * US_PER_S + self._config.grace_us
            publish.set(_timestamp(due_us), dynamic_timer_tag=str(second))
        settle_us = before.settle_us or _next_settle(int(batch.rows["clock_us"].max()))
        if settle_us != before.settle_us:
            settle.set(_timestamp(settle_us))
        after = before._replace(seconds=bits, settle_us=settle_us)
        if after != before:
            state.mark = after

    def _unique(self, key: CellKey, batch: EventBatch) -> Iterator[tuple[CellKey, EventBatch]]:
        """The first of each identity that was read; if it is not the first in the log, the cell corrects it later."""
        new = np.flatnonzero(batch.rows["verdict"] == dedup.NEW)
        count("events_unique", len(new))
        count("events_duplicate", int((batch.rows["verdict"] == dedup.COPY).sum()))
        if len(new):
            yield key, batch if len(new) == len(batch) else batch.take(new)

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
        second = (at.micros - self._config.grace_us) // US_PER_S - 1
        if state.is_closed:
            return
        state.mark = state.mark._replace(clock_us=max(state.mark.clock_us, at.micros))
        instruments, rows = self._seen.rows_of(key, state.chunks(), second)
        if len(rows):
            rows["verdict"] = dedup.verdicts(rows, state.kept(), by_log=True)
            known, found = self._folded(state.folded().get(second, NOTHING), instruments, rows, at.micros)
            state.keep({second: known})
            yield from self._grown(key, state, second, found)

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
        before, settle_us, filed_us = state.mark, 0, 0
        yield from self._filed(key, state, before.filed_us) if before.filed_us else self._settled(key, state, at.micros)
        if chunks := state.chunks():
            oldest_us, newest_us = self._seen.clocks(key, chunks)
            # no time that has passed, so that nothing puts it off
            settle_us = _next_settle(max(newest_us, at.micros))
            if not before.filed_us and oldest_us < at.micros:
                self._filing.begin(key, chunks, state.kept(), at.micros)
                settle_us, filed_us = at.micros + _FILE_US, at.micros
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
        found = list(self._filed(key, state, state.mark.filed_us)) if state.mark.filed_us else []
        found += self._settled(key, state, None)
        found += self._filed(key, state, None)
        state.close()
        end_us = (key[0] + WINDOW_S) * US_PER_S + self._config.horizon_us + self._config.slack_us
        forget.set(_timestamp(end_us + _MARK_KEPT_US))
        return found

    @on_timer(FORGET)
    def forget(self, mark: ReadModifyWriteRuntimeState = beam.DoFn.StateParam(cell_state.MARK)) -> Iterable[Any]:
        mark.clear()
        return ()

    def _settled(self, key: CellKey, state: CellState, clock_us: int | None) -> Iterator[Any]:
        """Fold what no second holds yet, for good what is final by this clock (None: all); what grew goes out."""
        chunks, known = state.chunks(), state.folded()
        if not chunks:
            return
        whole = {second: kept.folded for second, kept in known.items()}
        if known:
            until_us = cell_fold.folded_until(known, key[0])
            instruments, fresh = self._seen.unfolded(key, chunks, state.kept(), until_us)
        else:  # a whole window at once, as in a replay: all of it is judged for the file anyway
            instruments, fresh = self._filing.judged(key, chunks, state.kept(), clock_us).by_log()
        touched = cell_fold.by_second(fresh)
        for second, found in touched.items():
            before = known.get(second, NOTHING)
            known[second], whole[second] = self._folded(before, instruments, fresh[found], clock_us)
        state.keep({second: known[second] for second in touched})
        for second in touched:
            yield from self._grown(key, state, second, whole[second])
        yield from self._grown(key, state, None, seconds.united(list(whole.values())))

    def _filed(self, key: CellKey, state: CellState, clock_us: int | None) -> Iterator[Any]:
        """Let go of what was final by this clock (None: all): its file is there when this bundle has ended."""
        chunks = state.chunks()
        if not chunks:
            return
        judged, later = self._filing.end(key, chunks, state.kept(), clock_us)
        state.settle(judged.seen, judged.rest, later)
        self._seen.forget(key)
        yield from self._final(key, judged)

    def _folded(
        self, known: Known, instruments: Sequence[Instrument], rows: Rows, clock_us: int | None
    ) -> tuple[Known, Seconds]:
        return cell_fold.fold_second(known, instruments, rows, clock_us, self._config.grace_us)

    def _grown(self, key: CellKey, state: CellState, second: int | None, folded: Seconds) -> Iterator[Any]:
        """Records of a second, or of the whole window, that grew since they went out last."""
        slot, start_s, length_s = (WHOLE, key[0], WINDOW_S) if second is None else (second - key[0], second, 1)
        chosen = cell_fold.grown(folded, cell_fold.versions_out(list(state.out.read()), slot))
        if not len(chosen):
            return
        state.out.add(cell_fold.pack_versions(folded, chosen, slot))
        for tag, batch in cell_fold.records(start_s, folded, chosen, length_s):
            count("bars_published" if tag == "bars" else "stats_published", batch.num_rows)
            yield beam.pvalue.TaggedOutput(tag, (key[1], batch))

    def _final(self, key: CellKey, judged: Judged) -> Iterator[Any]:
        """What is said of records once they are final: conflicts, and what went out wrongly."""
        conflicts = judged.conflicts
        if conflicts is not None:
            count("identity_conflicts", len(conflicts))
            details = ["an event with this identity and other content lies before it"] * len(conflicts)
            reasons: list[RejectReason] = ["identity_conflict" for _ in details]
            refused = reject_rows(conflicts.raw(), np.arange(len(conflicts)), "cell", reasons, details)
            yield beam.pvalue.TaggedOutput("bad", refused)
        if judged.corrected is not None:
            yield key, judged.corrected

    def finish_bundle(self) -> None:
        self._filing.finish()

    def teardown(self) -> None:
        self._filing.shutdown()


def _next_settle(newest_us: int) -> int:
    """When what lies at this clock is final, by the log's clock, in steps of _REVISION_US."""
    return (newest_us // _REVISION_US + 1) * _REVISION_US


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
    Out:    .events unique events at once; .bars BAR records of 1 s when the log's clock passes end + grace, of 10 s
            likewise, again when they grow, at most every 10 s of the log's clock; .stats STAT records of tickers and
            books, likewise; .late stragglers of closed cells; .bad identity conflicts.
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
