"""Records as bytes on Kafka's wire: what no client of ours would send, and a broker takes.

Clients refuse names of headers that are not UTF-8, cut them at a NUL, and have their own ideas of a time; the broker
looks at none of it. One request of Produce version 7 with one batch of format 2, without a client's library.
"""

import gzip
import socket
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

_PRODUCE: Final = struct.Struct(">hhi")  # key, version, correlation
_TIMEOUT_S: Final = 30.0
_GZIP: Final = 1


class RefusedError(RuntimeError):
    """The broker took none of the batch; `code` is Kafka's number for why."""

    def __init__(self, code: int) -> None:
        super().__init__(f"the broker answers with error {code}")
        self.code = code


@dataclass(frozen=True)
class WireRecord:
    """One record as it lies on the wire; names of headers are bytes."""

    value: bytes | None = None
    key: bytes | None = None
    headers: Sequence[tuple[bytes, bytes | None]] = ()
    time_ms: int = 1_700_000_000_000


def send(servers: str, topic: str, partition: int, records: Sequence[WireRecord], *, packed: bool = False) -> int:
    """Append the records as one batch, packed with gzip if asked; the offset of the first. RefusedError."""
    batch = _batch(records, packed)
    body = struct.pack(">hhi", -1, -1, 30_000) + struct.pack(">i", 1) + _text(topic)
    body += struct.pack(">iii", 1, partition, len(batch)) + batch
    request = _PRODUCE.pack(0, 7, 1) + _text("tests") + body
    host, _, port = servers.split(",")[0].rpartition(":")
    with socket.create_connection((host, int(port)), _TIMEOUT_S) as broker, broker.makefile("rb") as answers:
        broker.sendall(struct.pack(">i", len(request)) + request)
        (size,) = struct.unpack(">i", answers.read(4))
        answer = answers.read(size)
    error, offset = struct.unpack_from(">hq", answer, 4 + 4 + 2 + len(topic.encode()) + 4 + 4)
    if error:
        raise RefusedError(error)
    return int(offset)


def _batch(records: Sequence[WireRecord], packed: bool) -> bytes:
    first_ms = records[0].time_ms
    body = b"".join(_record(number, record, first_ms) for number, record in enumerate(records))
    newest_ms = max(record.time_ms for record in records)
    attributes, body = (_GZIP, gzip.compress(body)) if packed else (0, body)
    numbered = struct.pack(">hiqqqhii", attributes, len(records) - 1, first_ms, newest_ms, -1, -1, -1, len(records))
    checked = numbered + body
    return struct.pack(">qiibI", 0, 4 + 1 + 4 + len(checked), -1, 2, _crc32c(checked)) + checked


def _record(number: int, record: WireRecord, first_ms: int) -> bytes:
    headers = [_sized(name) + _sized(value) for name, value in record.headers]
    body = b"".join(
        [
            b"\0",
            _varint(record.time_ms - first_ms),
            _varint(number),
            _sized(record.key),
            _sized(record.value),
            _varint(len(headers)),
            *headers,
        ]
    )
    return _varint(len(body)) + body


def _sized(data: bytes | None) -> bytes:
    return _varint(-1) if data is None else _varint(len(data)) + data


def _text(text: str) -> bytes:
    return struct.pack(">h", len(text.encode())) + text.encode()


def _varint(number: int) -> bytes:
    """A signed number in zigzag; one beyond 64 bits wraps, as the difference of two times may."""
    number = (number + 2**63) % 2**64 - 2**63
    left, out = (number << 1 ^ number >> 63) & (1 << 64) - 1, bytearray()
    while left > 0x7F:
        out.append(left & 0x7F | 0x80)
        left >>= 7
    return bytes([*out, left])


def _table() -> Iterable[int]:
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        yield byte


_CRC: Final = tuple(_table())


def _crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF
