"""KafkaIO's own elements: the bytes that Java's KafkaRecordCoder writes, read a whole chunk at a time.

Leaving out KafkaIO's conversion to rows more than doubles what the source gives, and Beam's loop over single elements
takes longer than decoding them (docs/figures.md). The price is an encoding that only the pinned Java version promises.
A chunk is what came over the data channel at once: per record the windowed value's head (timestamp, 8 bytes; number of
windows, 4; pane, 1), a length (varint) and the record. A record: topic (varint length, UTF-8), partition (varint),
offset (varint), timestamp in ms (varint), timestamp type (varint), headers (4-byte big-endian count, then key and value
each), key and value (presence byte, varint length, bytes). Whatever departs from it raises EncodingError, and the tests
hold it against a real broker.
"""

from collections.abc import Sequence
from typing import Any, Final

import apache_beam as beam
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from transforms.batches import Header, Ints, RawBatch

JAVA_CODER_URN: Final = "beam:coders:javasdk:0.1"
_CREATE_TIME: Final = 1  # ordinal of KafkaTimestampType, whose first value is "no timestamp"
_MAX_VARINT: Final = 10
_HEAD_BYTES: Final = 13
_GLOBAL_NO_FIRING: Final = b"\x00\x00\x00\x01\x0f"  # one window, which is global and takes no bytes; no pane

Bytes = npt.NDArray[np.uint8]


class EncodingError(RuntimeError):
    """KafkaIO's records do not look as its pinned version writes them."""


class KafkaRecordBytes:
    """Element type of the source: one record, encoded, on the wire; a chunk of them (bytes) in Python."""


class JavaCoder(beam.coders.Coder):
    """A Java coder that Python does not know: bytes go through, and its payload goes back to Java unchanged."""

    payload: bytes = b""  # of the coder seen last; a pipeline has one Kafka source

    def __init__(self, payload: bytes | None = None) -> None:
        self._payload = JavaCoder.payload if payload is None else payload

    def encode(self, value: bytes) -> bytes:
        return value

    def decode(self, encoded: bytes) -> bytes:
        return encoded

    def is_deterministic(self) -> bool:
        return True

    def to_type_hint(self) -> type[KafkaRecordBytes]:
        return KafkaRecordBytes

    def to_runner_api_parameter(self, unused_context: Any) -> tuple[str, bytes, Sequence[Any]]:
        return JAVA_CODER_URN, self._payload, ()


@beam.coders.Coder.register_urn(JAVA_CODER_URN, bytes)
def _java_coder(payload: bytes, unused_components: Any, unused_context: Any) -> JavaCoder:
    JavaCoder.payload = payload
    return JavaCoder(payload)


beam.coders.registry.register_coder(KafkaRecordBytes, JavaCoder)


def parse_chunk(chunk: bytes) -> RawBatch:
    """The records of one topic in a chunk of the data channel, all of them at once.

    EncodingError when the bytes are not what the pinned KafkaIO writes, or a record carries no CreateTime.
    """
    try:
        return _parse(chunk, *_records(chunk))
    except (IndexError, ValueError, UnicodeDecodeError) as error:
        raise EncodingError(
            f"a Kafka record does not parse as KafkaIO 2.70.0 encodes it ({error}); "
            "is the cluster on the Java artifacts of runners/artifacts.lock?"
        ) from error


def _records(chunk: bytes) -> tuple[Ints, Ints]:
    """Where each record starts and stops."""
    starts, stops, at, size = [], [], 0, len(chunk)
    while at < size:
        if chunk[at + 8 : at + _HEAD_BYTES] != _GLOBAL_NO_FIRING:
            raise ValueError("an element outside the global window")
        at += _HEAD_BYTES
        length = chunk[at]
        if length < 0x80:
            at += 1
        else:
            length, at = _one_varint(chunk, at)
        starts.append(at)
        at += length
        stops.append(at)
    if at != size:
        raise ValueError("the last record is cut")
    return np.array(starts, np.int64), np.array(stops, np.int64)


