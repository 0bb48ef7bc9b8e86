"""How far a live run has come: where it would read next, and what of the log its files hold for certain.

A job that is stopped, or was killed, has read records that are in its state and not in its files yet. What was due by
some time of the log's clock is there: a record is in the cell's file by the next multiple of 10 s and 3 s more, in the
bars and stats of its windows by the next but one multiple of 10 s (transforms/window_state.py), late events and rejects
within 10 s. And a step's clock may be behind that of the source.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, Self

import pyarrow as pa

from runners.log import Log
from schemas.units import US_PER_S
from transforms.exact import Ints
from transforms.log_clock import NOTHING

_STEPS_BEHIND_US: Final = 10 * US_PER_S
IN_FILES_US: Final = 20 * US_PER_S + _STEPS_BEHIND_US
"""So long after it was read a record is in all files, by the log's clock; so long after it was due, a window."""
NEVER_US: Final = 1 << 62
"""Later than any time."""


@dataclass(frozen=True)
class Reach:
    """Of a live run, at one moment."""

    topic: str
    offsets: dict[int, int]  # partition -> the offset to read next; empty where nobody noted it
    due_us: int  # what was due by then is in the files: a time of the log's clock, microseconds since the Unix epoch
    filed: dict[int, int]  # partition -> offset; of what lies before it all is in the files

    def as_json(self) -> dict[str, Any]:
        """For run.json."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The inverse. KeyError, TypeError or ValueError for what it is not."""
        offsets, filed = ({int(p): int(o) for p, o in data[name].items()} for name in ("offsets", "filed"))
        return cls(str(data["topic"]), offsets, int(data["due_us"]), filed)


def reach_at(log: Log, offsets: Mapping[int, int], step_clock_us: int | None = None) -> Reach:
    """The reach of a job whose savepoint has these offsets.

    `step_clock_us`: what Flink said last of the clock of its slowest step, which may be 10 s old. A job that catches up
    with a long log may be further behind than that.
    """
    clocks = log.newest_before(offsets)
    clock_us = min((clocks.get(partition, NOTHING) for partition in offsets), default=NOTHING)
    if step_clock_us is not None:
        clock_us = min(clock_us, step_clock_us + _STEPS_BEHIND_US)
    due_us = max(clock_us - IN_FILES_US, 0)
    return Reach(log.topic, dict(offsets), due_us, log.first_after(offsets, due_us))


def seen_in(events: pa.Table, horizon_us: int) -> Reach:
    """What the files themselves prove of a run that noted nothing: it is under way, or was killed.

    `events`: event_time, partition and offset of its unique events. A window's event file is written when the log's
    clock has passed its end. And an event that is not late lies where the clock is at most its time + horizon, so
    whatever lies before it was read by then.
    """
    if not len(events):
        return Reach("", {}, 0, {})
    time_us = events["event_time"].cast(pa.int64()).to_numpy()
    due_us = int(time_us.max()) // US_PER_S * US_PER_S - IN_FILES_US
    settled = time_us + horizon_us <= due_us
    partition, offset = (events[name].to_numpy()[settled] for name in ("partition", "offset"))
    return Reach("", {}, due_us, _last_of(partition, offset))


def _last_of(partition: Ints, offset: Ints) -> dict[int, int]:
    """The offset behind the last of each partition."""
    last: dict[int, int] = {}
    for one in set(partition.tolist()):
        last[one] = int(offset[partition == one].max()) + 1
    return last
