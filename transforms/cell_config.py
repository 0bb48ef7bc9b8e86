"""The cell's key and times: when a window's seconds are published, when it settles, closes and is forgotten."""

from dataclasses import dataclass
from typing import Final

from schemas.units import US_PER_S
from transforms.cell_fold import WINDOW_S

CellKey = tuple[int, int]  # (window start in s since the epoch, shard)

_MARK_KEPT_US: Final = 7 * 86_400 * US_PER_S  # as long as the topic keeps a record: no older one comes
_SETTLE_US: Final = 100_000  # the window waits for its last second's bars
_SPREAD_US: Final = 400_000  # shards settle one after the other within this, and events pass in between
SETTLED_US: Final = _SETTLE_US + _SPREAD_US  # after its end and grace a window has settled in every shard
FILE_US: Final = 3_000_000  # after a file was begun it is mostly there, and nothing waits for it


@dataclass(frozen=True, kw_only=True)
class CellConfig:
    """Times of a cell, in microseconds of the log's clock."""

    grace_us: int = 500_000  # bars and stats go out this long after their end
    horizon_us: int = 120 * US_PER_S  # log lag above which an event is late; duplicates are known this long
    slack_us: int = 30 * US_PER_S  # for records whose log time is older than their neighbours'
    shards: int = 2

    def publish_us(self, second: int) -> int:
        """When a second (s since the epoch) is published first."""
        return (second + 1) * US_PER_S + self.grace_us

    def second_of(self, publish_us: int) -> int:
        """The inverse of publish_us."""
        return (publish_us - self.grace_us) // US_PER_S - 1

    def settle_us(self, key: CellKey) -> int:
        """When a cell settles first."""
        return _end_us(key) + self.grace_us + _SETTLE_US + key[1] * _SPREAD_US // self.shards

    def close_us(self, key: CellKey) -> int:
        """When a cell is over."""
        return _end_us(key) + self.horizon_us + self.slack_us

    def forget_us(self, key: CellKey) -> int:
        """When nothing is known of it any more."""
        return self.close_us(key) + _MARK_KEPT_US


def _end_us(key: CellKey) -> int:
    return (key[0] + WINDOW_S) * US_PER_S
