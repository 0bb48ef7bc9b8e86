"""Which records of a cell are new, copies of one read before, the same record read again, or in conflict.

Pure functions on rows; the cell keeps what they need. A record that is read again (same partition and offset, after a
resume) is not a copy: folding is idempotent by place. Two records of one identity with different content conflict,
and the first one read stays.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from transforms.batches import Rows
from transforms.exact import Words, mix64

NEW: Final = 0
COPY: Final = 1
AGAIN: Final = 2
CONFLICT: Final = 3

# What is remembered of a record once its bar is out: 32 bytes.
SEEN_ROW = np.dtype([("identity_hi", "<u8"), ("identity_lo", "<u8"), ("content", "<u8"), ("place", "<u8")])

_OFFSET_BITS: Final = 44  # 1.7e13 records a partition, 2**20 partitions


def places(rows: Rows) -> Words:
    """Partition and offset of each row in one word."""
    return (rows["partition"].astype(np.uint64) << np.uint64(_OFFSET_BITS)) | rows["offset"].astype(np.uint64)


def seen_rows(rows: Rows) -> Rows:
    """EVENT_ROW rows as SEEN_ROW rows."""
    seen = np.empty(len(rows), SEEN_ROW)
    for name in ("identity_hi", "identity_lo", "content"):
        seen[name] = rows[name]
    seen["place"] = places(rows)
    return seen


def verdicts(rows: Rows, known: Sequence[Rows]) -> npt.NDArray[np.uint8]:
    """NEW, COPY, AGAIN or CONFLICT for each row, in reading order; `known` are SEEN_ROW arrays read before.

    Only rows whose 64-bit key meets another are looked at one by one, by the whole 128-bit identity.
    """
    result = np.full(len(rows), NEW, np.uint8)
    keys = _keys(rows)
    known_keys = np.concatenate([_keys(part) for part in known]) if known else np.empty(0, np.uint64)
    suspects = np.flatnonzero(_repeated(keys) | np.isin(keys, known_keys))
    if not len(suspects):
        return result
    by_identity = _by_identity(known, known_keys, keys[suspects])
    incoming = seen_rows(rows[suspects])
    for row, (hi, lo, content, place) in zip(suspects.tolist(), incoming.tolist(), strict=True):
        found = by_identity.setdefault((hi, lo), (content, set()))
        if place in found[1]:
            result[row] = AGAIN
        elif found[0] != content:
            result[row] = CONFLICT
        else:
            result[row] = COPY if found[1] else NEW
            found[1].add(place)
    return result


def _keys(rows: Rows) -> Words:
    return mix64(rows["identity_hi"]) ^ rows["identity_lo"]


def _repeated(keys: Words) -> npt.NDArray[np.bool_]:
    order = np.argsort(keys)
    ordered = keys[order]
    same = ordered[1:] == ordered[:-1]
    repeated = np.zeros(len(keys), np.bool_)
    repeated[order[1:][same]] = True
    repeated[order[:-1][same]] = True
    return repeated


def _by_identity(
    known: Sequence[Rows], known_keys: Words, wanted: Words
) -> dict[tuple[int, int], tuple[int, set[int]]]:
    """identity -> (content, places read) of the known rows that may match."""
    found: dict[tuple[int, int], tuple[int, set[int]]] = {}
    if not len(known_keys):
        return found
    rows = np.concatenate(known)[np.isin(known_keys, wanted)]
    for hi, lo, content, place in rows.tolist():
        found.setdefault((hi, lo), (content, set()))[1].add(place)
    return found
