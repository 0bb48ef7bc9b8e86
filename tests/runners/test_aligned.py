"""KafkaIO's consumer, in the packaged Java on a real broker: no partition is read far ahead of the slowest."""

import subprocess
import time

import pytest
from confluent_kafka import Producer

from runners.stack import Endpoints
from tests import java_main
from tests.conftest import TopicFactory

START_MS = time.time_ns() // 1_000_000 - 3 * 3_600_000  # what is older than the topic's retention would be deleted
NO_BOUND = 2**40  # ms
Record = tuple[int, int, int]  # partition, offset, log time in ms after START_MS
RATES = {0: 1, 1: 1, 2: 30}  # records a ms of log time: what is read at one pace is not one time
SPAN_MS = 2_000
DRIFT_MS = 50
POLL = 200


@pytest.fixture(scope="module")
def java(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command that polls a topic with the consumer."""
    return java_main.command(tmp_path_factory.mktemp("java"), "PollAligned")


def fill(stack: Endpoints, name: str, times_ms: dict[int, list[int]]) -> int:
    """Records with these log times (after START_MS) by partition; how many."""
    producer = Producer({"bootstrap.servers": stack.bootstrap_servers, "linger.ms": 5, "batch.size": 2_000})
    for partition, times in times_ms.items():
        for at in times:
            producer.produce(name, b"v", partition=partition, timestamp=START_MS + at)
        producer.flush()
    return sum(map(len, times_ms.values()))


def polls(
    java: list[str], stack: Endpoints, name: str, partitions: int, records: int, drift: int
) -> list[list[Record]]:
    """What each poll brought, until all is read."""
    command = [*java, stack.bootstrap_servers, name, str(partitions), str(records), str(drift), str(POLL)]
    told = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    found = []
    for line in told.splitlines():
        records_ = [tuple(map(int, record.split())) for record in line.split(",") if record]
        found.append([(partition, offset, at - START_MS) for partition, offset, at in records_])
    return found


def widest(found: list[list[Record]], times_ms: dict[int, list[int]]) -> int:
    """How far, in ms, a record was ever ahead of the slowest partition that had records left."""
    clock = dict.fromkeys(times_ms, 0)
    left = {partition: len(times) for partition, times in times_ms.items()}
    apart = 0
    for poll in found:
        for partition, _, at in poll:
            clock[partition], left[partition] = max(clock[partition], at), left[partition] - 1
        slowest = min((clock[partition] for partition in clock if left[partition]), default=None)
        if slowest is not None:
            apart = max(apart, max(at for _, _, at in poll) - slowest if poll else 0)
    return apart


def in_order_and_once(found: list[list[Record]], times_ms: dict[int, list[int]]) -> bool:
    read: dict[int, list[int]] = {partition: [] for partition in times_ms}
    for poll in found:
        for partition, offset, _ in poll:
            read[partition].append(offset)
    return read == {partition: list(range(len(times))) for partition, times in times_ms.items()}


def test_partition_with_many_records_does_not_fall_behind_the_others(
    java: list[str], stack: Endpoints, topic: TopicFactory
) -> None:
    name = topic(partitions=3)
    times = {partition: [at for at in range(SPAN_MS) for _ in range(rate)] for partition, rate in RATES.items()}
    records = fill(stack, name, times)
    aligned = polls(java, stack, name, 3, records, DRIFT_MS)
    assert in_order_and_once(aligned, times)
    # what one poll brings is not held back, and at first it is not known which partitions have records
    assert widest(aligned, times) <= DRIFT_MS + 2 * POLL
    assert widest(polls(java, stack, name, 3, records, NO_BOUND), times) > 1_000


@pytest.mark.parametrize(
    "times",
    [
        pytest.param({0: list(range(3_000)), 1: [], 2: list(range(3_000))}, id="empty"),
        pytest.param({0: list(range(3_000)), 1: [5], 2: list(range(3_000))}, id="drained"),
        pytest.param({0: list(range(3_000)), 1: [3_000_000 + at for at in range(3_000)]}, id="50-minutes-ahead"),
        pytest.param({0: list(range(3_000)), 1: [-7_200_000 + at for at in range(3_000)]}, id="2-hours-behind"),
        pytest.param({0: [0, 10_000_000, *range(2_000)], 1: list(range(2_000))}, id="one-wild-time"),
    ],
)
def test_no_clock_keeps_a_partition_from_being_read(
    java: list[str], stack: Endpoints, topic: TopicFactory, times: dict[int, list[int]]
) -> None:
    name = topic(partitions=len(times))
    found = polls(java, stack, name, len(times), fill(stack, name, times), DRIFT_MS)
    assert in_order_and_once(found, times)
