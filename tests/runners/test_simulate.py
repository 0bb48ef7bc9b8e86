"""Laws of the simulated market: what it promises, and that its truth is the truth."""

import itertools
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runners.capture import CapturedEvent, read_capture
from runners.simulate import Market, MarketConfig, SimulatedBatch, Truth
from schemas.market_data_pb2 import MarketDataEvent

START_US = 1_700_000_000_000_000
CONFIG = MarketConfig(count=40_000, rate=8_000, duplicate_share=0.02, late_share=0.01, seed=11)
CLEAN = MarketConfig(
    count=10_000, duplicate_share=0, twin_share=0, same_time_share=0, late_share=0, disorder_ms=0, burst_share=0
)


def batches(config: MarketConfig) -> list[SimulatedBatch]:
    return list(Market(config, START_US).batches())


def truth(config: MarketConfig) -> Truth:
    return sum((batch.truth for batch in batches(config)), Truth())


@pytest.fixture(scope="module")
def market() -> list[SimulatedBatch]:
    return batches(CONFIG)


@pytest.fixture(scope="module")
def rows(market: list[SimulatedBatch]) -> list[dict[str, Any]]:
    """Every record in the log's order, with its flags."""
    return [
        {**row, "log_ms": log_ms, "value": value, "duplicate": duplicate, "twin": twin, "late": late}
        for batch in market
        for row, log_ms, value, duplicate, twin, late in zip(
            batch.columns.to_pylist(),
            batch.log_time_ms.tolist(),
            batch.values,
            batch.duplicate.tolist(),
            batch.twin.tolist(),
            batch.late.tolist(),
            strict=True,
        )
    ]


