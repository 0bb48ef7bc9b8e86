"""Laws: each unsafe change is named, each safe one passes. The goldens' test rests on this."""

from collections.abc import Callable
from dataclasses import replace

import pyarrow as pa
import pytest
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto

from schemas import market_data_pb2
from schemas.bar import BAR
from schemas.records import Field, Record
from tests.schemas.compatibility import arrow_shape, avro_shape, unsafe_changes, unsafe_proto_changes

NOTE = Field("note", pa.utf8(), "a remark", "-", "test", null="none")


def changes(new: Record) -> list[str]:
    """Unsafe changes from BAR to `new`; Arrow and Avro must agree."""
    arrow = unsafe_changes(arrow_shape(BAR.arrow), arrow_shape(new.arrow))
    avro = unsafe_changes(avro_shape(BAR.avro), avro_shape(new.avro))
    assert len(arrow) == len(avro)
    return arrow


def with_field(name: str, change: Callable[[Field], Field]) -> Record:
    return replace(BAR, version=BAR.version + 1, fields=tuple(change(f) if f.name == name else f for f in BAR.fields))


def test_no_change_is_safe() -> None:
    assert changes(BAR) == []


def test_nullable_field_appended_with_new_version_is_safe() -> None:
    assert changes(replace(BAR, version=BAR.version + 1, fields=(*BAR.fields, NOTE))) == []


def test_nullable_field_without_new_version_is_unsafe() -> None:
    assert changes(replace(BAR, fields=(*BAR.fields, NOTE))) == ["field note was added without a new version (still 3)"]


def test_required_field_added_is_unsafe() -> None:
    required = replace(NOTE, null=None)
    found = changes(replace(BAR, version=BAR.version + 1, fields=(*BAR.fields, required)))
    assert found == ["field note was added and may not be null"]


def test_field_removed_is_unsafe() -> None:
    found = changes(replace(BAR, version=BAR.version + 1, fields=BAR.fields[:-1]))
    assert found == ["field identity_digest was removed"]


def test_type_changed_is_unsafe() -> None:
    found = changes(with_field("trade_count", lambda f: replace(f, type=pa.int32())))
    assert found == ["field trade_count changed its type from int64 to int32"]


def test_decimal_scale_changed_is_unsafe() -> None:
    assert len(changes(with_field("volume", lambda f: replace(f, type=pa.decimal256(76, 17))))) == 1


def test_nested_type_changed_is_unsafe() -> None:
    narrow = pa.list_(pa.field("element", pa.struct([pa.field("partition", pa.int32(), nullable=False)])))
    assert len(changes(with_field("lineage", lambda f: replace(f, type=narrow)))) == 1


def test_nullability_changed_is_unsafe() -> None:
    assert changes(with_field("vwap", lambda f: replace(f, null=None))) == [
        "field vwap changed from nullable to never null"
    ]


def test_field_inserted_or_moved_is_unsafe() -> None:
    order = "fields changed their order: records are built positionally, so append only"
    assert changes(replace(BAR, version=BAR.version + 1, fields=(NOTE, *BAR.fields))) == [order]
    assert changes(replace(BAR, version=BAR.version + 1, fields=BAR.fields[::-1])) == [order]


def test_doc_changed_is_safe() -> None:
    assert changes(with_field("open", lambda f: replace(f, meaning="another text"))) == []


def proto() -> FileDescriptorProto:
    current = FileDescriptorProto()
    market_data_pb2.DESCRIPTOR.CopyToProto(current)
    return current


def _add_field(new: FileDescriptorProto) -> None:
    new.message_type[0].field.add(name="extra", number=13, type=FieldDescriptorProto.TYPE_STRING, label=1)


def _add_value(new: FileDescriptorProto) -> None:
    new.enum_type[0].value.add(name="FUNDING", number=3)


@pytest.mark.parametrize("change", [_add_field, _add_value])
def test_proto_addition_is_safe(change: Callable[[FileDescriptorProto], None]) -> None:
    new = proto()
    change(new)
    assert unsafe_proto_changes(proto(), new) == []


def _reuse_number(new: FileDescriptorProto) -> None:
    new.message_type[0].field[3].name = "quantity"


def _retype(new: FileDescriptorProto) -> None:
    new.message_type[0].field[2].type = FieldDescriptorProto.TYPE_FLOAT


def _drop_presence(new: FileDescriptorProto) -> None:
    new.message_type[0].field[8].proto3_optional = False


def _renumber(new: FileDescriptorProto) -> None:
    new.message_type[0].field[6].number = 20


def _remove_field(new: FileDescriptorProto) -> None:
    del new.message_type[0].field[11]


def _remove_message(new: FileDescriptorProto) -> None:
    del new.message_type[0]


def _reuse_value(new: FileDescriptorProto) -> None:
    new.enum_type[0].value[1].name = "QUOTE"


def _remove_value(new: FileDescriptorProto) -> None:
    del new.enum_type[1].value[2]


def _remove_enum(new: FileDescriptorProto) -> None:
    del new.enum_type[1]


def _repackage(new: FileDescriptorProto) -> None:
    new.package = "other.v1"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_reuse_number, "number 4 of MarketDataEvent.volume was reused for quantity"),
        (
            _retype,
            "field MarketDataEvent.price changed its type from LABEL_OPTIONAL TYPE_DOUBLE to LABEL_OPTIONAL TYPE_FLOAT",
        ),
        (
            _drop_presence,
            "field MarketDataEvent.sequence changed its type from "
            "LABEL_OPTIONAL TYPE_INT64 optional to LABEL_OPTIONAL TYPE_INT64",
        ),
        (_renumber, "field MarketDataEvent.trade_id = 7 was removed"),
        (_remove_field, "field MarketDataEvent.source = 12 was removed"),
        (_remove_message, "message MarketDataEvent was removed"),
        (_reuse_value, "number 1 of EventType.ORDER_BOOK was reused for QUOTE"),
        (_remove_value, "value Side.SELL = 2 was removed"),
        (_remove_enum, "enum Side was removed"),
        (_repackage, "package changed from cipherhorizon.marketdata.v1 to other.v1"),
    ],
)
def test_proto_change_is_unsafe(change: Callable[[FileDescriptorProto], None], message: str) -> None:
    new = proto()
    change(new)
    assert unsafe_proto_changes(proto(), new) == [message]
