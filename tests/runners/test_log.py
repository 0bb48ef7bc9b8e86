"""Where a log stands, on a real broker whose producers use transactions."""

import time
from datetime import UTC, datetime

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from runners.job_numbers import partition_numbers
from runners.log import Log
from runners.stack import Endpoints
from tests.conftest import TopicFactory
from transforms.log_clock import NOTHING
from transforms.read_offsets import Manifest, read_stretch

NOW_MS = 1_700_000_000_000


class Transactions:
    """A producer of one partition; record n has log time NOW_MS + n."""

    def __init__(self, servers: str, topic: str) -> None:
        self._producer = Producer({"bootstrap.servers": servers, "transactional.id": topic, "log_level": 0})
        self._producer.init_transactions(30)
        self._topic, self._sent = topic, 0

    def begin(self, records: int) -> None:
        self._producer.begin_transaction()
        for _ in range(records):
            self._producer.produce(self._topic, b"", partition=0, timestamp=NOW_MS + self._sent)
            self._sent += 1
        assert self._producer.flush(30) == 0

    def commit(self) -> None:
        self._producer.commit_transaction(30)

    def abort(self) -> None:
        self._producer.abort_transaction(30)


@pytest.fixture
def raw(topic: TopicFactory) -> str:
    return topic(partitions=1, config={"retention.ms": "-1"})


def frozen_at(log: Log, stop: int) -> Manifest:
    """The log once it ends there: the mark of a transaction is written after its producer has the answer."""
    deadline = time.monotonic() + 30
    while log.freeze().stretches[0].stop < stop and time.monotonic() < deadline:
        time.sleep(0.05)
    return log.freeze()


def test_a_log_that_ends_with_the_mark_of_a_transaction_is_frozen_and_read_to_its_end(
    stack: Endpoints, raw: str
) -> None:
    log, producer = Log(stack.bootstrap_servers, raw), Transactions(stack.bootstrap_servers, raw)
    producer.begin(3)
    producer.commit()
    producer.begin(2)
    producer.abort()
    manifest = frozen_at(log, 7)
    (stretch,) = manifest.stretches
    assert (stretch.start, stretch.stop) == (0, 7)
    assert manifest.newest_log_time_us == (NOW_MS + 2) * 1_000  # of what a reader is given
    assert [len(batch) for batch in read_stretch(stack.bootstrap_servers, stretch)] == [3]


def test_what_an_open_transaction_holds_is_seen_as_lag_and_is_not_frozen(stack: Endpoints, raw: str) -> None:
    servers = stack.bootstrap_servers
    log, producer = Log(servers, raw), Transactions(servers, raw)
    producer.begin(3)
    producer.commit()
    producer.begin(2)
    (stretch,) = frozen_at(log, 4).stretches
    assert (stretch.start, stretch.stop) == (0, 4)
    assert log.freeze(stop=datetime(2030, 1, 1, tzinfo=UTC)).stretches == (stretch,)
    group = Consumer({"bootstrap.servers": servers, "group.id": raw})
    group.commit(offsets=[TopicPartition(raw, 0, 4)], asynchronous=False)
    (numbers,) = partition_numbers(servers, raw, raw)
    assert (numbers.end, numbers.lag, numbers.position_ms) == (6, 2, NOW_MS + 3)
    producer.abort()


def test_a_frozen_stretch_says_how_far_the_clocks_at_its_edges_have_come(stack: Endpoints, topic: TopicFactory) -> None:
    raw = topic(partitions=3, config={"retention.ms": "-1"})
    producer = Producer({"bootstrap.servers": stack.bootstrap_servers})
    for partition, times in enumerate(([0, 900, 100, 200, 950], [10, 20, 30], [])):
        for time_ms in times:
            producer.produce(raw, b"", partition=partition, timestamp=NOW_MS + time_ms)
    assert producer.flush(30) == 0
    log = Log(stack.bootstrap_servers, raw)

    def in_us(*times_ms: int) -> list[int]:
        return [(NOW_MS + time_ms) * 1_000 for time_ms in times_ms]

    whole = log.freeze()
    assert [stretch.clock_us for stretch in whole.stretches] == [*in_us(950, 30), NOTHING]
    assert (whole.oldest_log_time_us, whole.newest_log_time_us) == (0, *in_us(950))
    part = log.freeze({0: 2, 1: 0, 2: 0}, {0: 3, 1: 2, 2: 0})
    assert [stretch.clock_us for stretch in part.stretches] == [*in_us(900, 30), NOTHING]  # with the first left out
    assert (part.oldest_log_time_us, part.newest_log_time_us) == tuple(in_us(900, 900))
    assert log.freeze({0: 5, 1: 3, 2: 0}).newest_log_time_us == 0
    assert Manifest.from_json(part.to_json()) == part


def test_headers_are_those_of_the_newest_log_time_wherever_it_lies(stack: Endpoints, topic: TopicFactory) -> None:
    name = topic(partitions=2, config={"retention.ms": "-1"})
    log, producer = Log(stack.bootstrap_servers, name), Producer({"bootstrap.servers": stack.bootstrap_servers})
    assert log.newest_headers(NOW_MS) == []
    for partition, after_ms, headers in ((0, 0, None), (1, 5, [("a", b"1"), ("b", None)]), (1, 3, None), (0, 4, None)):
        producer.produce(name, b"", partition=partition, timestamp=NOW_MS + after_ms, headers=headers or [])
        assert producer.flush(30) == 0
    assert log.newest_headers(NOW_MS + 5) == [("a", b"1"), ("b", None)]
    assert log.newest_headers(NOW_MS + 4) == []
    assert log.newest_headers(NOW_MS + 6) == []
