"""Downstream topics: at least once, by an idempotent producer, acknowledged by all replicas before a bundle ends."""

from collections.abc import Callable
from functools import partial
from typing import Any, Final

import apache_beam as beam
import pyarrow as pa
from confluent_kafka import KafkaError, KafkaException, Producer

from schemas import avro
from schemas.bar import BAR
from schemas.late import LATE
from schemas.records import Record
from schemas.reject import REJECT
from schemas.stat import STAT
from transforms.batches import EventBatch
from transforms.brokers import Brokers, client_settings
from transforms.cell_config import CellKey
from transforms.event_messages import Headers, Message, event_messages
from transforms.fitting import MAX_REJECT_BYTES, fitting
from transforms.named_failure import names_record
from transforms.windows import ShardRecords

Outgoing = tuple[str, list[Message]] | tuple[str, list[Message], Headers]  # the topic, what goes there, headers of each
Encode = Callable[[Any, "TopicNames", Callable[[str], int]], Outgoing]
Smaller = Callable[[bytes], bytes]  # a value with less in it

_FLUSH_S: Final = 60.0
_FULL_S: Final = 0.1  # how long to wait at a time for room in the producer's queue
_BY_KEY: Final = -1  # librdkafka's word for a partition that the key decides
INTERVAL_NAMES: Final = {1: "1s", 10: "10s", 60: "1m", 300: "5m", 3600: "1h"}


class TopicNames:
    """Names of the output topics below one prefix."""

    def __init__(self, prefix: str = "md") -> None:
        self.unique = f"{prefix}.events.unique"
        self.stats = f"{prefix}.stats"
        self.late = f"{prefix}.late"
        self.rejects = f"{prefix}.rejects"
        self._bars = f"{prefix}.bars."

    def bars(self, interval_s: int) -> str:
        """Topic of the bars of one interval."""
        return self._bars + INTERVAL_NAMES.get(interval_s, f"{interval_s}s")


def unique_events(element: tuple[CellKey, EventBatch], names: TopicNames, partitions: Callable[[str], int]) -> Outgoing:
    """Unique events as they were sent, ids of headers in them, keyed by identity and event second."""
    return names.unique, *event_messages(element[1], partitions(names.unique))


def bars(element: ShardRecords, names: TopicNames, partitions: Callable[[str], int]) -> Outgoing:
    """Bars of one window, keyed by bar; of each key the highest version counts."""
    interval_s = element[1].column("interval_s")[0].as_py()
    return names.bars(interval_s), _encoded(BAR, element[1], _bar_key)


def stats(element: ShardRecords, names: TopicNames, partitions: Callable[[str], int]) -> Outgoing:
    """Stats of one window, keyed by stat; of each key the highest version counts."""
    return names.stats, _encoded(STAT, element[1], _stat_key)


def late_events(late: pa.RecordBatch, names: TopicNames, partitions: Callable[[str], int]) -> Outgoing:
    """Late events, keyed by their place in the log."""
    return names.late, _encoded(LATE, late, _place_key)


def rejects(refused: pa.RecordBatch, names: TopicNames, partitions: Callable[[str], int]) -> Outgoing:
    """Rejects, keyed by their place in the log. What no topic would take is left out here and whole in the files."""
    return names.rejects, _encoded(REJECT, refused, _place_key, fitting)


def _encoded(
    record: Record,
    batch: pa.RecordBatch,
    key: Callable[[dict[str, Any]], str],
    fit: Callable[[dict[str, Any]], dict[str, Any]] = dict,
) -> list[Message]:
    rows = [fit(row) for row in record.plain_rows(batch)]
    encoded = avro.encode(record, rows)
    return [(value, key(row).encode(), _BY_KEY) for row, value in zip(rows, encoded, strict=True)]


def _bar_key(row: dict[str, Any]) -> str:
    return f"{row['exchange']}|{row['symbol']}|{row['interval_s']}|{row['window_start']}"


def _stat_key(row: dict[str, Any]) -> str:
    return f"{row['kind']}|{_bar_key(row)}"


