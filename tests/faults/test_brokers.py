"""Three brokers with three replicas, as in production: one dies for good, and another leads its partitions."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from confluent_kafka.admin import AdminClient

from runners.live import running
from runners.log import Log
from runners.replay import replay
from runners.stack import LocalStack
from runners.topic_specs import TopicSpec
from runners.topics import apply_topics
from tests import live
from tests.conftest import TopicFactory
from tests.faults.frame import MARKET, TIMEOUT_S, Case, Silence

pytestmark = pytest.mark.slow

RAW = "raw.three"


@pytest.fixture
def case(tmp_path: Path) -> Iterator[Case]:
    stack = LocalStack(tmp_path / "stack", brokers=3)
    with stack as places:
        apply_topics(places.bootstrap_servers, [TopicSpec(RAW, 12, 3, {"retention.ms": "-1"})])
        known = live.publish_ended(places.bootstrap_servers, RAW, MARKET)
        yield Case(places, stack, TopicFactory(places.bootstrap_servers), RAW, known, tmp_path / "savepoints")


def leaders(servers: str, topic: str) -> set[int]:
    """The brokers that lead its partitions; -1 for one that has no leader."""
    partitions = AdminClient({"bootstrap.servers": servers}).list_topics(topic, timeout=10).topics[topic].partitions
    return {partition.leader for partition in partitions.values()}


def test_run_goes_on_when_one_of_three_brokers_is_gone_and_the_replay_equals_it(case: Case, tmp_path: Path) -> None:
    servers, root = case.places.bootstrap_servers, tmp_path / "live"
    options = case.options(root)
    assert leaders(servers, RAW) == {1, 2, 3}
    with running(case.places, options) as job:
        out = case.wait_for_moment(options, seed="one broker of three")
        with Silence(servers, options) as silence:
            case.stack.kill("kafka-1")
            live.wait_until(lambda: leaders(servers, RAW) == {2, 3}, TIMEOUT_S, "nobody else leads")
            after_s = case.wait_complete(root)
        print(f"one broker of three killed with {out:,} unique events out; longest silence {silence.longest_s:.1f} s, ")
        print(f"all files {after_s:.1f} s after others lead")
        job.stop(case.savepoints)
    replay(servers, Log(servers, RAW).freeze(), tmp_path / "replay")
    assert live.sums(root) == live.sums(tmp_path / "replay")
    np.testing.assert_array_equal(live.places_in_files(root), live.places_in_log(servers, RAW))
    assert live.identities_in_files(root).equals(case.known.identities)
