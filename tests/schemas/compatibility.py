"""Which changes of a schema are unsafe for the readers and writers of another version.

Safe: a field appended that may be null, together with a new version (Arrow, Avro); a field with a number never used
before (Proto). Everything else is reported, one line each.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
)


@dataclass(frozen=True)
class Shape:
    """What counts of an Arrow or Avro schema: version and, in order, name → (type, nullable)."""

    version: str
    fields: Mapping[str, tuple[str, bool]]


def arrow_shape(schema: pa.Schema) -> Shape:
    """The shape of an Arrow schema made by schemas.records."""
    version = (schema.metadata or {}).get(b"horizon.version", b"").decode()
    return Shape(version, {field.name: (str(field.type), field.nullable) for field in schema})


def avro_shape(schema: Mapping[str, Any]) -> Shape:
    """The shape of an Avro record schema; docs do not count."""
    version = str(schema["namespace"]).rpartition(".v")[2]
    return Shape(version, {field["name"]: _avro_form(field["type"]) for field in schema["fields"]})


def unsafe_changes(old: Shape, new: Shape) -> list[str]:
    """What in `new` would break a reader or writer of `old`; empty when nothing would."""
    found = [f"field {name} was removed" for name in old.fields if name not in new.fields]
    for name, (kind, nullable) in new.fields.items():
        if name not in old.fields:
            if not nullable:
                found.append(f"field {name} was added and may not be null")
            if new.version == old.version:
                found.append(f"field {name} was added without a new version (still {new.version})")
            continue
        old_kind, old_nullable = old.fields[name]
        if kind != old_kind:
            found.append(f"field {name} changed its type from {old_kind} to {kind}")
        if nullable != old_nullable:
            found.append(f"field {name} changed from {_null_rule(old_nullable)} to {_null_rule(nullable)}")
    kept = [name for name in old.fields if name in new.fields]
    if kept != [name for name in new.fields if name in old.fields] or list(new.fields)[: len(kept)] != kept:
        found.append("fields changed their order: records are built positionally, so append only")
    return found


def unsafe_proto_changes(old: FileDescriptorProto, new: FileDescriptorProto) -> list[str]:
    """What in `new` would break a reader or writer of the proto file `old`; empty when nothing would."""
    found = [] if old.package == new.package else [f"package changed from {old.package} to {new.package}"]
    messages = {message.name: message for message in new.message_type}
    for message in old.message_type:
        if message.name in messages:
            found += _unsafe_fields(message, messages[message.name])
        else:
            found.append(f"message {message.name} was removed")
    enums = {enum.name: enum for enum in new.enum_type}
    for enum in old.enum_type:
        if enum.name in enums:
            found += _unsafe_values(enum, enums[enum.name])
        else:
            found.append(f"enum {enum.name} was removed")
    return found


def _unsafe_fields(old: DescriptorProto, new: DescriptorProto) -> Iterable[str]:
    by_number = {field.number: field for field in new.field}
    for field in old.field:
        where = f"{old.name}.{field.name}"
        after = by_number.get(field.number)
        if after is None:
            yield f"field {where} = {field.number} was removed"
        elif after.name != field.name:
            yield f"number {field.number} of {where} was reused for {after.name}"
        elif _proto_kind(after) != _proto_kind(field):
            yield f"field {where} changed its type from {_proto_kind(field)} to {_proto_kind(after)}"


def _unsafe_values(old: EnumDescriptorProto, new: EnumDescriptorProto) -> Iterable[str]:
    by_number = {value.number: value.name for value in new.value}
    for value in old.value:
        after = by_number.get(value.number)
        if after is None:
            yield f"value {old.name}.{value.name} = {value.number} was removed"
        elif after != value.name:
            yield f"number {value.number} of {old.name}.{value.name} was reused for {after}"


def _proto_kind(field: FieldDescriptorProto) -> str:
    """Type, label and presence of a field as one text."""
    kind = FieldDescriptorProto.Type.Name(field.type) + field.type_name
    presence = " optional" if field.proto3_optional else ""
    return f"{FieldDescriptorProto.Label.Name(field.label)} {kind}{presence}"


def _avro_form(kind: Any) -> tuple[str, bool]:
    """(canonical text without docs, nullable) of an Avro field's type."""
    nullable = isinstance(kind, list) and "null" in kind
    if isinstance(kind, list) and nullable and len(kind) == 2:
        kind = next(branch for branch in kind if branch != "null")
    return json.dumps(_without_docs(kind), sort_keys=True), nullable


def _without_docs(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _without_docs(value) for key, value in node.items() if key != "doc"}
    return [_without_docs(item) for item in node] if isinstance(node, list) else node


def _null_rule(nullable: bool) -> str:
    return "nullable" if nullable else "never null"