def _place_key(row: dict[str, Any]) -> str:
    return f"{row['topic']}|{row['partition']}|{row['offset']}"


class _Publish(beam.DoFn):
    def __init__(self, servers: Brokers, names: TopicNames, encode: Encode, smaller: Smaller | None = None) -> None:
        self._bootstrap_servers, self._names, self._encode = servers, names, encode
        self._smaller: Any = smaller

    def setup(self) -> None:
        self._errors: list[KafkaError] = []
        self._too_large: list[tuple[str, Message]] = []
        self._partition_counts: dict[str, int] = {}
        self._producer = Producer(
            {
                **client_settings(self._bootstrap_servers),
                "enable.idempotence": True,
                "acks": "all",
                "compression.type": "snappy",
                "linger.ms": 20,  # only for large bundles: the end of each sends what is left
                "message.max.bytes": 2 * MAX_REJECT_BYTES,  # 1 MB by default: a larger reject would stop the stream
                "queue.buffering.max.messages": 1_000_000,
                "delivery.report.only.error": True,
                "on_delivery": self._delivered,
            }
        )

    @names_record
    def process(self, element: Any) -> None:
        topic, messages, *headers = self._encode(element, self._names, self._partitions)
        produce = self._producer.produce  # a quarter cheaper than produce_batch, which takes dicts
        if headers:
            produce = partial(produce, headers=headers[0])
        for message in messages:
            value, key, partition = message
            try:
                produce(topic, value, key, partition)
            except BufferError:
                self._produce_when_there_is_room(produce, topic, message)

    def finish_bundle(self) -> None:
        self._flush()
        while self._too_large:
            self._send_alone(*self._too_large.pop())

    def teardown(self) -> None:
        self._producer.flush(1.0)

    def _flush(self) -> None:
        left = self._producer.flush(_FLUSH_S)
        if self._errors:
            raise KafkaException(self._errors[0])
        if left:
            raise TimeoutError(f"{left} records were not acknowledged within {_FLUSH_S:.0f} s; check the brokers")

    def _send_alone(self, topic: str, message: Message) -> None:
        """A broker refuses a whole batch for its size; what is too large alone too goes with less and less in it."""
        others, self._too_large = self._too_large, []
        self._producer.produce(topic, *message)
        self._flush()
        self._too_large = [*others, *((topic, (self._smaller(value), *rest)) for _, (value, *rest) in self._too_large)]

    def _delivered(self, error: KafkaError | None, sent: Any) -> None:
        if error is not None and self._smaller and error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
            self._too_large.append((sent.topic(), (sent.value(), sent.key(), _BY_KEY)))
        elif error is not None:
            self._errors.append(KafkaError(error.code(), f"topic {sent.topic()}: {error.str()}"))

    def _produce_when_there_is_room(self, produce: Callable[..., None], topic: str, message: Message) -> None:
        """The queue is full: let it drain until it takes the message."""
        while True:
            self._producer.poll(_FULL_S)
            try:
                produce(topic, *message)
            except BufferError:
                continue
            return

    def _partitions(self, topic: str) -> int:
        if topic not in self._partition_counts:
            found = self._producer.list_topics(topic, timeout=30).topics[topic]
            if found.error is not None:
                raise KafkaException(found.error)
            self._partition_counts[topic] = len(found.partitions)
        return self._partition_counts[topic]


class PublishRecords(beam.PTransform):
    """Write a collection to its topic.

    In:     whatever `encode` turns into messages.
    Out:    nothing.
    Errors: KafkaException, TimeoutError: the bundle fails and is tried again, so records may come twice, with the
            same key and content, and in any order: of a key the highest version counts (schemas/newest.py). What is
            too large for the topic is made `smaller`.
    Source: docs/specs/market_data.md, step 8.
    """

    def __init__(self, servers: Brokers, names: TopicNames, encode: Encode, smaller: Smaller | None = None) -> None:
        super().__init__()
        self._publish = _Publish(servers, names, encode, smaller)

    def expand(self, rows: beam.PCollection[Any]) -> beam.PCollection[None]:
        return rows | "Publish" >> beam.ParDo(self._publish)
