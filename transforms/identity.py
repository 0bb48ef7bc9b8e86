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

from transforms.binary import binary_ends
from transforms.exact import Ints, Words, mix64
from transforms.rows import Instrument

_SHORT: Final = 15
_TRADE_ID, _EVENT_ID, _PLACE, _LONG = (np.uint64(number << 40) for number in (1, 2, 3, 4))
_MAX_DIGITS: Final = 18  # which int64 holds
# of a text in 16 bytes, by its length: which of them are its own
_OWN: Final = np.where(np.arange(_SHORT + 1) < np.arange(_SHORT + 1)[:, None], 0xFF, 0).astype(np.uint8)


@lru_cache(maxsize=65_536)
def _mask(*names: str) -> bytes:
    return hashlib.blake2b("\t".join(names).encode(), digest_size=16).digest()


def _masks(instruments: Sequence[Instrument]) -> Words:
    """The mask of each instrument, two words."""
    return np.frombuffer(b"".join([_mask(*pair) for pair in instruments]), "<u8").reshape(-1, 2)


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
    has_trade_id = np.diff(binary_ends(trade_id)) > 0
    has_event_id = np.diff(binary_ends(event_id)) > 0
    text = trade_id if has_trade_id.all() else pc.if_else(pa.array(has_trade_id), trade_id, event_id)
    packed, is_long = _packed(text)
    hi, lo = packed[:, 0], packed[:, 1]
    rung = np.where(has_trade_id, _TRADE_ID, _EVENT_ID)
    if is_long.any():
        rung = np.where(is_long, rung + _LONG, rung)
    masks = _masks(instruments)[instrument]
    nameless = ~(has_trade_id | has_event_id)
    if nameless.any():
        rung = np.where(nameless, _PLACE, rung)
        hi = np.where(nameless, partition.astype(np.uint64), hi)
        lo = np.where(nameless, offset.astype(np.uint64), lo)
        masks = np.where(nameless[:, None], np.frombuffer(_mask(topic), "<u8"), masks)
    # the place in the log is an identity whatever lies there, so its mask must not depend on the type
    kind = rung + np.where(nameless, 0, event_type.astype(np.uint32)).astype(np.uint64)
    return hi ^ masks[:, 0] ^ mix64(kind), lo ^ masks[:, 1] ^ mix64(~kind)


def order_sequence(sequence: pa.Int64Array, trade_id: pa.StringArray) -> npt.NDArray[np.int64]:
    """What orders events of one instrument and time: the venue's sequence, else a numeric trade id, else -1."""
    known: npt.NDArray[np.int64] = sequence.fill_null(-1).to_numpy()
    if sequence.null_count == 0:
        return known
    numeric = pc.ascii_is_decimal(trade_id).to_numpy(zero_copy_only=False)
    numeric &= np.diff(binary_ends(trade_id)) <= _MAX_DIGITS
    digits = trade_id if numeric.all() else pc.if_else(pa.array(numeric), trade_id, "-1")
    ids: npt.NDArray[np.int64] = pc.cast(digits, pa.int64()).to_numpy()
    return np.where(sequence.is_null().to_numpy(zero_copy_only=False), ids, known)


def shards_of(instruments: Sequence[Instrument], shards: int) -> Ints:
    """The shard of each instrument, the same in every run and on every machine."""
    found: Ints = (_masks(instruments)[:, 0] % np.uint64(shards)).astype(np.int64)
    return found


def _packed(text: pa.StringArray) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.bool_]]:
    """Each string in 16 bytes, (n, 2) uint64: its bytes and its length, or its 128-bit hash where it is longer."""
    ends, data = binary_ends(text), text.buffers()[2]
    lengths = np.diff(ends)
    is_long = lengths > _SHORT
    padded = np.zeros((data.size if data is not None else 0) + _SHORT + 1, np.uint8)
    if data is not None:
        padded[: data.size] = np.frombuffer(data, np.uint8)
    windows: npt.NDArray[np.uint8] = np.ndarray((padded.size - _SHORT, _SHORT + 1), np.uint8, padded, strides=(1, 1))
    packed = windows[ends[:-1]]  # what begins where a text does
    packed &= _OWN[np.minimum(lengths, _SHORT)]
    packed[:, _SHORT] = np.minimum(lengths, 255)
    for row in np.flatnonzero(is_long).tolist():
        digest = hashlib.blake2b(text[row].as_py().encode(), digest_size=16).digest()
        packed[row] = np.frombuffer(digest, np.uint8)
    return packed.view("<u8"), is_long
