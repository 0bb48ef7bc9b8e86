"""What a cell folds is a function of the set of records: merge and fold know no order and no batches."""

import itertools
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.oracle import expect
from tests.stat_oracle import expect_stats
from tests.testing import T0_US, Log, trade
from tests.transforms.build_events import events
from transforms.accumulators import merge
from transforms.bar_columns import BARS, bar_batch
from transforms.batches import EventBatch
from transforms.seconds import NONE, Seconds, fold, version
from transforms.stat_columns import BOOKS, TICKERS, stat_batch
from transforms.window_columns import WindowColumns

GRACE_US = 500_000

prices = st.sampled_from([1e-18, 5.12e-10, 0.1, 100.0, 100.05, 36_000.01, 1.05e11, 1e15])
volumes = st.sampled_from([0.0, 1e-18, 0.3, 1e4, 0.014596000000000001, 1_459.000000001, 1e15])
kinds = st.sampled_from([0, 0, 1, 1, 2, 77])
sent = st.tuples(
    st.integers(0, 5),
    prices,
    volumes,
    st.integers(0, 3),
    st.sampled_from("AB"),
    st.integers(0, 2),
    st.booleans(),
    kinds,
)
Sent = tuple[int, float, float, int, str, int, bool, int]


def batch_of(rows: list[Sent]) -> tuple[Log, EventBatch]:
    log = Log()
    for number, (at, price, volume, side, symbol, partition, is_late, kind) in enumerate(rows):
        event = trade(at * 1_000, price, volume, side=side, symbol=symbol, event_type=kind, trade_id=f"t{number}")
        event.sequence = number * 7 % 5
        log.add(event, partition=partition, log_time_us=event.timestamp + (600_000 if is_late else 0))
    return log, events(log)


