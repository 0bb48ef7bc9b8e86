"""The Parquet datasets: where a row belongs, and how rows of one file are united.

A file's name follows from (dataset, window, part, schema version) alone, its content from the set of rows that belong
to it: uniting is idempotent, so a row written twice after a crash, or a later version of a bar, changes nothing but
what it adds.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from schemas.bar import BAR
from schemas.event import EVENT
from schemas.late import LATE
from schemas.records import Record
from schemas.reject import REJECT
from schemas.stat import STAT
from schemas.units import US_PER_S
from transforms import dedup
from transforms.event_rows import event_table
from transforms.exact import Ints, Words


@dataclass(frozen=True)
class Dataset:
    """One dataset: rows per file window, and what unites the rows of a file."""

    name: str
    record: Record
    window_s: int
    sort_by: tuple[str, ...]
    table: Callable[[Sequence[Any]], pa.Table]  # collected pieces as rows
    unite: Callable[[pa.Table], pa.Table]  # rows of a file, some of them twice, as rows of that file
    encoding: Mapping[str, Any] = field(default_factory=dict)  # what pq.write_table is told of the columns

    def path(self, window_start_s: int, part: int) -> str:
        """Path of a file below the root. UTC; date and hour are those of the window's start."""
        start = datetime.fromtimestamp(window_start_s, UTC)
        stamp = f"{start:%Y%m%dT%H%M%SZ}-{self.window_s}s-{part:04d}-v{self.record.version}"
        return f"{self.name}/date={start:%Y-%m-%d}/hour={start:%H}/{self.name}-{stamp}.parquet"

    def merged(self, tables: Sequence[pa.Table]) -> pa.Table:
        """The content of a file from its pieces: united and sorted, in one chunk."""
        table = pa.concat_tables([piece.cast(self.record.arrow) for piece in tables])
        table = self.unite(table.combine_chunks()).combine_chunks()
        if _in_order(table, self.sort_by):
            return table
        return table.sort_by([(name, "ascending") for name in self.sort_by]).combine_chunks()


def _in_order(table: pa.Table, names: Sequence[str]) -> bool:
    """Whether the rows ascend by these columns already, which most pieces do: much cheaper than to sort them again."""
    undecided = np.ones(max(len(table) - 1, 0), np.bool_)
    for column in (table[name].combine_chunks() for name in names):
        before, after = column[:-1], column[1:]
        if (undecided & pc.greater(before, after).to_numpy(zero_copy_only=False)).any():
            return False
        undecided &= pc.equal(before, after).to_numpy(zero_copy_only=False)
    return True


def _ipc_table(pieces: Sequence[bytes]) -> pa.Table:
    return pa.concat_tables([pa.ipc.open_stream(piece).read_all() for piece in pieces])


def unite_events(table: pa.Table) -> pa.Table:
    """One row an identity and event second, the one that lies first; the others' places are its `copies`.

    An identity met in another second is another event: copies are known within one, and have equal content.
    """
    identity = _identity_words(table["identity"])
    second = table["event_time"].cast(pa.int64()).to_numpy() // US_PER_S
    repeated = np.flatnonzero(dedup.repeated(dedup.keys(*identity, second * US_PER_S)))
    if not len(repeated):
        return table
    partition, offset = (table[name].to_numpy() for name in ("partition", "offset"))
    hi, lo = identity
    groups: dict[tuple[int, ...], list[int]] = {}
    for row, *key in zip(
        *(part.tolist() for part in (repeated, *(c[repeated] for c in (hi, lo, second)))), strict=True
    ):
        groups.setdefault(tuple(key), []).append(row)
    owner = np.arange(len(table))  # the row that a row is a copy of, or the row itself
    for rows in groups.values():
        owner[rows] = min(rows, key=lambda row: (partition[row], offset[row]))
    first = owner == np.arange(len(table))
    united = table.filter(pa.array(first))
    at = table.schema.get_field_index("copies")
    copies = _copies(table["copies"].combine_chunks(), owner, partition, offset, np.flatnonzero(first))
    return united.set_column(at, table.schema.field(at), copies)


