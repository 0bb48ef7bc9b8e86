"""STAT: what one window of one instrument says beside its bar. Parquet `stats/`, topic md.stats."""

from typing import Final, Literal, get_args

import pyarrow as pa

from schemas.bar import BAR
from schemas.records import FIXED16, NOTIONAL, PRICE, RATIO, TIMESTAMP, US_EPOCH, VOLUME, Field, Record

StatKind = Literal["ticker", "book", "sliding", "session"]
STAT_KINDS: Final[tuple[StatKind, ...]] = get_args(StatKind)

_EVENTS = "fold of the window's unique events of the kind"
_BARS = "fold of the window's 1 s bars"
_QUOTE = "quote currency per unit of base, the double that was sent"
_BASE = "units of base, exact in 1e-18"
_UPDATES = "fold of the window's unique level updates"
_ZEROS = "session or sliding window of prints of size zero alone, or book of deletions alone"
_CELL = "cell step; windows step: of its parts"
_COMMON = {field.name: field for field in BAR.fields}


def _of(kinds: str, name: str, type: pa.DataType, meaning: str, unit: str, origin: str, null: str = "") -> Field:
    """A field that only these kinds have."""
    return Field(name, type, f"{kinds}: {meaning}", unit, origin, null=f"other kind{null and f', or {null}'}")


STAT: Final = Record(
    "Stat",
    3,
    "What one window of one instrument says beside its bar: ticker (prices of its tickers), book (its order-book level "
    "changes; no book is rebuilt from them), sliding (its trades in a window that slides), session (its trades between "
    "two silences). Per (kind, exchange, symbol, interval_s, window_start) the highest version counts.",
    (
        Field("kind", pa.utf8(), "ticker, book, sliding or session", "-", "cell step; windows step"),
        Field("exchange", pa.utf8(), "venue", "-", "the events"),
        Field("symbol", pa.utf8(), "venue symbol", "-", "the events"),
        Field(
            "interval_s",
            pa.int32(),
            "length of the window; session: from the start of its first to the end of its last second with trades",
            "seconds",
            "configuration; session: the trades",
        ),
        Field(
            "window_start",
            TIMESTAMP,
            "start of the window, inclusive, aligned to the epoch; session: start of its first second with trades",
            US_EPOCH,
            "event times and interval_s; session: the trades",
        ),
        _COMMON["window_end"],
        Field(
            "event_count",
            pa.int64(),
            "ticker: unique tickers; book: unique level updates, deletions left out; sliding, session: trade_count",
            "events",
            _EVENTS,
        ),
        Field("first_event_time", TIMESTAMP, "event time of the first event", US_EPOCH, _EVENTS, _ZEROS),
        Field("last_event_time", TIMESTAMP, "event time of the last event", US_EPOCH, _EVENTS, _ZEROS),
        _of(
            "ticker, session",
            "first_price",
            PRICE,
            "first price by (event time, sequence or id, offset)",
            _QUOTE,
            _EVENTS,
            _ZEROS,
        ),
        _of("ticker, session", "last_price", PRICE, "last price in that order", _QUOTE, _EVENTS, _ZEROS),
        _of("ticker, session", "min_price", PRICE, "lowest price", _QUOTE, _EVENTS, _ZEROS),
        _of("ticker, session", "max_price", PRICE, "highest price", _QUOTE, _EVENTS, _ZEROS),
        _of(
            "book",
            "max_bid_update_price",
            PRICE,
            "highest price of the level updates of side BUY, deletions (volume 0) left out; not the best bid, for "
            "levels that did not change are not known",
            _QUOTE,
            _UPDATES,
            "no update of that side",
        ),
        _of(
            "book",
            "min_ask_update_price",
            PRICE,
            "lowest price of the level updates of side SELL, deletions left out; not the best ask",
            _QUOTE,
            _UPDATES,
            "no update of that side",
        ),
        _of(
            "book",
            "update_price_gap",
            PRICE,
            "min_ask_update_price - max_bid_update_price, rounded once to the nearest double; not the spread, and "
            "below 0 where prices moved by more than it within the window",
            "quote currency per unit of base",
            _UPDATES,
            "one of the sides is missing",
        ),
        _of(
            "book",
            "bid_update_volume",
            VOLUME,
            "sum of the new volumes of the level updates of side BUY; a level that is updated twice counts twice",
            _BASE,
            _UPDATES,
        ),
        _of("book", "ask_update_volume", VOLUME, "likewise of side SELL", _BASE, _UPDATES),
        _of(
            "book",
            "update_imbalance",
            RATIO,
            "(bid_update_volume - ask_update_volume) / (bid_update_volume + ask_update_volume), rounded once to the "
            "nearest double",
            "1, from -1 to 1",
            _UPDATES,
            "both volumes are 0",
        ),
        _of(
            "book",
            "unknown_side_count",
            pa.int64(),
            "level updates of unknown side, in neither volume",
            "events",
            _UPDATES,
        ),
        _of(
            "book",
            "level_delete_count",
            pa.int64(),
            "unique deletions of a level (volume 0), of any side; they are not in event_count, prices and volumes",
            "events",
            "fold of the window's unique deletions",
        ),
        _of("sliding, session", "volume", VOLUME, "sum of the volumes", _BASE, _BARS),
        _of(
            "sliding, session",
            "notional",
            NOTIONAL,
            "sum of price x volume",
            "quote currency, exact in 1e-36",
            _BARS,
        ),
        _of(
            "sliding, session",
            "vwap",
            PRICE,
            "notional / volume, rounded once to the nearest double",
            "quote currency per unit of base",
            _BARS,
            "volume is 0",
        ),
        _of(
            "sliding",
            "return_count",
            pa.int64(),
            "returns in return_volatility: 1 s bars with prices, less one",
            "returns",
            _BARS,
        ),
        _of(
            "sliding",
            "return_volatility",
            pa.float64(),
            "sample standard deviation sqrt(sum((r - m)^2) / (n - 1)) of the n simple returns r between seconds with "
            "trades that follow each other in the window, silent seconds between them or not: r = (c' - c) / c of the "
            "closes c, c' as decimals; m = sum(r) / n. Every quotient, difference, product and root is rounded "
            "once to the nearest double, half-even; every sum is exact and then rounded once",
            "1, not annualised",
            _BARS,
            "fewer than 2 returns, or a close that is not above 0",
        ),
        _COMMON["delayed_count"],
        _COMMON["duplicate_count"],
        Field(
            "version",
            pa.int64(),
            "records known: event_count + duplicate_count, deletions or prints of size zero, and the rejects "
            "identity_conflict",
            "records",
            _CELL,
        ),
        _COMMON["lineage"],
        Field("identity_digest", FIXED16, "order-free sum of the mixed identities of the events", "-", _CELL),
    ),
    key=("kind", "exchange", "symbol", "interval_s", "window_start"),
)
