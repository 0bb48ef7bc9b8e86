"""For which windows a replay can be held against a live run: those whose records it read all.

The clock of a partition, the newest log time in it so far, never goes back. A record of a window lies where that clock
is at least the window's start - 5 s, for no event is dated further ahead of its log time, and at most its end +
horizon, for else it is late. So where a replay begins within the log, a window must begin later than the clock there by
5 s; and where the live run read on behind its end, the clock there must have passed the window's end by the horizon,
and by the slack, within which the last revision is in the live run's files. Where it did not read on, nothing more can
come: there a window need only be in a file, which is written when the clock of the slowest partition has passed its
minute. Whether it did read on is seen in its files, for each of its records is in an event, late or a reject, or in a
bar's or a stat's lineage.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.market_data_pb2 import MarketDataEvent
from schemas.units import US_PER_S
from transforms.cell_config import SETTLED_US
from transforms.exact import Ints, Mask
from transforms.faults import Limits
from transforms.read_offsets import Manifest, Stretch
from transforms.roll_up import is_stat
from transforms.sessions import SessionTimes
from transforms.window_kinds import FILE_S

_MINUTE_US: Final = FILE_S * US_PER_S
PLACES: Final = ("partition", "offset", "log_time", "copies", "lineage")
"""The columns, where a dataset has them, that say what the live run read."""


@dataclass(frozen=True)
class Span:
    """What can be compared. Times in microseconds since the Unix epoch."""

    after_us: int | None  # windows must begin later; None: the replay begins where the log does
    clock_us: int  # that of the slowest partition where the replay ends; of those in which the live run read on, if any
    settled_us: int | None  # nothing can come any more for what ended by then; None: nothing comes at all
    filed_us: int  # so long after a minute's end its bars and stats are in a file

    @property
    def until_us(self) -> int:
        """Windows must end by then; sessions earlier."""
        minute_us = (self.clock_us - self.filed_us) // _MINUTE_US * _MINUTE_US
        return minute_us if self.settled_us is None else min(minute_us, self.settled_us)

    def windows(self, start_us: Ints, end_us: Ints) -> Mask:
        """Which windows hold only what the replay read, and are in a file."""
        return self._begun(start_us) & (end_us <= self.until_us)

    def sessions(self, start_us: Ints, end_us: Ints, times: SessionTimes) -> Mask:
        """Which sessions lie in it together with the silences around them, and are published."""
        # what begins where the log does has nothing before it
        before_us = times.gap_s * US_PER_S if self.after_us is not None else 0
        return self._begun(start_us - before_us) & (end_us + times.published_us <= self.clock_us)

    def events(self, time_us: Ints) -> Mask:
        """Of which events the replay read all copies: they lie in one event second."""
        start_us = time_us // US_PER_S * US_PER_S
        inside = self._begun(start_us)
        return inside if self.settled_us is None else inside & (start_us + US_PER_S <= self.settled_us)

    def _begun(self, start_us: Ints) -> Mask:
        return np.ones(len(start_us), np.bool_) if self.after_us is None else start_us > self.after_us


def span_of(live: Iterable[pa.Table], manifest: Manifest, grace_us: int, settled_us: int) -> Span:
    """What a manifest covers; `live` are the PLACES of all that the live run wrote, settled_us horizon + slack."""
    after_us = manifest.oldest_log_time_us + Limits.max_ahead_us if manifest.oldest_log_time_us else None
    ends = {stretch.partition: stretch for stretch in manifest.stretches}
    clocks: dict[int, int] = {}
    read_on: set[int] = set()
    for table in live:
        for partition, offset, time_us in _places(table):
            for one in np.unique(partition).tolist():
                rows = partition == one
                inside = rows & (offset < ends[one].stop) if one in ends else np.zeros(len(rows), np.bool_)
                read_on |= {one} if (rows & ~inside).any() else set()
                if time_us is not None and inside.any():
                    clocks[one] = max(clocks.get(one, 0), int(time_us[inside].max()))
    slowest = [_clock(ends.get(one), clocks.get(one, 0)) for one in read_on]
    slowest = slowest or [stretch.clock_us for stretch in manifest.stretches if stretch.clock_us]
    clock_us = min(slowest, default=manifest.newest_log_time_us)
    return Span(after_us, clock_us, clock_us - settled_us if read_on else None, grace_us + SETTLED_US)


def _clock(stretch: Stretch | None, written_us: int) -> int:
    """Of a partition where a stretch ends; a manifest that does not say it leaves what was written of the stretch."""
    return written_us if stretch is None or stretch.clock_us is None else stretch.clock_us


def _places(table: pa.Table) -> Iterator[tuple[Ints, Ints, Ints | None]]:
    """Partitions, offsets and log times, where they are known, of the records that rows name."""
    if "offset" in table.column_names:
        time_us = table["log_time"].cast(pa.int64()).to_numpy()
        yield table["partition"].to_numpy(), table["offset"].to_numpy(), time_us
    for name, last in (("copies", "offset"), ("lineage", "last_offset")):
        if name in table.column_names:
            records = pc.list_flatten(table[name])
            partition, offset = (pc.struct_field(records, field).to_numpy() for field in ("partition", last))
            yield partition, offset, None


def covered(table: pa.Table, span: Span, manifest: Manifest, sessions: SessionTimes | None) -> Mask:
    """Which rows of a dataset can be compared."""
    if "window_start" in table.column_names:
        start_us, end_us = (table[name].cast(pa.int64()).to_numpy() for name in ("window_start", "window_end"))
        inside = span.windows(start_us, end_us)
        if is_stat(table) and sessions is not None:
            of_sessions = pc.equal(table["kind"], "session").to_numpy()
            inside = np.where(of_sessions, span.sessions(start_us, end_us, sessions), inside)
        return inside
    partition, offset = table["partition"].to_numpy(), table["offset"].to_numpy()
    inside = np.zeros(len(table), np.bool_)
    for stretch in manifest.stretches:
        inside |= (partition == stretch.partition) & (offset >= stretch.start) & (offset < stretch.stop)
    if "copies" in table.column_names:
        return inside & span.events(table["event_time"].cast(pa.int64()).to_numpy())
    if "step" in table.column_names:
        conflicts = np.flatnonzero(pc.equal(table["reason"], "identity_conflict").to_numpy() & inside)
        inside[conflicts] = span.events(_times_us(table.take(pa.array(conflicts))))
    return inside


def _times_us(conflicts: pa.Table) -> Ints:
    """Event times of rejects that are events: which of them are refused depends on all records of their second."""
    values: list[Any] = conflicts["value"].to_pylist()
    return np.array([MarketDataEvent.FromString(value).timestamp for value in values], np.int64)