def _identity_words(column: pa.ChunkedArray) -> tuple[Words, Words]:
    whole = column.combine_chunks()
    words = np.frombuffer(whole.buffers()[1], "<u8", 2 * len(whole), 16 * whole.offset).reshape(-1, 2)
    return words[:, 0], words[:, 1]


def _copies(
    known: pa.ListArray, owner: Ints, partition: Ints, offset: Ints, first: npt.NDArray[np.intp]
) -> pa.ListArray:
    """Of each row of `first` the places of its other rows and of what they knew as copies, without its own, sorted."""
    listed = known.flatten()
    places = np.stack(
        [
            np.concatenate([owner, np.repeat(owner, known.value_lengths().to_numpy())]),
            np.concatenate([partition, listed.field("partition").to_numpy()]),
            np.concatenate([offset, listed.field("offset").to_numpy()]),
        ],
        axis=1,
    )
    own = (places[:, 1] == partition[places[:, 0]]) & (places[:, 2] == offset[places[:, 0]])
    places = np.unique(places[~own], axis=0)
    ends = np.searchsorted(places[:, 0], first, "right")
    kind = known.type
    children = [pa.array(places[:, 1].astype(np.int32)), pa.array(np.ascontiguousarray(places[:, 2]))]
    structs = pa.StructArray.from_arrays(children, fields=list(kind.value_type))
    return pa.ListArray.from_arrays(pa.array(np.append(0, ends).astype(np.int32)), structs, type=kind)


def unite_bars(table: pa.Table) -> pa.Table:
    """Of each bar the highest version."""
    return _first_of(table, BAR.key, "version")


def unite_stats(table: pa.Table) -> pa.Table:
    """Of each stat the highest version."""
    return _first_of(table, STAT.key, "version")


def unite_places(table: pa.Table) -> pa.Table:
    """Of each record in the log one row."""
    return _first_of(table, ("topic", "partition"), "offset", of_each="offset")


def _first_of(table: pa.Table, keys: tuple[str, ...], highest: str, of_each: str | None = None) -> pa.Table:
    order = pc.sort_indices(table, [(name, "ascending") for name in keys] + [(highest, "descending")])
    ordered = table.take(order)
    changed = np.zeros(len(table), np.bool_)
    changed[:1] = True
    for name in (*keys, of_each) if of_each else keys:
        column = ordered[name].combine_chunks()
        changed[1:] |= pc.not_equal(column[1:], column[:-1]).to_numpy(zero_copy_only=False)
    return ordered.filter(pa.array(changed))


_DELTA: Final = ("event_time", "sequence", "received_at", "offset", "log_time")
_DELTA_TEXT: Final = ("trade_id", "event_id")
# An instrument's events lie together: its prices, ids and times are near each other then, which halves the file. A
# dictionary where values come again; differences where they count up (docs/figures.md).
EVENTS: Final = Dataset(
    "events",
    EVENT,
    10,
    ("exchange", "symbol", "event_time", "partition", "offset"),
    event_table,
    unite_events,
    {
        "use_dictionary": [
            *("exchange", "symbol", "event_type", "price", "volume", "side", "source", "topic", "partition")
        ],
        "column_encoding": dict.fromkeys(_DELTA, "DELTA_BINARY_PACKED")
        | dict.fromkeys(_DELTA_TEXT, "DELTA_BYTE_ARRAY"),
    },
)
BARS: Final = Dataset("bars", BAR, 60, ("window_start", "interval_s", "exchange", "symbol"), _ipc_table, unite_bars)
STATS: Final = Dataset(
    "stats", STAT, 60, ("window_start", "kind", "interval_s", "exchange", "symbol"), _ipc_table, unite_stats
)
LATE_EVENTS: Final = Dataset("late", LATE, 60, ("event_time", "partition", "offset"), _ipc_table, unite_places)
REJECTS: Final = Dataset("rejects", REJECT, 60, ("partition", "offset"), _ipc_table, unite_places)
