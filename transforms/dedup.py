"""Which records of a cell are new, copies of an earlier one, the same record read again, or in conflict.

Pure functions on rows; the cell keeps what they need. A record that is read again (same partition and offset, after a
resume) is not a copy: folding is idempotent by place. Two records of one identity in one event second with different
content conflict, and the one that lies first in the log stays: by (clock of its partition, partition, offset), an order
in which nothing can come any more before what the log's clock has passed.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from schemas.units import US_PER_S
from transforms.exact import Ints, Words, mix64
from transforms.rows import Rows

NEW: Final = 0
COPY: Final = 1
AGAIN: Final = 2
CONFLICT: Final = 3
DECIDED: Final = 4  # no verdict of this module: new, and what conflicts with it is known; see cell_fold.py

Verdicts = npt.NDArray[np.uint8]

_OFFSET_BITS: Final = 44  # 1.7e13 records a partition, 2**20 partitions
_COLUMNS: Final = 4  # of what is remembered of a record: key, identity_lo, content, place; 32 bytes


def places(rows: Rows) -> Words:
    """Partition and offset of each row in one word."""
    return (rows["partition"].astype(np.uint64) << np.uint64(_OFFSET_BITS)) | rows["offset"].astype(np.uint64)


def log_order(rows: Rows) -> npt.NDArray[np.intp]:
    """The order in which rows lie in the log, whatever order partitions were read in."""
    order: npt.NDArray[np.intp] = np.lexsort((places(rows), rows["clock_us"]))
    return order


def keys(identity_hi: Words, identity_lo: Words, event_time_us: Ints) -> Words:
    """One word to search by; with identity_lo it says as much as the identity and the event second together."""
    return mix64(identity_hi) ^ identity_lo ^ mix64((event_time_us // US_PER_S).view(np.uint64))


def row_keys(rows: Rows) -> Words:
    """The key of each row, side by side: out of whole rows each would miss the cache."""
    return np.ascontiguousarray(rows["key"])


def repeated(words: Words) -> npt.NDArray[np.bool_]:
    """Whether another row has the same word."""
    order = np.argsort(words)
    ordered = words[order]
    same = ordered[1:] == ordered[:-1]
    found = np.zeros(len(words), np.bool_)
    found[order[1:][same]] = True
    found[order[:-1][same]] = True
    return found


def seen_rows(rows: Rows, *, by_log: bool = False) -> Words:
    """What is remembered of EVENT_ROW rows: (4, n) words, sorted by key; of one key as given, or as in the log."""
    key = row_keys(rows)
    order = np.argsort(key, kind="stable")
    if by_log:
        ordered = key[order]
        same = np.flatnonzero(ordered[1:] == ordered[:-1])
        if len(same):
            places_ = np.union1d(same, same + 1)
            found = order[places_]
            order[places_] = found[np.lexsort((places(rows[found]), rows["clock_us"][found], key[found]))]
    seen = np.empty((_COLUMNS, len(rows)), np.uint64)
    for column, words in enumerate((key, rows["identity_lo"], rows["content"], places(rows))):
        np.take(np.ascontiguousarray(words), order, out=seen[column])  # out of whole rows each would miss the cache
    return seen


def seen_from_bytes(chunk: bytes) -> Words:
    """The inverse of seen_rows(...).tobytes()."""
    return np.frombuffer(chunk, np.uint64).reshape(_COLUMNS, -1)


def merged_seen(chunks: Sequence[Words]) -> Words:
    """Several seen_rows as one."""
    joined = np.concatenate(chunks, axis=1)
    return joined[:, np.argsort(joined[0], kind="stable")]


def verdicts(rows: Rows, kept: Sequence[Words], *, by_log: bool = False) -> Verdicts:
    """NEW, COPY, AGAIN or CONFLICT for each row; `kept` are seen_rows of what came before.

    Rows come one after the other as they are given, or (by_log) as they lie in the log. Only those whose key meets
    another are looked at one by one, by the whole 128-bit identity.
    """
    key = row_keys(rows)
    order = np.argsort(key, kind="stable")
    ordered = key[order]
    same = ordered[1:] == ordered[:-1]
    met = meets(kept, ordered)
    met[1:] |= same
    met[:-1] |= same
    if not met.any():
        return np.full(len(rows), NEW, np.uint8)
    return verdicts_of(rows, key, np.sort(order[met]), read_before(kept, ordered[met]), by_log=by_log)


Read = dict[tuple[int, int], tuple[int, set[int]]]
"""(key, identity_lo) -> (content of the first, places read)."""


def verdicts_of(
    rows: Rows, key: Words, suspects: npt.NDArray[np.intp], read: Read, *, by_log: bool = False
) -> Verdicts:
    """Verdicts when all but the suspects (indices, ascending) are new; `read` is what came before, and grows."""
    result = np.full(len(rows), NEW, np.uint8)
    if by_log:
        suspects = suspects[log_order(rows[suspects])]
    words = (column[suspects].tolist() for column in (key, rows["identity_lo"], rows["content"], places(rows)))
    for row, word, low, content, place in zip(suspects.tolist(), *words, strict=True):
        first, found = read.setdefault((word, low), (content, set()))
        if place in found:
            result[row] = AGAIN
        elif first != content:
            result[row] = CONFLICT
        else:
            result[row] = COPY if found else NEW
        found.add(place)
    return result


def meets(kept: Sequence[Words], key: Words) -> npt.NDArray[np.bool_]:
    """Which of these keys are among the kept."""
    met = np.zeros(len(key), np.bool_)
    for seen in kept:
        at = np.searchsorted(seen[0], key)
        met |= seen[0][np.minimum(at, seen.shape[1] - 1)] == key
    return met


def read_before(kept: Sequence[Words], wanted: Words) -> Read:
    """What the kept rows with one of these keys (sorted) are."""
    read: Read = {}
    for seen in kept:
        starts, stops = (np.searchsorted(seen[0], wanted, side) for side in ("left", "right"))
        for at in np.flatnonzero(starts < stops).tolist():
            for word, low, content, place in seen[:, starts[at] : stops[at]].T.tolist():
                read.setdefault((word, low), (content, set()))[1].add(place)
    return read
