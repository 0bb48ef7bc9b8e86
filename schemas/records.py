"""What a record is: fields defined once, from which the Arrow and the Avro schema are derived."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import pyarrow as pa

TIMESTAMP: Final = pa.timestamp("us", tz="UTC")
PRICE: Final = pa.float64()
RATIO: Final = pa.float64()
VOLUME: Final = pa.decimal256(76, 18)
NOTIONAL: Final = pa.decimal256(76, 36)
FIXED16: Final = pa.binary(16)

US_EPOCH: Final = "microseconds since the Unix epoch, UTC"
"""The unit and epoch of every time in every record."""

NAMESPACE: Final = "cipherhorizon.marketdata"


@dataclass(frozen=True)
class Field:
    """One field of a record: its Arrow type and what a reader must know about it."""

    name: str
    type: pa.DataType
    meaning: str
    unit: str  # with the epoch where it is a time; "-" for names and labels
    origin: str  # who sets it
    null: str | None = None  # what a null means; None: never null

    @property
    def nullable(self) -> bool:
        """Whether a null is allowed."""
        return self.null is not None

    @property
    def doc(self) -> str:
        """One line: meaning, unit, null and origin."""
        return f"{self.meaning}; unit: {self.unit}; null: {self.null or 'never'}; origin: {self.origin}"


@dataclass(frozen=True)
class Record:
    """One kind of record in one version.

    From the first release on a field is never removed, renamed or retyped; a nullable one may be appended, with the
    next version. Until then a new version may break with those before, which the changelog says and
    tests/schemas/test_goldens.py knows.
    """

    name: str  # the Avro name, e.g. "Bar"
    version: int
    doc: str
    fields: tuple[Field, ...]
    key: tuple[str, ...] = ()  # fields that tell two of them apart; a versioned record's, as `newest` takes it

    @cached_property
    def arrow(self) -> pa.Schema:
        """The Arrow schema; name and version are in its metadata."""
        return pa.schema(
            [pa.field(f.name, f.type, nullable=f.nullable) for f in self.fields],
            metadata={"horizon.record": self.name, "horizon.version": str(self.version)},
        )

    @cached_property
    def avro(self) -> dict[str, Any]:
        """The Avro schema; the version is in its namespace, so also in its fingerprint."""
        return {
            "type": "record",
            "name": self.name,
            "namespace": f"{NAMESPACE}.v{self.version}",
            "doc": f"{self.doc} Version {self.version}.",
            "fields": [_avro_field(f.name, f.type, f.nullable, f.doc) for f in self.fields],
        }

    def table(self, columns: Mapping[str, Any]) -> pa.Table:
        """A table from one column per field (Arrow, NumPy or a list).

        KeyError for a missing or an unknown column, ValueError for a null where none may be.
        """
        wrong = set(columns) ^ {f.name for f in self.fields}
        if wrong:
            raise KeyError(f"columns missing in or unknown to {self.name} v{self.version}: {sorted(wrong)}")
        table = pa.table({f.name: columns[f.name] for f in self.fields}, schema=self.arrow)
        return self._checked(table)

    def table_from_rows(self, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
        """A table from rows as `rows` gives them; times may also be integers of microseconds."""
        names = {f.name for f in self.fields}
        for row in rows:
            if not row.keys() <= names:
                raise KeyError(f"unknown to {self.name} v{self.version}: {sorted(row.keys() - names)}")
        return self._checked(pa.Table.from_pylist(list(rows), schema=self.arrow))

    def batch(self, columns: Mapping[str, Any]) -> pa.RecordBatch:
        """A batch from one column per field; Arrow columns go in as they are. KeyError for a missing column."""
        arrays = []
        for field in self.arrow:
            column = columns[field.name]
            arrays.append(column if isinstance(column, pa.Array) else pa.array(column, field.type))
        return pa.RecordBatch.from_arrays(arrays, schema=self.arrow)

    @staticmethod
    def rows(table: pa.Table | pa.RecordBatch) -> list[dict[str, Any]]:
        """The rows as dicts: times are aware datetimes, decimals Decimal, fixed bytes; ready for Avro."""
        rows: list[dict[str, Any]] = table.to_pylist()
        return rows

    @staticmethod
    def plain_rows(batch: pa.RecordBatch) -> list[dict[str, Any]]:
        """The rows as dicts for Avro's writer alone: as of `rows`, but times are integers of microseconds.

        Column by column: a value at a time, through an Arrow scalar each, takes twice as long.
        """
        columns = zip(*map(_plain, batch.columns), strict=True)
        return [dict(zip(batch.schema.names, row, strict=True)) for row in columns]

    def _checked(self, table: pa.Table) -> pa.Table:
        for field in self.fields:
            if not field.nullable and table.column(field.name).null_count:
                raise ValueError(f"{self.name}.{field.name} must not be null")
        return table


def struct_list(fields: Iterable[tuple[str, pa.DataType, bool]]) -> pa.DataType:
    """A list of structs from (name, type, nullable); neither list items nor structs are null."""
    struct = pa.struct([pa.field(name, kind, nullable=nullable) for name, kind, nullable in fields])
    # "element" is Parquet's own name for it, so a file gives the very same type back.
    return pa.list_(pa.field("element", struct, nullable=False))


def _plain(column: pa.Array) -> list[Any]:
    kind = column.type
    if pa.types.is_list(kind):
        names = [field.name for field in kind.value_type]
        children = [_plain(child) for child in column.flatten().flatten()]
        items = [dict(zip(names, item, strict=True)) for item in zip(*children, strict=True)]
        ends = np.cumsum(column.value_lengths()).tolist()
        return [items[start:stop] for start, stop in zip([0, *ends[:-1]], ends, strict=True)]
    if pa.types.is_timestamp(kind):
        column = column.cast(pa.int64())
    if column.null_count and pa.types.is_primitive(column.type):
        known = column.is_valid().to_numpy(zero_copy_only=False).tolist()
        filled = column.fill_null(0).to_numpy().tolist()
        return [value if is_known else None for value, is_known in zip(filled, known, strict=True)]
    return column.to_numpy(zero_copy_only=False).tolist()  # type: ignore[no-any-return]


def _avro_field(name: str, kind: pa.DataType, nullable: bool, doc: str | None = None) -> dict[str, Any]:
    avro_type = _avro_type(name, kind)
    field: dict[str, Any] = {"name": name, "type": ["null", avro_type] if nullable else avro_type}
    if nullable:
        field["default"] = None
    if doc is not None:
        field["doc"] = doc
    return field


_PRIMITIVES: Final[dict[pa.DataType, str]] = {
    pa.utf8(): "string",
    pa.binary(): "bytes",
    pa.int32(): "int",
    pa.int64(): "long",
    pa.float64(): "double",
}


def _avro_type(name: str, kind: pa.DataType) -> Any:
    """The Avro type of an Arrow type; named types take the field's name in camel case."""
    type_name = name.title().replace("_", "")
    if kind in _PRIMITIVES:
        return _PRIMITIVES[kind]
    if kind == TIMESTAMP:
        return {"type": "long", "logicalType": "timestamp-micros"}
    if pa.types.is_decimal256(kind):
        return {"type": "bytes", "logicalType": "decimal", "precision": kind.precision, "scale": kind.scale}
    if pa.types.is_fixed_size_binary(kind):
        return {"type": "fixed", "name": type_name, "size": kind.byte_width}
    if pa.types.is_list(kind) and pa.types.is_struct(kind.value_type):
        fields = [_avro_field(child.name, child.type, child.nullable) for child in kind.value_type]
        return {"type": "array", "items": {"type": "record", "name": f"{type_name}Item", "fields": fields}}
    raise TypeError(f"field {name}: no Avro form for Arrow type {kind}; add one to schemas/records.py")
