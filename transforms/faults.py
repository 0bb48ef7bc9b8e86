"""What is wrong with a record: all rules on whole columns, and the limits that they go by."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas.event import ORDER_BOOK, TICKER, TRADE
from schemas.reject import RejectReason
from schemas.units import US_PER_S
from transforms.batches import RawBatch
from transforms.exact import Floats, Ints, Mask, is_too_fine
from transforms.log_clock import plausible

Faults = list[tuple[RejectReason, Mask]]
Codes = npt.NDArray[np.int32]
_YEAR_US: Final = 365 * 86_400 * US_PER_S


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What is plausible. The sums of bars and books are exact for prices and volumes up to 1e15, not above."""

    max_value_bytes: int = 65_536
    max_name_bytes: int = 255  # the token id of a prediction market has 77 digits, a pool's two addresses 85
    max_price: float = 1e15  # quote per base, above or below 0
    max_volume: float = 1e15  # units of base, of a trade or a level
    max_ticker_volume: float = 1e21  # of 24 hours; it is not added up
    any_price_venues: frozenset[str] = frozenset()  # where a price may be 0 or below it (power, spreads)
    max_age_us: int = 20 * _YEAR_US  # event time before log time: the age of the oldest archive
    max_ahead_us: int = 5 * US_PER_S  # event time after log time: venues' clocks run ahead


def find_faults(fields: pa.RecordBatch, raw: RawBatch, names: Sequence[str], code: Codes, limits: Limits) -> Faults:
    """Rules that some row breaks, most telling first: a row's reason is the first that holds.

    names: exchange and symbol, parted by a tab, of the few instruments; code: which of them a row is of. Batches are
    small and faults rare, so a column is looked at row by row only when its extremes say that there is one.
    """
    rules: Faults = [
        *_name_faults(names, code, limits.max_name_bytes),
        *_price_faults(fields["price"].to_numpy(), names, code, limits),
        *_volume_faults(fields["volume"].to_numpy(), fields["event_type"].to_numpy(), limits),
        ("log_time_implausible", ~plausible(raw.log_time_us)),
        *_time_faults(fields["timestamp"].to_numpy(), raw.log_time_us, limits),
    ]
    return [(reason, mask) for reason, mask in rules if mask.any()]


def _price_faults(price: Floats, names: Sequence[str], code: Codes, limits: Limits) -> Faults:
    if price.min() > 0 and price.max() <= limits.max_price:  # neither holds when one is NaN
        return [("price_too_fine", is_too_fine(price))]
    low = price <= 0
    if limits.any_price_venues and low.any():
        venues = [name.partition("\t")[0] for name in names]
        low &= ~np.isin(venues, list(limits.any_price_venues))[code]
    known = np.isfinite(price)
    inside = np.abs(price) <= limits.max_price
    return [
        ("price_not_finite", ~known),
        ("price_not_positive", low),
        ("price_out_of_range", known & ~inside),
        ("price_too_fine", is_too_fine(np.where(inside, price, 0.0))),
    ]


def _volume_faults(volume: Floats, event_type: npt.NDArray[np.int32], limits: Limits) -> Faults:
    added_up = (event_type == TRADE) | (event_type == ORDER_BOOK)
    if volume.min() >= 0 and volume.max() <= min(limits.max_volume, limits.max_ticker_volume):
        return [("volume_too_fine", is_too_fine(volume) & added_up)]
    known = np.isfinite(volume)
    inside = volume <= np.where(event_type == TICKER, limits.max_ticker_volume, limits.max_volume)
    return [
        ("volume_not_finite", ~known),
        ("volume_negative", volume < 0),
        ("volume_out_of_range", known & ~inside),
        ("volume_too_fine", is_too_fine(np.where(added_up & inside & (volume > 0), volume, 0.0))),
    ]


def _name_faults(names: Sequence[str], code: Codes, max_bytes: int) -> Faults:
    """Faults of the few distinct instruments, spread over the rows."""
    verdicts = [_name_fault(name, max_bytes) for name in names]
    if not any(verdicts):
        return []
    return [(reason, np.array([v == reason for v in verdicts])[code]) for reason in {v for v in verdicts if v}]


def _name_fault(joined: str, max_bytes: int) -> RejectReason | None:
    # what a hostile producer sends at length is not kept in memory
    rule = _name_rule if len(joined) <= 2 * max_bytes + 1 else _name_rule.__wrapped__
    return rule(joined, max_bytes)


@lru_cache(maxsize=16_384)
def _name_rule(joined: str, max_bytes: int) -> RejectReason | None:
    exchange, _, symbol = joined.partition("\t")
    if "\t" in symbol:  # one of the names holds it, and so the parting may have been elsewhere
        return "name_malformed"
    if not exchange:
        return "empty_exchange"
    if not symbol:
        return "empty_symbol"
    if max(len(exchange.encode()), len(symbol.encode())) > max_bytes:
        return "name_too_long"
    if not (exchange.isprintable() and symbol.isprintable()) or "|" in joined:  # | parts the fields of a topic's keys
        return "name_malformed"
    return None


def is_plausible_time(time_us: Ints, log_time_us: Ints, limits: Limits) -> Mask:
    """Which times, in microseconds, a record of that log time may name."""
    return (time_us >= log_time_us - limits.max_age_us) & (time_us <= log_time_us + limits.max_ahead_us)


def _time_faults(time: npt.NDArray[np.int64], log_time_us: npt.NDArray[np.int64], limits: Limits) -> Faults:
    """Implausible event times, told apart by the unit in which they would be plausible."""
    wrong = ~is_plausible_time(time, log_time_us, limits)
    if not wrong.any():
        return []
    oldest, newest = log_time_us - limits.max_age_us, log_time_us + limits.max_ahead_us

    def in_unit(scaled: npt.NDArray[np.float64]) -> Mask:
        return wrong & (scaled >= oldest) & (scaled <= newest)

    as_float = time.astype(np.float64)
    return [
        ("timestamp_in_seconds", in_unit(as_float * 1e6)),
        ("timestamp_in_milliseconds", in_unit(as_float * 1e3)),
        ("timestamp_in_nanoseconds", in_unit(as_float / 1e3)),
        ("timestamp_too_old", wrong & (time < oldest)),
        ("timestamp_in_future", wrong & (time > newest)),
    ]
