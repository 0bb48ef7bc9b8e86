"""The first difference of two tables, in words."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

from runners.causes import Row

RUNS: Final = ("live", "replay")
_CAUSE: Final = ("partition", "offset", "exchange", "symbol", "window_start", "window_end")  # what tells it
_NOT_COMPARED: Final = {"code_version"}  # who refused it, not what was refused


@dataclass(frozen=True)
class Difference:
    """Of two runs, and the row in which it lies."""

    said: str
    row: Row  # of the first run of the two in `runs`
    runs: tuple[int, int] = (0, 1)
    is_missing: bool = False  # in the second


def difference_of(live: pa.Table, replay: pa.Table, keys: Sequence[str]) -> Difference | None:
    """The first row in which tables sorted by `keys` differ, and there the first field; None when they are equal."""
    rows = min(len(live), len(replay))
    first, field = rows, ""
    for name in (name for name in live.schema.names if name not in _NOT_COMPARED):
        left, right = (_bits(table[name]).slice(0, first) for table in (live, replay))
        if not left.equals(right):
            first = _first_unequal(left, right)
            field = name
    if first == rows and len(live) == len(replay):
        return None
    at = [_key(table, first, keys) if first < len(table) else None for table in (live, replay)]
    if at[0] is not None and at[0] == at[1]:
        values = (_shown(table[field][first]) for table in (live, replay))
        said = "{}: {} is {} live, {} in replay".format(_named(live, first, keys), field, *values)
        return Difference(said, _row(live, first))
    one = 0 if at[1] is None or (at[0] is not None and at[0] < at[1]) else 1
    table = (live, replay)[one]
    return Difference(
        f"only in {RUNS[one]}: {_named(table, first, keys)}", _row(table, first), (one, 1 - one), is_missing=True
    )


def _bits(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Doubles by their bits, for 0.0 equals -0.0 and no NaN equals itself."""
    if not pa.types.is_floating(column.type):
        return column
    return pa.chunked_array([chunk.view(pa.int64()) for chunk in column.chunks], pa.int64())


def _first_unequal(left: pa.ChunkedArray, right: pa.ChunkedArray) -> int:
    low, high = 0, len(left)  # the first difference lies in [low, high)
    while high - low > 1:
        middle = (low + high) // 2
        if left.slice(low, middle - low).equals(right.slice(low, middle - low)):
            low = middle
        else:
            high = middle
    return low


def _row(table: pa.Table, row: int) -> Row:
    return {name: table[name][row] for name in _CAUSE if name in table.column_names}


def _named(table: pa.Table, row: int, keys: Sequence[str]) -> str:
    shown = [*keys, "partition", "offset"] if "identity" in keys else keys
    return " ".join(f"{key}={_shown(table[key][row])}" for key in shown)


def _key(table: pa.Table, row: int, keys: Sequence[str]) -> tuple[Any, ...]:
    """What orders the row; times as numbers, for a calendar may not have them."""
    values = (table[key][row] for key in keys)
    return tuple(value.value if isinstance(value, pa.TimestampScalar) else value.as_py() for value in values)


def _shown(scalar: pa.Scalar) -> str:
    try:
        value = scalar.as_py()
    except (OverflowError, ValueError):
        return f"{scalar.cast(pa.int64())} us"
    return value.hex() if isinstance(value, bytes) else str(value)
