"""Tickers, books and sliding windows of a simulated market, field for field, against the oracle."""

from pathlib import Path

import pytest

from pipelines.options import MarketDataConfig
from runners.compare import read_dataset
from runners.simulate import Market, MarketConfig
from schemas.market_data_pb2 import MarketDataEvent
from tests.expectations import assert_stats
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
