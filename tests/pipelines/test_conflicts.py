"""One identity in two partitions, as two recorders or two producers leave it: the same verdict in any order of reading.

The right values are written out; that any log gives the oracle's is in test_market_data.py.
"""

from pathlib import Path
from typing import Any

from tests.testing import T0_US, Log, Written, place_of, run, trade

SECOND_US = 1_000_000


def in_any_order(log: Log, root: Path) -> Written:
    """The log read as it came, in single records, and partition after partition: the files are the same bytes."""
    orders = (log.batches(), log.batches(1), log.by_partition(), log.by_partition(1, backwards=True))
    runs = [run(batches, root / f"{number}") for number, batches in enumerate(orders)]
    assert [found.files() == runs[0].files() for found in runs] == [True] * len(runs)
    return runs[0]


def bars_of(written: Written, *names: str) -> list[tuple[Any, ...]]:
    return [tuple(row[name] for name in names) for row in written.rows("bars") if row["interval_s"] == 1]


def rejected(written: Written) -> list[tuple[tuple[int, int], str]]:
    return [(place_of(row), row["reason"]) for row in written.rows("rejects")]


def test_of_two_prices_in_two_partitions_the_first_in_the_log_counts(tmp_path: Path) -> None:
    log = Log()
    log.add(trade(0, 100.0, trade_id="7"), partition=0)
    log.add(trade(0, 101.0, trade_id="7"), partition=1)
    log.add(trade(0, 101.0, trade_id="7"), partition=1)
    written = in_any_order(log, tmp_path)
    names = ("open", "high", "low", "close", "trade_count", "duplicate_count", "version")
    assert bars_of(written, *names) == [(100.0, 100.0, 100.0, 100.0, 1, 0, 3)]
    assert rejected(written) == [((1, 0), "identity_conflict"), ((1, 1), "identity_conflict")]
    assert [(place_of(row), row["price"], row["copies"]) for row in written.rows("events")] == [((0, 0), 100.0, [])]


def test_the_log_time_comes_before_the_number_of_the_partition(tmp_path: Path) -> None:
    log = Log()
    log.add(trade(0, 101.0, trade_id="7"), partition=0, log_time_us=T0_US + 9_000)
    log.add(trade(0, 100.0, trade_id="7"), partition=1, log_time_us=T0_US + 2_000)
    written = in_any_order(log, tmp_path)
    assert bars_of(written, "close") == [(100.0,)]
    assert rejected(written) == [((0, 0), "identity_conflict")]


def test_the_same_trade_in_milliseconds_and_in_microseconds_is_one_trade_and_a_copy(tmp_path: Path) -> None:
    log = Log()
    log.add(trade(765_000, 281.1, 2.0, trade_id="52983527388738"), partition=0)
    log.add(trade(765_123, 281.1, 2.0, trade_id="52983527388738"), partition=1)
    log.add(trade(1_100_000, 281.2, 2.0, trade_id="52983527388739"), partition=1)
    log.add(trade(1_100_000, 281.2, 2.0, trade_id="52983527388739", sequence=55), partition=0)
    written = in_any_order(log, tmp_path)
    assert bars_of(written, "trade_count", "duplicate_count", "volume") == [(1, 1, 2), (1, 1, 2)]
    assert rejected(written) == []
    assert [row["copies"] for row in written.rows("events")] == [
        [{"partition": 1, "offset": 0}],
        [{"partition": 1, "offset": 1}],
    ]


def test_a_trade_that_rounding_carries_into_the_next_second_is_two(tmp_path: Path) -> None:
    """The limit of the README's row on duplicates: an identity counts within one event second."""
    log = Log()
    log.add(trade(999_600, 281.1, 2.0, trade_id="52983527388738"))
    log.add(trade(1_000_000, 281.1, 2.0, trade_id="52983527388738"))
    assert bars_of(in_any_order(log, tmp_path), "trade_count", "volume") == [(1, 2), (1, 2)]


def test_a_copy_beyond_the_horizon_is_late_and_changes_nothing(tmp_path: Path) -> None:
    log = Log()
    log.add(trade(0, trade_id="7"))
    log.add(trade(0, trade_id="7"), log_time_us=T0_US + 120 * SECOND_US + 1_000)
    log.add(trade(0, 101.0, trade_id="7"), log_time_us=T0_US + 120 * SECOND_US + 1_000)
    written = in_any_order(log, tmp_path)
    assert bars_of(written, "trade_count", "duplicate_count", "version") == [(1, 0, 1)]
    assert [(place_of(row), row["reason"]) for row in written.rows("late")] == [
        ((0, 1), "beyond_horizon"),
        ((0, 2), "beyond_horizon"),
    ]
    assert rejected(written) == []
