"""Records onto a topic, each delivery confirmed: acks=all, idempotent, snappy, as fast or as slow as asked."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from transforms.brokers import Brokers, client_settings

_SLICE: Final = 2_000  # records handed to the client at once
_IN_FLIGHT: Final = 100_000  # records the client may hold; its own queue would refuse more than it is sized for
_TICK_S: Final = 0.005  # a paced run looks this often whether records are due

PRODUCER_SETTINGS: Final[Mapping[str, Any]] = {
    "acks": "all",
    "enable.idempotence": True,
    "compression.type": "snappy",
    "linger.ms": 20,  # with 5 a broker spends a third of a core on the requests of 12 partitions (docs/facts.md)
    "partitioner": "murmur2_random",  # Java's, so that every producer puts an instrument into the same partition
    "queue.buffering.max.messages": 2 * _IN_FLIGHT,
    "message.timeout.ms": 60_000,
    # failures are reported one by one, success by the client's queue running empty: three times cheaper
    "delivery.report.only.error": True,
    "log_level": 0,  # what goes wrong is raised
}

Headers = Sequence[tuple[str, bytes]]


class PublishError(Exception):
    """Kafka cannot be reached or did not take a record; the message names what and the remedy."""


@dataclass(frozen=True)
class PublishBatch:
    """Records in their order; columns of equal length."""

    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]
    log_time_ms: Sequence[int] | npt.NDArray[np.int64]  # the Kafka timestamps, milliseconds since the Unix epoch
    headers: Sequence[Headers] | None = None
    due_s: npt.NDArray[np.float64] | None = None  # earliest time to send, seconds after the first call; None: at once

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True)
class Published:
    """What the broker has confirmed so far, or, in progress reports, what was handed to the client."""

    records: int = 0
    value_bytes: int = 0
    seconds: float = 0.0

    @property
    def rate(self) -> float:
        """Records per second."""
        return self.records / self.seconds if self.seconds else 0.0


def publish_batches(
    bootstrap_servers: Brokers,
    topic: str,
    batches: Iterable[PublishBatch],
    *,
    rate: float | None = None,
    partition: int | None = None,
    stop: threading.Event | None = None,
    on_progress: Callable[[Published], None] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Published:
    """Send all batches and return when the broker has confirmed every record.

    `rate` (records per second) takes the place of the batches' own `due_s`. `partition` overrides the key's.
    When `stop` is set nothing more is sent, and what was sent is still confirmed.

    Raises:
        PublishError: no broker answers, the topic does not exist, or a record was not taken.
    """
    publisher = _Publisher(bootstrap_servers, topic, partition, stop or threading.Event(), settings or {})
    started = time.perf_counter()
    total = Published()
    try:
        for part in _due(batches, rate, publisher):
            publisher.send(part)
            size = sum(len(value) for value in part.values if value is not None)
            total = Published(total.records + len(part), total.value_bytes + size, time.perf_counter() - started)
            if on_progress is not None:
                on_progress(total)
    except BaseException:
        publisher.abandon()
        raise
    publisher.confirm()
    publisher.fail_on_error()
    return replace(total, seconds=time.perf_counter() - started)


def _due(batches: Iterable[PublishBatch], rate: float | None, publisher: "_Publisher") -> Iterator[PublishBatch]:
    """Slices of the batches, each when it is due."""
    if rate is not None and rate <= 0:
        raise ValueError(f"rate must be > 0 records per second, was {rate}")
    started, before = time.perf_counter(), 0
    for batch in batches:
        due_s = batch.due_s if rate is None else (before + np.arange(len(batch))) / rate
        before += len(batch)
        # nothing overtakes: a record waits for those before it
        due_s = None if due_s is None else np.maximum.accumulate(due_s)
        at = 0
        while at < len(batch):
            if publisher.stop.is_set():
                return
            now_s = time.perf_counter() - started
            ready = len(batch) if due_s is None else int(np.searchsorted(due_s, now_s, "right"))
            until = min(ready, at + _SLICE)
            if until <= at:
                publisher.wait(_TICK_S)
                continue
            yield _slice(batch, at, until)
            at = until


def _slice(batch: PublishBatch, at: int, until: int) -> PublishBatch:
    headers = None if batch.headers is None else batch.headers[at:until]
    return PublishBatch(batch.keys[at:until], batch.values[at:until], batch.log_time_ms[at:until], headers)


class _Publisher:
    """One producer and the first error it met."""

    def __init__(
        self, servers: Brokers, topic: str, partition: int | None, stop: threading.Event, settings: Mapping[str, Any]
    ) -> None:
        self.stop = stop
        self._topic = topic
        self._partition = -1 if partition is None else partition  # -1: by key
        self._error: KafkaError | None = None
        self._producer = Producer(
            {**client_settings(servers), **PRODUCER_SETTINGS, "on_delivery": self._note, **settings}
        )
        _check_topic(self._producer, servers, topic)

    def send(self, part: PublishBatch) -> None:
        while len(self._producer) > _IN_FLIGHT - len(part):
            self.wait(_TICK_S)
        produce, topic, partition = self._producer.produce, self._topic, self._partition
        records = zip(part.values, part.keys, np.asarray(part.log_time_ms, np.int64).tolist(), strict=True)
        # produce(), not produce_batch(): the latter takes no timestamps, and the log's clock is made of them
        try:
            if part.headers is None:
                for value, key, time_ms in records:
                    produce(topic, value, key, partition, timestamp=time_ms)
            else:
                for (value, key, time_ms), headers in zip(records, part.headers, strict=True):
                    produce(topic, value, key, partition, timestamp=time_ms, headers=list(headers))
        except KafkaException as error:
            raise PublishError(f"topic {topic}: {error.args[0].str()}") from error
        self.wait(0)

    def wait(self, seconds: float) -> None:
        self._producer.poll(seconds)
        self.fail_on_error()

    def confirm(self) -> None:
        # every record leaves the queue within message.timeout.ms, confirmed or reported
        while self._producer.flush(1.0):
            pass

    def abandon(self) -> None:
        self._producer.purge()
        self._producer.flush(1.0)

    def fail_on_error(self) -> None:
        if self._error is not None:
            raise PublishError(f"topic {self._topic}: a record was not taken: {self._error.str()}")

    def _note(self, error: KafkaError | None, _: Message) -> None:
        if error is not None and self._error is None:
            self._error = error


def _check_topic(producer: Producer, servers: Brokers, topic: str) -> None:
    try:
        topics = producer.list_topics(timeout=10).topics  # all of them: asking for one by name could create it
    except KafkaException as error:
        raise PublishError(
            f"no broker answers at {servers} ({error.args[0].str()}); is it up? `horizon stack status`"
        ) from error
    if topic not in topics:
        raise PublishError(f"topic {topic} does not exist at {servers}; create it, e.g. with `horizon topics apply`")