def records_of(folded: Seconds) -> list[dict[str, object]]:
    """All bars and stats of a cell."""
    is_trade = folded.rows["kind"] == 0
    rows: list[dict[str, object]] = []
    for build, chosen in ((bar_batch, is_trade), (stat_batch, ~is_trade)):
        if chosen.any():
            rows += build(T0_US // 1_000_000, folded, np.flatnonzero(chosen), 1).to_pylist()
    return sorted(rows, key=lambda row: (row.get("kind", ""), row["symbol"]))


@given(st.lists(sent, min_size=1, max_size=20))
def test_fold_gives_what_the_oracle_gives(rows: list[Sent]) -> None:
    log, batch = batch_of(rows)
    expected = expect(log.sent(), horizon_us=10**9, grace_us=GRACE_US, intervals_s=[1])
    stats, _ = expect_stats(expected, [1])
    wanted = [*expected.bars.values(), *(stat for stat in stats.values() if stat["kind"] != "sliding")]
    found = records_of(fold(NONE, batch.instruments, batch.rows, GRACE_US))
    for row in found:
        del row["identity_digest"]
    assert found == sorted(wanted, key=lambda row: (row.get("kind", ""), row["symbol"]))


@given(st.lists(sent, min_size=1, max_size=20), st.lists(st.integers(0, 20), max_size=4), st.randoms())
def test_fold_does_not_depend_on_order_or_batching(rows: list[Sent], cuts: list[int], dice: random.Random) -> None:
    batch = batch_of(rows)[1]
    order = list(range(len(batch)))
    dice.shuffle(order)
    folded = NONE
    edges = [0, *sorted(min(cut, len(order)) for cut in cuts), len(order)]
    for start, stop in itertools.pairwise(edges):
        part = batch.take(np.array(order[start:stop], np.int64))
        folded = fold(folded, part.instruments, part.rows, GRACE_US)
        folded = Seconds.from_bytes(folded.to_bytes())  # the state between
    assert records_of(folded) == records_of(fold(NONE, batch.instruments, batch.rows, GRACE_US))


@settings(max_examples=50)
@given(st.lists(sent, min_size=3, max_size=3), st.lists(st.booleans(), min_size=3, max_size=3), st.integers(0, 2))
def test_merge_is_associative_and_commutative(rows: list[Sent], copies: list[bool], kind: int) -> None:
    batch = batch_of([(*row[:4], "A", *row[5:7], kind) for row in rows])[1]
    batch.rows["verdict"] = copies
    a, b, c = (fold(NONE, batch.instruments, batch.rows[i : i + 1], GRACE_US).rows for i in range(3))
    assert merge(a, b).tobytes() == merge(b, a).tobytes()
    assert merge(merge(a, b), c).tobytes() == merge(a, merge(b, c)).tobytes()


places = st.tuples(st.integers(0, 2), st.booleans())


@given(st.lists(places, min_size=2, max_size=8), st.integers(0, 2), st.randoms())
def test_which_copy_is_the_first_changes_nothing(rows: list[tuple[int, bool]], kind: int, dice: random.Random) -> None:
    log = Log()
    for partition, is_late in rows:
        event = trade(7_000, 100.0, 2.5, side=1, trade_id="t", event_type=kind)
        log.add(event, partition=partition, log_time_us=event.timestamp + (600_000 if is_late else 0))
    batch = events(log)
    found = []
    for first in (0, dice.randrange(len(batch))):
        marked = batch.rows.copy()
        marked["verdict"] = np.arange(len(batch)) != first
        found.append(records_of(fold(NONE, batch.instruments, marked, GRACE_US)))
    assert found[0] == found[1]
    assert [row["duplicate_count"] for row in found[0]] == [len(rows) - 1]
    assert found[0][0]["event_count" if kind else "trade_count"] == 1


def test_unknown_event_types_are_not_folded_and_their_instruments_not_kept() -> None:
    log = Log()
    log.add(trade(0, symbol="OTHER", event_type=5))
    log.add(trade(0, symbol="NEGATIVE", event_type=-1))
    batch = events(log)
    assert fold(NONE, batch.instruments, batch.rows, GRACE_US) is NONE
    log.add(trade(0, symbol="TICK", event_type=2))
    log.add(trade(0, symbol="TRADE"))
    batch = events(log)
    folded = fold(NONE, batch.instruments, batch.rows, GRACE_US)
    assert [(folded.instruments[row["instrument"]][1], row["kind"]) for row in folded.rows] == [
        ("TRADE", 0),
        ("TICK", 2),
    ]


def book_of(*changes: tuple[int, float, float]) -> dict[str, object]:
    """The book stat of (side, price, volume)."""
    batch = batch_of([(0, price, volume, side, "A", 0, False, 1) for side, price, volume in changes])[1]
    (row,) = records_of(fold(NONE, batch.instruments, batch.rows, GRACE_US))
    return row


@pytest.mark.parametrize(
    ("changes", "bid", "ask", "gap", "imbalance", "counts"),
    [
        ([(1, 10.0, 1.0), (1, 10.5, 2.0), (2, 11.0, 1.0)], "10.5", "11", "0.5", "0.5", (3, 0, 0)),
        ([(1, 10.0, 1.0)], "10", None, None, "1", (1, 0, 0)),
        ([(2, 10.0, 1.0), (2, 9.0, 0.0)], None, "10", None, "-1", (1, 0, 1)),  # a level that goes away is no price
        ([(1, 10.0, 1.0), (1, 99.0, 0.0), (2, 11.0, 1.0), (2, 1.0, 0.0)], "10", "11", "1", "0", (2, 0, 2)),
        ([(0, 10.0, 1.0), (3, 9.0, 1.0), (0, 8.0, 0.0)], None, None, None, None, (2, 2, 1)),
        ([(1, 10.0, 0.0), (2, 9.5, 0.0)], None, None, None, None, (0, 0, 2)),
        ([(1, 10.0, 1.0), (2, 10.0, 2.0)], "10", "10", "0", "-0.3333333333333333", (2, 0, 0)),
        ([(1, 100.04, 0.1), (2, 100.05, 0.3)], "100.04", "100.05", "0.01", "-0.5", (2, 0, 0)),
    ],
)
def test_book_knows_its_sides_and_leaves_deletions_out(
    changes: list[tuple[int, float, float]],
    bid: str | None,
    ask: str | None,
    gap: str | None,
    imbalance: str | None,
    counts: tuple[int, int, int],
) -> None:
    row = book_of(*changes)
    wanted = [None if text is None else float(text) for text in (bid, ask, gap, imbalance)]
    names = ("max_bid_update_price", "min_ask_update_price", "update_price_gap", "update_imbalance")
    assert [row[name] for name in names] == wanted
    assert tuple(row[name] for name in ("event_count", "unknown_side_count", "level_delete_count")) == counts
    assert (row["first_event_time"] is None) == (counts[0] == 0)
    assert row["version"] == len(changes)


def test_fold_does_not_change_what_it_was_given() -> None:
    batch = batch_of([(1, 100.0, 1.0, 1, "A", 0, False, 1), (2, 0.1, 0.3, 2, "B", 1, True, 0)])[1]
    folded = fold(NONE, batch.instruments, batch.rows[:1], GRACE_US)
    before = folded.to_bytes(), batch.rows.tobytes()
    fold(folded, batch.instruments, batch.rows, GRACE_US)
    assert (folded.to_bytes(), batch.rows.tobytes()) == before


LAYOUTS = {0: (BARS, bar_batch), 1: (BOOKS, stat_batch), 2: (TICKERS, stat_batch)}


@given(st.lists(sent, min_size=1, max_size=10), st.integers(0, 2))
def test_records_and_columns_are_inverse(rows: list[Sent], kind: int) -> None:
    batch = batch_of([(*row[:7], kind) for row in rows])[1]
    folded = fold(NONE, batch.instruments, batch.rows, GRACE_US)
    layout, build = LAYOUTS[kind]
    records = build(T0_US // 1_000_000, folded, np.arange(len(folded.rows)), 1)
    assert WindowColumns.from_batch(layout, records).to_batch(layout, 1).equals(records)
    assert records.column("version").to_pylist() == version(folded.rows).tolist()
    one = records.slice(len(records) - 1, 1)
    assert WindowColumns.from_batch(layout, one).to_batch(layout, 1).equals(one)
