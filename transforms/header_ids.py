"""Ids that a record carries in its headers, as fields of its message.

An id is put behind the message, as the protobuf field that it stands for. So whatever reads the message later, this
graph or a consumer of its topics, finds the id there, and none of them needs to know the names of the headers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import pyarrow as pa

from schemas.market_data_pb2 import MarketDataEvent
from transforms.batches import RawBatch
from transforms.binary import binary_ends
from transforms.exact import Ints
from transforms.header_bytes import Header

_LENGTH_DELIMITED: Final = 2  # protobuf's wire type of a text
_TAGS: Final = {
    "trade_id": bytes([MarketDataEvent.TRADE_ID_FIELD_NUMBER << 3 | _LENGTH_DELIMITED]),
    "event_id": bytes([MarketDataEvent.EVENT_ID_FIELD_NUMBER << 3 | _LENGTH_DELIMITED]),
}


@dataclass(frozen=True, kw_only=True)
class IdHeaders:
    """Names of the headers that stand for a field which the message leaves empty; an earlier name counts first."""

    trade_id: tuple[str, ...] = ("trade_id",)  # the venue's id of the trade: identifies, and orders when numeric
    event_id: tuple[str, ...] = ("horizon-event-id", "ce_id")  # the producer's id of the event: identifies


def ids_of_headers(
    headers: Mapping[int, Sequence[Header]], rows: Ints, fields: pa.RecordBatch, names: IdHeaders
) -> dict[int, bytes]:
    """Row -> the ids to put behind its message, for the rows that have any. `fields` are those of `rows`, in order."""
    wanted = [
        (tag, getattr(names, field), (np.diff(binary_ends(fields[field])) == 0).tolist())
        for field, tag in _TAGS.items()
    ]
    found = {}
    for at, row in enumerate(rows.tolist()):
        if sent := headers.get(row):
            ids = [_field(tag, value) for tag, of, empty in wanted if empty[at] and (value := _first(sent, of))]
            if ids:
                found[row] = b"".join(ids)
    return found


def with_ids(raw: RawBatch, ids: Mapping[int, bytes]) -> RawBatch:
    """The batch with these bytes behind the values of their rows."""
    values = raw.values.to_numpy(zero_copy_only=False).tolist()
    for row, more in ids.items():
        values[row] += more
    return replace(raw, values=pa.array(values, pa.binary()), added={row: len(more) for row, more in ids.items()})


def values_as_read(raw: RawBatch) -> pa.BinaryArray:
    """The values without what with_ids put behind them."""
    if not raw.added:
        return raw.values
    values = raw.values.to_numpy(zero_copy_only=False).tolist()
    for row, length in raw.added.items():
        values[row] = values[row][:-length]
    return pa.array(values, pa.binary())


def _first(sent: Sequence[Header], names: Sequence[str]) -> bytes | None:
    """The first value, not empty, of the first of these names that has one: what a relay adds replaces nothing."""
    return next((value for name in names for key, value in sent if key == name and value), None)


def _field(tag: bytes, value: bytes) -> bytes:
    length, out = len(value), bytearray(tag)
    while length > 0x7F:
        out.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes([*out, length]) + value
