"""What a cell makes of the records it holds, as pure functions: everything follows from the set of them.

A record is final when the log's clock has passed the clock at which it lies: nothing that comes later lies before it,
so its verdict (dedup.py) cannot change. Final records are folded once into the cell's accumulators; those that are not
are folded anew each time something goes out, for a record that lies before them may still come.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas.event import TRADE
from schemas.units import US_PER_S
from transforms import dedup, seconds
from transforms.bar_columns import bar_batch
from transforms.batches import EventBatch, Instrument, Rows, joined, narrowed, pack_rows, unpack_rows
from transforms.exact import Words
from transforms.seconds import Seconds
from transforms.stat_columns import stat_batch

WINDOW_S: Final = 10  # of a cell and its file of events, in event time
WHOLE: Final = WINDOW_S  # the slot of the whole window; those of its seconds are 0 to WINDOW_S - 1

_PUBLISHED = np.dtype([("instrument", "<u4"), ("kind", "<i4"), ("slot", "<i4"), ("version", "<i8")])


@dataclass(frozen=True)
class Judged:
    """Records of a cell in the order of the log, each with its verdict; the first `final` of them are final."""

    batch: EventBatch
    on_arrival: npt.NDArray[np.uint32]  # the verdicts when they were read
    final: int

    def parted(self) -> tuple[EventBatch | None, EventBatch | None]:
        """The final ones and the others; None without any. The others get back the verdicts of their arrival."""
        final, rest = np.split(np.arange(len(self.batch)), [self.final])
        others = self.batch.take(rest) if len(rest) else None
        if others is not None:
            others.rows["verdict"] = self.on_arrival[rest]
        return self.batch.take(final) if len(final) else None, others

    def chosen(self, mask: npt.NDArray[np.bool_]) -> EventBatch | None:
        """The final records for which this holds; None without any."""
        found = np.flatnonzero(mask[: self.final])
        return self.batch.take(found) if len(found) else None


def judge(batch: EventBatch, kept: Sequence[Words], clock_us: int | None) -> Judged:
    """Judge records by the log alone; `kept` are seen_rows of those that were final before. clock_us None: all are."""
    batch = batch.take(dedup.log_order(batch.rows))
    on_arrival = batch.rows["verdict"].copy()
    batch.rows["verdict"] = dedup.verdicts(batch.rows, kept)
    final = len(batch) if clock_us is None else int(np.searchsorted(batch.rows["clock_us"], clock_us))
    return Judged(batch, on_arrival, final)


def second_rows(pieces: Sequence[tuple[list[Instrument], Rows]], second: int) -> tuple[list[Instrument], Rows]:
    """The rows of one event second (s since the epoch), in the order of the log."""
    instruments, rows = joined(pieces)
    rows = rows[rows["event_time_us"] // US_PER_S == second]
    return instruments, rows[dedup.log_order(rows)]


def seconds_of(rows: Rows) -> list[int]:
    """The event seconds that rows are of, in s since the epoch, ascending."""
    found: list[int] = np.unique(rows["event_time_us"] // US_PER_S).tolist()
    return found


def pack_seconds(folded: Mapping[int, Seconds]) -> bytes:
    """Accumulators by second, as bytes."""
    parts = [(second, known.to_bytes()) for second, known in sorted(folded.items()) if len(known.rows)]
    return b"".join(struct.pack("<qI", second, len(data)) + data for second, data in parts)


def unpack_seconds(data: bytes) -> dict[int, Seconds]:
    """The inverse of pack_seconds."""
    found, at = {}, 0
    while at < len(data):
        second, size = struct.unpack_from("<qI", data, at)
        at += 12 + size
        found[second] = Seconds.from_bytes(data[at - size : at])
    return found


def versions_out(chunks: Sequence[bytes], slot: int) -> dict[tuple[Any, ...], int]:
    """(kind, exchange, symbol) -> the highest version of that slot that went out."""
    found: dict[tuple[Any, ...], int] = {}
    for chunk in chunks:
        instruments, rows = unpack_rows(chunk, _PUBLISHED)
        for code, kind, of_slot, version in rows.tolist():
            if of_slot == slot:
                name = (kind, *instruments[code])
                found[name] = max(version, found.get(name, 0))
    return found


def grown(folded: Seconds, out: Mapping[tuple[Any, ...], int]) -> npt.NDArray[np.intp]:
    """The accumulators (indices into folded.rows) of a higher version than went out."""
    versions = seconds.version(folded.rows)
    if not out:
        return np.flatnonzero(versions)
    names = zip(folded.rows["kind"].tolist(), folded.rows["instrument"].tolist(), strict=True)
    before = np.array([out.get((kind, *folded.instruments[code]), 0) for kind, code in names], np.int64)
    return np.flatnonzero(versions > before)


def pack_versions(folded: Seconds, chosen: npt.NDArray[np.intp], slot: int) -> bytes:
    """What versions_out reads, of accumulators that go out now."""
    rows = np.empty(len(chosen), _PUBLISHED)
    for name in ("instrument", "kind"):
        rows[name] = folded.rows[name][chosen]
    rows["slot"], rows["version"] = slot, seconds.version(folded.rows)[chosen]
    return pack_rows(*narrowed(folded.instruments, rows))


def records(
    start_s: int, folded: Seconds, chosen: npt.NDArray[np.intp], interval_s: int
) -> Iterator[tuple[str, pa.RecordBatch]]:
    """The chosen accumulators as BAR records ("bars") and STAT records ("stats")."""
    is_trade = folded.rows["kind"][chosen] == TRADE
    if is_trade.any():
        yield "bars", bar_batch(start_s, folded, chosen[is_trade], interval_s)
    if not is_trade.all():
        yield "stats", stat_batch(start_s, folded, chosen[~is_trade], interval_s)
