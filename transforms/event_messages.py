"""Unique events as messages: as they were sent, ids of headers in them; a key tells apart what the job tells apart."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from schemas.units import US_PER_S
from transforms.batches import EventBatch
from transforms.dedup import DECIDED
from transforms.identity import shards_of

Message = tuple[bytes, bytes, int]  # value, key, partition; a tuple, for one is made for each event
Headers = list[tuple[str, str | bytes | None]]  # as the producer takes them

VERSION_HEADER: Final = "horizon-version"  # of a unique event; 1 without it
_DECIDED: Final[Headers] = [(VERSION_HEADER, b"2")]
_KEY: Final = np.dtype([("hi", "<u8"), ("lo", "<u8"), ("second", "<i8")])


def event_messages(batch: EventBatch, partitions: int) -> tuple[list[Message]] | tuple[list[Message], Headers]:
    """A message for each event of a batch, in its order, and the headers of each where it has any.

    The key is the identity and the event second, for the same identity in another second is another event. All events
    of an instrument are in one partition. The event that stays of a conflict is version 2: whichever of its records
    was read first went out as version 1, and in a run before a crash that may have been another one.
    """
    rows = batch.rows
    homes = shards_of(batch.instruments, partitions)[rows["instrument"]].tolist()
    keys = np.empty(len(rows), _KEY)
    keys["hi"], keys["lo"] = rows["identity_hi"], rows["identity_lo"]
    keys["second"] = rows["event_time_us"] // US_PER_S
    values = batch.values.to_numpy(zero_copy_only=False).tolist()
    messages = list(zip(values, keys.view(f"V{_KEY.itemsize}").tolist(), homes, strict=True))
    return (messages, _DECIDED) if rows["verdict"][0] == DECIDED else (messages,)


def version_of(headers: Sequence[tuple[str, bytes | None]] | None) -> int:
    """Version of a unique event's message: of those with one key the highest counts (schemas/newest.py)."""
    return next((int(value) for name, value in headers or () if name == VERSION_HEADER and value), 1)
