"""One broker of three dies in the middle and comes back: leaders move, and nothing is lost, doubled or changed."""

import os
from collections.abc import Iterator

import numpy as np
import pytest
from confluent_kafka.admin import AdminClient

from runners.live import running
from runners.log import Log
from runners.replay import replay
from runners.stack import LocalStack
from tests import live
from tests.conftest import TopicFactory
from tests.faults.frame import MARKET, Case, Silence

pytestmark = pytest.mark.slow

BROKERS = 3
RUNS = int(os.environ.get("HORIZON_FAULT_RUNS", "1"))


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    stack = LocalStack(tmp_path_factory.mktemp("three"), brokers=BROKERS)
    with stack as places:
        topic = TopicFactory(places.bootstrap_servers, replication=BROKERS)
        raw = topic(config={"retention.ms": "-1"}, prefix="raw")
        known = live.publish_ended(places.bootstrap_servers, raw, MARKET)
        yield Case(places, stack, topic, raw, known, tmp_path_factory.mktemp("savepoints"))


@pytest.fixture(scope="module")
def replayed(case: Case, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What a replay writes, which is what a run without a fault writes (test_recovery.py)."""
    root = tmp_path_factory.mktemp("replay")
    replay(case.places.bootstrap_servers, Log(case.places.bootstrap_servers, case.topic).freeze(), root)
    return live.sums(root)


def leaders(case: Case) -> list[int]:
    """Of each partition of the input topic the leading broker."""
    admin = AdminClient({"bootstrap.servers": case.places.bootstrap_servers})
    partitions = admin.list_topics(case.topic, timeout=10).topics[case.topic].partitions
    return [partitions[number].leader for number in sorted(partitions)]


@pytest.mark.parametrize("number", range(RUNS))
def test_one_broker_of_three_dies_and_comes_back(
    case: Case, replayed: dict[str, str], number: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("faulty")
    victim = number % BROKERS + 1
    options = case.options(root)
    with case.whole_afterwards(), running(case.places, options) as job:
        out = case.wait_for_moment(options, f"broker {number}")
        assert victim in leaders(case)
        with Silence(case.places.bootstrap_servers, options) as silence:
            restarts = case.stack.processes()[f"kafka-{victim}"].restarts
            case.stack.kill(f"kafka-{victim}", stays_dead=False)
            live.wait_until(lambda: victim not in leaders(case), 60, "no other broker leads its partitions")
            after_s = case.wait_complete(root)
        assert case.stack.processes()[f"kafka-{victim}"].restarts > restarts
        job.stop(case.savepoints)
    print(f"kafka-{victim} of three killed with {out:,} unique events out; ", end="")
    print(f"longest silence {silence.longest_s:.1f} s, all files {after_s:.1f} s after its leaders had moved")
    assert live.sums(root) == replayed
    np.testing.assert_array_equal(
        live.places_in_files(root), live.places_in_log(case.places.bootstrap_servers, case.topic)
    )
    assert live.identities_in_files(root).equals(case.known.identities)
