"""What the stats must be, in exact decimals, fractions and plain loops: nothing of transforms/ is used here."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from decimal import Context, Decimal
from fractions import Fraction
from itertools import pairwise
from typing import Any

from schemas.stat import STAT
from tests.oracle import (
    Expected,
    Group,
    Instrument,
    Place,
    Sent,
    add_up,
    exact,
    lineage_of,
    meant,
    rounded_quotient,
    utc,
)

StatKey = tuple[str, str, str, int, int]  # (kind, exchange, symbol, length in s, start in us)

_US = 1_000_000
_SLIDING_S, _EVERY_S = 60, 10


def expect_stats(
    expected: Expected, intervals_s: Iterable[int] = (1, 10, 60, 300, 3600), session_gap_s: int | None = None
) -> tuple[dict[StatKey, dict[str, Any]], dict[StatKey, list[Place]]]:
    """Every field of STAT but identity_digest, and the places of the unique events in each stat, for its digest."""
    stats: dict[StatKey, dict[str, Any]] = {}
    groups_of: dict[StatKey, list[Group]] = defaultdict(list)
    seconds: dict[Instrument, dict[int, list[Group]]] = defaultdict(lambda: defaultdict(list))
    for group in expected.groups:
        record = group.records[0]
        kind = {1: "book", 2: "ticker"}.get(record.event.event_type)
        if record.event.event_type == 0:
            seconds[record.instrument][record.second].append(group)
        for interval_s in intervals_s if kind else ():
            start_us = record.second // interval_s * interval_s * _US
            groups_of[(kind, *record.instrument, interval_s, start_us)].append(group)
    for key, groups in groups_of.items():
        stats[key] = _common(key, groups, expected.grace_us) | (_prices if key[0] == "ticker" else _book)(groups)
    for instrument, found in seconds.items():
        for start_s in _sliding_starts(found):
            key = ("sliding", *instrument, _SLIDING_S, start_s * _US)
            inside = [found[second] for second in sorted(found) if start_s <= second < start_s + _SLIDING_S]
            groups_of[key] = [group for groups in inside for group in groups]
            stats[key] = _common(key, groups_of[key], expected.grace_us) | _sliding(inside)
        for session in _sessions(sorted(found), session_gap_s) if session_gap_s else ():
            start_s, end_s = session[0], session[-1] + 1
            key = ("session", *instrument, end_s - start_s, start_s * _US)
            inside = [found[second] for second in session]
            groups_of[key] = [group for groups in inside for group in groups]
            stats[key] = _common(key, groups_of[key], expected.grace_us) | _prices(groups_of[key]) | _traded(inside)
    firsts = {key: [min(r.place for r in group.records) for group in groups] for key, groups in groups_of.items()}
    return stats, firsts


def _sliding_starts(seconds: Iterable[int]) -> set[int]:
    newest = {second // _EVERY_S * _EVERY_S for second in seconds}
    return {start - back for start in newest for back in range(0, _SLIDING_S, _EVERY_S)}


def _sessions(seconds: Iterable[int], gap_s: int) -> list[list[int]]:
    """Ascending seconds with trades, cut where a silence of `gap_s` or a midnight lies between two."""
    found: list[list[int]] = []
    for second in seconds:
        silent = not found or second - (found[-1][-1] + 1) >= gap_s
        if silent or datetime.fromtimestamp(second, UTC).date() != datetime.fromtimestamp(found[-1][-1], UTC).date():
            found.append([])
        found[-1].append(second)
    return found


def _common(key: StatKey, groups: Sequence[Group], grace_us: int) -> dict[str, Any]:
    kind, exchange, symbol, interval_s, start_us = key
    folded = _in_order(groups)
    moves = [record for record in folded if record.moves_price]
    return dict.fromkeys(set(STAT.arrow.names) - {"identity_digest"}) | {
        "kind": kind,
        "exchange": exchange,
        "symbol": symbol,
        "interval_s": interval_s,
        "window_start": utc(start_us),
        "window_end": utc(start_us + interval_s * _US),
        "event_count": sum(group.records[0].moves_price for group in groups),
        "first_event_time": utc(moves[0].event.timestamp) if moves else None,
        "last_event_time": utc(moves[-1].event.timestamp) if moves else None,
        "delayed_count": sum(record.lag_us > grace_us for record in folded),
        "duplicate_count": len(folded) - len(groups),
        "version": len(folded) + sum(group.conflicts for group in groups),
        "lineage": lineage_of(folded),
    }


def _in_order(groups: Sequence[Group]) -> list[Sent]:
    return sorted((record for group in groups for record in group.records), key=lambda record: record.order)


def _prices(groups: Sequence[Group]) -> dict[str, Any]:
    prices = [record.price for record in _in_order(groups) if record.moves_price] or [None]
    return {
        "first_price": prices[0],
        "last_price": prices[-1],
        "min_price": min(prices),
        "max_price": max(prices),
    }


def _book(groups: Sequence[Group]) -> dict[str, Any]:
    changes = [group.records[0] for group in groups]
    updates = [change for change in changes if change.moves_price]
    bids, asks = ([change for change in updates if change.event.side == side] for side in (1, 2))
    bid = max((change.price for change in bids), default=None)
    ask = min((change.price for change in asks), default=None)
    bid_volume, ask_volume = (add_up(change.volume for change in side) for side in (bids, asks))
    return {
        "max_bid_update_price": bid,
        "min_ask_update_price": ask,
        "update_price_gap": None if bid is None or ask is None else float(exact.subtract(meant(ask), meant(bid))),
        "bid_update_volume": bid_volume,
        "ask_update_volume": ask_volume,
        "update_imbalance": rounded_quotient(exact.subtract(bid_volume, ask_volume), exact.add(bid_volume, ask_volume)),
        "unknown_side_count": len(updates) - len(bids) - len(asks),
        "level_delete_count": len(changes) - len(updates),
    }


def _sliding(seconds: Sequence[Sequence[Group]]) -> dict[str, Any]:
    moves = [[record for record in _in_order(groups) if record.moves_price] for groups in seconds]
    closes = [meant(records[-1].price) for records in moves if records]
    return _traded(seconds) | {
        "return_count": max(len(closes) - 1, 0),
        "return_volatility": volatility_of(closes),
    }


def _traded(seconds: Sequence[Sequence[Group]]) -> dict[str, Any]:
    trades = [group.records[0] for groups in seconds for group in groups]
    volume = add_up(trade.volume for trade in trades)
    notional = add_up(trade.notional for trade in trades)
    return {
        "volume": volume,
        "notional": notional,
        "vwap": rounded_quotient(notional, volume),
    }


def volatility_of(closes: Sequence[Decimal] | Sequence[int]) -> float | None:
    """Each operation in fractions, then to the nearest double; the root in 60 digits."""
    if any(close <= 0 for close in closes):
        return None
    returns = [float(Fraction(after) / Fraction(before) - 1) for before, after in pairwise(closes)]
    count = len(returns)
    if count < 2:
        return None
    mean = float(Fraction(_rounded_sum(returns)) / count)
    deviations = [float(Fraction(value) - Fraction(mean)) for value in returns]
    variance = float(Fraction(_rounded_sum(float(Fraction(value) ** 2) for value in deviations)) / (count - 1))
    return float(Decimal(variance).sqrt(Context(prec=60)))


def _rounded_sum(values: Iterable[float]) -> float:
    return float(sum(map(Fraction, values), Fraction(0)))
