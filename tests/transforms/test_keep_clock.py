"""The clock beside each record: the same in any order of reading, any cutting into batches, from any restart."""

import random
from collections.abc import Mapping, Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.oracle import Place, clock_of
from tests.testing import T0_US, Log, raw_batch, trade
from transforms.batches import RawBatch
from transforms.keep_clock import LogClock
from transforms.log_clock import NOTHING

LOG_TIMES_S = st.one_of(st.integers(-200, 200), st.just(-(T0_US // 1_000_000)), st.just(10**12))  # also 1970 and beyond


class Looked:
    """An index over a log that remembers what it was asked."""

    def __init__(self, log: Log) -> None:
        self._log, self.asked = log, list[Place]()

    def newest_before(self, topic: str, offsets: Mapping[int, int], carried: object = None) -> dict[int, int]:
        self.asked += offsets.items()
        found = {}
        for partition, offset in offsets.items():
            clocks = clock_of({r.place: r.log_time_us for r in self._log.records if r.place < (partition, offset)})
            times = [us for (home, _), us in clocks.items() if home == partition and us < 10**17 and us > 0]
            found[partition] = max(times, default=NOTHING)
        return found


def a_log(times_s: Sequence[tuple[int, int]]) -> Log:
    log = Log()
    for partition, time_s in times_s:
        log.add(trade(), partition=partition, log_time_us=T0_US + time_s * 1_000_000)
    return log


def clocks(batches: Sequence[RawBatch], clock: LogClock) -> dict[Place, int]:
    found = {}
    for batch in map(clock.keep, batches):
        found |= dict(
            zip(zip(batch.partition.tolist(), batch.offset.tolist(), strict=True), batch.clock_us.tolist(), strict=True)
        )
    return found


@given(
    st.lists(st.tuples(st.integers(0, 2), LOG_TIMES_S), min_size=1, max_size=40),
    st.integers(1, 7),
    st.integers(0, 40),
    st.randoms(use_true_random=False),
)
def test_clock_is_that_of_the_log_in_any_order_any_cutting_and_from_any_restart(
    times_s: list[tuple[int, int]], size: int, done: int, dice: random.Random
) -> None:
    log = a_log(times_s)
    plausible = {r.place for r in log.records if 0 < r.log_time_us < 10**17}
    wanted = {p: us for p, us in clock_of({r.place: r.log_time_us for r in log.records}).items() if p in plausible}
    parts = log.by_partition(size)
    orders = [log.batches(size), parts, parts[::-1], log.batches(size)[done // size :]]
    dice.shuffle(interleaved := list(parts))
    for batches in [*orders, interleaved]:
        found = clocks(batches, LogClock(Looked(log)))
        assert {p: us for p, us in found.items() if p in plausible} == {p: wanted[p] for p in found if p in plausible}


def test_blocks_that_follow_each_other_are_not_looked_up() -> None:
    log = a_log([(n % 3, n) for n in range(60)])
    index = Looked(log)
    clock = LogClock(index)
    for batch in log.batches(7):
        clock.keep(batch)
    assert index.asked == []


def test_a_restart_looks_up_each_partition_once() -> None:
    log = a_log([(n % 3, n) for n in range(60)])
    index = Looked(log)
    clock = LogClock(index)
    for batch in log.batches(7)[4:]:
        clock.keep(batch)
    assert sorted(index.asked) == [(0, 10), (1, 9), (2, 9)]


def test_a_batch_by_itself_has_the_clock_of_its_own_records() -> None:
    batch = raw_batch(a_log([(0, 5), (1, 3), (0, 2), (1, 9)]).records)
    assert ((batch.clock_us - T0_US) // 1_000_000).tolist() == [5, 3, 5, 9]
    assert ((batch.take(np.array([3, 2])).clock_us - T0_US) // 1_000_000).tolist() == [9, 5]
