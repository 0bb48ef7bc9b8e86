"""Unique events on their way into a file: packed small while they wait, one sorted table when the file is written."""

import struct
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from schemas.event import EVENT
from transforms.batches import EventBatch, Rows, pack_binary, unpack_binary
from transforms.decode import with_header_ids
from transforms.dedup import places
from transforms.event_columns import event_columns, no_copies

# What cannot be read again from a record's bytes: where it lies and who it is. The time is here to sort by.
WAITING_ROW = np.dtype(
    [
        ("event_time_us", "<i8"),
        ("log_time_us", "<i8"),
        ("partition", "<i4"),
        ("offset", "<i8"),
        ("identity_hi", "<u8"),
        ("identity_lo", "<u8"),
    ]
)


def pack_events(batch: EventBatch) -> bytes:
    """Events as bytes: 44 a row beside the protobuf messages, which get their header's id first."""
    rows = np.empty(len(batch), WAITING_ROW)
    for name in WAITING_ROW.names or ():
        rows[name] = batch.rows[name]
    lengths, values = pack_binary(with_header_ids(batch.values, batch.headers))
    topic = batch.topic.encode()
    return b"".join([struct.pack("<II", len(topic), len(rows)), topic, rows.tobytes(), lengths, values])


def _unpacked(piece: bytes) -> tuple[str, Rows, pa.BinaryArray]:
    topic_bytes, count = struct.unpack_from("<II", piece)
    at = 8 + topic_bytes
    rows = np.frombuffer(piece, WAITING_ROW, count, at)
    lengths_at = at + rows.nbytes
    view = memoryview(piece)
    values = unpack_binary(view[lengths_at : lengths_at + 4 * count], view[lengths_at + 4 * count :])
    return str(piece[8:at], "utf-8"), rows, values


def event_table(pieces: Sequence[bytes]) -> pa.Table:
    """Packed events as EVENT rows in the order of (event time, partition, offset), copies among them."""
    parts = [_unpacked(piece) for piece in pieces]
    rows = np.concatenate([part for _, part, _ in parts])
    topics = pa.concat_arrays([pa.repeat(topic, len(part)) for topic, part, _ in parts])
    order = np.lexsort((places(rows), rows["event_time_us"]))
    index = pa.array(order)
    values = pa.concat_arrays([values for _, _, values in parts]).take(index)
    columns = event_columns(topics.take(index), rows[order], values) | {"copies": no_copies(len(rows))}
    return pa.table([columns[name] for name in EVENT.arrow.names], schema=EVENT.arrow)
