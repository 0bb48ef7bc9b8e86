"""Tickers, books and sliding windows of a simulated market, and sessions, field for field, against the oracle."""

from pathlib import Path

import pytest

from pipelines.options import MarketDataConfig
from runners.compare import read_dataset
from runners.simulate import Market, MarketConfig
from schemas.market_data_pb2 import MarketDataEvent
from schemas.units import US_PER_S
from tests.expectations import assert_as_expected, assert_stats, expected_of
from tests.logs import silent_log
from tests.oracle import expect
from tests.testing import T0_US, Log, run
from transforms.datasets import EVENTS


def simulated_log(config: MarketConfig) -> Log:
    """A simulated market as a topic of 12 partitions, an instrument always in the same."""
    log = Log()
    homes: dict[bytes, int] = {}
    for batch in Market(config, T0_US).batches():
        for key, value, log_time_ms in zip(batch.keys, batch.values, batch.log_time_ms.tolist(), strict=True):
            home = homes.setdefault(key, len(homes) % 12)
            log.add(MarketDataEvent.FromString(value), partition=home, key=key, log_time_us=log_time_ms * 1_000)
    return log


@pytest.mark.parametrize(
    ("config", "batch"),
    [
        (MarketConfig(rate=400, count=12_000, late_share=0.01, duplicate_share=0.05), 700),
        pytest.param(MarketConfig(count=1_000_000), 10_000, marks=pytest.mark.slow),
    ],
    ids=["12,000", "1,000,000"],
)
def test_stats_of_a_simulated_market_are_the_oracles(config: MarketConfig, batch: int, tmp_path: Path) -> None:
    log = simulated_log(config)
    written = run(log.by_partition(batch), tmp_path)
    cell = MarketDataConfig().cell
    expected = expect(log.sent(), horizon_us=cell.horizon_us, grace_us=cell.grace_us, intervals_s=[])
    assert expected.late
    assert any(expected.unique.values())
    table = read_dataset(tmp_path, EVENTS).select(["partition", "offset", "identity"])
    identities = {(p, o): identity for p, o, identity in zip(*table.to_pydict().values(), strict=True)}
    assert identities.keys() == expected.unique.keys()
    assert_stats(written, expected, identities)
    assert {row["kind"] for row in written.rows("stats")} == {"ticker", "book", "sliding"}


@pytest.mark.parametrize(("gap_s", "half_s"), [(1, 30), (30, 120)])
def test_sessions_are_the_oracles_whatever_partition_is_read_first(gap_s: int, half_s: int, tmp_path: Path) -> None:
    log = silent_log(gap_s, half_us=half_s * US_PER_S)
    config = MarketDataConfig(session_gap_s=gap_s)
    written = run(log.by_partition(700), tmp_path / "forwards", config)
    assert_as_expected(written, expected_of(log, config), gap_s)
    found = [row for row in written.rows("stats") if row["kind"] == "session"]
    assert [row["interval_s"] for row in found if row["symbol"] == "ONCE"] == [1]
    if gap_s > 1:
        assert len([row for row in found if row["symbol"] == "BUSY"]) == 2  # until midnight, and on
    assert run(log.by_partition(50, backwards=True), tmp_path / "backwards", config).files() == written.files()


def test_sessions_change_nothing_else(tmp_path: Path) -> None:
    log = silent_log(30, half_us=30 * US_PER_S)
    plain, with_sessions = (
        run(log.batches(), tmp_path / str(gap_s), MarketDataConfig(session_gap_s=gap_s)) for gap_s in (None, 30)
    )
    for dataset in ("events", "bars", "late", "rejects"):
        assert plain.sorted_rows(dataset) == with_sessions.sorted_rows(dataset)
    assert plain.rows("stats") == [row for row in with_sessions.rows("stats") if row["kind"] != "session"]
