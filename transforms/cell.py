"""The cell: one shard in one event second, where duplicates are dropped and 1 s bars and stats are built.

All need the same key and the same state, so they share one crossing; their logic is in dedup.py and seconds.py.
The step lives in the global window and holds its own event-time timers: windowed state with allowed lateness would
hold back everything after it (docs/facts.md).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import apache_beam as beam
import numpy as np
import pyarrow as pa
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
from apache_beam.typehints.decorators import no_annotations
from apache_beam.utils.timestamp import Timestamp

from schemas.event import TRADE
from schemas.reject import RejectReason
from schemas.units import US_PER_S
from transforms import dedup, seconds
from transforms.bar_columns import second_bar_batch
from transforms.batches import EventBatch, joined, pack_rows, unpack_rows
from transforms.exact import Words
from transforms.late import late_rows
from transforms.metrics import count
from transforms.rejects import reject_rows
from transforms.stat_columns import second_stat_batch

CellKey = tuple[int, int]  # (event second since the epoch, shard)

_CLOSED: Final = b"closed"
_MAX_CHUNKS: Final = 8  # of what a cell remembers, before they are merged
_MARK_KEPT_US: Final = 3_600 * US_PER_S
_REVISION_US: Final = 250_000  # revisions of a second go out at most this often, by the log's clock


@dataclass(frozen=True, kw_only=True)
class CellConfig:
    """Times of a cell, in microseconds of the log's clock."""

    grace_us: int = 500_000  # bars and stats go out this long after their end
    horizon_us: int = 120 * US_PER_S  # log lag above which an event is late; duplicates are known this long
    slack_us: int = 30 * US_PER_S  # for records whose log time is older than their neighbours'
    shards: int = 2


class _CellState:
    """The state of one cell as rows; writes only what changed."""

    def __init__(
        self, pending: BagRuntimeState, seen: BagRuntimeState, folded: ReadModifyWriteRuntimeState, grace_us: int
    ) -> None:
        self._pending, self._seen, self._folded, self._grace_us = pending, seen, folded, grace_us
        self._mark: bytes | None = folded.read()

    @property
    def is_new(self) -> bool:
        return self._mark is None

    @property
    def is_closed(self) -> bool:
        return self._mark == _CLOSED

    @property
    def is_published(self) -> bool:
        return bool(self._mark) and not self.is_closed

    def known(self) -> list[Words]:
        """What was read before."""
        return [dedup.seen_from_bytes(chunk) for chunk in self._seen.read()]

    def add(self, batch: EventBatch, known: list[Words]) -> None:
        """Remember rows; `known` is what was remembered so far. What can be folded waits for that."""
        if self.is_new:
            self._folded.write(b"")
        seen = dedup.seen_rows(batch.rows)
        if len(known) >= _MAX_CHUNKS:
            self._seen.clear()
            seen = dedup.merged_seen([*known, seen])
        self._seen.add(seen.tobytes())
        waiting = batch.rows[seconds.foldable(batch.rows)]
        if len(waiting):
            self._pending.add(pack_rows(batch.instruments, waiting))

    def unpublished(self, second: int) -> Iterator[tuple[str, pa.RecordBatch]]:
        """Fold what waits; what grew since it went out last, as BAR records ("bars") and STAT records ("stats")."""
        chunks = list(self._pending.read())
        if self.is_closed or (self.is_published and not chunks):
            return
        folded = seconds.Seconds.from_bytes(self._mark) if self._mark else seconds.NONE
        folded = seconds.fold(folded, *joined([unpack_rows(chunk) for chunk in chunks]), self._grace_us)
        rows = folded.rows
        grown = np.flatnonzero(seconds.version(rows) > rows["published"])
        is_trade = rows["kind"][grown] == TRADE
        if is_trade.any():
            yield "bars", second_bar_batch(second, folded, grown[is_trade])
        if not is_trade.all():
            yield "stats", second_stat_batch(second, folded, grown[~is_trade])
        rows["published"][grown] = seconds.version(rows)[grown]
        self._pending.clear()
        self._mark = folded.to_bytes()
        self._folded.write(self._mark)

    def close(self) -> None:
        """Keep one mark, so that a straggler does not start a second, poorer cell."""
        self._pending.clear()
        self._seen.clear()
        self._folded.write(_CLOSED)


