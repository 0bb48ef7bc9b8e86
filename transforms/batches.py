"""The two shapes that travel between steps: a batch of records as read, and a batch of events.

An element of every collection is a micro-batch. Events are kept as fixed-width NumPy rows beside the original
protobuf bytes, because at live rates a batch holds 50 to 200 events and the fixed cost of Arrow's kernels (10-50 us a
call) would cost more than the data; text fields are read from the bytes again where a file needs them.
"""

import pickle
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import apache_beam as beam
import numpy as np
import numpy.typing as npt
import pyarrow as pa

Rows = npt.NDArray[np.void]
Ints = npt.NDArray[np.int64]
Header = tuple[str, bytes | None]
Instrument = tuple[str, str]  # (exchange, symbol)

_PARTS = struct.Struct("<9I")  # lengths of what EventBatch.to_bytes joins

# One event. Times are microseconds since the Unix epoch.
EVENT_ROW = np.dtype(
    [
        ("instrument", "<u4"),  # index into the batch's instruments
        ("event_type", "<i4"),  # the enum's number, also an unknown one
        ("event_time_us", "<i8"),
        ("log_time_us", "<i8"),  # Kafka timestamp
        ("clock_us", "<i8"),  # newest log time of the partition up to this record; the cell may move it on
        ("lag_us", "<i8"),  # that, as the log has it, less the event time
        ("partition", "<i4"),
        ("offset", "<i8"),
        ("price", "<f8"),  # as sent, but that a zero has no sign
        ("volume", "<f8"),
        ("sequence", "<i8"),  # venue sequence, else numeric trade id, else -1: orders events of one time
        ("side", "<i4"),  # 0 unknown, 1 buy, 2 sell
        ("identity_hi", "<u8"),
        ("identity_lo", "<u8"),
        ("key", "<u8"),  # one word to search an identity by; see dedup.py
        ("content", "<u8"),  # hash of what must be equal in two copies of one identity
        ("verdict", "<u4"),  # of the dedup, set by the cell; see dedup.py
    ]
)


@dataclass(frozen=True)
class RawBatch:
    """Records of one topic as they were read, in reading order.

    values, keys: pa.BinaryArray, null where the record had none. partition, offset: int64. log_time_us: int64,
    microseconds since the Unix epoch (Kafka's own resolution is 1 ms). headers: row -> headers, only for rows
    that have any. clock_us: int64, newest log time of the partition up to each record; empty until KeepClock.
    """

    topic: str
    values: pa.BinaryArray
    keys: pa.BinaryArray
    partition: Ints
    offset: Ints
    log_time_us: Ints
    headers: dict[int, list[Header]]
    clock_us: Ints = field(default_factory=lambda: np.empty(0, np.int64))

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
        )


