"""What a cell knows of its second: accumulators whose merge is associative and commutative, so that no order changes
them. One row an instrument and kind of event: trades become bars, tickers and book changes become stats.

An accumulator is a function of the *set* of records folded, copies included: a copy adds to lineage, delayed count,
duplicate count and version, and may win a tie for the first or last by its place; only the first of an identity adds
to the sums. A trade of size zero, and a level's deletion, moves no price: it is counted apart. A record in conflict
adds to the version alone.
So the version grows with each record and equal version means equal content, in whatever order records were read.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
import numpy.typing as npt

from schemas.event import ORDER_BOOK, TICKER, TRADE
from transforms.accumulators import ACCUMULATOR, accumulate, merge
from transforms.dedup import CONFLICT
from transforms.exact import Ints
from transforms.rows import Instrument, Rows, narrowed, pack_rows, rows_where, stacked, unpack_rows

LINEAGE = np.dtype([("row", "<i8"), ("partition", "<i4"), ("first", "<i8"), ("last", "<i8")])


@dataclass(frozen=True)
class Seconds:
    """Accumulators of one cell, sorted by kind and instrument, and the lineage of each (`row` is its index)."""

    instruments: Sequence[Instrument]
    rows: Rows
    lineage: Rows

    def to_bytes(self) -> bytes:
        """As bytes, for the cell's state."""
        rows = pack_rows(self.instruments, self.rows)
        return len(rows).to_bytes(4, "little") + rows + self.lineage.tobytes()

    @staticmethod
    def from_bytes(data: bytes) -> "Seconds":
        """The inverse of to_bytes."""
        end = 4 + int.from_bytes(data[:4], "little")
        instruments, rows = unpack_rows(memoryview(data)[4:end], ACCUMULATOR)
        # a copy: a view of the state's bytes cannot be written to
        return Seconds(instruments, rows.copy(), np.frombuffer(data, LINEAGE, offset=end).copy())


NONE = Seconds([], np.empty(0, ACCUMULATOR), np.empty(0, LINEAGE))


def version(rows: Rows) -> Ints:
    """Version of accumulators: the number of records known, which only grows."""
    folded: Ints = rows["events"] + rows["zeros"] + rows["copies"] + rows["conflicts"]
    return folded


def foldable(rows: Rows) -> npt.NDArray[np.bool_]:
    """Which EVENT_ROW rows are of a kind that is folded; unknown event types are not."""
    kind = rows["event_type"]
    known: npt.NDArray[np.bool_] = (kind == TRADE) | (kind == ORDER_BOOK) | (kind == TICKER)
    return known


def fold(folded: Seconds, instruments: Sequence[Instrument], rows: Rows, grace_us: int) -> Seconds:
    """`folded` with the foldable of these rows (EVENT_ROW, `verdict` set by the dedup) folded in."""
    rows = rows_where(rows, foldable(rows))
    conflicting = rows["verdict"] == CONFLICT
    accepted = rows[~conflicting] if conflicting.any() else rows
    if len(accepted):
        keys = _keys(accepted["event_type"], accepted["instrument"])
        found = accumulate(accepted, keys, grace_us)
        lineage = united_lineage(_places_of(accepted, keys))
        lineage["row"] = np.searchsorted(_keys(found["kind"], found["instrument"]), lineage["row"])
        folded = union(folded, Seconds(instruments, found, lineage))
    return _with_conflicts(folded, instruments, rows[conflicting]) if conflicting.any() else folded


def union(left: Seconds, right: Seconds) -> Seconds:
    """Both as one, of one second or of several; associative and commutative."""
    table = {pair: code for code, pair in enumerate(left.instruments)}
    codes = np.array([table.setdefault(pair, len(table)) for pair in right.instruments], "<u4")
    more = right.rows.copy()
    more["instrument"] = codes[more["instrument"]]
    merged = _merged(stacked([left.rows, more], ACCUMULATOR))
    places_ = [left.lineage.copy(), right.lineage.copy()]
    for lineage, rows in zip(places_, (left.rows, more), strict=True):
        lineage["row"] = _keys(rows["kind"], rows["instrument"])[lineage["row"]]
    lineage = united_lineage(stacked(places_, LINEAGE))
    lineage["row"] = np.searchsorted(_keys(merged["kind"], merged["instrument"]), lineage["row"])
    return Seconds(*narrowed(list(table), merged), lineage)


def united(parts: Sequence[Seconds]) -> Seconds:
    """All as one."""
    return reduce(union, [part for part in parts if len(part.rows)] or [NONE])


def _with_conflicts(folded: Seconds, instruments: Sequence[Instrument], rows: Rows) -> Seconds:
    """With rows in conflict counted: whatever they conflict with is of the same kind and instrument, and is folded."""
    table = {pair: code for code, pair in enumerate(folded.instruments)}
    codes = np.array([table[instruments[code]] for code in rows["instrument"].tolist()], "<u4")
    counted = folded.rows.copy()
    at = np.searchsorted(_keys(counted["kind"], counted["instrument"]), _keys(rows["event_type"], codes))
    np.add.at(counted["conflicts"], at, 1)
    return Seconds(folded.instruments, counted, folded.lineage)


def _keys(kind: npt.NDArray[np.int32], instrument: npt.NDArray[np.uint32]) -> Ints:
    """Kind and instrument in one word; sorted by it, trades come first."""
    return (kind.astype(np.int64) << 32) | instrument


def _merged(rows: Rows) -> Rows:
    """Accumulators, at most two of a key, as one of each, sorted by key."""
    keys = _keys(rows["kind"], rows["instrument"])
    order = np.argsort(keys, kind="stable")
    rows, keys = rows[order], keys[order]
    twice = np.flatnonzero(keys[1:] == keys[:-1])
    rows[twice] = merge(rows[twice], rows[twice + 1])
    return np.delete(rows, twice + 1)


def _places_of(rows: Rows, keys: Ints) -> Rows:
    lineage = np.empty(len(rows), LINEAGE)
    lineage["row"], lineage["partition"] = keys, rows["partition"]
    lineage["first"] = lineage["last"] = rows["offset"]
    return lineage


def united_lineage(lineage: Rows) -> Rows:
    """Lineage united per row and partition, sorted by both."""
    lineage = lineage[np.lexsort((lineage["partition"], lineage["row"]))]
    changed = (np.diff(lineage["row"]) != 0) | (np.diff(lineage["partition"]) != 0)
    starts = np.flatnonzero(np.concatenate([[True], changed]))
    united = lineage[starts].copy()
    united["first"] = np.minimum.reduceat(lineage["first"], starts)
    united["last"] = np.maximum.reduceat(lineage["last"], starts)
    return united
