"""Records: every field is documented, nulls are refused, files keep the type."""

import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.avro import RECORDS
from schemas.bar import BAR
from schemas.event import EVENT
from schemas.late import LATE
from schemas.records import TIMESTAMP, US_EPOCH, Field, Record
from schemas.stat import STAT

BY_NAME = pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.name)


@BY_NAME
def test_every_field_says_meaning_unit_null_and_origin(record: Record) -> None:
    for field in record.fields:
        assert all((field.meaning, field.unit, field.origin)), field.name
        assert (field.unit == US_EPOCH) == (field.type == TIMESTAMP), field.name


@BY_NAME
def test_a_step_that_is_an_origin_is_one_of_the_graph(record: Record) -> None:
    steps = {"decode", "check", "late", "cell", "windows"}
    assert {step for field in record.fields for step in re.findall(r"(\w+) step", field.origin)} <= steps


def test_what_check_makes_is_not_said_to_be_the_cells() -> None:
    """The rows that leave the check have identities and lags already; copies and versions come later."""
    origins = {(record.name, field.name): field.origin for record in RECORDS for field in record.fields}
    assert origins["Event", "identity"] == "check step"
    assert "cell" not in origins["Late", "lag_us"] + origins["Late", "missed_bar_start"]
    assert origins["Late", "reason"].startswith("late step")
    for record in ("Bar", "Stat"):
        assert "cell step" in origins[record, "version"]


def test_no_name_promises_what_a_window_does_not_know() -> None:
    """No top of book is rebuilt, no bar knows whether it is complete, and `late` is the dataset of what is left out."""
    names = {field.name for record in (BAR, STAT) for field in record.fields}
    assert not names & {"status", "best_bid", "best_ask", "spread", "depth_imbalance", "bid_volume", "ask_volume"}
    assert not [name for name in names if "late" in name.split("_")]


@BY_NAME
def test_name_and_version_are_in_both_schemas(record: Record) -> None:
    assert record.arrow.metadata == {
        b"horizon.record": record.name.encode(),
        b"horizon.version": str(record.version).encode(),
    }
    assert record.avro["namespace"] == f"cipherhorizon.marketdata.v{record.version}"


@BY_NAME
def test_parquet_gives_the_very_same_schema_and_rows_back(
    record: Record, rows: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    table = record.table_from_rows([rows[record.name]])
    pq.write_table(table, tmp_path / "x.parquet")
    again = pq.read_table(tmp_path / "x.parquet")
    assert again.schema.equals(record.arrow, check_metadata=True)
    assert record.rows(again) == [rows[record.name]]


def test_table_takes_columns_in_any_order(rows: dict[str, dict[str, Any]]) -> None:
    columns = {name: [value] for name, value in reversed(rows["Bar"].items())}
    assert BAR.table(columns).equals(BAR.table_from_rows([rows["Bar"]]))


def test_null_where_none_may_be_is_refused(rows: dict[str, dict[str, Any]]) -> None:
    with pytest.raises(ValueError, match=r"Bar\.trade_count must not be null"):
        BAR.table_from_rows([{**rows["Bar"], "trade_count": None}])
    with pytest.raises(ValueError, match=r"Bar\.volume must not be null"):
        BAR.table({name: [None if name == "volume" else value] for name, value in rows["Bar"].items()})


def test_missing_and_unknown_columns_are_named(rows: dict[str, dict[str, Any]]) -> None:
    with pytest.raises(KeyError, match="closing"):
        BAR.table_from_rows([{**rows["Bar"], "closing": 1}])
    with pytest.raises(KeyError, match="missing in or unknown to Bar v3"):
        BAR.table({"open": []})


def test_late_is_an_event_without_copies() -> None:
    assert [f for f in EVENT.fields if f.name != "copies"] == list(LATE.fields[:-3])


def test_type_without_avro_form_is_refused() -> None:
    record = Record("Odd", 1, "x", (Field("f", pa.float32(), "m", "u", "o"),))
    with pytest.raises(TypeError, match="field f: no Avro form"):
        _ = record.avro
