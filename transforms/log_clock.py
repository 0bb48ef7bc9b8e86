"""The log's clock of a partition: the newest log time in it up to and including a record.

It is a function of the log alone. Records that a reader is never given (of aborted transactions, a transaction's marks)
do not count, nor do log times that no calendar of a market has: one of them would make everything behind it late.
"""

from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

from schemas.units import LOG_TIME_FROM_US, LOG_TIME_UNTIL_US, US_PER_MS
from transforms.exact import Ints

NOTHING: Final = -(1 << 62)  # a clock that no record has set; far from the ends of int64, so that a lag cannot overflow
Carried = dict[int, tuple[int, int]]  # partition -> (offset behind the last record, newest log time up to it, us)


_MAX_MS: Final = 2**63 // US_PER_MS - 1


def in_us(log_time_ms: Ints) -> Ints:
    """Kafka's timestamps in microseconds.

    A producer may send microseconds or nanoseconds for milliseconds: beyond int64 it stays beyond all calendars.

    >>> in_us(np.array([1_700_000_000_000, -1, 2**62])).tolist()
    [1700000000000000, -1000, 9223372036854774000]
    """
    return log_time_ms.clip(-_MAX_MS, _MAX_MS) * US_PER_MS


def counts(log_time_us: int) -> bool:
    """Whether a log time does: those of the years 2009 to 9998."""
    return LOG_TIME_FROM_US <= log_time_us < LOG_TIME_UNTIL_US


def plausible(log_time_us: Ints) -> npt.NDArray[np.bool_]:
    """Which log times count."""
    return (log_time_us >= LOG_TIME_FROM_US) & (log_time_us < LOG_TIME_UNTIL_US)


def clocks(
    partition: Ints, offset: Ints, log_time_us: Ints, carried: Mapping[int, tuple[int, int]]
) -> tuple[Ints, Carried]:
    """The clock at each record, in reading order, and what to carry on to the records behind them.

    `carried`: what is known of the records before them; nothing where a partition is not in it.
    """
    clock, carry = np.empty(len(partition), np.int64), dict(carried)
    order = np.argsort(partition, kind="stable")
    homes = partition[order]
    counted = np.where(plausible(log_time_us), log_time_us, NOTHING)[order]
    starts = np.flatnonzero(np.diff(homes, prepend=-1))
    stops = np.append(starts, len(homes))[1:]
    behind = offset[order[stops - 1]] + 1
    for home, start, stop, end in zip(*(part.tolist() for part in (homes[starts], starts, stops, behind)), strict=True):
        of_home = counted[start:stop]
        if home in carry:
            of_home[0] = max(of_home[0], carry[home][1])
        np.maximum.accumulate(of_home, out=of_home)
        carry[home] = end, int(of_home[-1])
    clock[order] = counted
    return clock, carry
