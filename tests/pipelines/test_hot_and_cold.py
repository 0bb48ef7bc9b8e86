"""Uneven logs on the real stack: one instrument with most of the load, very many, without keys, between partitions."""

import time
from pathlib import Path

import pyarrow.compute as pc
import pytest

from runners.compare import read_dataset
from runners.log import Log
from runners.publish import publish_batches
from runners.simulate import Market, MarketConfig
from runners.stack import Endpoints
from tests import live
from tests.conftest import TopicFactory
from tests.proof import run_over_ended_log
from tests.simulated import Simulated
from transforms.datasets import EVENTS

pytestmark = pytest.mark.slow

OLD_TIMES = {"retention.ms": "-1"}  # for Kafka deletes by the records' own times
OVERLAP = 3  # batches that both producers send when one takes over from the other


def test_one_instrument_with_nine_tenths_of_the_load(stack: Endpoints, topic: TopicFactory, tmp_path: Path) -> None:
    raw = topic(config=OLD_TIMES, prefix="raw")
    market = MarketConfig(seed=31, hot_share=0.9, count=200_000)
    known = live.publish_ended(stack.bootstrap_servers, raw, market)
    ends = Log(stack.bootstrap_servers, raw).latest().values()
    assert max(ends) > 0.89 * sum(ends)
    run_over_ended_log(stack, topic, raw, tmp_path, known)
    assert set(live.partitions_of_instruments(tmp_path / "live").values()) == {1}


def test_ten_thousand_instruments(stack: Endpoints, topic: TopicFactory, tmp_path: Path) -> None:
    raw = topic(config=OLD_TIMES, prefix="raw")
    market = MarketConfig(seed=32, instruments=10_000, rate=30_000, count=300_000)
    known = live.publish_ended(stack.bootstrap_servers, raw, market)
    run_over_ended_log(stack, topic, raw, tmp_path, known)
    assert len(live.partitions_of_instruments(tmp_path / "live")) > 9_000


def test_records_without_keys_lie_in_all_partitions(stack: Endpoints, topic: TopicFactory, tmp_path: Path) -> None:
    raw = topic(config=OLD_TIMES, prefix="raw")
    market = MarketConfig(seed=33, count=200_000, duplicate_share=0.05)
    known = live.publish_ended(stack.bootstrap_servers, raw, market, keyed=False)
    run_over_ended_log(stack, topic, raw, tmp_path, known)
    partitions = live.partitions_of_instruments(tmp_path / "live")
    assert partitions["coinbase", "BTC-USDT"] == 12
    assert min(partitions.values()) > 6


def test_instruments_that_move_to_other_partitions_when_another_producer_takes_over(
    stack: Endpoints, topic: TopicFactory, tmp_path: Path
) -> None:
    raw, servers = topic(config=OLD_TIMES, prefix="raw"), stack.bootstrap_servers
    known = Simulated()
    start_us = time.time_ns() // 1_000 - 3 * live.HOUR_US
    batches = list(Market(MarketConfig(seed=34, count=200_000), start_us).batches())
    middle = len(batches) // 2
    both = batches[middle - OVERLAP : middle]
    for batch in batches:
        known.add(batch)
    for batch in both:
        known.add_again(batch)
    publish_batches(servers, raw, [batch.to_publish() for batch in batches[:middle]])
    crc32 = {"partitioner": "consistent_random"}  # what C's clients do with a key, unless told to do as Java's
    publish_batches(servers, raw, [batch.to_publish() for batch in batches[middle - OVERLAP :]], settings=crc32)
    live.end(servers, raw, known.newest_us + 2 * live.HOUR_US)
    run_over_ended_log(stack, topic, raw, tmp_path, known)
    moved = list(live.partitions_of_instruments(tmp_path / "live").values())
    assert set(moved) == {1, 2}
    assert moved.count(2) > len(moved) / 2
    events = read_dataset(tmp_path / "live", EVENTS)
    copies = events["copies"].combine_chunks()
    own = events["partition"].combine_chunks().take(pc.list_parent_indices(copies))
    elsewhere = pc.not_equal(pc.list_flatten(copies).field("partition"), own)
    assert pc.sum(elsewhere).as_py() > sum(map(len, both)) / 2
