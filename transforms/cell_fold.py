"""What a cell makes of the records it holds, as pure functions: everything follows from the set of them.

A record is final when the log's clock has passed the clock at which it lies: nothing that comes later lies before it,
so its verdict (dedup.py) cannot change. Final records are folded once into the cell's accumulators; those that are not
are folded anew each time something goes out, for a record that lies before them may still come.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas.event import TRADE
from schemas.units import US_PER_S
from transforms import dedup, seconds
from transforms.bar_columns import bar_batch
from transforms.batches import EventBatch
from transforms.exact import Ints, Words
from transforms.rows import Instrument, Rows, narrowed, pack_rows, rows_where, unpack_rows
from transforms.seconds import Seconds
from transforms.stat_columns import stat_batch

WINDOW_S: Final = 10  # of a cell and its file of events, in event time
WHOLE: Final = WINDOW_S  # the slot of the whole window; those of its seconds are 0 to WINDOW_S - 1

_PUBLISHED = np.dtype([("instrument", "<u4"), ("kind", "<i4"), ("version", "<i8")])


@dataclass(frozen=True)
class Judged:
    """Records of a cell, the verdict of each by what lies in the log so far, which are final, and what follows."""

    batch: EventBatch
    verdicts: npt.NDArray[np.uint8]
    final: npt.NDArray[np.bool_]
    seen: Words  # seen_rows of the final ones
    conflicts: EventBatch | None  # final ones, in the order of the log
    decided: EventBatch | None  # final and new, with others in conflict with them; likewise
    rest: EventBatch | None  # that are not final, with the verdicts of their arrival

    def by_log(self) -> tuple[list[Instrument], Rows]:
        """All rows with their verdicts by the log."""
        rows = self.batch.rows.copy()
        rows["verdict"] = self.verdicts
        return list(self.batch.instruments), rows


def judge(batch: EventBatch, kept: Sequence[Words], clock_us: int | None) -> Judged:
    """Judge records by the log alone; `kept` are seen_rows of those that were final before. clock_us None: all are."""
    verdicts = dedup.verdicts(batch.rows, kept, by_log=True)
    final = np.ones(len(batch), np.bool_) if clock_us is None else batch.rows["clock_us"] < clock_us
    seen = dedup.seen_rows(rows_where(batch.rows, final), by_log=True)
    conflicts = _in_log_order(batch, final & (verdicts == dedup.CONFLICT))
    rest = None if final.all() else batch.take(np.flatnonzero(~final))
    return Judged(batch, verdicts, final, seen, conflicts, _decided(batch, verdicts, final), rest)


def _decided(batch: EventBatch, verdicts: npt.NDArray[np.uint8], final: npt.NDArray[np.bool_]) -> EventBatch | None:
    """Those that stay of a conflict, also when they were read first: a run before a crash may have read another first.

    An event whose key is only equal to that of a conflict goes out twice, which changes nothing.
    """
    conflicting = verdicts == dedup.CONFLICT
    if not conflicting.any():
        return None
    stays = (verdicts == dedup.NEW) & final
    stays[stays] = np.isin(batch.rows["key"][stays], batch.rows["key"][conflicting])
    decided = _in_log_order(batch, stays)
    if decided is not None:
        decided.rows["verdict"] = dedup.DECIDED
    return decided


def _in_log_order(batch: EventBatch, chosen: npt.NDArray[np.bool_]) -> EventBatch | None:
    found = np.flatnonzero(chosen)
    return batch.take(found[dedup.log_order(batch.rows[found])]) if len(found) else None


class Known(NamedTuple):
    """Accumulators of one event second: of its final records, those that lie before `clock_us`."""

    clock_us: int
    folded: Seconds

    def to_bytes(self, second: int) -> bytes:
        """As bytes, with the second in s since the epoch."""
        return struct.pack("<qq", second, self.clock_us) + self.folded.to_bytes()


NOTHING: Final = Known(-(2**62), seconds.NONE)


def known_of(chunks: Sequence[bytes]) -> dict[int, Known]:
    """Of each second what goes furthest, from Known.to_bytes."""
    newest: dict[int, tuple[int, bytes]] = {}
    for chunk in chunks:
        second, clock_us = struct.unpack_from("<qq", chunk)
        newest[second] = max(newest.get(second, (NOTHING.clock_us, b"")), (clock_us, chunk))
    return {second: Known(clock_us, Seconds.from_bytes(chunk[16:])) for second, (clock_us, chunk) in newest.items()}


def fold_second(
    known: Known, instruments: Sequence[Instrument], rows: Rows, clock_us: int | None, grace_us: int
) -> tuple[Known, Seconds]:
    """Accumulators of a second with its waiting rows: of what lies before `clock_us` (None: all), and of everything."""
    rows = rows_where(rows, rows["clock_us"] >= known.clock_us)
    final = np.ones(len(rows), np.bool_) if clock_us is None else rows["clock_us"] < clock_us
    folded = seconds.fold(known.folded, instruments, rows_where(rows, final), grace_us)
    upto_us = known.clock_us if clock_us is None else max(known.clock_us, clock_us)
    return Known(upto_us, folded), seconds.fold(folded, instruments, rows_where(rows, ~final), grace_us)


def folded_until(known: Mapping[int, Known], start_s: int) -> Ints:
    """Of each second of a cell the clock before which its accumulators hold everything."""
    until_us = np.full(WINDOW_S, NOTHING.clock_us)
    for second, kept in known.items():
        until_us[second - start_s] = kept.clock_us
    return until_us


def by_second(rows: Rows) -> dict[int, npt.NDArray[np.intp]]:
    """Event second (s since the epoch) -> the rows of it."""
    second = rows["event_time_us"] // US_PER_S
    order = np.argsort(second, kind="stable")
    starts = np.flatnonzero(np.diff(second[order], prepend=-(2**62)))
    return dict(zip(second[order][starts].tolist(), np.split(order, starts)[1:], strict=True))


def versions_out(chunks: Sequence[bytes], slot: int) -> dict[tuple[Any, ...], int]:
    """(kind, exchange, symbol) -> the highest version of that slot that went out."""
    found: dict[tuple[Any, ...], int] = {}
    for chunk in chunks:
        if chunk[0] == slot:
            instruments, rows = unpack_rows(memoryview(chunk)[1:], _PUBLISHED)
            for code, kind, version in rows.tolist():
                name = (kind, *instruments[code])
                found[name] = max(version, found.get(name, 0))
    return found


def grown(folded: Seconds, out: Mapping[tuple[Any, ...], int]) -> npt.NDArray[np.intp]:
    """The accumulators (indices into folded.rows) of a higher version than went out."""
    versions = seconds.version(folded.rows)
    if not out:
        return np.flatnonzero(versions)
    names = zip(folded.rows["kind"].tolist(), folded.rows["instrument"].tolist(), strict=True)
    before = np.array([out.get((kind, *folded.instruments[code]), 0) for kind, code in names], np.int64)
    return np.flatnonzero(versions > before)


def pack_versions(folded: Seconds, chosen: npt.NDArray[np.intp], slot: int) -> bytes:
    """What versions_out reads, of accumulators that go out now."""
    rows = np.empty(len(chosen), _PUBLISHED)
    for name in ("instrument", "kind"):
        rows[name] = folded.rows[name][chosen]
    rows["version"] = seconds.version(folded.rows)[chosen]
    return bytes([slot]) + pack_rows(*narrowed(folded.instruments, rows))


def records(
    start_s: int, folded: Seconds, chosen: npt.NDArray[np.intp], interval_s: int
) -> Iterator[tuple[str, pa.RecordBatch]]:
    """The chosen accumulators as BAR records ("bars") and STAT records ("stats")."""
    is_trade = folded.rows["kind"][chosen] == TRADE
    if is_trade.any():
        yield "bars", bar_batch(start_s, folded, chosen[is_trade], interval_s)
    if not is_trade.all():
        yield "stats", stat_batch(start_s, folded, chosen[~is_trade], interval_s)
