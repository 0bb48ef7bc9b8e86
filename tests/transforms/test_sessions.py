"""Sessions of an instrument, against the oracle and on a timeline."""

import itertools
import random
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.units import US_PER_S
from tests.logs import MIDNIGHT_US
from tests.oracle import expect, utc
from tests.stat_oracle import expect_stats
from tests.testing import T0_US, Log, trade
from tests.transforms import test_cell
from tests.transforms.test_cell import LATENESS_US, MS, S, Timeline, played
from tests.transforms.test_roll_up import GRACE_US, second_bars
from transforms.roll_up import newest
from transforms.sessions import Sessions, SessionTimes, join_runs, session_stats

GAP_S = 30
TIMES = SessionTimes(GAP_S, LATENESS_US)

trades = st.lists(
    st.tuples(
        st.one_of(st.integers(-90, 90), st.sampled_from([-1, 0])),  # seconds from midnight
        st.sampled_from([0, 1, 500_000, 999_999]),
        st.sampled_from([1e-18, 0.1, 1e15]),
        st.sampled_from([0.0, 1e-18, 9_999.9]),
        st.booleans(),
    ),
    min_size=1,
    max_size=30,
)


def log_of(rows: Sequence[tuple[int, int, float, float, bool]]) -> Log:
    log = Log()
    for number, (second, at_us, price, volume, other) in enumerate(rows):
        event = trade(MIDNIGHT_US + second * US_PER_S + at_us, price, volume, symbol="B" if other else "A")
        event.trade_id = str(number)
        log.add(event, partition=number % 2, log_time_us=event.timestamp + number % 2 * 600_000)
    return log


def expected_sessions(log: Log, gap_s: int) -> list[dict[str, Any]]:
    expected = expect(log.sent(), horizon_us=10**9, grace_us=GRACE_US, intervals_s=[])
    stats, _ = expect_stats(expected, [], gap_s)
    return [stat for key, stat in sorted(stats.items()) if key[0] == "session"]


def rows_of(stats: pa.RecordBatch) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = stats.to_pylist()
    for row in rows:
        del row["identity_digest"]
    return sorted(rows, key=lambda row: (row["symbol"], row["interval_s"], row["window_start"]))


def windows(seconds: Sequence[pa.RecordBatch]) -> Iterator[list[pa.RecordBatch]]:
    """Those of each 10 s, in order."""

    def window(batch: pa.RecordBatch) -> int:
        return int(batch["window_start"][0].value) // (10 * US_PER_S)

    return (list(found) for _, found in itertools.groupby(sorted(seconds, key=window), window))


@given(trades, st.sampled_from([1, 2, 10, 29, 86_400]), st.randoms())
def test_sessions_are_the_oracles_whatever_is_joined_first(
    rows: list[tuple[int, int, float, float, bool]], gap_s: int, dice: random.Random
) -> None:
    log = log_of(rows)
    batches = [*second_bars(log), *second_bars(log_of(rows[: len(rows) // 2 + 1]))]  # versions before
    dice.shuffle(batches)
    runs: list[pa.RecordBatch] = []
    for window in windows(batches):
        runs.append(join_runs(newest(window), gap_s))
        if dice.random() < 0.3:
            runs = [join_runs(newest(runs), gap_s)]
    dice.shuffle(runs)
    assert rows_of(session_stats(join_runs(newest(runs), gap_s))) == expected_sessions(log, gap_s)


@pytest.mark.parametrize(
    ("seconds", "lengths"),
    [
        ([0], [1]),
        ([0, GAP_S], [GAP_S + 1]),  # silent for a second less than the gap
        ([0, GAP_S + 1], [1, 1]),  # for the gap
        ([0, GAP_S, 2 * GAP_S, 3 * GAP_S + 1], [2 * GAP_S + 1, 1]),
        ([-1, 0], [1, 1]),  # before and after midnight
        ([-GAP_S, -1, 0, 1], [GAP_S, 2]),
    ],
)
def test_a_session_ends_by_a_silence_of_the_gap_or_at_midnight(seconds: list[int], lengths: list[int]) -> None:
    log = log_of([(second, 0, 100.0, 1.0, False) for second in seconds])
    found = session_stats(join_runs(newest(second_bars(log)), GAP_S)).to_pylist()
    assert [row["interval_s"] for row in found] == lengths
    for row in found:
        assert (row["window_end"] - row["window_start"]).total_seconds() == row["interval_s"]
    assert found[0]["window_start"] == utc(T0_US + MIDNIGHT_US + seconds[0] * US_PER_S)


def sessions(timeline: Timeline) -> list[tuple[int, int, int, int]]:
    """(time of the clock, length, trades, version), in microseconds and seconds."""
    found = played(timeline, kinds=[Sessions(TIMES)])
    return [(at, r["interval_s"], r["event_count"], r["version"]) for what, at, r in found if what == "session"]


def test_session_is_published_once_when_the_clock_has_passed_all_that_could_prolong_it() -> None:
    timeline = Timeline().read(test_cell.trade(0, 1)).clock(20 * S).read(test_cell.trade(20 * S, 2)).clock(140 * S)
    timeline.read(test_cell.trade(900_000, 3)).clock(145 * S).read(test_cell.trade(50 * S, 4)).clock(171 * S)  # late
    end_us = 51 * S
    timeline.clock(end_us + TIMES.wait_us - MS).clock(end_us + TIMES.wait_us).clock(86_400 * S)
    assert sessions(timeline) == [(end_us + TIMES.wait_us, 51, 4, 4)]


def test_sessions_come_out_one_after_the_other_while_others_go_on() -> None:
    timeline = Timeline()
    for second in range(20, 320, 20):  # A is silent for a minute after 120 s, B is not
        timeline.clock(second * S)
        named = ["B"] if 120 < second <= 180 else ["A", "B"]
        timeline.read(*(test_cell.trade(second * S, f"{name}{second}", symbol=name) for name in named))
    for second in range(320, 1_000, 40):
        timeline.clock(second * S)
    found = sorted((at, length, count) for at, length, count, _ in sessions(timeline))
    first_us, last_us = 121 * S + TIMES.wait_us, 301 * S + TIMES.wait_us
    assert found == [(first_us, 101, 6), (last_us, 101, 6), (last_us, 281, 15)]
