"""For which windows a replay can be held against a live run: those whose records both have read, and both have filed.

The clock of a partition, the newest log time in it so far, never goes back. A record of a window lies where that clock
is at least the window's start - 5 s, for no event is dated further ahead of its log time, and at most its end +
horizon, for else it is late. So where a replay begins within the log, a window must begin later than the clock there by
5 s. At its end it must not hold a record that only one of the two has: one behind the end of the replay, or one so new
that it may still have been in the live run's state when that was stopped (runners/reach.py). Which windows those are is
seen in the files: each record of a window is a unique event, a copy of one, or a conflict. What ended longer before
than the horizon holds none of them, whatever the files say.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from google.protobuf.message import DecodeError

from runners.reach import NEVER_US, Reach
from schemas.market_data_pb2 import MarketDataEvent
from schemas.units import US_PER_S
from transforms.cell_config import SETTLED_US
from transforms.exact import Ints, Mask
from transforms.faults import Limits
from transforms.log_clock import plausible
from transforms.read_offsets import Manifest
from transforms.roll_up import is_stat
from transforms.sessions import SessionTimes
from transforms.window_state import REVISION_US

EVENT_PLACES: Final = ("event_time", "partition", "offset", "copies")
CONFLICT_PLACES: Final = ("partition", "offset", "reason", "value")
LOG_PLACES: Final = ("partition", "offset", "log_time")


@dataclass(frozen=True)
class Span:
    """What can be compared. Times in microseconds since the Unix epoch."""

    after_us: int | None  # windows must begin later; None: the replay begins where the log does
    until_us: int  # windows must end by then; sessions earlier
    due_us: int  # what was due by then is in the files of both
    places: dict[int, tuple[int, int]]  # partition -> offsets from, to before which all is in the files of both
    oldest_us: int  # a clock above it was set by a record that the replay read; 0: the replay begins where the log does

    def windows(self, start_us: Ints, end_us: Ints) -> Mask:
        """Which windows hold only what both have read and filed."""
        return self._begun(start_us) & (end_us <= self.until_us)

    def sessions(self, start_us: Ints, end_us: Ints, times: SessionTimes) -> Mask:
        """Which sessions lie in it together with the silences around them, and are published."""
        # what begins where the log does has nothing before it
        before_us = times.gap_s * US_PER_S if self.after_us is not None else 0
        return self._begun(start_us - before_us) & (end_us + times.published_us <= self.due_us)

    def events(self, time_us: Ints) -> Mask:
        """Of which events both have all copies: they lie in one event second."""
        start_us = _second_of(time_us)
        return self.windows(start_us, start_us + US_PER_S)

    def records(self, partition: Ints, offset: Ints) -> Mask:
        """Which records both have read and filed."""
        inside = np.zeros(len(partition), np.bool_)
        for one, (start, stop) in self.places.items():
            inside |= (partition == one) & (offset >= start) & (offset < stop)
        return inside

    def _begun(self, start_us: Ints) -> Mask:
        return np.ones(len(start_us), np.bool_) if self.after_us is None else start_us > self.after_us


def span_of(
    events: Iterable[pa.Table],
    rejects: Iterable[pa.Table],
    before: Iterable[pa.Table],
    manifest: Manifest,
    grace_us: int,
    horizon_us: int,
    reach: Reach | None = None,
) -> Span:
    """What can be compared of a live run and the replay of a manifest.

    `events` and `rejects`: the EVENT_PLACES and CONFLICT_PLACES of both; `before`: the LOG_PLACES of all that the live
    run wrote, for what retention took it alone has seen. `reach` is the live run's; None where it is known to have read
    and filed all that the manifest has.
    """
    known = [max(one.clock_us, 0) for one in manifest.stretches if one.clock_us is not None]
    clock_us = min(known, default=manifest.newest_log_time_us)
    due_us = clock_us - REVISION_US if reach is None else reach.due_us  # a minute's bars come with the next multiple
    stops = {one.partition: one.stop for one in manifest.stretches}
    if reach is not None:
        stops = {p: min(stop, reach.filed.get(p, 0)) for p, stop in stops.items()}
    open_us = min(
        min((_first_us(table, stops) for table in events), default=NEVER_US),
        min((_first_us(_conflicts(table), stops) for table in rejects), default=NEVER_US),
    )
    ended_us = min(clock_us, due_us) - horizon_us
    starts = {one.partition: one.start for one in manifest.stretches}
    oldest_us = max(manifest.oldest_log_time_us, *(_newest_before_us(table, starts) for table in before), 0)
    return Span(
        after_us=oldest_us + Limits.max_ahead_us if oldest_us else None,
        until_us=max(0, min(due_us - grace_us - SETTLED_US, max(open_us, ended_us))),
        due_us=min(clock_us, due_us),
        places={one.partition: (one.start, stops[one.partition]) for one in manifest.stretches},
        oldest_us=oldest_us,
    )


def _newest_before_us(table: pa.Table, starts: dict[int, int]) -> int:
    """The newest log time before the starts that a live run tells of; 0 for none."""
    partition, offset = table["partition"].to_numpy(), table["offset"].to_numpy()
    time_us: Ints = table["log_time"].cast(pa.int64()).to_numpy()
    earlier = np.zeros(len(table), np.bool_)
    for one, start in starts.items():
        earlier |= (partition == one) & (offset < start)
    return int(time_us[earlier & plausible(time_us)].max(initial=0))


def _first_us(table: pa.Table, stops: dict[int, int]) -> int:
    """Where the first event second begins that holds a record from the stops on."""
    time_us = table["event_time"].cast(pa.int64()).to_numpy()
    new = _from(table["partition"].to_numpy(), table["offset"].to_numpy(), stops)
    if "copies" in table.column_names:
        copies = table["copies"].combine_chunks()
        places = copies.flatten()
        is_new = _from(places.field("partition").to_numpy(), places.field("offset").to_numpy(), stops)
        new[np.repeat(np.arange(len(table)), copies.value_lengths().to_numpy())[is_new]] = True
    return int(_second_of(time_us[new]).min(initial=NEVER_US))


def _from(partition: Ints, offset: Ints, stops: dict[int, int]) -> Mask:
    new = np.zeros(len(partition), np.bool_)
    for one in np.unique(partition).tolist():
        new |= (partition == one) & (offset >= stops.get(one, 0))
    return new


def _conflicts(rejects: pa.Table) -> pa.Table:
    """Places and event times of the rejects that are events: which of them is refused depends on their whole second."""
    found = rejects.filter(pc.equal(rejects["reason"], "identity_conflict"))
    return found.select(["partition", "offset"]).append_column("event_time", pa.array(_times_us(found)))


def _second_of(time_us: Ints) -> Ints:
    return time_us // US_PER_S * US_PER_S


def covered(table: pa.Table, span: Span, sessions: SessionTimes | None) -> Mask:
    """Which rows of a dataset can be compared."""
    if "window_start" in table.column_names:
        start_us, end_us = (table[name].cast(pa.int64()).to_numpy() for name in ("window_start", "window_end"))
        inside = span.windows(start_us, end_us)
        if is_stat(table) and sessions is not None:
            of_sessions = pc.equal(table["kind"], "session").to_numpy()
            inside = np.where(of_sessions, span.sessions(start_us, end_us, sessions), inside)
        return inside
    if "copies" in table.column_names:
        return span.events(table["event_time"].cast(pa.int64()).to_numpy())
    inside = span.records(table["partition"].to_numpy(), table["offset"].to_numpy())
    if "lag_us" in table.column_names:
        clock_us: Ints = table["event_time"].cast(pa.int64()).to_numpy() + table["lag_us"].to_numpy()
        return inside & (clock_us > span.oldest_us)  # a clock of what retention took is not known to the replay
    conflicts = np.flatnonzero(pc.equal(table["reason"], "identity_conflict").to_numpy() & inside)
    inside[conflicts] = span.events(_times_us(table.take(pa.array(conflicts))))
    return inside


def _times_us(conflicts: pa.Table) -> Ints:
    """Event times of rejects that are events; 0 where the bytes are none, which no run gives."""
    return np.array([_time_us(value) for value in conflicts["value"].to_pylist()], np.int64)


def _time_us(value: Any) -> int:
    try:
        return int(MarketDataEvent.FromString(value or b"").timestamp)
    except DecodeError:
        return 0
