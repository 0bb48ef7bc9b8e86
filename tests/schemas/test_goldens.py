"""Schemas and encoded examples against the goldens; HORIZON_WRITE_GOLDENS=1 writes those that do not exist yet."""

import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from google.protobuf import text_format
from google.protobuf.descriptor_pb2 import FileDescriptorProto

from schemas import market_data_pb2
from schemas.avro import RECORDS, encode
from schemas.records import Record
from tests.schemas.compatibility import Shape, arrow_shape, avro_shape, unsafe_changes, unsafe_proto_changes

GOLDEN = Path(__file__).parents[1] / "golden" / "schemas"
UNBROKEN_SINCE = {"Bar": 3, "Stat": 3}  # nothing is released: versions 2 and 3 broke with those before (CHANGELOG)
BY_NAME = pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.name)


def golden(name: str, current: str) -> str:
    """The golden's text; a golden is written once and never overwritten."""
    path = GOLDEN / name
    if not path.exists() and os.environ.get("HORIZON_WRITE_GOLDENS"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(current)
    return path.read_text()


def arrow_json(schema: pa.Schema) -> str:
    version = arrow_shape(schema).version
    fields = [{"name": f.name, "type": str(f.type), "nullable": f.nullable} for f in schema]
    return json.dumps({"version": version, "fields": fields}, indent=1) + "\n"


def shape_of_json(text: str) -> Shape:
    loaded = json.loads(text)
    return Shape(loaded["version"], {f["name"]: (f["type"], f["nullable"]) for f in loaded["fields"]})


def proto() -> FileDescriptorProto:
    current = FileDescriptorProto()
    market_data_pb2.DESCRIPTOR.CopyToProto(current)
    return current


@BY_NAME
def test_arrow_schema_of_this_version_is_its_golden(record: Record) -> None:
    current = arrow_json(record.arrow)
    assert golden(f"{record.name.lower()}.v{record.version}.arrow.json", current) == current


@BY_NAME
def test_avro_schema_of_this_version_is_its_golden(record: Record) -> None:
    text = golden(f"{record.name.lower()}.v{record.version}.avsc", json.dumps(record.avro, indent=1) + "\n")
    assert avro_shape(json.loads(text)) == avro_shape(record.avro)


@BY_NAME
def test_no_golden_version_is_broken_by_the_current_schema(record: Record) -> None:
    arrows = sorted(GOLDEN.glob(f"{record.name.lower()}.v*.arrow.json"))
    avros = sorted(GOLDEN.glob(f"{record.name.lower()}.v*.avsc"))
    assert len(arrows) == len(avros) == record.version
    since = UNBROKEN_SINCE.get(record.name, 1) - 1
    for path in arrows[since:]:
        assert unsafe_changes(shape_of_json(path.read_text()), arrow_shape(record.arrow)) == [], path.name
    for path in avros[since:]:
        assert unsafe_changes(avro_shape(json.loads(path.read_text())), avro_shape(record.avro)) == [], path.name


def test_proto_golden_is_not_broken_by_the_current_proto() -> None:
    text = golden("market_data.v1.proto.txt", text_format.MessageToString(proto()))
    assert unsafe_proto_changes(text_format.Parse(text, FileDescriptorProto()), proto()) == []


@BY_NAME
def test_encoded_example_is_its_golden(record: Record, rows: dict[str, dict[str, Any]]) -> None:
    (message,) = encode(record, [rows[record.name]])
    assert golden(f"{record.name.lower()}.v{record.version}.example.hex", message.hex() + "\n") == message.hex() + "\n"


def test_encoded_proto_example_is_its_golden() -> None:
    event = market_data_pb2.MarketDataEvent(
        exchange="coinbase",
        symbol="BAND-GBP",
        price=14.7775,
        volume=0.04,
        timestamp=1_618_677_810_244_075,
        event_type=market_data_pb2.TICKER,
        trade_id="881613",
        side=market_data_pb2.SELL,
        sequence=0,
        received_at=1_618_677_817_079_762,
        event_id="e1",
        source="capture",
    )
    text = event.SerializeToString(deterministic=True).hex() + "\n"
    assert golden("market_data.v1.example.hex", text) == text


def test_platform_fields_have_their_numbers_and_types() -> None:
    fields = market_data_pb2.MarketDataEvent.DESCRIPTOR.fields_by_name
    kinds = {name: (fields[name].number, fields[name].type) for name in list(fields)[:6]}
    string, double, int64, enum = 9, 1, 3, 14  # google.protobuf.FieldDescriptorProto.Type
    assert kinds == {
        "exchange": (1, string),
        "symbol": (2, string),
        "price": (3, double),
        "volume": (4, double),
        "timestamp": (5, int64),
        "event_type": (6, enum),
    }
    assert dict(market_data_pb2.EventType.items()) == {"TRADE": 0, "ORDER_BOOK": 1, "TICKER": 2}
