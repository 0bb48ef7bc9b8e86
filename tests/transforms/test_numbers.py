"""Numbers of the whole market, from the event to the record: as they were sent, and sums exact at any size."""

import math
import random
import struct
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import avro
from schemas.bar import BAR
from tests.testing import T0_US, Log, raw_batch, trade
from tests.transforms.build_events import decoded, events, seconds
from transforms.bar_columns import bar_batch
from transforms.batches import EventBatch
from transforms.check import check
from transforms.exact import is_too_fine
from transforms.faults import Limits
from transforms.roll_up import fixed, newest, roll_up
from transforms.seconds import NONE, fold
from transforms.slide import SLIDING, slide_bars
from transforms.stat_columns import stat_batch

ANY = Limits(any_price_venues=frozenset({"nymex"}))
HOUR_US = T0_US // 3_600_000_000 * 3_600_000_000

Sent = tuple[float, float]  # price, volume


def batch_of(sent: list[Sent], step_us: int = 1) -> EventBatch:
    log = Log()
    for number, (price, volume) in enumerate(sent):
        at_us = HOUR_US - T0_US + number * step_us
        event = trade(at_us, price, volume, exchange="nymex", symbol="S", trade_id=str(number), side=number % 3)
        log.add(event)
    good, bad = check(decoded(raw_batch(log.records)), ANY)
    assert bad is None
    assert good is not None
    return good


def seconds_of(batch: EventBatch) -> list[pa.RecordBatch]:
    bars = []
    for second, piece in seconds(batch):
        folded = fold(NONE, piece.instruments, piece.rows, 0)
        bars.append(bar_batch(second, folded, np.arange(len(folded.rows)), 1))
    return bars


def hour_of(parts: list[pa.RecordBatch]) -> pa.RecordBatch:
    (bars,) = roll_up(newest(parts), fixed(3_600), HOUR_US)
    return bars


def bar_of(sent: list[Sent], step_us: int = 1) -> dict[str, Any]:
    (bar,) = hour_of(seconds_of(batch_of(sent, step_us))).to_pylist()
    return dict(bar)


def prices_of(bar: dict[str, Any]) -> tuple[float, float, float, float]:
    return bar["open"], bar["high"], bar["low"], bar["close"]


def test_prices_below_1e_9_stay_what_they_were() -> None:
    bar = bar_of([(5.12e-10, 2e12), (4.98e-10, 2e12), (6.07e-10, 2e12)])
    assert prices_of(bar) == (5.12e-10, 6.07e-10, 4.98e-10, 6.07e-10)
    assert (bar["volume"], bar["notional"], bar["vwap"], bar["trade_count"]) == (6 * 10**12, 3234, 5.39e-10, 3)
    assert prices_of(bar_of([(1.234e-9, 1.0)])) == (1.234e-9,) * 4


def test_prices_of_a_pair_near_1e_9_are_not_rounded() -> None:
    bar = bar_of([(1.2347e-9, 1e9), (1.2391e-9, 1e9), (1.4999e-9, 1e9), (1.5011e-9, 1e9)])
    assert prices_of(bar) == (1.2347e-9, 1.5011e-9, 1.2347e-9, 1.5011e-9)
    assert (bar["volume"], bar["notional"], bar["vwap"]) == (4 * 10**9, Decimal("5.4748"), 1.3687e-9)


@pytest.mark.parametrize("value", [1.6e-9, 5.1e-10, 1.234e-10, 5e-10, 4e-10, 3e-18, 1.00000000005, 0.1234567895])
def test_a_price_and_a_volume_of_any_size_are_the_decimals_that_were_sent(value: float) -> None:
    """Also where the next decimal of 1e-9 is as near as the one below: there it was rounded by the double's noise."""
    bar = bar_of([(value, 1.0)])
    assert (prices_of(bar), bar["notional"], bar["vwap"]) == ((value,) * 4, Decimal(repr(value)), value)
    bar = bar_of([(100.0, value)])
    assert (bar["volume"], bar["notional"], bar["trade_count"]) == (Decimal(repr(value)), 100 * Decimal(repr(value)), 1)


def test_bitcoin_in_rial_is_a_price() -> None:
    bar = bar_of([(1.05e11, 0.001)])
    assert (prices_of(bar), bar["notional"], bar["vwap"]) == ((1.05e11,) * 4, 105_000_000, 1.05e11)
    bar = bar_of([(1.05e11, 0.014596000000000001)])
    assert prices_of(bar) == (1.05e11,) * 4
    assert bar["notional"] == Decimal("1532580000.000000105")


