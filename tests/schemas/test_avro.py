"""Single-object encoding: fingerprints of the specification, round trips, clear errors."""

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from fastavro import parse_schema
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.avro import MAGIC, RECORDS, UnknownSchemaError, decode, encode, fingerprint, is_single_object
from schemas.bar import BAR
from schemas.records import Record
from schemas.reject import REJECT

BY_NAME = pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.name)


@pytest.mark.parametrize(
    ("schema", "rabin"),
    [("null", 0x63DD24E7CC258F8A), ("int", 0x7275D51A3F395C8F), ("string", 0x8F014872634503C7)],
)
def test_fingerprint_is_that_of_the_specification(schema: str, rabin: int) -> None:
    assert fingerprint(schema) == rabin.to_bytes(8, "little")


@BY_NAME
def test_encode_then_decode_gives_the_row_back(record: Record, rows: dict[str, dict[str, Any]]) -> None:
    (message,) = encode(record, [rows[record.name]])
    assert message.startswith(MAGIC + fingerprint(record.avro))
    assert decode(message) == (record, rows[record.name])


@BY_NAME
def test_arrow_rows_encode_like_plain_rows(record: Record, rows: dict[str, dict[str, Any]]) -> None:
    table = record.table_from_rows([rows[record.name]] * 3)
    assert encode(record, record.rows(table)) == encode(record, [rows[record.name]] * 3)
    (batch,) = table.combine_chunks().to_batches()
    assert encode(record, record.plain_rows(batch.slice(1))) == encode(record, [rows[record.name]] * 2)


@BY_NAME
def test_avro_schema_is_valid(record: Record) -> None:
    parse_schema(record.avro)


def test_fingerprints_differ_between_records_and_versions() -> None:
    prints = {fingerprint(record.avro) for record in (*RECORDS, replace(BAR, version=BAR.version + 1))}
    assert len(prints) == len(RECORDS) + 1


def test_times_may_be_microseconds(rows: dict[str, dict[str, Any]]) -> None:
    row = rows["Bar"]
    as_us = {
        name: int((value - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1_000_000)
        if isinstance(value, datetime)
        else value
        for name, value in row.items()
    }
    assert encode(BAR, [as_us]) == encode(BAR, [row])


@given(st.binary(max_size=200), st.one_of(st.none(), st.binary(max_size=50)))
def test_reject_keeps_any_bytes(value: bytes, key: bytes | None) -> None:
    row = {
        "topic": "t",
        "partition": 0,
        "offset": 0,
        "log_time": datetime(2021, 1, 1, tzinfo=UTC),
        "key": key,
        "value": value,
        "headers": [{"key": "h", "value": value}],
        "step": "decode",
        "reason": "undecodable",
        "detail": "",
        "code_version": "0",
    }
    assert decode(encode(REJECT, [row])[0]) == (REJECT, row)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.integers(min_value=-(10**76) + 1, max_value=10**76 - 1))
def test_bar_keeps_any_volume(rows: dict[str, dict[str, Any]], steps: int) -> None:
    volume = Decimal((int(steps < 0), tuple(int(d) for d in str(abs(steps))), -18))
    assert decode(encode(BAR, [{**rows["Bar"], "volume": volume}])[0])[1]["volume"] == volume


def test_unknown_fingerprint_says_which_and_what_is_known() -> None:
    stranger = MAGIC + fingerprint("int") + b"\x02"
    with pytest.raises(UnknownSchemaError, match=r"unknown schema fingerprint 8f5c393f1ad57572; known: Event v1 "):
        decode(stranger)


@pytest.mark.parametrize("data", [b"", b"\xc3", b"{}", b"\xc3\x02" + bytes(8)])
def test_other_bytes_are_no_single_object(data: bytes) -> None:
    assert not is_single_object(data)
    with pytest.raises(UnknownSchemaError, match="not Avro single-object encoding"):
        decode(data)


def test_truncated_body_is_an_error(rows: dict[str, dict[str, Any]]) -> None:
    (message,) = encode(BAR, [rows["Bar"]])
    with pytest.raises(EOFError):
        decode(message[:-1])


def test_row_without_a_field_is_an_error(rows: dict[str, dict[str, Any]]) -> None:
    row = {name: value for name, value in rows["Bar"].items() if name != "volume"}
    with pytest.raises((KeyError, TypeError, ValueError)):
        encode(BAR, [row])
