"""What goes wrong around the simulated market, its truth, and the graph held against that truth."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from runners.__main__ import app
from runners.simulate import FaultConfig, Market, MarketConfig, SimulatedBatch
from runners.simulate_truth import Tally
from schemas.market_data_pb2 import MarketDataEvent
from tests.testing import Log, run

START_US = 1_700_000_000_000_000
PLAIN = MarketConfig(count=12_000, rate=1_500, duplicate_share=0.02, late_share=0.01, seed=11)  # 8 s
ALL = FaultConfig(
    future_share=0.02,
    clock_skew_ms=900,
    silent_instruments=5,
    gap_share=0.05,
    halt_every_s=4,
    halt_length_s=1,
    recorders=2,
    partition_disorder_ms=1_500,
)


def batches(faults: FaultConfig, config: MarketConfig = PLAIN) -> list[SimulatedBatch]:
    return list(Market(replace(config, faults=faults), START_US).batches())


def column(found: list[SimulatedBatch], of: Callable[[SimulatedBatch], Any]) -> Any:
    return np.concatenate([of(batch) for batch in found])


def venues(found: list[SimulatedBatch]) -> Any:
    return np.array([key.split(b"|")[0].decode() for batch in found for key in batch.keys])


def truth_of(config: MarketConfig, found: list[SimulatedBatch]) -> dict[str, Any]:
    tally = Tally(config, START_US)
    for batch in found:
        tally.add(batch)
    return tally.as_dict()


def test_default_market_is_the_one_it_was_before_there_were_faults() -> None:
    for config, known in (
        (MarketConfig(count=9_000), "d00093b54a7afdb11d0874f4cb2a501db9d23f1beafd2d3d129ef516e0c9c86a"),
        (
            MarketConfig(count=40_000, rate=8_000, duplicate_share=0.02, late_share=0.01, seed=11),
            "7c8d1aebd25e1185498338088dc0d8f6fddf41d032b8312a0a20182219795e3f",
        ),
    ):
        digest = hashlib.sha256()
        for batch in Market(config, START_US).batches():
            for key, value, time_ms in zip(batch.keys, batch.values, batch.log_time_ms.tolist(), strict=True):
                digest.update(b"|".join((key, value, str(time_ms).encode())))
        assert digest.hexdigest() == known


def test_same_seed_gives_the_same_faults_and_a_shorter_market_its_beginning() -> None:
    first, again = (batches(ALL) for _ in range(2))
    assert [batch.values for batch in first] == [batch.values for batch in again]
    whole = [value for batch in first for value in batch.values]
    short = [value for batch in batches(ALL, replace(PLAIN, count=5_000)) for value in batch.values]
    assert short == whole[:5_000]


def test_events_dated_ahead_are_counted_and_far_from_the_border() -> None:
    found = batches(FaultConfig(future_share=0.02))
    lag_us = column(found, lambda batch: batch.log_time_ms * 1_000 - batch.columns["timestamp"].to_numpy())
    future = column(found, lambda batch: batch.future)
    assert 150 < future.sum() < 350
    assert (lag_us[future] < -9_000_000).all()
    assert (lag_us[~future] > -1_000).all()


def test_each_venues_clock_is_off_by_a_constant() -> None:
    calm, skewed = batches(FaultConfig()), batches(FaultConfig(clock_skew_ms=900))
    moved = column(skewed, lambda b: b.columns["timestamp"].to_numpy()) - column(
        calm, lambda b: b.columns["timestamp"].to_numpy()
    )
    by_venue = {venue: set(moved[venues(calm) == venue].tolist()) for venue in PLAIN.venues}
    assert [len(offsets) for offsets in by_venue.values()] == [1, 1, 1]
    offsets = {next(iter(found)) for found in by_venue.values()}
    assert len(offsets) == 3
    assert max(map(abs, offsets)) <= 900_000


def test_silent_instruments_send_nothing_and_the_truth_names_them() -> None:
    config = replace(PLAIN, faults=FaultConfig(silent_instruments=5))
    truth = truth_of(config, batches(config.faults))
    assert len(truth["silent"]) == 5
    assert len(truth["instruments"]) == 43


def test_gaps_leave_holes_and_halts_do_not() -> None:
    lost = truth_of(PLAIN, batches(FaultConfig(gap_share=0.05)))
    halted = truth_of(PLAIN, batches(FaultConfig(halt_every_s=4, halt_length_s=1)))
    calm = truth_of(PLAIN, batches(FaultConfig()))
    missing = [sum(row["missing"] for row in truth["instruments"].values()) for truth in (lost, halted, calm)]
    assert 400 < missing[0] < 800
    assert max(missing[1:]) < 60  # what the last records of the log are still ahead of


def test_a_halted_venue_sends_nothing_while_others_do() -> None:
    found = batches(FaultConfig(halt_every_s=4, halt_length_s=1, recorders=1), replace(PLAIN, duplicate_share=0))
    times = column(found, lambda batch: batch.log_time_ms) - START_US // 1_000
    longest = {venue: int(np.diff(np.sort(times[venues(found) == venue])).max()) for venue in PLAIN.venues}
    assert all(900 <= silence_ms < 1_300 for silence_ms in longest.values()), longest
    assert int(np.diff(np.sort(times)).max()) < 900


def test_two_recorders_send_copies_under_other_keys_and_one_has_what_the_other_lost() -> None:
    found = batches(FaultConfig(recorders=2, gap_share=0.1), replace(PLAIN, duplicate_share=0))
    serial, second = (
        column(found, lambda batch: batch.serial),
        np.array([key.endswith(b"|b") for batch in found for key in batch.keys]),
    )
    first_only, second_only = set(serial[~second]) - set(serial[second]), set(serial[second]) - set(serial[~second])
    assert min(len(first_only), len(second_only)) > 300
    duplicate = column(found, lambda batch: batch.duplicate)
    assert set(serial[~duplicate].tolist()) == set(serial.tolist())
    assert Counter(serial[~duplicate].tolist()).most_common(1)[0][1] == 1


def test_disorder_of_partitions_moves_log_times_backwards_by_its_length() -> None:
    found = batches(FaultConfig(partition_disorder_ms=1_500))
    times = column(found, lambda batch: batch.log_time_ms)
    behind = np.maximum.accumulate(times) - times
    assert 1_000 < behind.max() < 1_510


@pytest.mark.parametrize(
    "faults",
    [
        FaultConfig(future_share=0.02, clock_skew_ms=900),
        FaultConfig(recorders=2, gap_share=0.05, partition_disorder_ms=1_500),
        ALL,
    ],
    ids=["clocks", "recorders", "all"],
)
def test_the_graph_gives_what_the_truth_says(faults: FaultConfig, tmp_path: Path) -> None:
    config = replace(PLAIN, faults=faults)
    found = batches(faults)
    truth = truth_of(config, found)
    log = Log()
    homes: dict[bytes, int] = {}
    for batch in found:
        for key, value, time_ms in zip(batch.keys, batch.values, batch.log_time_ms.tolist(), strict=True):
            home = homes.setdefault(key, len(homes) % 12)
            log.add(MarketDataEvent.FromString(value), partition=home, log_time_us=time_ms * 1_000)
    written = run(log.batches(1_000), tmp_path)
    events, bars = written.rows("events"), written.rows("bars")
    assert len(events) == truth["unique"]
    assert sum(len(row["copies"]) for row in events) == truth["duplicates"]
    assert len(written.rows("late")) == truth["late"]
    assert Counter(row["reason"] for row in written.rows("rejects")) == truth["rejects"]
    unique = Counter(f"{row['exchange']}|{row['symbol']}" for row in events)
    trades: Counter[str] = Counter()
    volumes: dict[str, Decimal] = {}
    for bar in bars:
        if bar["interval_s"] == 60:
            name = f"{bar['exchange']}|{bar['symbol']}"
            trades[name] += bar["trade_count"]
            volumes[name] = volumes.get(name, Decimal(0)) + bar["volume"]
    assert unique == {name: row["unique"] for name, row in truth["instruments"].items() if row["unique"]}
    assert trades == {name: row["trades"] for name, row in truth["instruments"].items() if row["trades"]}
    assert volumes == {name: Decimal(row["volume"]) for name, row in truth["instruments"].items() if row["trades"]}


def test_command_writes_the_truth_beside_the_data(tmp_path: Path) -> None:
    data, truth = tmp_path / "market.jsonl", tmp_path / "truth.json"
    line = f"simulate --count 3000 --future 0.05 --recorders 2 --silent 3 --out {data} --truth {truth}"
    assert CliRunner().invoke(app, line.split()).exit_code == 0
    told = json.loads(truth.read_text())
    assert told["records"] == len(data.read_text().splitlines()) == 3_000
    assert told["rejects"]["timestamp_in_future"] > 50
    assert len(told["silent"]) >= 3
    assert told["config"]["faults"]["recorders"] == 2
    sums = [sum(row[name] for row in told["instruments"].values()) for name in ("unique", "trades")]
    assert sums == [told["unique"], told["trades"]]


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("future_share", 1.5, "future_share must be between 0 and 1, was 1.5"),
        ("clock_skew_ms", 5_000, "clock_skew_ms must be between 0 and 4000, was 5000"),
        ("silent_instruments", 48, "silent_instruments must be >= 0 and < 48, was 48"),
        ("halt_every_s", 3, "halt_length_s must be > 0 and < halt_every_s, was 5.0"),
        ("recorders", 3, "recorders must be 1 or 2, was 3"),
        ("partition_disorder_ms", -1, "partition_disorder_ms must be >= 0, was -1"),
    ],
)
def test_impossible_faults_are_refused(option: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(PLAIN, faults=FaultConfig(**{option: value}))
