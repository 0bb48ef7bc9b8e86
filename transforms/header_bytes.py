"""Headers of a batch's records as bytes, in a block of the source and between steps: of each header its row, the
lengths of name and value (int32, little-endian, -1 for a value that is null), name (UTF-8) and value."""

import struct
from collections.abc import Mapping, Sequence
from typing import Final

Header = tuple[str, bytes | None]

_HEADER: Final = struct.Struct("<3i")


def pack_headers(headers: Mapping[int, Sequence[Header]]) -> bytes:
    """Row -> its headers, in their order; nothing when there are none."""
    parts = []
    for row, found in headers.items():
        for name, value in found:
            sent = name.encode()
            parts += [_HEADER.pack(row, len(sent), -1 if value is None else len(value)), sent, value or b""]
    return b"".join(parts)


def unpack_headers(data: memoryview, rows: int) -> dict[int, list[Header]]:
    """The inverse, for a batch of so many rows. ValueError for what it is not."""
    found: dict[int, list[Header]] = {}
    at = 0
    while at < len(data):
        row, name_bytes, value_bytes = _HEADER.unpack_from(data, at)
        name = at + _HEADER.size
        value = name + name_bytes
        at = value + max(value_bytes, 0)
        if not 0 <= row < rows or name_bytes < 0 or value_bytes < -1 or at > len(data):
            raise ValueError("a header that reaches beyond its block")
        header = str(data[name:value], "utf-8"), None if value_bytes < 0 else bytes(data[value:at])
        found.setdefault(row, []).append(header)
    return found
