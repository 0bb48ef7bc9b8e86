"""The 1 s bars of a cell: accumulators whose merge is associative and commutative, so that no order can change them.

A bar is a function of the *set* of records folded, copies included: a copy adds to lineage, late count, duplicate
count and version, and may win a tie for open or close by its place; only the first of an identity adds to the sums.
So equal version means equal content, also when copies were read in another order.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from schemas.event import TRADE
from transforms.batches import Instrument, Rows, pack_rows, unpack_rows
from transforms.dedup import places
from transforms.exact import NOTIONAL_LIMBS, mix64, notional_limbs

_ADDED = ("trades", "copies", "late", "units", "nanos", "buy_units", "buy_nanos", "sell_units", "sell_nanos")
ACCUMULATOR = np.dtype(
    [
        ("instrument", "<u4"),  # index into the cell's instruments
        *((name, "<i8") for name in _ADDED),
        ("notional", "<i8", (NOTIONAL_LIMBS,)),  # see exact.py
        ("digest", "<u8", (2,)),  # sum of the scrambled identities, modulo 2**64 each
        ("high", "<i8"),
        ("low", "<i8"),
        *((f"open_{name}", kind) for name, kind in (("time", "<i8"), ("sequence", "<i8"), ("place", "<u8"))),
        ("open", "<i8"),
        *((f"close_{name}", kind) for name, kind in (("time", "<i8"), ("sequence", "<i8"), ("place", "<u8"))),
        ("close", "<i8"),
        ("published", "<i8"),  # version that went out last, 0 for none
    ]
)
LINEAGE = np.dtype([("instrument", "<u4"), ("partition", "<i4"), ("first", "<i8"), ("last", "<i8")])
_BUY, _SELL = 1, 2


@dataclass(frozen=True)
class SecondBars:
    """Accumulators (one an instrument, in the table's order) and lineage rows of one cell."""

    instruments: Sequence[Instrument]
    bars: Rows
    lineage: Rows

    def to_bytes(self) -> bytes:
        """As bytes, for the cell's state."""
        bars = pack_rows(self.instruments, self.bars)
        return len(bars).to_bytes(4, "little") + bars + self.lineage.tobytes()

    @staticmethod
    def from_bytes(data: bytes) -> "SecondBars":
        """The inverse of to_bytes."""
        end = 4 + int.from_bytes(data[:4], "little")
        instruments, bars = unpack_rows(memoryview(data)[4:end], ACCUMULATOR)
        # a copy: a view of the state's bytes cannot be written to
        return SecondBars(instruments, bars.copy(), np.frombuffer(data, LINEAGE, offset=end).copy())


NONE = SecondBars([], np.empty(0, ACCUMULATOR), np.empty(0, LINEAGE))


def fold(folded: SecondBars, instruments: Sequence[Instrument], rows: Rows, grace_us: int) -> SecondBars:
    """`folded` with the trades of these rows (EVENT_ROW, `copy` set by the dedup) folded in."""
    rows = rows[rows["event_type"] == TRADE]
    if not len(rows):
        return folded
    table = {pair: code for code, pair in enumerate(folded.instruments)}
    codes = np.array([table.setdefault(pair, len(table)) for pair in instruments], "<u4")
    rows = rows.copy()
    rows["instrument"] = codes[rows["instrument"]]
    new = _accumulate(rows, grace_us)
    bars = np.concatenate([folded.bars, new])
    order = np.argsort(bars["instrument"], kind="stable")
    bars = bars[order]
    twice = np.flatnonzero(bars["instrument"][1:] == bars["instrument"][:-1])
    bars[twice] = merge(bars[twice], bars[twice + 1])
    bars = np.delete(bars, twice + 1)
    return _tidy(list(table), bars, united_lineage(np.concatenate([folded.lineage, _places_of(rows)])))


def _tidy(instruments: list[Instrument], bars: Rows, lineage: Rows) -> SecondBars:
    """Only instruments that trade, so that the table does not hold those of tickers and books."""
    used = bars["instrument"]
    lineage["instrument"] = np.searchsorted(used, lineage["instrument"])
    names = [instruments[code] for code in used.tolist()]
    bars["instrument"] = np.arange(len(bars))
    return SecondBars(names, bars, lineage)


def merge(left: Rows, right: Rows) -> Rows:
    """Row-wise union of two accumulators of the same instruments; associative and commutative."""
    merged = left.copy()
    for name in (*_ADDED, "notional", "digest"):
        merged[name] = left[name] + right[name]
    merged["high"] = np.maximum(left["high"], right["high"])
    merged["low"] = np.minimum(left["low"], right["low"])
    merged["published"] = np.maximum(left["published"], right["published"])
    for edge, chosen in (("open", _before(right, left, "open")), ("close", _before(left, right, "close"))):
        for name in (edge, f"{edge}_time", f"{edge}_sequence", f"{edge}_place"):
            merged[name] = np.where(chosen, right[name], left[name])
    return merged


def _before(left: Rows, right: Rows, edge: str) -> npt.NDArray[np.bool_]:
    """Whether left's edge lies before right's: by event time, sequence, then place in the log."""
    (lt, rt), (ls, rs), (lp, rp) = (
        (left[f"{edge}_{name}"], right[f"{edge}_{name}"]) for name in ("time", "sequence", "place")
    )
    before: npt.NDArray[np.bool_] = (lt < rt) | ((lt == rt) & ((ls < rs) | ((ls == rs) & (lp < rp))))
    return before


def _accumulate(rows: Rows, grace_us: int) -> Rows:
    """One accumulator per instrument of the rows."""
    place = places(rows)
    order = np.lexsort((place, rows["sequence"], rows["event_time_us"], rows["instrument"]))
    rows, place = rows[order], place[order]
    starts = np.flatnonzero(np.diff(rows["instrument"].astype(np.int64), prepend=-1))
    ends = np.append(starts[1:], len(rows)) - 1
    first = rows["copy"] == 0

    def total(values: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        return np.add.reduceat(values, starts, axis=0)

    bars = np.zeros(len(starts), ACCUMULATOR)
    bars["instrument"] = rows["instrument"][starts]
    bars["trades"] = total(first.astype(np.int64))
    bars["copies"] = total((~first).astype(np.int64))
    bars["late"] = total((rows["log_time_us"] - rows["event_time_us"] > grace_us).astype(np.int64))
    units, nanos = rows["volume_units"] * first, rows["volume_nanos"] * first
    for prefix, counted in (("", True), ("buy_", rows["side"] == _BUY), ("sell_", rows["side"] == _SELL)):
        bars[f"{prefix}units"], bars[f"{prefix}nanos"] = total(units * counted), total(nanos * counted)
    bars["notional"] = total(notional_limbs(rows["price_e9"], units, nanos))
    for lane, word in enumerate(("identity_hi", "identity_lo")):
        other = rows["identity_lo" if lane == 0 else "identity_hi"]
        scrambled = mix64(rows[word] ^ mix64(other + np.uint64(lane + 1)))
        bars["digest"][:, lane] = np.add.reduceat(scrambled * first.astype(np.uint64), starts)
    bars["high"] = np.maximum.reduceat(rows["price_e9"], starts)
    bars["low"] = np.minimum.reduceat(rows["price_e9"], starts)
    for edge, at in (("open", starts), ("close", ends)):
        bars[edge] = rows["price_e9"][at]
        bars[f"{edge}_time"], bars[f"{edge}_sequence"] = rows["event_time_us"][at], rows["sequence"][at]
        bars[f"{edge}_place"] = place[at]
    return bars


def _places_of(rows: Rows) -> Rows:
    lineage = np.empty(len(rows), LINEAGE)
    lineage["instrument"], lineage["partition"] = rows["instrument"], rows["partition"]
    lineage["first"] = lineage["last"] = rows["offset"]
    return lineage


def united_lineage(rows: Rows) -> Rows:
    """Lineage rows united per instrument and partition."""
    rows = rows[np.lexsort((rows["partition"], rows["instrument"]))]
    changed = (np.diff(rows["instrument"].astype(np.int64)) != 0) | (np.diff(rows["partition"]) != 0)
    starts = np.flatnonzero(np.concatenate([[True], changed]))
    united = rows[starts].copy()
    united["first"] = np.minimum.reduceat(rows["first"], starts)
    united["last"] = np.maximum.reduceat(rows["last"], starts)
    return united
