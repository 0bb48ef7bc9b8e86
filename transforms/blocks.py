"""Blocks: what runners/java/horizon/Blocks.java makes of the records of a partition that one poll brought.

Little-endian. A head of six int32: magic, version, number of records, bytes of all values, of all keys, of all headers.
Then column by column: offsets (int64), log times in ms (int64), lengths of values and of keys (int32, -1 for null),
timestamp types (int8, Kafka's ids), values, keys, and the headers (header_bytes.py). Whatever departs from it raises
ValueError.
"""

import struct
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa

from transforms.batches import RawBatch
from transforms.exact import Ints
from transforms.header_bytes import Header, unpack_headers
from transforms.log_clock import in_us

INTERCEPTOR: Final = "horizon.Blocks"
MAGIC: Final = 0x4B4C4248  # "HBLK"
VERSION: Final = 1
_HEAD: Final = struct.Struct("<6i")


class Block(NamedTuple):
    """Records of one partition, in the order of their offsets; columns are views into the bytes they were read from."""

    partition: int
    records: int
    offsets: memoryview
    times_ms: memoryview
    value_lengths: memoryview
    key_lengths: memoryview
    values: memoryview
    keys: memoryview
    headers: dict[int, list[Header]]


def read_block(partition: int, data: memoryview) -> Block:
    """The block that these bytes are, its lengths not yet looked at. ValueError when they are none."""
    if len(data) < _HEAD.size:
        raise ValueError("a record that is no block")
    magic, version, count, value_bytes, key_bytes, header_bytes = _HEAD.unpack_from(data)
    if magic != MAGIC:
        raise ValueError("a record that is no block")
    if version != VERSION:
        raise ValueError(f"a block of layout {version}, not {VERSION}")
    times = _HEAD.size + 8 * count
    value_lengths = times + 8 * count
    key_lengths = value_lengths + 4 * count
    kinds = key_lengths + 4 * count
    values = kinds + count
    keys = values + value_bytes
    headers = keys + key_bytes
    if count < 1 or min(value_bytes, key_bytes, header_bytes) < 0 or headers + header_bytes != len(data):
        raise ValueError("a block that does not end where its head says")
    return Block(
        partition,
        count,
        data[_HEAD.size : times],
        data[times:value_lengths],
        data[value_lengths:key_lengths],
        data[key_lengths:kinds],
        data[values:keys],
        data[keys:headers],
        unpack_headers(data[headers:], count) if header_bytes else {},
    )


def join_blocks(topic: str, blocks: Sequence[Block]) -> RawBatch:
    """The records of all blocks, in order. Of a single block values and keys stay views into its bytes.

    ValueError when lengths do not add up.
    """
    # a live chunk has a few records of each partition: what NumPy does, it does once for all blocks
    counts = np.array([block.records for block in blocks], np.int64)
    firsts = np.cumsum(counts) - counts
    headers: dict[int, list[Header]] = {}
    for first, block in zip(firsts.tolist(), blocks, strict=True):
        headers |= {first + row: found for row, found in block.headers.items()}
    return RawBatch(
        topic,
        _binary([block.value_lengths for block in blocks], [block.values for block in blocks], firsts),
        _binary([block.key_lengths for block in blocks], [block.keys for block in blocks], firsts),
        np.repeat(np.array([block.partition for block in blocks], np.int64), counts),
        np.frombuffer(_together([block.offsets for block in blocks]), "<i8"),
        in_us(np.frombuffer(_together([block.times_ms for block in blocks]), "<i8")),
        headers,
    )


def _binary(lengths: list[memoryview], parts: list[memoryview], firsts: Ints) -> pa.BinaryArray:
    """The values whose bytes lie in the parts; `firsts` has each part's first row."""
    joined = _together(lengths)
    sizes = np.frombuffer(joined, "<i4")
    held = np.add.reduceat(np.maximum(sizes, 0), firsts, dtype=np.int64)
    if sizes.min() < -1 or held.tolist() != [len(part) for part in parts]:
        raise ValueError("a block whose lengths do not add up")
    ends = np.zeros(len(sizes) + 1, "<i4")
    np.cumsum(np.maximum(sizes, 0), out=ends[1:])
    validity = pa.py_buffer(np.packbits(sizes >= 0, bitorder="little")) if sizes.min() < 0 else None
    whole = pa.py_buffer(_together(parts))
    return pa.BinaryArray.from_buffers(pa.binary(), len(sizes), [validity, pa.py_buffer(ends), whole])


def _together(parts: list[memoryview]) -> memoryview:
    return parts[0] if len(parts) == 1 else memoryview(b"".join(parts))
