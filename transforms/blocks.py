"""Blocks: what runners/java/horizon/Blocks.java makes of the records of a partition that one poll brought.

Little-endian. A head of six int32: magic, version, number of records, bytes of all values, of all keys, of all headers.
Then column by column: offsets (int64), log times in ms (int64), lengths of values and of keys (int32, -1 for null),
timestamp types (int8, Kafka's ids), values, keys, and of each header its row, the lengths of name and value (int32, -1
for null), name (UTF-8) and value. Whatever departs from it raises ValueError.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from transforms.batches import Header, Ints, RawBatch, unpack_binary

INTERCEPTOR: Final = "horizon.Blocks"
MAGIC: Final = 0x4B4C4248  # "HBLK"
VERSION: Final = 1
_HEAD: Final = struct.Struct("<6i")
_HEADER: Final = struct.Struct("<3i")
_ROW_BYTES: Final = 8 + 8 + 4 + 4 + 1


@dataclass(frozen=True)
class Block:
    """Records of one partition, in the order of their offsets; every column is a view into the bytes it was read from.

    Lengths are -1 for null.
    """

    partition: int
    offset: Ints
    time_ms: Ints
    value_lengths: npt.NDArray[np.int32]
    key_lengths: npt.NDArray[np.int32]
    values: memoryview
    keys: memoryview
    headers: dict[int, list[Header]]

    def __len__(self) -> int:
        return len(self.offset)


def read_block(partition: int, data: memoryview) -> Block:
    """The block that these bytes are. ValueError when they are none, or one of another layout."""
    if len(data) < _HEAD.size:
        raise ValueError("too short for a block")
    magic, version, count, value_bytes, key_bytes, header_bytes = _HEAD.unpack_from(data)
    if magic != MAGIC:
        raise ValueError("a record that is no block")
    if version != VERSION:
        raise ValueError(f"a block of layout {version}, not {VERSION}")
    whole = _HEAD.size + count * _ROW_BYTES + value_bytes + key_bytes + header_bytes
    if count < 1 or min(value_bytes, key_bytes, header_bytes) < 0 or whole != len(data):
        raise ValueError("a block that does not end where its head says")
    times, value_lengths = _HEAD.size + 8 * count, _HEAD.size + 16 * count
    key_lengths, values = value_lengths + 4 * count, _HEAD.size + _ROW_BYTES * count
    keys, headers = values + value_bytes, values + value_bytes + key_bytes
    return Block(
        partition,
        np.frombuffer(data, "<i8", count, _HEAD.size),
        np.frombuffer(data, "<i8", count, times),
        _lengths(data, count, value_lengths, value_bytes),
        _lengths(data, count, key_lengths, key_bytes),
        data[values:keys],
        data[keys:headers],
        _headers(data[headers:], count) if header_bytes else {},
    )


def _lengths(data: memoryview, count: int, at: int, total: int) -> npt.NDArray[np.int32]:
    lengths = np.frombuffer(data, "<i4", count, at)
    if (lengths < -1).any() or np.maximum(lengths, 0).sum(dtype=np.int64) != total:
        raise ValueError("a block whose lengths do not add up")
    return lengths


def _headers(data: memoryview, count: int) -> dict[int, list[Header]]:
    found: dict[int, list[Header]] = {}
    at = 0
    while at < len(data):
        row, name_bytes, value_bytes = _HEADER.unpack_from(data, at)
        name = at + _HEADER.size
        value = name + name_bytes
        at = value + max(value_bytes, 0)
        if not 0 <= row < count or name_bytes < 0 or value_bytes < -1 or at > len(data):
            raise ValueError("a header that reaches beyond its block")
        found.setdefault(row, []).append(
            (str(data[name:value], "utf-8"), None if value_bytes < 0 else bytes(data[value:at]))
        )
    return found


def join_blocks(topic: str, blocks: Sequence[Block]) -> RawBatch:
    """The records of all blocks, in order. Of a single block values and keys stay views into its bytes."""
    headers: dict[int, list[Header]] = {}
    start = 0
    for block in blocks:
        headers |= {start + row: found for row, found in block.headers.items()}
        start += len(block)
    sizes = [len(block) for block in blocks]
    values, keys = _together([block.values for block in blocks]), _together([block.keys for block in blocks])
    return RawBatch(
        topic,
        unpack_binary(np.concatenate([block.value_lengths for block in blocks]).data, values),
        unpack_binary(np.concatenate([block.key_lengths for block in blocks]).data, keys),
        np.repeat(np.array([block.partition for block in blocks], np.int64), sizes),
        np.concatenate([block.offset for block in blocks]),
        np.concatenate([block.time_ms for block in blocks]) * 1_000,
        headers,
    )


def _together(parts: list[memoryview]) -> memoryview:
    return parts[0] if len(parts) == 1 else memoryview(b"".join(parts))
