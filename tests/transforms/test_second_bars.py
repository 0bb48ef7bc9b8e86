"""A bar is a function of the set of records: merge and fold know no order and no batches."""

import itertools
import random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.oracle import expect
from tests.testing import T0_US, Log, trade
from tests.transforms.build_events import events
from transforms.bar_columns import BarColumns, second_bar_batch, version
from transforms.batches import EventBatch
from transforms.second_bars import ACCUMULATOR, NONE, SecondBars, fold, merge

GRACE_US = 500_000

prices = st.sampled_from([1e-9, 0.1, 100.0, 100.05, 36_000.01, 9e9])
volumes = st.sampled_from([0.0, 1e-9, 0.3, 1e4, 1_459.000000001])
trades = st.tuples(
    st.integers(0, 5), prices, volumes, st.integers(0, 2), st.sampled_from("ABC"), st.integers(0, 2), st.booleans()
)


def batch_of(rows: list[tuple[int, float, float, int, str, int, bool]]) -> tuple[Log, EventBatch]:
    log = Log()
    for number, (at, price, volume, side, symbol, partition, is_late) in enumerate(rows):
        event = trade(
            at * 1_000, price, volume, side=side, symbol=symbol, trade_id=f"t{number}", sequence=number * 7 % 5
        )
        log.add(event, partition=partition, log_time_us=event.timestamp + (600_000 if is_late else 0))
    return log, events(log)


def bars_of(folded: SecondBars) -> list[dict[str, object]]:
    batch = second_bar_batch(T0_US // 1_000_000, folded, np.arange(len(folded.bars)))
    return sorted(batch.to_pylist(), key=lambda bar: bar["symbol"])


@given(st.lists(trades, min_size=1, max_size=20))
def test_fold_gives_what_the_oracle_gives(rows: list[tuple[int, float, float, int, str, int, bool]]) -> None:
    log, batch = batch_of(rows)
    expected = expect(log.sent(), horizon_us=10**9, grace_us=GRACE_US, intervals_s=[1]).bars
    found = bars_of(fold(NONE, batch.instruments, batch.rows, GRACE_US))
    for bar in found:
        del bar["identity_digest"], bar["status"]
    assert found == [expected[key] for key in sorted(expected)]


@given(st.lists(trades, min_size=1, max_size=20), st.lists(st.integers(0, 20), max_size=4), st.randoms())
def test_fold_does_not_depend_on_order_or_batching(
    rows: list[tuple[int, float, float, int, str, int, bool]], cuts: list[int], dice: random.Random
) -> None:
    batch = batch_of(rows)[1]
    order = list(range(len(batch)))
    dice.shuffle(order)
    folded = NONE
    edges = [0, *sorted(min(cut, len(order)) for cut in cuts), len(order)]
    for start, stop in itertools.pairwise(edges):
        part = batch.take(np.array(order[start:stop], np.int64))
        folded = fold(folded, part.instruments, part.rows, GRACE_US)
        folded = SecondBars.from_bytes(folded.to_bytes())  # the state between
    assert bars_of(folded) == bars_of(fold(NONE, batch.instruments, batch.rows, GRACE_US))


@settings(max_examples=50)
@given(st.lists(trades, min_size=3, max_size=3), st.lists(st.booleans(), min_size=3, max_size=3))
def test_merge_is_associative_and_commutative(
    rows: list[tuple[int, float, float, int, str, int, bool]], copies: list[bool]
) -> None:
    batch = batch_of([(*row[:4], "A", *row[5:]) for row in rows])[1]
    batch.rows["copy"] = copies
    a, b, c = (fold(NONE, batch.instruments, batch.rows[i : i + 1], GRACE_US).bars for i in range(3))
    assert merge(a, b).tobytes() == merge(b, a).tobytes()
    assert merge(merge(a, b), c).tobytes() == merge(a, merge(b, c)).tobytes()


places = st.tuples(st.integers(0, 2), st.booleans())


@given(st.lists(places, min_size=2, max_size=8), st.randoms())
def test_which_copy_is_the_first_changes_nothing(rows: list[tuple[int, bool]], dice: random.Random) -> None:
    log = Log()
    for partition, is_late in rows:
        event = trade(7_000, 100.0, 2.5, side=1, trade_id="t")
        log.add(event, partition=partition, log_time_us=event.timestamp + (600_000 if is_late else 0))
    batch = events(log)
    found = []
    for first in (0, dice.randrange(len(batch))):
        marked = batch.rows.copy()
        marked["copy"] = np.arange(len(batch)) != first
        found.append(bars_of(fold(NONE, batch.instruments, marked, GRACE_US)))
    assert found[0] == found[1]
    assert (found[0][0]["trade_count"], found[0][0]["duplicate_count"]) == (1, len(rows) - 1)


def test_only_trades_are_folded_and_only_their_instruments_kept() -> None:
    log = Log()
    log.add(trade(0, symbol="TICK", event_type=2))
    log.add(trade(0, symbol="BOOK", event_type=1))
    log.add(trade(0, symbol="OTHER", event_type=5))
    batch = events(log)
    assert fold(NONE, batch.instruments, batch.rows, GRACE_US) is NONE
    log.add(trade(0, symbol="TRADE"))
    batch = events(log)
    assert [pair[1] for pair in fold(NONE, batch.instruments, batch.rows, GRACE_US).instruments] == ["TRADE"]


def test_fold_does_not_change_what_it_was_given() -> None:
    batch = batch_of([(1, 100.0, 1.0, 1, "A", 0, False), (2, 0.1, 0.3, 2, "B", 1, True)])[1]
    folded = fold(NONE, batch.instruments, batch.rows[:1], GRACE_US)
    before = folded.to_bytes(), batch.rows.tobytes()
    fold(folded, batch.instruments, batch.rows, GRACE_US)
    assert (folded.to_bytes(), batch.rows.tobytes()) == before


@given(st.lists(trades, min_size=1, max_size=10))
def test_bar_records_and_columns_are_inverse(rows: list[tuple[int, float, float, int, str, int, bool]]) -> None:
    batch = batch_of(rows)[1]
    folded = fold(NONE, batch.instruments, batch.rows, GRACE_US)
    bars = second_bar_batch(T0_US // 1_000_000, folded, np.arange(len(folded.bars)))
    assert BarColumns.from_batch(bars).to_batch(1).equals(bars)
    assert bars.column("version").to_pylist() == version(folded.bars).tolist()
    one = bars.slice(len(bars) - 1, 1)
    assert BarColumns.from_batch(one).to_batch(1).equals(one)


def test_accumulator_holds_no_floats() -> None:
    assert {kind.base.kind for kind, *_ in ACCUMULATOR.fields.values()} <= {"i", "u"}
