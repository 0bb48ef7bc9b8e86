"""BAR: what was traded in one window of one instrument. Parquet `bars/`, topics md.bars.<interval>."""

from typing import Final, Literal, get_args

import pyarrow as pa

from schemas.records import FIXED16, NOTIONAL, PRICE, TIMESTAMP, US_EPOCH, VOLUME, Field, Record, struct_list

BarStatus = Literal["complete", "gap_suspect", "provisional"]
BAR_STATUSES: Final[tuple[BarStatus, ...]] = get_args(BarStatus)

_TRADES = "fold of the window's unique trades"
_QUOTE = "quote currency per unit of base, the double that was sent"
_BASE = "units of base, exact in 1e-18"
_ZEROS = "all prints are of size zero"

BAR: Final = Record(
    "Bar",
    2,
    "What was traded in one window of one instrument; per (exchange, symbol, interval_s, window_start) the highest "
    "version counts.",
    (
        Field("exchange", pa.utf8(), "venue", "-", "the trades"),
        Field("symbol", pa.utf8(), "venue symbol", "-", "the trades"),
        Field("interval_s", pa.int32(), "length of the window", "seconds", "configuration"),
        Field("window_start", TIMESTAMP, "start of the window, inclusive, aligned to the epoch", US_EPOCH, "window"),
        Field("window_end", TIMESTAMP, "end of the window, exclusive", US_EPOCH, "window"),
        Field(
            "open", PRICE, "price of the first trade by (event time, sequence or id, offset)", _QUOTE, _TRADES, _ZEROS
        ),
        Field("high", PRICE, "highest price", _QUOTE, _TRADES, _ZEROS),
        Field("low", PRICE, "lowest price", _QUOTE, _TRADES, _ZEROS),
        Field("close", PRICE, "price of the last trade in the order of open", _QUOTE, _TRADES, _ZEROS),
        Field("volume", VOLUME, "sum of the volumes", _BASE, _TRADES),
        Field("notional", NOTIONAL, "exact sum of price x volume", "quote currency, exact in 1e-36", _TRADES),
        Field(
            "vwap",
            PRICE,
            "notional / volume, rounded once to the nearest double",
            "quote currency per unit of base",
            _TRADES,
            null="volume is 0",
        ),
        Field("trade_count", pa.int64(), "unique trades of a size above 0", "trades", _TRADES),
        Field(
            "zero_volume_count",
            pa.int64(),
            "unique prints of size zero; they move no price and are not among trade_count",
            "trades",
            _TRADES,
        ),
        Field("buy_volume", VOLUME, "volume whose aggressor bought; unknown sides count in neither", _BASE, _TRADES),
        Field("sell_volume", VOLUME, "volume whose aggressor sold", _BASE, _TRADES),
        Field("first_event_time", TIMESTAMP, "event time of the trade of open", US_EPOCH, _TRADES, _ZEROS),
        Field("last_event_time", TIMESTAMP, "event time of the trade of close", US_EPOCH, _TRADES, _ZEROS),
        Field("late_count", pa.int64(), "records whose log lag exceeded the grace", "records", "the log times"),
        Field("duplicate_count", pa.int64(), "copies folded (same identity, another offset)", "records", "cell step"),
        Field(
            "version",
            pa.int64(),
            "records folded: trade_count + zero_volume_count + duplicate_count",
            "records",
            "cell step",
        ),
        Field("status", pa.utf8(), "complete, gap_suspect or provisional", "-", "cell step"),
        Field(
            "lineage",
            struct_list(
                [
                    ("partition", pa.int32(), False),
                    ("first_offset", pa.int64(), False),
                    ("last_offset", pa.int64(), False),
                ]
            ),
            "per partition the first and last offset folded, copies included, sorted by partition",
            "offsets, both inclusive",
            "Kafka",
        ),
        Field("identity_digest", FIXED16, "order-free sum of the mixed identities of the trades", "-", "cell step"),
    ),
)
