"""Blocks and KafkaIO's records around them, by hand as transforms/blocks.py and kafka_record.py describe them."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from hypothesis import strategies as st

from tests.testing import varint
from transforms.header_bytes import Header

HEAD = b"\x80" + b"\0" * 7 + b"\0\0\0\1\x0f"


@dataclass(frozen=True)
class Polled:
    """A record as Kafka's Java client gives it. kind: 0 CreateTime, 1 LogAppendTime."""

    partition: int = 0
    offset: int = 0
    time_ms: int = 1_700_000_000_000
    key: bytes | None = None
    value: bytes | None = b"v"
    headers: tuple[Header, ...] = ()
    kind: int = 0


def known_name(sent: bytes) -> str:
    """The name of a header as both readers have it: up to a NUL, and a fixed one where it is not UTF-8."""
    try:
        name = sent.partition(b"\0")[0].decode()
    except UnicodeDecodeError:
        return "\ufffd"
    return "\ufffd" if "\ufffd" in name else name


def length(data: bytes | None) -> int:
    return -1 if data is None else len(data)


def block(records: Sequence[Polled], magic: bytes = b"HBLK", version: int = 1) -> bytes:
    values, keys = (b"".join(getattr(record, name) or b"" for record in records) for name in ("value", "key"))
    headers = b"".join(
        struct.pack("<3i", row, len(name.encode()), length(value)) + name.encode() + (value or b"")
        for row, record in enumerate(records)
        for name, value in record.headers
    )
    count = len(records)
    return b"".join(
        [
            magic,
            struct.pack("<5i", version, count, len(values), len(keys), len(headers)),
            struct.pack(f"<{count}q", *(record.offset for record in records)),
            struct.pack(f"<{count}q", *(record.time_ms for record in records)),
            struct.pack(f"<{count}i", *(length(record.value) for record in records)),
            struct.pack(f"<{count}i", *(length(record.key) for record in records)),
            struct.pack(f"<{count}b", *(record.kind for record in records)),
            values,
            keys,
            headers,
        ]
    )


def prefixed(data: bytes) -> bytes:
    return varint(len(data)) + data


def kafka_record(
    value: bytes | None, partition: int = 0, topic: str = "md.events.raw", key: bytes | None = None, headers: int = 0
) -> bytes:
    """KafkaIO's record with this value."""
    return b"".join(
        [
            prefixed(topic.encode()),
            *map(varint, (partition, 9, 1_700_000_000_000, 1)),
            headers.to_bytes(4, "big"),
            b"\0" if key is None else b"\1" + prefixed(key),
            b"\0" if value is None else b"\1" + prefixed(value),
        ]
    )


def chunk(records: Sequence[bytes], head: bytes = HEAD) -> bytes:
    """What comes over the data channel at once."""
    return b"".join(head + prefixed(record) for record in records)


def chunk_of(blocks: Sequence[Sequence[Polled]]) -> bytes:
    """A chunk of these blocks, each of records of one partition."""
    return chunk([kafka_record(block(records), records[0].partition) for records in blocks])


blobs = st.none() | st.binary(max_size=300)
names = st.text(st.characters(exclude_categories=["Cs"]), max_size=9)
polled = st.builds(
    Polled,
    partition=st.integers(0, 3),
    offset=st.integers(0, 2**62),
    time_ms=st.integers(-1, 2**42),
    key=blobs,
    value=blobs,
    headers=st.lists(st.tuples(names, blobs), max_size=3).map(tuple),
    kind=st.integers(0, 1),
)
