"""KafkaIO's own elements: the bytes that Java's KafkaRecordCoder writes, read a whole chunk at a time.

Leaving out KafkaIO's conversion to rows more than doubles what the source gives, and Beam's loop over single elements
takes longer than decoding them (docs/figures.md). The price is an encoding that only the pinned Java version promises.
A chunk is what came over the data channel at once: per element the windowed value's head (timestamp, 8 bytes; number of
windows, 4; pane, 1), a length (varint) and KafkaIO's record, which holds a block of Kafka's (transforms/blocks.py).
KafkaIO's record: topic (varint length, UTF-8), partition, offset, timestamp in ms and timestamp type (varints), headers
(4-byte big-endian count: a block has none), key (a presence byte: a block has none) and value (presence byte, varint
length, bytes). Whatever departs from it raises EncodingError, and the tests hold it against a real broker.
"""

import struct
from collections.abc import Iterator, Sequence
from typing import Any, Final

import apache_beam as beam

from transforms.batches import RawBatch
from transforms.blocks import Block, join_blocks, read_block

JAVA_CODER_URN: Final = "beam:coders:javasdk:0.1"
_MAX_VARINT: Final = 10
_MAX_PARTITION: Final = 2**31 - 1
_HEAD_BYTES: Final = 13
_GLOBAL_NO_FIRING: Final = b"\x00\x00\x00\x01\x0f"  # one window, which is global and takes no bytes; no pane
_ONLY_A_VALUE: Final = b"\x00\x00\x00\x00\x00\x01"  # no headers, no key, a value


class EncodingError(RuntimeError):
    """KafkaIO's records do not look as its pinned version and our interceptor write them."""


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
    """The records of one topic in a chunk of the data channel, all blocks of it together.

    EncodingError when the bytes are not what the pinned KafkaIO and the interceptor of this version write.
    """
    try:
        return _parse(chunk)
    except (IndexError, ValueError, struct.error) as error:
        raise EncodingError(
            f"KafkaIO gives no block of records as this version writes them ({error}); is the cluster on its jars? "
            "Run `make setup`, then `horizon stack down` and `horizon stack up`; "
            "a snapshot from before the blocks cannot be resumed"
        ) from error


def _parse(chunk: bytes) -> RawBatch:
    data, topics, blocks = memoryview(chunk), set[bytes](), list[Block]()
    for at, stop in _elements(chunk):
        length, at = _varint(chunk, at)
        topics.add(chunk[at : at + length])
        partition, at = _varint(chunk, at + length)
        for _ in ("offset", "timestamp", "timestamp type"):  # the last record's, the newest; all are in the block
            _, at = _varint(chunk, at)
        if chunk[at : at + len(_ONLY_A_VALUE)] != _ONLY_A_VALUE:
            raise ValueError("a record that is no block")
        length, at = _varint(chunk, at + len(_ONLY_A_VALUE))
        if at + length != stop:
            raise ValueError("a record does not end where its length says")
        if partition > _MAX_PARTITION:
            raise ValueError(f"partition {partition}")
        blocks.append(read_block(partition, data[at:stop]))
    if len(topics) != 1:
        raise ValueError(f"records of {len(topics)} topics in one chunk")
    return join_blocks(str(topics.pop(), "utf-8"), blocks)


def _elements(chunk: bytes) -> Iterator[tuple[int, int]]:
    """Where each of KafkaIO's records starts and stops."""
    at, size = 0, len(chunk)
    while at < size:
        if chunk[at + 8 : at + _HEAD_BYTES] != _GLOBAL_NO_FIRING:
            raise ValueError("an element outside the global window")
        length, at = _varint(chunk, at + _HEAD_BYTES)
        if at + length > size:
            raise ValueError("the last record is cut")
        yield at, at + length
        at += length


def _varint(chunk: bytes, at: int) -> tuple[int, int]:
    """The unsigned varint at this position, and the position behind it."""
    value = shift = 0
    while chunk[at] >= 0x80:
        if shift == 7 * (_MAX_VARINT - 1):
            raise ValueError("a varint of more than 10 bytes")
        value |= (chunk[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
    return value | chunk[at] << shift, at + 1