@dataclass(frozen=True)
class EventBatch:
    """Checked events of one topic: `rows` (EVENT_ROW), the instruments rows point to, and the records as read."""

    topic: str
    instruments: Sequence[Instrument]
    rows: Rows
    values: pa.BinaryArray
    keys: pa.BinaryArray
    headers: dict[int, list[Header]]

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
        )

    def slice(self, start: int, stop: int) -> "EventBatch":
        """Rows start..stop with only the instruments they use."""
        instruments, rows = narrowed(self.instruments, self.rows[start:stop])
        headers = {row - start: self.headers[row] for row in self.headers if start <= row < stop}
        length = stop - start
        return EventBatch(
            self.topic, instruments, rows, self.values.slice(start, length), self.keys.slice(start, length), headers
        )

    def read_at(self, clock_us: int, verdicts: npt.NDArray[np.uint8]) -> "EventBatch":
        """The same batch with these verdicts, read when the log's clock had come to `clock_us`.

        No record can lie before that, except where KafkaIO moved the clock of a drained partition to the wall clock:
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
        headers, before = {}, 0
        for batch in batches:
            headers.update({before + row: found for row, found in batch.headers.items()})
            before += len(batch)
        values, keys = (pa.concat_arrays([getattr(b, name) for b in batches]) for name in ("values", "keys"))
        return EventBatch(batches[0].topic, instruments, rows, values, keys, headers)

    def raw(self) -> RawBatch:
        """The records as they were read."""
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
        )

    def to_bytes(self) -> bytes:
        """One bytes object: lengths of the parts, then the parts."""
        parts: list[bytes | memoryview] = [
            self.topic.encode(),
            pack_rows(self.instruments, self.rows),
            *pack_binary(self.values),
            *pack_binary(self.keys),
            pickle.dumps(self.headers) if self.headers else b"",
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
        topic, packed, *columns, headers = parts
        instruments, rows = unpack_rows(packed)
        values, keys = unpack_binary(*columns[:3]), unpack_binary(*columns[3:])
        return EventBatch(
            str(topic, "utf-8"), instruments, rows, values, keys, pickle.loads(headers) if headers else {}
        )


def packed_rows(data: bytes | memoryview) -> tuple[list[Instrument], Rows]:
    """Only instruments and rows of EventBatch.to_bytes(); the rows are a view."""
    topic, size = struct.unpack_from("<2I", data)
    start = _PARTS.size + topic
    return unpack_rows(memoryview(data)[start : start + size])


def rows_where(rows: Rows, mask: npt.NDArray[np.bool_]) -> Rows:
    """rows[mask]; without a copy when that is all of them, which it mostly is."""
    return rows if mask.all() else rows[mask]


def pack_rows(instruments: Sequence[Instrument], rows: Rows) -> bytes:
    """Rows with the names of their instruments, as bytes. Checked names hold neither tabs nor line ends."""
    names = "\n".join("\t".join(pair) for pair in instruments).encode()
    return b"".join((struct.pack("<I", len(names)), names, rows.tobytes()))


def unpack_rows(data: bytes | memoryview, dtype: np.dtype[np.void] = EVENT_ROW) -> tuple[list[Instrument], Rows]:
    """The inverse of pack_rows; rows are a view into `data`."""
    at = 4 + struct.unpack_from("<I", data)[0]
    instruments = []
    for pair in str(data[4:at], "utf-8").split("\n") if at > 4 else []:
        exchange, symbol = pair.split("\t")
        instruments.append((exchange, symbol))
    return instruments, np.frombuffer(data, dtype, offset=at) if len(data) > at else np.empty(0, dtype)


def narrowed(instruments: Sequence[Instrument], rows: Rows) -> tuple[list[Instrument], Rows]:
    """A copy of the rows over a table of only the instruments they use."""
    rows = rows.copy()
    used = np.bincount(rows["instrument"], minlength=len(instruments)) > 0
    rows["instrument"] = (np.cumsum(used) - 1)[rows["instrument"]]
    return [instruments[code] for code in np.flatnonzero(used).tolist()], rows


def joined(parts: Sequence[tuple[Sequence[Instrument], Rows]]) -> tuple[list[Instrument], Rows]:
    """Rows of all parts, in order, over one table of instruments."""
    table: dict[Instrument, int] = {}
    # parts are many and small: what NumPy does, it does once for all of them
    codes = np.array([table.setdefault(pair, len(table)) for instruments, _ in parts for pair in instruments], "<u4")
    whole = stacked([rows for _, rows in parts], EVENT_ROW)
    names, counts = (np.array([len(part[of]) for part in parts], np.int64) for of in (0, 1))
    whole["instrument"] = codes[whole["instrument"] + np.repeat(np.cumsum(names) - names, counts)]
    return list(table), whole


def stacked(parts: Sequence[Rows], dtype: np.dtype[np.void]) -> Rows:
    """The rows of all parts, in order. np.concatenate would take 30 us for each part to find their common type."""
    return np.frombuffer(bytearray().join(part.data for part in parts), dtype)


def _taken(headers: dict[int, list[Header]], rows: Ints) -> dict[int, list[Header]]:
    return {new: headers[old] for new, old in enumerate(rows.tolist()) if old in headers} if headers else {}


def binary_ends(values: pa.BinaryArray | pa.StringArray) -> npt.NDArray[np.int32]:
    """Where each value ends in the data, with the first one's start before them."""
    offsets = values.buffers()[1]
    return np.frombuffer(offsets, "<i4", len(values) + 1, 4 * values.offset) if len(values) else np.zeros(1, "<i4")


def pack_binary(values: pa.BinaryArray) -> tuple[bytes, bytes, memoryview]:
    """Which are not null (a bit each; nothing when all are), where each ends (int32, from 0), and the bytes."""
    ends, data, known = binary_ends(values), values.buffers()[2], b""
    if values.null_count:
        known = np.packbits(values.is_valid().to_numpy(zero_copy_only=False), bitorder="little").tobytes()
    start, stop = int(ends[0]), int(ends[-1])
    held = memoryview(data)[start:stop] if data is not None else memoryview(b"")
    return known, (ends - start if start else ends).tobytes(), held


def unpack_binary(known: memoryview, ends: memoryview, data: memoryview) -> pa.BinaryArray:
    """The inverse of pack_binary; a view into `data`."""
    aligned = pa.py_buffer(bytes(ends))  # Arrow wants its integers at multiples of their size
    validity = pa.py_buffer(known) if len(known) else None
    return pa.BinaryArray.from_buffers(pa.binary(), len(ends) // 4 - 1, [validity, aligned, pa.py_buffer(data)])


def ipc_bytes(batch: pa.RecordBatch) -> bytes:
    """An Arrow batch as an IPC stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as stream:
        stream.write_batch(batch)
    found: bytes = sink.getvalue().to_pybytes()
    return found


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


class ArrowBatchCoder(beam.coders.Coder):
    """pa.RecordBatch as an Arrow IPC stream between stages; the schema travels along."""

    def encode(self, value: pa.RecordBatch) -> bytes:
        return ipc_bytes(value)

    def decode(self, encoded: bytes) -> pa.RecordBatch:
        with pa.ipc.open_stream(encoded) as stream:
            return stream.read_next_batch()

    def is_deterministic(self) -> bool:
        return True

    def to_type_hint(self) -> Any:
        return pa.RecordBatch


beam.coders.registry.register_coder(EventBatch, _EventBatchCoder)
beam.coders.registry.register_coder(pa.RecordBatch, ArrowBatchCoder)
