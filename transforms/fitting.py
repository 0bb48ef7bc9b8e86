"""What of a reject goes to its topic: all of it where that fits, and else without its largest parts, as many as it
takes. They are whole in the files, and the detail says what is left out."""

from typing import Any, Final

from schemas import avro
from schemas.reject import REJECT

MAX_REJECT_BYTES: Final = 2_000_000
"""Of value, key and headers together; runners/topics.toml gives md.rejects twice the room."""


def fitting(row: dict[str, Any]) -> dict[str, Any]:
    """The row of a reject with no more than MAX_REJECT_BYTES of it."""
    while sum(_sizes(row).values()) > MAX_REJECT_BYTES:
        row = _without_largest(row)
    return row


def smaller(message: bytes) -> bytes:
    """The Avro message of a reject without its largest part. ValueError when there is nothing left to leave out."""
    _, row = avro.decode(message)
    if not any(_sizes(row).values()):
        raise ValueError(
            f"the topic of rejects takes no {len(message)} bytes, though value, key and headers are left out; "
            "raise its max.message.bytes (runners/topics.toml has 4,000,000)"
        )
    return avro.encode(REJECT, [_without_largest(row)])[0]


def _without_largest(row: dict[str, Any]) -> dict[str, Any]:
    sizes = _sizes(row)
    largest = max(sizes, key=lambda name: sizes[name])
    detail = f"{largest} of {sizes[largest]} bytes in the files alone; {row['detail']}"
    return row | {largest: [] if largest == "headers" else None, "detail": detail}


def _sizes(row: dict[str, Any]) -> dict[str, int]:
    """Of headers at least what Avro takes: a length before each name and value, and whether there is one."""
    headers = sum(len(one["key"].encode()) + len(one["value"] or b"") + 11 for one in row["headers"])
    return {"value": len(row["value"] or b""), "key": len(row["key"] or b""), "headers": headers}
