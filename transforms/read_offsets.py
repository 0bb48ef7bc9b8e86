"""Replay: exactly the offsets of a manifest, straight into batches, with a plain consumer."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Final

import apache_beam as beam
import numpy as np
import pyarrow as pa
from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from transforms.batches import RawBatch
from transforms.brokers import Brokers, client_settings
from transforms.header_bytes import Header
from transforms.headers import headers_of
from transforms.keep_clock import KeepClock
from transforms.log_clock import in_us
from transforms.time_index import TimeIndex

_BATCH: Final = 10_000
_WAIT_S: Final = 0.5  # for a full batch: what transactions leave behind counts as offsets, but never comes
_SILENCE_S: Final = 60.0  # a broker that gives nothing for this long has lost the offsets or its mind


@dataclass(frozen=True)
class Stretch:
    """A stretch of one partition: offsets from `start` (inclusive) to `stop` (exclusive)."""

    topic: str
    partition: int
    start: int
    stop: int
    clock_us: int | None = None  # the partition's clock at `stop`, the record there included; None: not looked up


@dataclass(frozen=True)
class Manifest:
    """What a replay reads, frozen before it starts. Log times in microseconds since the Unix epoch."""

    stretches: tuple[Stretch, ...]
    oldest_log_time_us: int  # the newest before or at a start within the log; 0: they start where the log does
    newest_log_time_us: int  # the newest before a stop; 0 when they are empty

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1)

    @staticmethod
    def from_json(text: str) -> "Manifest":
        data = json.loads(text)
        stretches = tuple(Stretch(**stretch) for stretch in data["stretches"])
        return Manifest(stretches, data["oldest_log_time_us"], data["newest_log_time_us"])

    @property
    def records(self) -> int:
        """Offsets covered; compaction and transaction markers may make the records fewer."""
        return sum(stretch.stop - stretch.start for stretch in self.stretches)


def batch_of(messages: list[Message]) -> RawBatch:
    """Messages of one topic, none of them an error, as a batch."""
    headers: dict[int, list[Header]] = {}
    for row, message in enumerate(messages):
        if found := headers_of(message):
            headers[row] = found
    return RawBatch(
        topic=messages[0].topic() or "",
        values=pa.array([message.value() for message in messages], pa.binary()),
        keys=pa.array([message.key() for message in messages], pa.binary()),
        partition=np.array([message.partition() for message in messages], np.int64),
        offset=np.array([message.offset() for message in messages], np.int64),
        log_time_us=in_us(np.array([message.timestamp()[1] for message in messages], np.int64)),
        headers=headers,
    )


def read_stretch(bootstrap_servers: Brokers, stretch: Stretch) -> Iterator[RawBatch]:
    """Every record of the stretch, in order. KafkaException when the broker refuses, RuntimeError when it is silent
    or no longer holds the offsets."""
    consumer = Consumer(
        {
            **client_settings(bootstrap_servers),
            "group.id": "horizon-replay",  # never commits; the client demands one
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            "enable.partition.eof": True,
            "queued.max.messages.kbytes": 65_536,
            "fetch.message.max.bytes": 8_388_608,
        }
    )
    try:
        consumer.assign([TopicPartition(stretch.topic, stretch.partition, stretch.start)])
        position, silent_s = stretch.start, 0.0
        while position < stretch.stop:
            messages: list[Any] = consumer.consume(min(_BATCH, stretch.stop - position), timeout=_WAIT_S)
            silent_s = 0.0 if messages else silent_s + _WAIT_S
            if silent_s >= _SILENCE_S:
                raise RuntimeError(
                    f"{stretch.topic}[{stretch.partition}] gives no record at offset {position} in {_SILENCE_S:.0f} s; "
                    "check the broker, then run the replay again"
                )
            good = []
            for message in messages:
                if error := message.error():
                    if error.name() != "_PARTITION_EOF":
                        raise KafkaException(error)
                    position = max(position, message.offset())  # it may lie behind offsets that hold no record
                    continue
                position = message.offset() + 1
                if position <= stretch.stop:  # else those before it hold no record any more
                    good.append(message)
            if good:
                yield batch_of(good)
    finally:
        consumer.close()


class _ReadStretch(beam.DoFn):
    def __init__(self, bootstrap_servers: Brokers) -> None:
        self._bootstrap_servers = bootstrap_servers

    def process(self, stretch: Stretch) -> Iterator[RawBatch]:
        return read_stretch(self._bootstrap_servers, stretch)


class ReadOffsets(beam.PTransform):
    """Read the stretches of a manifest, exactly once each.

    In:     nothing (a pipeline's begin).
    Out:    RawBatch of up to 10,000 records of one partition, in offset order inside a partition.
    Errors: KafkaException, RuntimeError: the run fails and may be repeated; it changes nothing at the broker.
    """

    def __init__(self, bootstrap_servers: Brokers, manifest: Manifest) -> None:
        super().__init__()
        self._bootstrap_servers, self._manifest = bootstrap_servers, manifest

    def expand(self, begin: beam.pvalue.PBegin) -> beam.PCollection[RawBatch]:
        filled = [stretch for stretch in self._manifest.stretches if stretch.start < stretch.stop]
        return (
            begin
            | "Stretches" >> beam.Create(filled)
            | "SpreadStretches" >> beam.Reshuffle()
            | "ReadStretch" >> beam.ParDo(_ReadStretch(self._bootstrap_servers)).with_output_types(RawBatch)
            | "KeepClock" >> KeepClock(TimeIndex(self._bootstrap_servers))
        )
