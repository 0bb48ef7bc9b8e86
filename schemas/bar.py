"""BAR: what was traded in one window of one instrument. Parquet `bars/`, topics md.bars.<interval>."""

from typing import Final

import pyarrow as pa

from schemas.records import FIXED16, NOTIONAL, PRICE, TIMESTAMP, US_EPOCH, VOLUME, Field, Record, struct_list

_TRADES = "fold of the window's unique trades"
_QUOTE = "quote currency per unit of base, the double that was sent"
_BASE = "units of base, exact in 1e-18"
_ZEROS = "all prints are of size zero"
_CELL = "cell step; windows step: of its parts"

BAR: Final = Record(
    "Bar",
    3,
    "What was traded in one window of one instrument; per (exchange, symbol, interval_s, window_start) the highest "
    "version counts. It does not say whether a higher one may come: none does once the log's clock has passed "
    "window_end + horizon + slack.",
    (
        Field("exchange", pa.utf8(), "venue", "-", "the trades"),
        Field("symbol", pa.utf8(), "venue symbol", "-", "the trades"),
        Field("interval_s", pa.int32(), "length of the window", "seconds", "configuration"),
        Field(
            "window_start",
            TIMESTAMP,
            "start of the window, inclusive, aligned to the epoch",
            US_EPOCH,
            "event times and interval_s",
        ),
        Field("window_end", TIMESTAMP, "end of the window, exclusive", US_EPOCH, "window_start and interval_s"),
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
        Field(
            "delayed_count",
            pa.int64(),
            "records folded, copies included, whose log lag exceeded the grace: they are in the window; what exceeded "
            "the horizon is not, and lies in late/",
            "records",
            "log times of the partition, and event times",
        ),
        Field("duplicate_count", pa.int64(), "copies folded (same identity, another offset)", "records", _CELL),
        Field(
            "version",
            pa.int64(),
            "records known: trade_count + zero_volume_count + duplicate_count and the rejects identity_conflict",
            "records",
            _CELL,
        ),
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
            "Kafka, where the records lie",
        ),
        Field("identity_digest", FIXED16, "order-free sum of the mixed identities of the trades", "-", _CELL),
    ),
    key=("exchange", "symbol", "interval_s", "window_start"),
)
