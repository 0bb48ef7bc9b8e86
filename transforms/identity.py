"""Who an event is: the identity ladder, as 128 bits.

1. (exchange, symbol, event type, trade id), 2. (exchange, symbol, event type, the producer's event id),
3. (topic, partition, offset). Content is never identity: of real trades 14 % share symbol, time, price and size with
another. An id of up to 15 bytes stands in the identity as it is, masked by a hash of its instrument, type and rung;
so within one instrument the identity is exact, and across them it is 128 bits wide. Longer ids are hashed to 128 bits.
"""

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from transforms.batches import Instrument
from transforms.exact import Words, mix64

_SHORT: Final = 15
_TRADE_ID, _EVENT_ID, _PLACE, _LONG = (np.uint64(number << 40) for number in (1, 2, 3, 4))


@lru_cache(maxsize=65_536)
def _mask(*names: str) -> tuple[int, int]:
    digest = hashlib.blake2b("\t".join(names).encode(), digest_size=16).digest()
    return int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little")


def identities(
    topic: str,
    instruments: Sequence[Instrument],
    instrument: npt.NDArray[np.uint32],
    event_type: npt.NDArray[np.int32],
    trade_id: pa.StringArray,
    event_id: pa.StringArray,
    partition: npt.NDArray[np.int32],
    offset: npt.NDArray[np.int64],
) -> tuple[Words, Words]:
    """The identity of each row as two uint64 columns. Text columns hold "" where there is no such id."""
    has_trade_id = np.diff(_offsets(trade_id)) > 0
    has_event_id = np.diff(_offsets(event_id)) > 0
    text = trade_id if has_trade_id.all() else pc.if_else(pa.array(has_trade_id), trade_id, event_id)
    packed, is_long = _packed(text)
    hi, lo = packed[:, 0], packed[:, 1]
    rung = np.where(has_trade_id, _TRADE_ID, _EVENT_ID)
    if is_long.any():
        rung = np.where(is_long, rung + _LONG, rung)
    masks = np.array([_mask(*pair) for pair in instruments], np.uint64).reshape(-1, 2)[instrument]
    nameless = ~(has_trade_id | has_event_id)
    if nameless.any():
        rung = np.where(nameless, _PLACE, rung)
        hi = np.where(nameless, partition.astype(np.uint64), hi)
        lo = np.where(nameless, offset.astype(np.uint64), lo)
        masks = np.where(nameless[:, None], np.array(_mask(topic), np.uint64), masks)
    # the place in the log is an identity whatever lies there, so its mask must not depend on the type
    kind = rung + np.where(nameless, 0, event_type.astype(np.uint32)).astype(np.uint64)
    return hi ^ masks[:, 0] ^ mix64(kind), lo ^ masks[:, 1] ^ mix64(~kind)


def order_sequence(sequence: pa.Int64Array, trade_id: pa.StringArray) -> npt.NDArray[np.int64]:
    """What orders events of one instrument and time: the venue's sequence, else a numeric trade id, else -1."""
    known: npt.NDArray[np.int64] = sequence.fill_null(-1).to_numpy()
    if sequence.null_count == 0:
        return known
    numeric = pc.and_(pc.ascii_is_decimal(trade_id), pc.less_equal(pc.binary_length(trade_id), 18))
    digits = trade_id if pc.all(numeric).as_py() else pc.if_else(numeric, trade_id, "-1")
    ids: npt.NDArray[np.int64] = pc.cast(digits, pa.int64()).to_numpy()
    return np.where(sequence.is_null().to_numpy(zero_copy_only=False), ids, known)


def shard_of(instrument: Instrument, shards: int) -> int:
    """The shard of an instrument, the same in every run and on every machine."""
    return _mask(*instrument)[0] % shards


def _offsets(text: pa.StringArray) -> npt.NDArray[np.int32]:
    return np.frombuffer(text.buffers()[1], "<i4", len(text) + 1, 4 * text.offset)


def _packed(text: pa.StringArray) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.bool_]]:
    """Each string in 16 bytes, (n, 2) uint64: its bytes and its length, or its 128-bit hash where it is longer."""
    offsets = _offsets(text)
    lengths = np.diff(offsets)
    is_long = lengths > _SHORT
    packed = np.zeros((len(text), _SHORT + 1), np.uint8)
    data = text.buffers()[2]
    if data is not None and data.size:
        width = min(int(lengths.max(initial=0)), _SHORT)
        column = np.arange(width)
        at = np.minimum(offsets[:-1, None] + column, data.size - 1)
        packed[:, :width] = np.where(column < lengths[:, None], np.frombuffer(data, np.uint8)[at], 0)
    packed[:, _SHORT] = np.minimum(lengths, 255)
    for row in np.flatnonzero(is_long).tolist():
        digest = hashlib.blake2b(text[row].as_py().encode(), digest_size=16).digest()
        packed[row] = np.frombuffer(digest, np.uint8)
    return packed.view("<u8"), is_long
