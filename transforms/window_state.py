"""The state and timers of one window of one shard, and when it is due."""

import json
from collections.abc import Sequence
from typing import Final

import pyarrow as pa
from apache_beam.transforms.userstate import BagRuntimeState, ReadModifyWriteRuntimeState, RuntimeTimer
from apache_beam.utils.timestamp import Timestamp

from schemas.units import US_PER_S

REVISION_US: Final = 10 * US_PER_S  # what grew goes out again at most this often, by the log's clock
_IDLE: Final = 0  # no time at which a window is due


def due_us(first_us: int, at_us: int) -> int:
    """When what came at `at_us` is to go out: at `first_us`, or at the next multiple of 10 s after it came.

    >>> due_us(60_500_000, 31_000_000), due_us(60_500_000, 61_000_000), due_us(60_500_000, 70_000_000)
    (60500000, 70000000, 80000000)
    """
    return first_us if at_us <= first_us else next_revision_us(at_us)


def next_revision_us(at_us: int) -> int:
    """The next multiple of 10 s after that."""
    return (at_us // REVISION_US + 1) * REVISION_US


class Window:
    """The state and timers of one key. The step forgets nothing by itself: a kind clears what is over."""

    def __init__(
        self,
        parts: BagRuntimeState,
        versions: ReadModifyWriteRuntimeState,
        due: ReadModifyWriteRuntimeState,
        publish: RuntimeTimer,
        forget: RuntimeTimer,
    ) -> None:
        self._parts, self._versions, self._due = parts, versions, due
        self._publish, self._forget = publish, forget

    @property
    def is_new(self) -> bool:
        """Whether nothing is known of it."""
        return self._due.read() is None

    def parts(self) -> list[pa.RecordBatch]:
        """What was added."""
        return list(self._parts.read())

    def add(self, records: pa.RecordBatch) -> None:
        """Keep records."""
        self._parts.add(records)

    def keep(self, batches: Sequence[pa.RecordBatch]) -> None:
        """Keep these in place of all that was added."""
        self._parts.clear()
        for batch in batches:
            self._parts.add(batch)

    def publish_at(self, us: int) -> None:
        """Be due then, or earlier where it is: whatever comes meanwhile must not put it off."""
        pending_us = self._due.read() or _IDLE
        if pending_us == _IDLE or us < pending_us:
            self._due.write(us)
            self._publish.set(Timestamp(micros=us))

    def forget_at(self, us: int) -> None:
        """Be over then."""
        self._forget.set(Timestamp(micros=us))

    def woken(self) -> None:
        """It was due, and is not any more."""
        if not self.is_new:
            self._due.write(_IDLE)

    def versions(self) -> dict[str, int]:
        """What is out, as `newer` takes it."""
        found: dict[str, int] = json.loads(self._versions.read() or b"{}")
        return found

    def set_versions(self, versions: dict[str, int]) -> None:
        """Remember what is out."""
        self._versions.write(json.dumps(versions).encode())

    def clear(self) -> None:
        """Forget all of it."""
        self._parts.clear()
        self._versions.clear()
        self._due.clear()
