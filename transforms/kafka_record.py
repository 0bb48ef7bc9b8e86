"""KafkaIO's own element: the bytes that Java's KafkaRecordCoder writes, passed to Python as they are.

Leaving out KafkaIO's conversion to rows more than doubles what the source gives. The price is an encoding that only
the pinned Java version promises: topic (varint length, UTF-8), partition (varint), offset (varint), timestamp in ms
(varint), timestamp type (varint), headers (4-byte big-endian count, then key and value each), key and value (presence
byte, varint length, bytes). Whatever departs from it raises EncodingError, and the tests hold it against a real broker.
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

Bytes = npt.NDArray[np.uint8]


class EncodingError(RuntimeError):
    """KafkaIO's records do not look as its pinned version writes them."""


class KafkaRecordBytes:
    """Element type of the source: one record, encoded."""


class _JavaCoder(beam.coders.Coder):
    """A Java coder that Python does not know: bytes go through, and its payload goes back to Java unchanged."""

    payload: bytes = b""  # of the coder seen last; a pipeline has one Kafka source

    def __init__(self, payload: bytes | None = None) -> None:
        self._payload = _JavaCoder.payload if payload is None else payload

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
def _java_coder(payload: bytes, unused_components: Any, unused_context: Any) -> _JavaCoder:
    _JavaCoder.payload = payload
    return _JavaCoder(payload)


beam.coders.registry.register_coder(KafkaRecordBytes, _JavaCoder)


def parse_records(records: Sequence[bytes]) -> RawBatch:
    """Encoded records of one topic as a batch; the fields before key and value for all of them at once.

    EncodingError when the bytes are not what the pinned KafkaIO writes, or a record carries no CreateTime.
    """
    try:
        return _parse(records)
    except (IndexError, ValueError, UnicodeDecodeError) as error:
        raise EncodingError(
            f"a Kafka record does not parse as KafkaIO 2.70.0 encodes it ({error}); "
            "is the cluster on the Java artifacts of runners/artifacts.lock?"
        ) from error


def _parse(records: Sequence[bytes]) -> RawBatch:
    ends = np.cumsum(np.fromiter(map(len, records), np.int64, len(records)))
    joined = b"".join(records)
    data = np.frombuffer(joined, np.uint8)
    starts = np.concatenate([[0], ends[:-1]])
    topic_len, at = _varint(data, starts[:1])
    head = joined[: int(at[0] + topic_len[0])]
    if not all(record.startswith(head) for record in records):
        raise ValueError("records of several topics in one batch")
    partition, at = _varint(data, starts + len(head))
    offset, at = _varint(data, at)
    time_ms, at = _varint(data, at)
    kind, at = _varint(data, at)
    if (kind != _CREATE_TIME).any():
        raise ValueError("the topic's message.timestamp.type is not CreateTime")
    headers, at = _headers(joined, data, at)
    keys, at = _nullable(joined, data, at)
    values, at = _nullable(joined, data, at)
    if (at != ends).any():
        raise ValueError("bytes are left over behind the value")
    topic = str(joined[int(len(head) - topic_len[0]) : len(head)], "utf-8")
    return RawBatch(
        topic, pa.array(values, pa.binary()), pa.array(keys, pa.binary()), partition, offset, time_ms * 1_000, headers
    )


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


def _headers(joined: bytes, data: Bytes, at: Ints) -> tuple[dict[int, list[Header]], Ints]:
    counts = data[at[:, None] + np.arange(4)] @ np.array([1 << 24, 1 << 16, 1 << 8, 1])
    at = at + 4
    found: dict[int, list[Header]] = {}
    for row in np.flatnonzero(counts).tolist():
        position, headers = int(at[row]), []
        for _ in range(int(counts[row])):
            length, position = _one_varint(joined, position)
            key = str(joined[position : position + length], "utf-8")
            value, position = _one_nullable(joined, position + length)
            headers.append((key, value))
        found[row], at[row] = headers, position
    return found, at


def _nullable(joined: bytes, data: Bytes, at: Ints) -> tuple[list[bytes | None], Ints]:
    """A presence byte, and where it is 1 a length and that many bytes."""
    present = data[at]
    if (present > 1).any():
        raise ValueError(f"presence byte {int(present.max())}")
    if present.all():
        length, at = _varint(data, at + 1)
        stop = at + length
        return [joined[a:b] for a, b in zip(at.tolist(), stop.tolist(), strict=True)], stop
    parts = [_one_nullable(joined, position) for position in at.tolist()]
    return [value for value, _ in parts], np.array([position for _, position in parts], np.int64)


def _one_nullable(joined: bytes, at: int) -> tuple[bytes | None, int]:
    if not joined[at]:
        return None, at + 1
    length, at = _one_varint(joined, at + 1)
    return joined[at : at + length], at + length


def _one_varint(joined: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while joined[at] >= 0x80:
        value |= (joined[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
    return value | joined[at] << shift, at + 1
