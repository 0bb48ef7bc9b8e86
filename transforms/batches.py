"""The two shapes that travel between steps: a batch of records as read, and a batch of events.

An element of every collection is a micro-batch. Events are rows (rows.py) beside the original protobuf bytes; text
fields are read from the bytes again where a file needs them.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import apache_beam as beam
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from transforms.binary import pack_binary, unpack_binary
from transforms.exact import Ints
from transforms.header_bytes import Header, pack_headers, unpack_headers
from transforms.rows import Instrument, Rows, joined, narrowed, pack_rows, unpack_rows

OfRow = TypeVar("OfRow")

_PARTS = struct.Struct("<10I")  # lengths of what EventBatch.to_bytes joins


@dataclass(frozen=True)
class RawBatch:
    """Records of one topic as they were read, in reading order.

    values, keys: pa.BinaryArray, null where the record had none. partition, offset: int64. log_time_us: int64,
    microseconds since the Unix epoch (Kafka's own resolution is 1 ms). headers: row -> headers, only for rows
    that have any. clock_us: int64, newest log time of the partition up to each record; empty until KeepClock.
    added: row -> how many bytes at the end of its value are ids of its headers (header_ids.py); only for such rows.
    """

    topic: str
    values: pa.BinaryArray
    keys: pa.BinaryArray
    partition: Ints
    offset: Ints
    log_time_us: Ints
    headers: dict[int, list[Header]]
    clock_us: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    added: dict[int, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.values)

    def take(self, rows: Ints) -> "RawBatch":
        """The same batch with only these rows, in this order."""
        index = pa.array(rows)
        return RawBatch(
            topic=self.topic,
            values=self.values.take(index),
            keys=self.keys.take(index),
            partition=self.partition[rows],
            offset=self.offset[rows],
            log_time_us=self.log_time_us[rows],
            headers=_taken(self.headers, rows),
            clock_us=self.clock_us[rows],
            added=_taken(self.added, rows),
        )


@dataclass(frozen=True)
class EventBatch:
    """Checked events of one topic: `rows` (EVENT_ROW), the instruments rows point to, and the records of RawBatch."""

    topic: str
    instruments: Sequence[Instrument]
    rows: Rows
    values: pa.BinaryArray
    keys: pa.BinaryArray
    headers: dict[int, list[Header]]
    added: dict[int, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, rows: Ints) -> "EventBatch":
        """The same batch with only these rows, in this order; instruments stay as they are."""
        index = pa.array(rows)
        return EventBatch(
            self.topic,
            self.instruments,
            self.rows[rows],
            self.values.take(index),
            self.keys.take(index),
            _taken(self.headers, rows),
            _taken(self.added, rows),
        )

    def slice(self, start: int, stop: int) -> "EventBatch":
        """Rows start..stop with only the instruments they use."""
        instruments, rows = narrowed(self.instruments, self.rows[start:stop])
        values, keys = (column.slice(start, stop - start) for column in (self.values, self.keys))
        headers, added = (_sliced(of, start, stop) for of in (self.headers, self.added))
        return EventBatch(self.topic, instruments, rows, values, keys, headers, added)

    def read_at(self, clock_us: int, verdicts: npt.NDArray[np.uint8]) -> "EventBatch":
        """The same batch with these verdicts, read when the log's clock had come to `clock_us`.

        No record can lie before that, except where the wall clock moved a silent partition on, without beacons:
        such a record lies there.
        """
        rows = self.rows.copy()  # they may be a view of bytes that must not change
        rows["verdict"] = verdicts
        np.maximum(rows["clock_us"], clock_us, out=rows["clock_us"])
        return replace(self, rows=rows)

    @staticmethod
    def concat(batches: Sequence["EventBatch"]) -> "EventBatch":
        """The events of at least one batch of one topic, in order."""
        instruments, rows = joined([(batch.instruments, batch.rows) for batch in batches])
        headers, added, before = {}, {}, 0
        for batch in batches:
            headers.update({before + row: found for row, found in batch.headers.items()})
            added.update({before + row: length for row, length in batch.added.items()})
            before += len(batch)
        values, keys = (pa.concat_arrays([getattr(b, name) for b in batches]) for name in ("values", "keys"))
        return EventBatch(batches[0].topic, instruments, rows, values, keys, headers, added)

    def raw(self) -> RawBatch:
        """The records of these events."""
        rows = self.rows
        return RawBatch(
            self.topic,
            self.values,
            self.keys,
            rows["partition"].astype(np.int64),
            rows["offset"],
            rows["log_time_us"],
            self.headers,
            rows["clock_us"],
            self.added,
        )

    def to_bytes(self) -> bytes:
        """One bytes object: lengths of the parts, then the parts."""
        parts: list[bytes | memoryview] = [
            self.topic.encode(),
            pack_rows(self.instruments, self.rows),
            *pack_binary(self.values),
            *pack_binary(self.keys),
            pack_headers(self.headers),
            np.array([*self.added.items()], "<i8").tobytes() if self.added else b"",
        ]
        return b"".join([_PARTS.pack(*map(len, parts)), *parts])

    @staticmethod
    def from_bytes(data: bytes | memoryview) -> "EventBatch":
        """The inverse of to_bytes; rows, values and keys are views into `data`."""
        view, at = memoryview(data), _PARTS.size
        parts = []
        for length in _PARTS.unpack_from(data):
            parts.append(view[at : at + length])
            at += length
        topic, packed, *columns, headers, added = parts
        instruments, rows = unpack_rows(packed)
        values, keys = unpack_binary(*columns[:3]), unpack_binary(*columns[3:])
        found = unpack_headers(headers, len(rows))
        lengths = dict(np.frombuffer(added, "<i8").reshape(-1, 2).tolist()) if added else {}
        return EventBatch(str(topic, "utf-8"), instruments, rows, values, keys, found, lengths)


def packed_rows(data: bytes | memoryview) -> tuple[list[Instrument], Rows]:
    """Only instruments and rows of EventBatch.to_bytes(); the rows are a view."""
    topic, size = struct.unpack_from("<2I", data)
    start = _PARTS.size + topic
    return unpack_rows(memoryview(data)[start : start + size])


def _taken(of: dict[int, OfRow], rows: Ints) -> dict[int, OfRow]:
    return {new: of[old] for new, old in enumerate(rows.tolist()) if old in of} if of else {}


def _sliced(of: dict[int, OfRow], start: int, stop: int) -> dict[int, OfRow]:
    return {row - start: of[row] for row in range(start, stop) if row in of} if of else {}


class _EventBatchCoder(beam.coders.Coder):
    """EventBatch as bytes between stages."""

    def encode(self, value: EventBatch) -> bytes:
        return value.to_bytes()

    def decode(self, encoded: bytes) -> EventBatch:
        return EventBatch.from_bytes(encoded)

    def is_deterministic(self) -> bool:
        return True

    def to_type_hint(self) -> type[EventBatch]:
        return EventBatch


beam.coders.registry.register_coder(EventBatch, _EventBatchCoder)