class _FoldCell(beam.DoFn):
    PENDING = BagStateSpec("pending", BytesCoder())
    SEEN = BagStateSpec("seen", BytesCoder())
    FOLDED = ReadModifyWriteStateSpec("folded", BytesCoder())
    PUBLISH = TimerSpec("publish", TimeDomain.WATERMARK)
    CLOSE = TimerSpec("close", TimeDomain.WATERMARK)
    FORGET = TimerSpec("forget", TimeDomain.WATERMARK)

    def __init__(self, config: CellConfig) -> None:
        self._config = config

    def process(
        self,
        element: tuple[CellKey, EventBatch],
        pending: BagRuntimeState = beam.DoFn.StateParam(PENDING),
        seen: BagRuntimeState = beam.DoFn.StateParam(SEEN),
        folded: ReadModifyWriteRuntimeState = beam.DoFn.StateParam(FOLDED),
        publish: RuntimeTimer = beam.DoFn.TimerParam(PUBLISH),
        close: RuntimeTimer = beam.DoFn.TimerParam(CLOSE),
        forget: RuntimeTimer = beam.DoFn.TimerParam(FORGET),
    ) -> Iterator[Any]:
        key, batch = element
        state = _CellState(pending, seen, folded, self._config.grace_us)
        if state.is_closed:
            count("events_cell_closed", len(batch))
            yield beam.pvalue.TaggedOutput("late", late_rows(batch, "cell_closed"))
            return
        end_us = (key[0] + 1) * US_PER_S
        if state.is_new:
            publish.set(_timestamp(end_us + self._config.grace_us))
            close.set(_timestamp(end_us + self._config.horizon_us + self._config.slack_us))
            forget.set(_timestamp(end_us + self._config.horizon_us + self._config.slack_us + _MARK_KEPT_US))
        elif state.is_published:
            newest_us = int(batch.rows["log_time_us"].max())
            publish.set(_timestamp(-(-newest_us // _REVISION_US) * _REVISION_US))
        yield from self._accept(key, batch, state)

    def _accept(self, key: CellKey, batch: EventBatch, state: _CellState) -> Iterator[Any]:
        known = state.known()
        verdicts = dedup.verdicts(batch.rows, known)
        conflicts = np.flatnonzero(verdicts == dedup.CONFLICT)
        if len(conflicts):
            count("identity_conflicts", len(conflicts))
            details = ["an event with this identity and other content was read before"] * len(conflicts)
            reasons: list[RejectReason] = ["identity_conflict" for _ in details]
            yield beam.pvalue.TaggedOutput("bad", reject_rows(batch.raw(), conflicts, "cell", reasons, details))
        accepted = np.flatnonzero(verdicts <= dedup.COPY)
        count("records_read_again", int((verdicts == dedup.AGAIN).sum()))
        if not len(accepted):
            return
        batch = batch if len(accepted) == len(batch) else batch.take(accepted)
        rows = batch.rows.copy()
        rows["copy"] = verdicts[accepted] == dedup.COPY
        copies = int(rows["copy"].sum())
        count("events_unique", len(rows) - copies)
        count("events_duplicate", copies)
        batch = EventBatch(batch.topic, batch.instruments, rows, batch.values, batch.keys, batch.headers)
        state.add(batch, known)
        yield key, batch

    @on_timer(PUBLISH)
    def publish(
        self,
        key: CellKey = beam.DoFn.KeyParam,
        pending: BagRuntimeState = beam.DoFn.StateParam(PENDING),
        seen: BagRuntimeState = beam.DoFn.StateParam(SEEN),
        folded: ReadModifyWriteRuntimeState = beam.DoFn.StateParam(FOLDED),
    ) -> Iterable[Any]:
        return self._unpublished(key, _CellState(pending, seen, folded, self._config.grace_us))

    @on_timer(CLOSE)
    def close(
        self,
        key: CellKey = beam.DoFn.KeyParam,
        pending: BagRuntimeState = beam.DoFn.StateParam(PENDING),
        seen: BagRuntimeState = beam.DoFn.StateParam(SEEN),
        folded: ReadModifyWriteRuntimeState = beam.DoFn.StateParam(FOLDED),
    ) -> Iterator[Any]:
        state = _CellState(pending, seen, folded, self._config.grace_us)
        yield from self._unpublished(key, state)
        state.close()

    @on_timer(FORGET)
    def forget(self, folded: ReadModifyWriteRuntimeState = beam.DoFn.StateParam(FOLDED)) -> Iterable[Any]:
        folded.clear()
        return ()

    def _unpublished(self, key: CellKey, state: _CellState) -> Iterator[Any]:
        for tag, batch in state.unpublished(key[0]):
            count("bars_published" if tag == "bars" else "stats_published", batch.num_rows)
            yield beam.pvalue.TaggedOutput(tag, (key[1], batch))


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
    """Drop duplicates and build 1 s bars and stats, each cell (shard, event second) for itself.

    In:     (CellKey, EventBatch), each batch of one cell.
    Out:    .events unique events at once, later copies marked `copy`; .bars BAR records of 1 s when the log's clock
            passes end + grace, again when they grow; .stats STAT records of tickers and books, likewise; .late
            stragglers of closed cells; .bad identity conflicts.
    Cost:   32 bytes an event until end + horizon + slack, and 100 an event until its second is out; one crossing.
    Errors: identity_conflict; cell_closed (0 in a healthy run).
    Source: docs/specs/market_data.md, step 5.
    """

    def __init__(self, config: CellConfig) -> None:
        super().__init__()
        self._config = config

    @no_annotations  # Beam knows no output of several collections, and warns of each
    def expand(self, events: beam.PCollection[tuple[CellKey, EventBatch]]) -> Folded:
        out = events | "FoldCell" >> beam.ParDo(_FoldCell(self._config)).with_outputs(
            "bars", "stats", "late", "bad", main="events"
        )
        return Folded(out.events, out.bars, out.stats, out.late, out.bad)