def _parse(chunk: bytes, starts: Ints, ends: Ints) -> RawBatch:
    data = np.frombuffer(chunk, np.uint8)
    topic_len, at = _varint(data, starts[:1])
    head = data[starts[0] : at[0] + topic_len[0]]
    if (data[starts[:, None] + np.arange(len(head))] != head).any():
        raise ValueError("records of several topics in one chunk")
    partition, at = _varint(data, starts + len(head))
    offset, at = _varint(data, at)
    time_ms, at = _varint(data, at)
    kind, at = _varint(data, at)
    if (kind != _CREATE_TIME).any():
        raise ValueError("the topic's message.timestamp.type is not CreateTime")
    headers, at = _headers(chunk, data, at)
    keys, at = _nullable(chunk, data, at)
    values, at = _nullable(chunk, data, at)
    if (at != ends).any():
        raise ValueError("a record does not end where its length says")
    topic = str(head[len(head) - int(topic_len[0]) :].tobytes(), "utf-8")
    return RawBatch(topic, values, keys, partition, offset, time_ms * 1_000, headers)


def _varint(data: Bytes, at: Ints) -> tuple[Ints, Ints]:
    """The unsigned varint at each position, and the position behind it."""
    value = np.zeros(len(at), np.int64)
    open_ = np.ones(len(at), np.bool_)
    for shift in range(0, 7 * _MAX_VARINT, 7):
        # rows that are done may stand behind the last byte: what is read for them there is not used
        byte = data[np.where(open_, at, 0)].astype(np.int64)
        value |= np.where(open_, (byte & 0x7F) << shift, 0)
        at = at + open_
        open_ &= byte >= 0x80
        if not open_.any():
            return value, at
    raise ValueError("a varint of more than 10 bytes")


def _headers(chunk: bytes, data: Bytes, at: Ints) -> tuple[dict[int, list[Header]], Ints]:
    counts = data[at[:, None] + np.arange(4)] @ np.array([1 << 24, 1 << 16, 1 << 8, 1])
    at = at + 4
    found: dict[int, list[Header]] = {}
    for row in np.flatnonzero(counts).tolist():
        position, headers = int(at[row]), []
        for _ in range(int(counts[row])):
            length, position = _one_varint(chunk, position)
            key = str(chunk[position : position + length], "utf-8")
            value, position = _one_nullable(chunk, position + length)
            headers.append((key, value))
        found[row], at[row] = headers, position
    return found, at


def _nullable(chunk: bytes, data: Bytes, at: Ints) -> tuple[pa.BinaryArray, Ints]:
    """A presence byte, and where it is 1 a length and that many bytes."""
    present = data[at]
    if (present > 1).any():
        raise ValueError(f"presence byte {int(present.max())}")
    known = present == 1
    starts = at + 1
    lengths = np.zeros(len(at), np.int64)
    lengths[known], starts[known] = _varint(data, starts[known])
    stops = starts + lengths
    if (lengths < 0).any() or (stops > len(data)).any():
        raise ValueError("a key or value reaches beyond the chunk")
    # an array over the whole chunk whose every second element is what lies between two values; taking the others copies
    # the values out in one go
    bounds = np.stack([starts, stops], axis=1).ravel()
    if (np.diff(bounds) < 0).any():
        raise ValueError("a key or value reaches into the next record")
    validity = None
    if not known.all():
        validity = pa.py_buffer(np.packbits(np.repeat(known, 2), bitorder="little"))
    whole = pa.BinaryArray.from_buffers(
        pa.binary(), len(bounds) - 1, [validity, pa.py_buffer(bounds.astype(np.int32)), pa.py_buffer(chunk)]
    )
    return whole.take(pa.array(np.arange(0, len(bounds), 2))), stops


def _one_nullable(chunk: bytes, at: int) -> tuple[bytes | None, int]:
    if not chunk[at]:
        return None, at + 1
    length, at = _one_varint(chunk, at + 1)
    return chunk[at : at + length], at + length


def _one_varint(chunk: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while chunk[at] >= 0x80:
        value |= (chunk[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
    return value | chunk[at] << shift, at + 1
