"""The sliding minute over 1 s bars, against the oracle."""

import math
import random
import struct

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.oracle import expect
from tests.stat_oracle import expect_stats, volatility_of
from tests.transforms.test_roll_up import GRACE_US, START_US, log_of, second_bars, trades
from transforms.roll_up import newest, roll_up
from transforms.slide import SLIDING, slide_bars, volatility


@given(trades, st.randoms())
def test_sliding_minute_is_the_oracles_whatever_the_order_and_the_versions_before(
    rows: list[tuple[int, float, float, bool]], dice: random.Random
) -> None:
    log = log_of(rows)
    batches = [*second_bars(log), *second_bars(log_of(rows[: len(rows) // 2 + 1]))]
    dice.shuffle(batches)
    stats, _ = expect_stats(expect(log.sent(), horizon_us=10**9, grace_us=GRACE_US, intervals_s=[1]), [])
    wanted = [stat for key, stat in sorted(stats.items()) if key[-1] == START_US]
    found = pa.Table.from_batches(slide_bars(newest(batches), SLIDING, START_US)).sort_by("symbol").to_pylist()
    for row in found:
        del row["identity_digest"]
    assert found == wanted


@settings(max_examples=20)
@given(trades)
def test_sliding_minute_holds_the_sums_of_the_bar_of_that_minute(rows: list[tuple[int, float, float, bool]]) -> None:
    parts = newest(second_bars(log_of(rows)))
    ((bar,), (stat,)) = (fold(parts, SLIDING, START_US) for fold in (roll_up, slide_bars))
    for name in ("volume", "notional", "vwap", "version", "lineage", "identity_digest", "symbol"):
        assert stat[name].equals(bar[name]), name


closes = st.lists(st.one_of(st.integers(1, 5), st.integers(1, 10**33)), max_size=12)


@given(closes)
def test_volatility_has_the_bits_of_exact_arithmetic_rounded_step_by_step(found: list[int]) -> None:
    ours, exact = volatility(found), volatility_of(found)
    assert (ours is None) == (exact is None)
    if ours is not None and exact is not None:
        assert struct.pack("<d", ours) == struct.pack("<d", exact)


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        ([], None),
        ([5], None),
        ([5, 6], None),
        ([7, 7, 7], 0.0),
        ([7, 0, 7], None),
        ([-7, 7, 7], None),
        ([100, 110, 99], math.sqrt(0.1 * 0.1 * 2)),
    ],
)
def test_volatility_of_few_closes(found: list[int], wanted: float | None) -> None:
    assert volatility(found) == wanted
