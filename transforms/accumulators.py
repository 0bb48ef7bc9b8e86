"""Accumulators: what is kept of the events of one instrument and kind in one second, a row each."""

import math
from typing import Final

import numpy as np
import numpy.typing as npt

from schemas.event import TICKER, TRADE
from transforms.dedup import NEW, places
from transforms.exact import NOTIONAL_LIMBS, WORDS, Ints, Mask, Words, mix64, product_limbs, words_e18
from transforms.rows import Rows

ABSENT: Final[dict[str, float | int]] = {
    "high": -math.inf,
    "low": math.inf,
    "bid": -math.inf,  # highest price of an update of side BUY
    "ask": math.inf,  # lowest price of an update of side SELL
    "open": math.nan,
    "close": math.nan,
    "open_time": 2**63 - 1,
    "close_time": -(2**63),
}
"""What stands for no price or time, by field: it loses against every other."""

_COUNTS = ("events", "zeros", "copies", "conflicts", "delayed", "sideless")
_VOLUMES = ("volume", "buy_volume", "sell_volume")
_ADDED = (*_COUNTS, *_VOLUMES, "notional", "digest")
_RAISED, _LOWERED = ("high", "bid"), ("low", "ask")
ACCUMULATOR = np.dtype(
    [
        ("instrument", "<u4"),  # index into the cell's instruments
        ("kind", "<i4"),  # event type, one that is folded
        *((name, "<i8") for name in _COUNTS),  # zeros: what moves no price, not among the events
        *((name, "<i8", (WORDS,)) for name in _VOLUMES),  # but of tickers; see exact.py
        ("notional", "<i8", (NOTIONAL_LIMBS,)),  # of trades
        ("digest", "<u8", (2,)),  # sum of the scrambled identities, modulo 2**64 each
        *((name, "<f8") for name in ("high", "low", "bid", "ask")),
        *((f"open_{name}", kind) for name, kind in (("time", "<i8"), ("sequence", "<i8"), ("place", "<u8"))),
        ("open", "<f8"),
        *((f"close_{name}", kind) for name, kind in (("time", "<i8"), ("sequence", "<i8"), ("place", "<u8"))),
        ("close", "<f8"),
    ]
)
_BUY, _SELL = 1, 2


def merge(left: Rows, right: Rows) -> Rows:
    """Row-wise union of two accumulators of the same instruments and kinds; associative and commutative."""
    merged = left.copy()
    for name in _ADDED:
        merged[name] = left[name] + right[name]
    for names, chosen_of in ((_RAISED, np.maximum), (_LOWERED, np.minimum)):
        for name in names:
            merged[name] = chosen_of(left[name], right[name])
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


def accumulate(rows: Rows, keys: Ints, grace_us: int) -> Rows:
    """One accumulator per key of the rows."""
    place = places(rows)
    zero = (rows["event_type"] != TICKER) & (rows["volume"] == 0)  # prints of size zero, deletions of a book's level
    # within a key by event time, sequence and place, but first what moves no price
    order = np.lexsort((place, rows["sequence"], rows["event_time_us"], ~zero, keys))
    rows, place, keys, zero = rows[order], place[order], keys[order], zero[order]
    starts = np.flatnonzero(np.diff(keys, prepend=-1))
    first = rows["verdict"] == NEW
    found = np.zeros(len(starts), ACCUMULATOR)
    found["instrument"], found["kind"] = rows["instrument"][starts], rows["event_type"][starts]
    for name, counted in (
        ("events", first & ~zero),
        ("zeros", first & zero),
        ("copies", ~first),
        ("delayed", rows["lag_us"] > grace_us),
        ("sideless", first & ~zero & (rows["side"] != _BUY) & (rows["side"] != _SELL)),
    ):
        found[name] = np.add.reduceat(counted.astype(np.int64), starts)
    for lane, word in enumerate(("identity_hi", "identity_lo")):
        other = rows["identity_lo" if lane == 0 else "identity_hi"]
        scrambled = mix64(rows[word] ^ mix64(other + np.uint64(lane + 1)))
        found["digest"][:, lane] = np.add.reduceat(scrambled * first.astype(np.uint64), starts)
    _add_up(found, rows, starts)
    _compare(found, rows, starts, place, zero)
    return found


def _add_up(found: Rows, rows: Rows, starts: Ints) -> None:
    """Volumes and notional of the first of each identity."""
    counted = (rows["verdict"] == NEW) & (rows["event_type"] != TICKER)
    volume = words_e18(np.where(counted, rows["volume"], 0.0))
    for name, of_side in (("volume", None), ("buy_volume", _BUY), ("sell_volume", _SELL)):
        chosen = volume if of_side is None else volume * (rows["side"] == of_side)[:, None]
        found[name] = np.add.reduceat(chosen, starts, axis=0)
    trades = int(np.searchsorted(rows["event_type"], TRADE, "right"))  # they lie first
    if trades:
        of_trades = starts[starts < trades]
        limbs = product_limbs(words_e18(rows["price"][:trades]), volume[:trades])
        found["notional"][: len(of_trades)] = np.add.reduceat(limbs, of_trades, axis=0)


def _compare(found: Rows, rows: Rows, starts: Ints, place: Words, zero: Mask) -> None:
    """Prices and what orders them, of the rows that move a price; those of a key that do not lie first."""
    price, side = rows["price"], rows["side"]
    for name, chosen, best in (
        ("high", ~zero, np.maximum),
        ("low", ~zero, np.minimum),
        ("bid", ~zero & (side == _BUY), np.maximum),
        ("ask", ~zero & (side == _SELL), np.minimum),
    ):
        found[name] = best.reduceat(np.where(chosen, price, ABSENT[name]), starts)
    ends = np.append(starts[1:], len(rows)) - 1
    opens = np.minimum(starts + np.add.reduceat(zero.astype(np.int64), starts), ends)
    for edge, at in (("open", opens), ("close", ends)):
        moved = ~zero[at]
        found[edge] = np.where(moved, price[at], ABSENT[edge])
        found[f"{edge}_time"] = np.where(moved, rows["event_time_us"][at], ABSENT[f"{edge}_time"])
        found[f"{edge}_sequence"] = np.where(moved, rows["sequence"][at], 0)
        found[f"{edge}_place"] = np.where(moved, place[at], 0)