def identity(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["exchange"], row["symbol"], row["event_type"], row["trade_id"], row["event_id"]


def test_same_seed_gives_same_bytes_and_another_seed_others() -> None:
    config = replace(CONFIG, count=9_000)
    market = Market(config, START_US)
    first, second = ([(b.keys, b.values, b.log_time_ms.tolist()) for b in market.batches()] for _ in range(2))
    assert first == second
    assert first != [(b.keys, b.values, b.log_time_ms.tolist()) for b in batches(replace(config, seed=12))]


@pytest.mark.parametrize("count", [0, 1, 4_096, 10_001])
def test_count_is_exact(count: int) -> None:
    assert truth(replace(CONFIG, count=count)).records == count


def test_shorter_market_is_the_beginning_of_a_longer_one() -> None:
    short = [value for batch in batches(replace(CONFIG, count=5_000)) for value in batch.values]
    long = [value for batch in batches(replace(CONFIG, count=9_000)) for value in batch.values]
    assert long[:5_000] == short


def test_market_without_count_goes_on() -> None:
    endless = Market(replace(CONFIG, count=None), START_US).batches()
    assert sum(len(batch) for batch in itertools.islice(endless, 20)) > 60_000


def test_values_are_the_columns_as_protobuf(market: list[SimulatedBatch]) -> None:
    batch = market[0]
    for key, value, row in zip(batch.keys, batch.values, batch.columns.to_pylist(), strict=True):
        event = MarketDataEvent.FromString(value)
        assert key == f"{event.exchange}|{event.symbol}".encode()
        assert value == MarketDataEvent(**{k: v for k, v in row.items() if v is not None}).SerializeToString(
            deterministic=True
        )


def test_truth_adds_up(market: list[SimulatedBatch]) -> None:
    total = sum((batch.truth for batch in market), Truth())
    assert total.records == 40_000 == total.unique + total.duplicates + total.late
    assert min(total.duplicates, total.late, total.twins, total.trades) > 100


def test_identities_are_unique_but_for_duplicates(rows: list[dict[str, Any]]) -> None:
    counts = Counter(identity(row) for row in rows if not row["duplicate"])
    assert set(counts.values()) == {1}


def test_duplicate_is_the_same_record_later_in_the_log(rows: list[dict[str, Any]]) -> None:
    originals: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        if row["duplicate"]:
            assert originals[identity(row)]["value"] == row["value"]
            assert 0 <= row["log_ms"] - originals[identity(row)]["log_ms"] <= 2_001
        else:
            originals[identity(row)] = row


def test_twin_equals_an_earlier_trade_in_all_but_its_ids(rows: list[dict[str, Any]]) -> None:
    def content(row: dict[str, Any]) -> tuple[Any, ...]:
        names = ("exchange", "symbol", "event_type", "timestamp", "price", "volume", "side")
        return tuple(row[name] for name in names)

    seen: dict[tuple[Any, ...], list[str]] = defaultdict(list)
    for row in rows:
        if row["twin"] and not row["duplicate"]:
            assert row["event_type"] == 0
            assert str(int(row["trade_id"]) - 1) in seen[content(row)]
        if row["event_type"] == 0:
            seen[content(row)].append(row["trade_id"])


def test_late_is_exactly_what_lags_beyond_the_horizon(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        lag_us = row["log_ms"] * 1_000 - row["timestamp"]
        assert row["late"] == (lag_us > 120_000_000)
        assert 0 <= lag_us < 10_000_000 or 125_000_000 <= lag_us < 190_000_000


def test_trade_ids_rise_with_event_time(rows: list[dict[str, Any]]) -> None:
    trades = defaultdict(list)
    for row in rows:
        if row["trade_id"] is not None and not row["late"]:
            trades[row["exchange"], row["symbol"]].append((int(row["trade_id"]), row["timestamp"]))
    for pairs in trades.values():
        times = [time_us for _, time_us in sorted(pairs)]
        assert times == sorted(times)


def test_log_is_only_nearly_in_order_of_its_times(rows: list[dict[str, Any]]) -> None:
    log_ms = np.array([row["log_ms"] for row in rows])
    behind = np.maximum.accumulate(log_ms) - log_ms
    assert 0 < behind.max() <= 5


def test_trades_share_milliseconds_and_microseconds(rows: list[dict[str, Any]]) -> None:
    trades = [row for row in rows if row["event_type"] == 0 and not row["duplicate"] and not row["twin"]]
    shared = Counter((row["exchange"], row["symbol"], row["timestamp"]) for row in trades)
    assert sum(count for count in shared.values() if count > 1) > 1_000


def test_burst_holds_its_share() -> None:
    time_us = np.concatenate(
        [batch.columns["timestamp"].to_numpy() - START_US for batch in batches(replace(CLEAN, count=200_000))]
    )
    assert not (np.bincount(time_us // 500_000) > 10_000).any()
    bursts = np.concatenate(
        [
            batch.columns["timestamp"].to_numpy() - START_US
            for batch in batches(replace(CLEAN, count=200_000, burst_share=0.25))
        ]
    )
    assert np.mean(bursts % 10_000_000 >= 9_500_000) == pytest.approx(0.25, abs=0.01)


def test_clean_market_has_only_unique_events_in_order() -> None:
    assert truth(CLEAN) == Truth(records=10_000, unique=10_000, trades=truth(CLEAN).trades)


def test_mix_holds() -> None:
    assert truth(replace(CLEAN, mix=(1, 0, 0))).trades == 10_000
    assert truth(replace(CLEAN, mix=(0, 1, 1))).trades == 0


def test_hot_instrument_has_its_share_and_the_others_theirs_by_rank() -> None:
    hot = replace(CLEAN, count=40_000, hot_share=0.9)
    counts = Counter(key for batch in batches(hot) for key in batch.keys)
    by_rank = [counts[f"{exchange}|{symbol}".encode()] for exchange, symbol in hot.names()]
    assert by_rank[0] == pytest.approx(36_000, rel=0.01)
    others = 1 / np.arange(2, hot.instruments + 1)
    expected = 4_000 * others / others.sum()
    np.testing.assert_allclose(by_rank[1:6], expected[:5], rtol=0.2)
    assert truth(replace(hot, instruments=1, count=100)).unique == 100


def test_prices_lie_on_the_grid_and_volumes_are_finite(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        assert row["price"] > 0
        assert row["price"] == round(row["price"], 5)
        assert row["volume"] == round(row["volume"], 5) >= 0


def test_json_lines_are_a_capture_of_the_same_records(market: list[SimulatedBatch], tmp_path: Path) -> None:
    file = tmp_path / "market.jsonl"
    file.write_text("\n".join(market[0].json_lines()))
    read = list(read_capture(file))
    assert all(isinstance(row, CapturedEvent) for row in read)
    again = [(row.event.SerializeToString(deterministic=True), row.log_us) for row in read]  # type: ignore[union-attr]
    assert again == list(zip(market[0].values, (market[0].log_time_ms * 1_000).tolist(), strict=True))


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("hot_share", 1, "hot_share must be at least 0 and below 1, was 1"),
        ("rate", 0, "rate must be > 0, was 0"),
        ("instruments", 0, "instruments must be at least 1, was 0"),
        ("venues", (), "venues must be at least one name"),
        ("count", -1, "count must be >= 0, or none for an endless market, was -1"),
        ("mix", (0, 0, 0), "mix must be three weights"),
        ("late_share", 1.5, "late_share must be between 0 and 1, was 1.5"),
        ("duplicate_share", -0.1, "duplicate_share must be between 0 and 1"),
        ("disorder_ms", -1, "disorder_ms must be >= 0"),
        ("horizon_s", 1, "horizon_s must be 5 s above"),
        ("burst_length_s", 20, "burst_length_s must be > 0 and < burst_every_s"),
    ],
)
def test_impossible_market_is_refused(option: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(CONFIG, **{option: value})