def test_a_ticker_with_the_volume_of_a_day_in_rial_has_its_price() -> None:
    log = Log()
    log.add(trade(0, 1.07e6, 2e8, exchange="nobitex", symbol="USDT-IRR", event_type=2))
    batch = events(log)
    (stat,) = stat_batch(T0_US // 1_000_000, fold(NONE, batch.instruments, batch.rows, 0), np.arange(1), 1).to_pylist()
    assert (stat["kind"], stat["last_price"], stat["event_count"]) == ("ticker", 1_070_000.0, 1)


def test_9224_trades_of_the_largest_volume_have_their_sum() -> None:
    bar = bar_of([(0.05, 1e15)] * 9_224)
    assert (bar["volume"], bar["notional"], bar["vwap"]) == (9_224 * 10**15, 9_224 * 5 * 10**13, 0.05)


@pytest.mark.parametrize(("price", "volume"), [(1e8, 1e6), (1e15, 1e15)])
def test_an_hour_of_a_million_large_notionals_neither_overflows_nor_stops(
    price: float, volume: float, tmp_path: Path
) -> None:
    one = batch_of([(price, volume)])
    rows = np.repeat(one.rows, 100_001)
    second = HOUR_US // 1_000_000
    parts = [bar_batch(second + n, fold(NONE, one.instruments, rows, 0), np.arange(1), 1) for n in range(10)]
    hour = hour_of(parts)
    count = 1_000_010
    (bar,) = hour.to_pylist()
    assert (bar["trade_count"], bar["volume"], bar["vwap"]) == (count, count * int(volume), price)
    assert bar["notional"] == int(price) * int(volume) * count
    assert avro.decode(avro.encode(BAR, [bar])[0]) == (BAR, bar)
    pq.write_table(pa.Table.from_batches([hour]), tmp_path / "x.parquet")
    assert pq.read_table(tmp_path / "x.parquet").to_pylist() == [bar]


def test_a_print_of_size_zero_moves_no_price() -> None:
    bar = bar_of([(1868.42, 0.0), (1868.40, 0.002), (1870.0, 0.0)])
    assert prices_of(bar) == (1868.40,) * 4
    assert (bar["volume"], bar["notional"]) == (Decimal("0.002"), Decimal("3.7368"))
    assert (bar["trade_count"], bar["zero_volume_count"]) == (1, 2)
    bar = bar_of([(900.0, 0.0), (100.0, 1.0), (1.0, 0.0), (101.0, 2.0), (500.0, 0.0)])
    assert prices_of(bar) == (100.0, 101.0, 100.0, 101.0)
    assert (bar["trade_count"], bar["zero_volume_count"], bar["version"]) == (2, 3, 5)


def test_a_bar_of_prints_of_size_zero_alone_has_no_price() -> None:
    bar = bar_of([(900.0, 0.0), (100.0, 0.0)])
    assert prices_of(bar) == (None,) * 4
    assert (bar["vwap"], bar["volume"], bar["first_event_time"], bar["last_event_time"]) == (None, 0, None, None)
    assert (bar["trade_count"], bar["zero_volume_count"], bar["version"]) == (0, 2, 2)


def test_seconds_of_size_zero_alone_are_passed_over_in_larger_windows() -> None:
    sent = [(900.0, 0.0), (100.0, 1.0), (1.0, 0.0), (110.0, 1.0), (99.0, 1.0), (7.0, 0.0)]
    assert prices_of(bar_of(sent, 1_000_000)) == (100.0, 110.0, 99.0, 99.0)
    (stats,) = slide_bars(newest(seconds_of(batch_of(sent, 1_000_000))), SLIDING, HOUR_US)
    (stat,) = stats.to_pylist()
    assert (stat["event_count"], stat["version"], stat["return_count"]) == (3, 6, 2)
    assert stat["return_volatility"] == 0.14142135623730953


def test_prices_below_zero_are_prices_where_a_venue_has_them_but_returns_are_not() -> None:
    sent = [(-37.63, 1.0), (0.0, 1.0), (-40.32, 1.0)]
    bar = bar_of(sent, 1_000_000)
    assert prices_of(bar) == (-37.63, 0.0, -40.32, -40.32)
    assert (bar["notional"], bar["vwap"]) == (Decimal("-77.95"), -25.983333333333334)
    (stats,) = slide_bars(newest(seconds_of(batch_of(sent, 1_000_000))), SLIDING, HOUR_US)
    assert (stats["return_count"].to_pylist(), stats["return_volatility"].to_pylist()) == ([2], [None])


doubles = st.one_of(
    st.builds(lambda digits, power: float(f"{digits}e{power}"), st.integers(0, 10**17 - 1), st.integers(-18, 0)),
    st.floats(0, 1e15),
    st.sampled_from([0.0, 1e-18, 1e15]),
).filter(lambda value: value <= 1e15 and not is_too_fine(np.array([value]))[0])
prices = st.tuples(doubles, st.sampled_from([1, -1])).map(math.prod)


def meant(value: float) -> Fraction:
    """The decimal that was meant, in 1: the shortest, to 1e-18 where that changes it by no more than 1e-15 of it."""
    written = Fraction(Decimal(repr(value))) * 10**18
    nearest = Fraction(round(written))
    return (nearest if abs(written - nearest) <= abs(written) / 10**15 else written) / 10**18


@settings(max_examples=60)
@given(st.lists(st.tuples(prices, doubles), min_size=1, max_size=12), st.randoms())
def test_sums_are_those_of_fractions_and_prices_keep_their_bits(sent: list[Sent], dice: random.Random) -> None:
    sent = [(price + 0.0, volume) for price, volume in sent]  # a zero has no sign
    parts: list[pa.RecordBatch] = []
    for second, piece in seconds(batch_of(sent, 400_000)):
        rows = piece.rows[dice.sample(range(len(piece)), len(piece))]
        cut, folded = dice.randrange(len(rows) + 1), NONE
        for some in (rows[:cut], rows[cut:]):
            folded = fold(folded, piece.instruments, some.copy(), 0)
        parts.append(bar_batch(second, folded, np.arange(1), 1))
    dice.shuffle(parts)
    (bar,) = hour_of(parts).to_pylist()
    volume = sum((meant(size) for _, size in sent), Fraction(0))
    notional = sum((meant(price) * meant(size) for price, size in sent), Fraction(0))
    assert (Fraction(bar["volume"]), Fraction(bar["notional"])) == (volume, notional)
    assert bar["vwap"] == (float(notional / volume) if volume else None)
    moved = [price for price, size in sent if size]
    if moved:
        wanted = (moved[0], max(moved), min(moved), moved[-1])
        assert struct.pack("<4d", *prices_of(bar)) == struct.pack("<4d", *wanted)
    else:
        assert prices_of(bar) == (None,) * 4
