"""Larger bars from 1 s bars, against the oracle."""

import random

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.oracle import expect
from tests.testing import T0_US, Log, trade
from tests.transforms.build_events import events, seconds
from transforms.bar_columns import bar_batch
from transforms.roll_up import fixed, newest, roll_up
from transforms.seconds import NONE, fold

GRACE_US = 500_000
START_US = T0_US // 60_000_000 * 60_000_000

trades = st.lists(
    st.tuples(
        st.integers(0, 59_999),
        st.sampled_from([1e-18, 0.1, 1e15]),
        st.sampled_from([0.0, 0.0, 1e-18, 9_999.9]),
        st.booleans(),
    ),
    min_size=1,
    max_size=25,
)


def log_of(rows: list[tuple[int, float, float, bool]]) -> Log:
    log = Log()
    for number, (at_ms, price, volume, other) in enumerate(rows):
        at_us = START_US - T0_US + at_ms * 1_000
        event = trade(at_us, price, volume, trade_id=str(number), symbol="B" if other else "A", side=number % 3)
        log.add(event, partition=number % 2, log_time_us=event.timestamp + number % 2 * 600_000)
    return log


def second_bars(log: Log) -> list[pa.RecordBatch]:
    batches = []
    for second, piece in seconds(events(log)):
        folded = fold(NONE, piece.instruments, piece.rows, GRACE_US)
        batches.append(bar_batch(second, folded, np.arange(len(folded.rows)), 1))
    return batches


def rolled_bars(batches: list[pa.RecordBatch], interval_s: int, start_us: int) -> pa.RecordBatch:
    (bars,) = roll_up(newest(batches), fixed(interval_s), start_us)
    return bars


@given(trades, st.randoms())
def test_rolled_bars_are_the_oracles_whatever_the_order(
    rows: list[tuple[int, float, float, bool]], dice: random.Random
) -> None:
    log = log_of(rows)
    batches = second_bars(log)
    dice.shuffle(batches)
    expected = expect(log.sent(), horizon_us=10**9, grace_us=GRACE_US, intervals_s=[60]).bars
    found = sorted(rolled_bars(batches, 60, START_US).to_pylist(), key=lambda bar: bar["symbol"])
    for bar in found:
        del bar["identity_digest"]
    assert found == [expected[key] for key in sorted(expected)]


@settings(max_examples=30)
@given(trades, st.randoms())
def test_of_each_second_only_the_highest_version_counts(
    rows: list[tuple[int, float, float, bool]], dice: random.Random
) -> None:
    full = second_bars(log_of(rows))
    early = second_bars(log_of(rows[: len(rows) // 2 + 1]))
    mixed = [*full, *early, *full]
    dice.shuffle(mixed)
    by_symbol = [("symbol", "ascending")]
    found = pa.Table.from_batches([rolled_bars(mixed, 60, START_US)]).sort_by(by_symbol)
    assert found.equals(pa.Table.from_batches([rolled_bars(full, 60, START_US)]).sort_by(by_symbol))


@settings(max_examples=30)
@given(trades, st.randoms())
def test_it_does_not_matter_through_which_intervals_a_bar_came(
    rows: list[tuple[int, float, float, bool]], dice: random.Random
) -> None:
    singles = second_bars(log_of(rows))
    tens: dict[int, list[pa.RecordBatch]] = {}
    for batch in [*singles, *second_bars(log_of(rows[: len(rows) // 2 + 1]))]:
        at_us = batch["window_start"][0].value
        tens.setdefault(at_us - at_us % 10_000_000, []).append(batch)
    parts = [rolled_bars(batches, 10, start_us) for start_us, batches in tens.items()]
    dice.shuffle(parts)
    by_symbol = [("symbol", "ascending")]
    found = pa.Table.from_batches([rolled_bars(parts, 60, START_US)]).sort_by(by_symbol)
    assert found.equals(pa.Table.from_batches([rolled_bars(singles, 60, START_US)]).sort_by(by_symbol))


@pytest.mark.parametrize("interval_s", [10, 60, 300, 3600])
def test_window_and_interval_are_written_into_the_bar(interval_s: int) -> None:
    start_us = T0_US // (interval_s * 1_000_000) * interval_s * 1_000_000
    log = Log()
    log.add(trade(0))
    bar = rolled_bars(second_bars(log), interval_s, start_us).to_pylist()[0]
    assert bar["interval_s"] == interval_s
    assert (bar["window_end"] - bar["window_start"]).total_seconds() == interval_s
    assert bar["window_start"].timestamp() * 1_000_000 == start_us
