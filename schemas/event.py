"""EVENT: one unique market event with its place in the log. Parquet `events/`."""

from typing import Final

import pyarrow as pa

from schemas.records import FIXED16, TIMESTAMP, US_EPOCH, Field, Record, struct_list

TRADE: Final = 0
ORDER_BOOK: Final = 1
TICKER: Final = 2

SIDES: Final = (None, "BUY", "SELL")
"""Name of a side by its number in the protobuf."""

_PRODUCER = "producer, MarketDataEvent."
_HEADER = ", else a header"
_KAFKA = "Kafka, where the record lies"

LOG_FIELDS: Final = (
    Field("topic", pa.utf8(), "input topic", "-", _KAFKA),
    Field("partition", pa.int32(), "partition of the topic", "number from 0", _KAFKA),
    Field("offset", pa.int64(), "offset in the partition", "records from 0", _KAFKA),
    Field(
        "log_time",
        TIMESTAMP,
        "Kafka timestamp of the record, in whole milliseconds; of a reject 1970 where no calendar has it",
        US_EPOCH,
        "producer's client (CreateTime) or the broker (LogAppendTime)",
    ),
)
"""Where a record lies in the log; shared by every record that stands for one log record."""

EVENT_FIELDS: Final = (
    Field("exchange", pa.utf8(), "venue, e.g. binance", "-", _PRODUCER + "exchange"),
    Field("symbol", pa.utf8(), "venue symbol, e.g. BTC-USDT", "-", _PRODUCER + "symbol"),
    Field(
        "event_type",
        pa.int32(),
        "0 trade, 1 order-book level change, 2 ticker",
        "enum EventType, unknown numbers kept",
        _PRODUCER + "event_type",
    ),
    Field("event_time", TIMESTAMP, "when it happened at the venue", US_EPOCH, _PRODUCER + "timestamp"),
    Field("price", pa.float64(), "price as sent", "quote currency per unit of base", _PRODUCER + "price"),
    Field("volume", pa.float64(), "volume as sent", "units of base", _PRODUCER + "volume"),
    Field("trade_id", pa.utf8(), "the venue's trade id", "-", _PRODUCER + "trade_id" + _HEADER, null="venue sent none"),
    Field(
        "side",
        pa.utf8(),
        "aggressor's side of a trade, book side of a level: BUY or SELL",
        "-",
        _PRODUCER + "side",
        null="unknown",
    ),
    Field(
        "sequence",
        pa.int64(),
        "the venue's sequence number",
        "the venue's count",
        _PRODUCER + "sequence",
        null="venue sent none",
    ),
    Field(
        "received_at",
        TIMESTAMP,
        "when the capture received it",
        US_EPOCH,
        _PRODUCER + "received_at",
        null="not captured, or implausible: more than 20 years before log_time or 5 s after it (another unit, a 0)",
    ),
    Field(
        "event_id",
        pa.utf8(),
        "the producer's id of this event",
        "-",
        _PRODUCER + "event_id" + _HEADER,
        null="producer sent none",
    ),
    Field("source", pa.utf8(), "producer or capture that sent it", "-", _PRODUCER + "source", null="unknown"),
    *LOG_FIELDS,
    Field(
        "identity",
        FIXED16,
        "128 bits of (exchange, symbol, type, trade id), else of (exchange, symbol, type, event id), else of the place "
        "in the log; within one second of event_time",
        "-",
        "check step",
    ),
)

EVENT: Final = Record(
    "Event",
    1,
    "One unique market event with its place in the log.",
    (
        *EVENT_FIELDS,
        Field(
            "copies",
            struct_list([("partition", pa.int32(), False), ("offset", pa.int64(), False)]),
            "the other log records of the same identity, sorted; empty for none",
            "partition from 0, offset from 0",
            "Kafka, where they lie; cell step, when it writes the file",
        ),
    ),
)
