"""Bars and stats as integer columns and as records (Arrow, decimals): the one place where one becomes the other."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas.records import Record
from schemas.units import E9, US_PER_S
from transforms.batches import Instrument, Rows
from transforms.exact import Ints, from_limbs
from transforms.seconds import LINEAGE, Seconds, version

Big = npt.NDArray[np.object_]  # Python integers, exact at any size
Fold = Literal["first", "last", "highest", "lowest", "added"]

COMMON: Final[Mapping[str, tuple[str, Fold]]] = {
    "first_event_time": ("open_time", "first"),
    "last_event_time": ("close_time", "last"),
    "late_count": ("late", "added"),
    "duplicate_count": ("copies", "added"),
}


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where the columns of one kind of record come from; instrument, window, lineage and digest all have alike."""

    record: Record
    ints: Mapping[str, tuple[str, Fold]]  # column -> field of the accumulator, and how seconds fold into a window
    volumes: Mapping[str, str]  # column -> prefix of the accumulator's units and nanos; added
    notional: tuple[str, ...] = ()
    absent: Mapping[str, int]  # column -> the integer that stands for null
    derived: Callable[["WindowColumns"], dict[str, Any]]  # what follows from the other columns

    @property
    def sums(self) -> tuple[str, ...]:
        """Columns that an int64 cannot hold."""
        return *self.volumes, *self.notional


@dataclass(frozen=True)
class WindowColumns:
    """Records of one layout, row for row: times in microseconds, prices and volumes in 1e-9, notional in 1e-18."""

    instruments: Sequence[Instrument]
    start_us: Ints
    ints: dict[str, Ints]  # prices, times, counts, version
    sums: dict[str, Big]
    digest: npt.NDArray[np.uint64]  # (n, 2)
    lineage: Rows  # LINEAGE, sorted by row

    def to_batch(self, layout: Layout, interval_s: int | Ints) -> pa.RecordBatch:
        """As records of the layout, of one length or each of its own."""
        return self.to_records(layout.record, interval_s, layout.derived(self), layout.absent)

    def to_records(
        self, record: Record, interval_s: int | Ints, derived: Mapping[str, Any], absent: Mapping[str, int]
    ) -> pa.RecordBatch:
        """As records with these further columns; null where neither has one."""
        count = len(self.start_us)
        columns: dict[str, Any] = {
            "exchange": [pair[0] for pair in self.instruments],
            "symbol": [pair[1] for pair in self.instruments],
            "interval_s": np.full(count, interval_s, np.int32),
            "window_start": self.start_us,
            "window_end": self.start_us + interval_s * US_PER_S,
            "lineage": _lineage_lists(self.lineage, count, record.arrow.field("lineage").type),
            "identity_digest": [row.tobytes() for row in self.digest],
        }
        for name, values in {**self.ints, **self.sums, **derived}.items():
            kind = record.arrow.field(name).type
            columns[name] = decimals(values, kind, absent.get(name)) if pa.types.is_decimal(kind) else values
        columns |= {f.name: pa.nulls(count, f.type) for f in record.fields if f.nullable and f.name not in columns}
        return record.batch(columns)

    @staticmethod
    def from_batch(layout: Layout, batch: pa.RecordBatch | pa.Table) -> "WindowColumns":
        """From records of the layout."""
        columns = {name: batch.column(name) for name in batch.schema.names}
        columns = {k: c.combine_chunks() if isinstance(c, pa.ChunkedArray) else c for k, c in columns.items()}
        digest = np.frombuffer(b"".join(columns["identity_digest"].to_pylist()), "<u8").reshape(-1, 2)
        return WindowColumns(
            list(zip(columns["exchange"].to_pylist(), columns["symbol"].to_pylist(), strict=True)),
            columns["window_start"].cast(pa.int64()).to_numpy(),
            {name: _ints(columns[name], layout.absent.get(name)) for name in (*layout.ints, "version")},
            {name: _big(columns[name]) for name in layout.sums},
            digest,
            _lineage_rows(columns["lineage"]),
        )


def cell_columns(start_s: int, folded: Seconds, chosen: npt.NDArray[np.int64], layout: Layout) -> WindowColumns:
    """The chosen accumulators of a cell (indices into folded.rows, ascending); start in s since the epoch."""
    rows = folded.rows[chosen]
    lineage = folded.lineage[np.isin(folded.lineage["row"], chosen)].copy()
    lineage["row"] = np.searchsorted(chosen, lineage["row"])
    sums = {
        name: rows[f"{prefix}units"].astype(object) * E9 + rows[f"{prefix}nanos"].astype(object)
        for name, prefix in layout.volumes.items()
    }
    sums |= {name: np.array([from_limbs(limbs) for limbs in rows["notional"]], object) for name in layout.notional}
    return WindowColumns(
        [folded.instruments[code] for code in rows["instrument"].tolist()],
        np.full(len(chosen), start_s * US_PER_S, np.int64),
        {name: rows[field] for name, (field, _) in layout.ints.items()} | {"version": version(rows)},
        sums,
        rows["digest"],
        lineage,
    )


def decimals(values: Iterable[int | None], kind: pa.Decimal128Type, absent: int | None = None) -> pa.Decimal128Array:
    """Integers as decimals, whose scale says what one of them is worth; null where they are None or `absent`."""
    known = [None if value is None or value == absent else int(value) for value in values]
    data = b"".join((value or 0).to_bytes(16, "little", signed=True) for value in known)
    valid = np.array([value is not None for value in known], np.bool_)
    validity = None if valid.all() else pa.py_buffer(np.packbits(valid, bitorder="little"))
    return pa.Decimal128Array.from_buffers(kind, len(known), [validity, pa.py_buffer(data)])


def one_batch(batches: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    """Batches of one schema, at least one of them with rows, as one."""
    return pa.Table.from_batches(batches).combine_chunks().to_batches()[0]


def _ints(column: pa.Array, absent: int | None) -> Ints:
    if not pa.types.is_decimal(column.type):
        values: Ints = column.cast(pa.int64()).to_numpy()
        return values
    values = _big(column).astype(np.int64)
    if absent is not None:
        values[column.is_null().to_numpy(zero_copy_only=False)] = absent
    return values


def _big(column: pa.Decimal128Array) -> Big:
    words = np.frombuffer(column.buffers()[1], "<i8", 2 * len(column), 16 * column.offset).reshape(-1, 2)
    low = words[:, 0].view("<u8").astype(object)
    joined: Big = (words[:, 1].astype(object) << 64) + low
    return joined


def _lineage_lists(lineage: Rows, count: int, kind: pa.ListType) -> pa.ListArray:
    offsets = np.searchsorted(lineage["row"], np.arange(count + 1)).astype(np.int32)
    children = [pa.array(np.ascontiguousarray(lineage[name])) for name in ("partition", "first", "last")]
    structs = pa.StructArray.from_arrays(children, fields=list(kind.value_type))
    return pa.ListArray.from_arrays(pa.array(offsets), structs, type=kind)


def _lineage_rows(lists: pa.ListArray) -> Rows:
    structs = lists.flatten()
    rows = np.empty(len(structs), LINEAGE)
    rows["row"] = np.repeat(np.arange(len(lists)), lists.value_lengths().to_numpy())
    for name, field in (("partition", "partition"), ("first", "first_offset"), ("last", "last_offset")):
        rows[name] = structs.field(field).to_numpy()
    return rows
