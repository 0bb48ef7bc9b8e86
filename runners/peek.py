"""Whatever lies on a topic, decoded without being told what it is."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition
from google.protobuf.message import DecodeError

from schemas.avro import UnknownSchemaError, decode
from schemas.event import SIDES
from schemas.market_data_pb2 import MarketDataEvent
from schemas.units import US_PER_MS
from transforms.brokers import Brokers, client_settings
from transforms.headers import headers_of

BEACON_HEADER: Final = "horizon-beacon"

Kind = Literal["MarketDataEvent", "Event", "Bar", "Stat", "Late", "Reject", "beacon", "tombstone", "bytes"]
From = Literal["first", "last", "tail"]

_TIMEOUT_S: Final = 10.0
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_YEAR_2100_US: Final = 4_102_444_800_000_000


class PeekError(Exception):
    """The topic cannot be read; the message names it and why."""


@dataclass(frozen=True)
class Peeked:
    """One record. `row` holds the decoded fields; {"hex": ...} where nothing decodes them."""

    topic: str
    partition: int
    offset: int
    log_time: datetime | int  # microseconds since the Unix epoch where that is no time of our era
    key: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    kind: Kind
    row: Mapping[str, Any]


def describe(value: bytes | None, headers: Mapping[str, bytes | None]) -> tuple[Kind, dict[str, Any]]:
    """What a record is and its fields: by its headers, by Avro's fingerprint, as an event, else as bytes."""
    if value is None:
        return "beacon" if BEACON_HEADER in headers else "tombstone", {}
    try:
        record, row = decode(value)
        return record.name, row  # type: ignore[return-value]
    except UnknownSchemaError:
        event = _event(value)
        return ("MarketDataEvent", event) if event is not None else ("bytes", {"hex": value.hex()})
    except (EOFError, ValueError, IndexError, ArithmeticError) as error:  # the right fingerprint, then a damaged body
        return "bytes", {"hex": value.hex(), "error": f"damaged Avro: {error}"}


def _event(value: bytes) -> dict[str, Any] | None:
    """The fields of a MarketDataEvent; None when the bytes are none, or name no instrument at all."""
    try:
        event = MarketDataEvent.FromString(value)
    except DecodeError:
        return None
    if not event.exchange and not event.symbol:
        return None
    row: dict[str, Any] = {
        "exchange": event.exchange,
        "symbol": event.symbol,
        "event_type": _event_type(event),
        "price": event.price,
        "volume": event.volume,
        "timestamp": _time_or_number(event.timestamp),
    }
    row |= {field.name: item for field, item in event.ListFields() if field.name not in row}
    if event.side:
        row["side"] = SIDES[event.side] if 0 < event.side < len(SIDES) else int(event.side)
    if event.HasField("received_at"):
        row["received_at"] = _time_or_number(event.received_at)
    return row


def _event_type(event: MarketDataEvent) -> str | int:
    values = MarketDataEvent.DESCRIPTOR.fields_by_name["event_type"].enum_type.values_by_number
    return values[event.event_type].name if event.event_type in values else int(event.event_type)


def _time_or_number(time_us: int) -> datetime | int:
    """Microseconds as a time; the number itself where that is no time of our era."""
    return _EPOCH + timedelta(microseconds=time_us) if 0 < time_us < _YEAR_2100_US else time_us


def peek(bootstrap_servers: Brokers, topic: str, *, start: From = "last", limit: int | None = 10) -> Iterator[Peeked]:
    """Records of a topic: the `first` or `last` by log time, or `tail`: those to come, as they come.

    Raises:
        PeekError: no broker answers, or there is no such topic.
    """
    consumer = Consumer(
        {
            **client_settings(bootstrap_servers),
            "log_level": 0,  # what goes wrong is raised
            "group.id": "horizon-peek",  # never joined: partitions are assigned by hand, nothing is committed
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
        }
    )
    try:
        ends = _ends(consumer, bootstrap_servers, topic)
        if start == "tail":
            yield from _tail(consumer, topic, ends, limit)
        else:
            found = sorted(_bounded(consumer, topic, ends, start, limit), key=_log_order)
            cut = found if limit is None else found[:limit] if start == "first" else found[max(0, len(found) - limit) :]
            yield from (_peeked(message) for message in cut)
    except KafkaException as error:
        raise PeekError(f"topic {topic} at {bootstrap_servers}: {error.args[0].str()}") from error
    finally:
        consumer.close()


def _ends(consumer: Consumer, servers: Brokers, topic: str) -> dict[int, tuple[int, int]]:
    """Partition → (first offset, next offset to be written)."""
    try:
        topics = consumer.list_topics(timeout=_TIMEOUT_S).topics
    except KafkaException as error:
        raise PeekError(f"no broker answers at {servers} ({error.args[0].str()}); is it up?") from error
    if topic not in topics:
        known = ", ".join(sorted(name for name in topics if not name.startswith("__"))) or "none"
        raise PeekError(f"topic {topic} does not exist at {servers}; there are: {known}")
    parts = sorted(topics[topic].partitions)
    return {
        part: consumer.get_watermark_offsets(TopicPartition(topic, part), timeout=_TIMEOUT_S) or (0, 0)
        for part in parts
    }


def _bounded(
    consumer: Consumer, topic: str, ends: Mapping[int, tuple[int, int]], start: From, limit: int | None
) -> Iterator[Message]:
    """At most `limit` records of each partition, up to the ends as they were."""
    left = {part: (high - low if limit is None else limit) for part, (low, high) in ends.items() if high > low}
    begins = {
        part: max(ends[part][0], ends[part][1] - left[part]) if start == "last" else ends[part][0] for part in left
    }
    left = {part: count for part, count in left.items() if count > 0}
    consumer.assign([TopicPartition(topic, part, begins[part]) for part in left])
    silent_since = time.monotonic()
    while left:
        for message in consumer.consume(1_000, 0.2):
            silent_since = time.monotonic()
            part = message.partition()
            error = message.error()
            if error is not None and error.code() != KafkaError._PARTITION_EOF:
                raise KafkaException(error)
            if part not in left:
                continue
            if error is None:
                yield message
                left[part] -= 1
            if error is not None or left[part] == 0 or (message.offset() or 0) >= ends[part][1] - 1:
                del left[part]
        if time.monotonic() - silent_since > _TIMEOUT_S:
            raise PeekError(f"topic {topic}: partitions {sorted(left)} did not answer within {_TIMEOUT_S:.0f} s")


def _tail(consumer: Consumer, topic: str, ends: Mapping[int, tuple[int, int]], limit: int | None) -> Iterator[Peeked]:
    consumer.assign([TopicPartition(topic, part, high or OFFSET_BEGINNING) for part, (_, high) in ends.items()])
    left = float("inf") if limit is None else limit
    while left > 0:
        message = consumer.poll(0.2)  # short, so that Ctrl-C is heard
        if message is None:
            continue
        error = message.error()
        if error is None:
            yield _peeked(message)
            left -= 1
        elif error.code() != KafkaError._PARTITION_EOF:
            raise KafkaException(error)


def _log_order(message: Message) -> tuple[int, int, int]:
    return message.timestamp()[1], message.partition() or 0, message.offset() or 0


def _peeked(message: Message) -> Peeked:
    headers = tuple(headers_of(message))
    kind, row = describe(message.value(), dict(headers))
    return Peeked(
        topic=message.topic() or "",
        partition=message.partition() or 0,
        offset=message.offset() or 0,
        log_time=_time_or_number(message.timestamp()[1] * US_PER_MS),
        key=message.key(),
        headers=headers,
        kind=kind,
        row=row,
    )
