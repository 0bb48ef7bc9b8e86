from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class EventType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TRADE: _ClassVar[EventType]
    ORDER_BOOK: _ClassVar[EventType]
    TICKER: _ClassVar[EventType]

class Side(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SIDE_UNKNOWN: _ClassVar[Side]
    BUY: _ClassVar[Side]
    SELL: _ClassVar[Side]
TRADE: EventType
ORDER_BOOK: EventType
TICKER: EventType
SIDE_UNKNOWN: Side
BUY: Side
SELL: Side

class MarketDataEvent(_message.Message):
    __slots__ = ("exchange", "symbol", "price", "volume", "timestamp", "event_type", "trade_id", "side", "sequence", "received_at", "event_id", "source")
    EXCHANGE_FIELD_NUMBER: _ClassVar[int]
    SYMBOL_FIELD_NUMBER: _ClassVar[int]
    PRICE_FIELD_NUMBER: _ClassVar[int]
    VOLUME_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    EVENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    TRADE_ID_FIELD_NUMBER: _ClassVar[int]
    SIDE_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_AT_FIELD_NUMBER: _ClassVar[int]
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    exchange: str
    symbol: str
    price: float
    volume: float
    timestamp: int
    event_type: EventType
    trade_id: str
    side: Side
    sequence: int
    received_at: int
    event_id: str
    source: str
    def __init__(self, exchange: _Optional[str] = ..., symbol: _Optional[str] = ..., price: _Optional[float] = ..., volume: _Optional[float] = ..., timestamp: _Optional[int] = ..., event_type: _Optional[_Union[EventType, str]] = ..., trade_id: _Optional[str] = ..., side: _Optional[_Union[Side, str]] = ..., sequence: _Optional[int] = ..., received_at: _Optional[int] = ..., event_id: _Optional[str] = ..., source: _Optional[str] = ...) -> None: ...
