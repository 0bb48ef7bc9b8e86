"""Bars and stats as NumPy columns and as records (Arrow, decimals): the one place where one becomes the other."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas.records import Record
from schemas.units import US_PER_S
from transforms.accumulators import ABSENT
from transforms.exact import Ints, Mask, from_limbs, from_words
from transforms.rows import Instrument, Rows
from transforms.seconds import LINEAGE, Seconds, version

Column = npt.NDArray[Any]  # int64, or float64 for prices
Big = npt.NDArray[np.object_]  # Python integers, exact at any size
Fold = Literal["first", "last", "highest", "lowest", "added"]

_DECIMAL_BYTES: Final = 32

COMMON: Final[Mapping[str, tuple[str, Fold]]] = {
    "first_event_time": ("open_time", "first"),
    "last_event_time": ("close_time", "last"),
    "delayed_count": ("delayed", "added"),
    "duplicate_count": ("copies", "added"),
}


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where the columns of one kind of record come from; instrument, window, lineage and digest all have alike."""

    record: Record
    values: Mapping[str, tuple[str, Fold]]  # column -> field of the accumulator, and how seconds fold into a window
    volumes: Mapping[str, str]  # column -> field of the accumulator; added
    notional: tuple[str, ...] = ()
    derived: Callable[["WindowColumns"], dict[str, Any]]  # what follows from the other columns

    @property
    def sums(self) -> tuple[str, ...]:
        """Columns that an int64 cannot hold."""
        return *self.volumes, *self.notional


@dataclass(frozen=True)
class WindowColumns:
    """Records of one layout, row for row: times in microseconds, volumes in 1e-18, notional in 1e-36."""

    instruments: Sequence[Instrument]
    start_us: Ints
    values: dict[str, Column]  # prices, times, counts, version; one of ABSENT for null
    sums: dict[str, Big]
    digest: npt.NDArray[np.uint64]  # (n, 2)
    lineage: Rows  # LINEAGE, sorted by row

    def to_batch(self, layout: Layout, interval_s: int | Ints) -> pa.RecordBatch:
        """As records of the layout, of one length or each of its own."""
        return self.to_records(layout.record, interval_s, layout.derived(self))

    def to_records(self, record: Record, interval_s: int | Ints, derived: Mapping[str, Any]) -> pa.RecordBatch:
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
        columns |= {name: _nullable(values, record.arrow.field(name).type) for name, values in self.values.items()}
        columns |= {name: decimals(values, record.arrow.field(name).type) for name, values in self.sums.items()}
        columns |= derived
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
            {name: _filled(columns[name], field) for name, (field, _) in layout.values.items()}
            | {"version": columns["version"].to_numpy()},
            {name: _big(columns[name]) for name in layout.sums},
            digest,
            _lineage_rows(columns["lineage"]),
        )


def cell_columns(start_s: int, folded: Seconds, chosen: npt.NDArray[np.int64], layout: Layout) -> WindowColumns:
    """The chosen accumulators of a cell (indices into folded.rows, ascending); start in s since the epoch."""
    rows = folded.rows[chosen]
    lineage = folded.lineage[np.isin(folded.lineage["row"], chosen)].copy()
    lineage["row"] = np.searchsorted(chosen, lineage["row"])
    sums = {name: np.array([from_words(row) for row in rows[field]], object) for name, field in layout.volumes.items()}
    sums |= {name: np.array([from_limbs(row) for row in rows["notional"]], object) for name in layout.notional}
    return WindowColumns(
        [folded.instruments[code] for code in rows["instrument"].tolist()],
        np.full(len(chosen), start_s * US_PER_S, np.int64),
        {name: rows[field] for name, (field, _) in layout.values.items()} | {"version": version(rows)},
        sums,
        rows["digest"],
        lineage,
    )


def known(values: Column) -> Mask:
    """Where there is a value: neither of ABSENT."""
    if values.dtype.kind == "f":
        finite: Mask = np.isfinite(values)
        return finite
    present: Mask = (values != ABSENT["open_time"]) & (values != ABSENT["close_time"])
    return present


def decimals(values: Iterable[int], kind: pa.Decimal256Type) -> pa.Decimal256Array:
    """Integers as decimals, whose scale says what one of them is worth."""
    data = [int(value).to_bytes(_DECIMAL_BYTES, "little", signed=True) for value in values]
    return pa.Decimal256Array.from_buffers(kind, len(data), [None, pa.py_buffer(b"".join(data))])


def one_batch(batches: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    """Batches of one schema, at least one of them with rows, as one."""
    return pa.Table.from_batches(batches).combine_chunks().to_batches()[0]


def _nullable(values: Column, kind: pa.DataType) -> pa.Array:
    return pa.array(values, kind, mask=~known(values))


def _filled(column: pa.Array, field: str) -> Column:
    """The inverse of _nullable."""
    plain = column.cast(pa.int64()) if pa.types.is_temporal(column.type) else column
    filled: Column = (plain.fill_null(ABSENT[field]) if plain.null_count else plain).to_numpy()
    return filled


def _big(column: pa.Decimal256Array) -> Big:
    data = memoryview(column.buffers()[1])
    starts = range(column.offset * _DECIMAL_BYTES, (column.offset + len(column)) * _DECIMAL_BYTES, _DECIMAL_BYTES)
    integers = [int.from_bytes(data[start : start + _DECIMAL_BYTES], "little", signed=True) for start in starts]
    return np.array(integers, object)


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
