"""The Parquet datasets: where a row belongs, and how rows of one file are united.

A file's name follows from (dataset, window, part, schema version) alone, its content from the set of rows that belong
to it: uniting is idempotent, so a row written twice after a crash, or a later version of a bar, changes nothing but
what it adds.
"""

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
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
from transforms.batches import EventBatch
from transforms.event_columns import event_columns


@dataclass(frozen=True)
class Dataset:
    """One dataset: rows per file window, and what unites the rows of a file."""

    name: str
    record: Record
    window_s: int
    sort_by: tuple[str, ...]
    table: Callable[[Sequence[bytes]], pa.Table]  # collected pieces as rows
    unite: Callable[[pa.Table], pa.Table]  # rows of a file, some of them twice, as rows of that file

    def path(self, window_start_s: int, part: int) -> str:
        """Path of a file below the root. UTC; date and hour are those of the window's start."""
        start = datetime.fromtimestamp(window_start_s, UTC)
        stamp = f"{start:%Y%m%dT%H%M%SZ}-{self.window_s}s-{part:04d}-v{self.record.version}"
        return f"{self.name}/date={start:%Y-%m-%d}/hour={start:%H}/{self.name}-{stamp}.parquet"

    def merged(self, tables: Sequence[pa.Table]) -> pa.Table:
        """The content of a file from its pieces: united and sorted, in one chunk."""
        table = pa.concat_tables([piece.cast(self.record.arrow) for piece in tables])
        table = self.unite(table.combine_chunks())
        return table.sort_by([(name, "ascending") for name in self.sort_by]).combine_chunks()


def ipc_bytes(batch: pa.RecordBatch) -> bytes:
    """An Arrow batch as an IPC stream."""
    out = io.BytesIO()
    with pa.ipc.new_stream(out, batch.schema) as stream:
        stream.write_batch(batch)
    return out.getvalue()


def _ipc_table(pieces: Sequence[bytes]) -> pa.Table:
    return pa.concat_tables([pa.ipc.open_stream(piece).read_all() for piece in pieces])


def _event_table(pieces: Sequence[bytes]) -> pa.Table:
    batches = [EventBatch.from_bytes(piece) for piece in pieces]
    return pa.concat_tables([_events(batch) for batch in _merged_runs(batches)])


def _merged_runs(batches: Sequence[EventBatch]) -> Iterator[EventBatch]:
    """Batches joined where headers do not stand in the way: one large decode instead of many small ones."""
    plain = [batch for batch in batches if not batch.headers]
    if plain:
        yield EventBatch.concat(plain)
    yield from (batch for batch in batches if batch.headers)


def _events(batch: EventBatch) -> pa.Table:
    none = pa.array([[]], EVENT.arrow.field("copies").type)
    columns: dict[str, Any] = event_columns(batch)
    columns["copies"] = none.take(pa.array(np.zeros(len(batch), np.int64)))
    return pa.table([columns[name] for name in EVENT.arrow.names], schema=EVENT.arrow)


def unite_events(table: pa.Table) -> pa.Table:
    """One row an identity and event time, the one that lies first in the log; the others' places are its `copies`.

    An identity met at another event time is another event: cells are of one second, and copies have equal content.
    """
    partition, offset = table["partition"].to_numpy(), table["offset"].to_numpy()
    time_us = table["event_time"].cast(pa.int64()).to_numpy()
    identity = np.frombuffer(b"".join(table["identity"].to_pylist()), "<u8").reshape(-1, 2)
    order = np.lexsort((offset, partition, time_us, identity[:, 0], identity[:, 1]))
    ordered, times = identity[order], time_us[order]
    first = np.concatenate([[True], (ordered[1:] != ordered[:-1]).any(axis=1) | (times[1:] != times[:-1])])
    if first.all():
        return table
    starts = np.flatnonzero(first)
    united = table.take(pa.array(order[starts]))
    sizes = np.diff(np.append(starts, len(order)))
    copies = united["copies"].to_pylist()
    for row in np.flatnonzero(sizes > 1).tolist():
        members = order[starts[row] : starts[row] + sizes[row]]
        copies[row] = _other_places(members, partition, offset, table["copies"])
    index = united.schema.get_field_index("copies")
    field = united.schema.field(index)
    return united.set_column(index, field, pa.array(copies, field.type))


def _other_places(
    rows: npt.NDArray[np.int64],
    partition: npt.NDArray[np.int32],
    offset: npt.NDArray[np.int64],
    copies: pa.ChunkedArray,
) -> list[dict[str, int]]:
    """The places of these rows and of their copies, without the first row's own."""
    places = {(int(partition[row]), int(offset[row])) for row in rows.tolist()}
    for row in rows.tolist():
        places |= {(copy["partition"], copy["offset"]) for copy in copies[row].as_py()}
    places.discard((int(partition[rows[0]]), int(offset[rows[0]])))
    return [{"partition": p, "offset": o} for p, o in sorted(places)]


def unite_bars(table: pa.Table) -> pa.Table:
    """Of each bar the highest version."""
    return _first_of(table, ("exchange", "symbol", "interval_s", "window_start"), "version")


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


EVENTS: Final = Dataset("events", EVENT, 10, ("event_time", "partition", "offset"), _event_table, unite_events)
BARS: Final = Dataset("bars", BAR, 60, ("window_start", "interval_s", "exchange", "symbol"), _ipc_table, unite_bars)
LATE_EVENTS: Final = Dataset("late", LATE, 60, ("event_time", "partition", "offset"), _ipc_table, unite_places)
REJECTS: Final = Dataset("rejects", REJECT, 60, ("partition", "offset"), _ipc_table, unite_places)
