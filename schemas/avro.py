"""Avro's single-object encoding: a reader knows the schema by its fingerprint.

Layout: C3 01, the 8-byte little-endian CRC-64-AVRO fingerprint of the schema's parsing canonical form, the body.
"""

import io
from collections.abc import Iterable, Mapping
from typing import Any, Final

from fastavro import parse_schema, schemaless_reader, schemaless_writer
from fastavro.schema import fingerprint as avro_fingerprint
from fastavro.schema import to_parsing_canonical_form

from schemas.bar import BAR
from schemas.event import EVENT
from schemas.late import LATE
from schemas.records import Record
from schemas.reject import REJECT
from schemas.stat import STAT

MAGIC: Final = b"\xc3\x01"
HEADER_BYTES: Final = len(MAGIC) + 8

RECORDS: Final = (EVENT, BAR, STAT, LATE, REJECT)
"""Every record that can be decoded."""


class UnknownSchemaError(ValueError):
    """The bytes are no single-object encoding, or of a schema that this code does not know."""


def fingerprint(schema: Any) -> bytes:
    """The 8 little-endian bytes of the CRC-64-AVRO fingerprint of an Avro schema.

    >>> fingerprint("int").hex()
    '8f5c393f1ad57572'
    """
    return bytes.fromhex(avro_fingerprint(to_parsing_canonical_form(schema), "CRC-64-AVRO"))


_PARSED: Final = {record.name: parse_schema(record.avro) for record in RECORDS}
_HEADERS: Final = {record.name: MAGIC + fingerprint(record.avro) for record in RECORDS}
_BY_HEADER: Final = {_HEADERS[record.name]: record for record in RECORDS}


def encode(record: Record, rows: Iterable[Mapping[str, Any]]) -> list[bytes]:
    """One message per row; times are aware datetimes or integers of microseconds since the epoch."""
    schema, header = _PARSED[record.name], _HEADERS[record.name]
    messages = []
    for row in rows:
        body = io.BytesIO()
        body.write(header)
        schemaless_writer(body, schema, row)
        messages.append(body.getvalue())
    return messages


def is_single_object(data: bytes) -> bool:
    """Whether the bytes begin like Avro's single-object encoding."""
    return len(data) >= HEADER_BYTES and data.startswith(MAGIC)


def decode(data: bytes) -> tuple[Record, dict[str, Any]]:
    """The record kind and the row; UnknownSchemaError, or EOFError when the body is cut short."""
    if not is_single_object(data):
        raise UnknownSchemaError(
            f"not Avro single-object encoding: begins with {data[:HEADER_BYTES].hex() or 'nothing'}"
        )
    record = _BY_HEADER.get(data[:HEADER_BYTES])
    if record is None:
        known = ", ".join(f"{r.name} v{r.version} {_HEADERS[r.name][2:].hex()}" for r in RECORDS)
        raise UnknownSchemaError(
            f"unknown schema fingerprint {data[2:HEADER_BYTES].hex()}; known: {known}. "
            "A newer producer? Update this package."
        )
    row = schemaless_reader(io.BytesIO(data[HEADER_BYTES:]), _PARSED[record.name], None)
    return record, dict(row)  # type: ignore[arg-type]
