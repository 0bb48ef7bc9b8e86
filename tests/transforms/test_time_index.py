"""The newest log time before an offset, on a real broker, against all records read."""

import random

import pytest
from confluent_kafka import Producer

from runners.log import Log
from runners.stack import Endpoints
from tests.conftest import TopicFactory
from transforms.log_clock import NOTHING
from transforms.read_offsets import read_stretch
from transforms.time_index import TimeIndex

T0_MS = 1_700_000_000_000
EVER = {"retention.ms": "-1", "message.timestamp.after.max.ms": "9223372036854775807"}


def assert_brute_force(servers: str, topic: str, dice: random.Random) -> None:
    """At offsets in the middle of each partition, from nothing and from what was carried to a place before."""
    index = TimeIndex(servers)
    read: dict[int, list[tuple[int, int]]] = {}
    for stretch in Log(servers, topic).freeze().stretches:
        batches = list(read_stretch(servers, stretch)) if stretch.stop > stretch.start else []
        read[stretch.partition] = [
            place for b in batches for place in zip(b.offset.tolist(), b.log_time_us.tolist(), strict=True)
        ]

    def newest(partition: int, stop: int) -> int:
        times = [us for offset, us in read[partition] if offset < stop and 1.23e15 < us < 2.5e17]
        return max(times, default=NOTHING)

    for _ in range(6):
        offsets = {p: dice.randrange(records[-1][0] + 2) for p, records in read.items() if records}
        wanted = {p: newest(p, offset) for p, offset in offsets.items()}
        assert index.newest_before(topic, offsets, {}) == wanted
        places = {p: dice.randrange(offset + 1) for p, offset in offsets.items()}
        carried = {p: (place, newest(p, place)) for p, place in places.items()}
        assert index.newest_before(topic, offsets, carried) == wanted
    time_us = newest(*dice.choice([*offsets.items()])) - dice.choice([0, 1_000, 60_000_000])
    above = {p: [o for o in range(stop) if newest(p, o + 1) > time_us] for p, stop in offsets.items()}
    assert index.first_after(topic, offsets, time_us) == {p: min(above[p], default=offsets[p]) for p in offsets}


def test_log_times_in_disorder(stack: Endpoints, topic: TopicFactory) -> None:
    dice, name = random.Random(1), topic(partitions=3, config={**EVER, "segment.bytes": "1048576"})
    producer = Producer({"bootstrap.servers": stack.bootstrap_servers, "linger.ms": 5, "batch.num.messages": 50})
    for number in range(3_000):
        time_ms = T0_MS + number * 10 + dice.choice([0, -5_000, -3_600_000, 20_000])
        producer.produce(name, b"x" * 500, partition=number % 3, timestamp=time_ms)
    assert producer.flush(30) == 0
    assert_brute_force(stack.bootstrap_servers, name, dice)


def test_log_times_that_no_calendar_has_do_not_count(stack: Endpoints, topic: TopicFactory) -> None:
    dice, name = random.Random(2), topic(partitions=2, config=EVER)
    producer = Producer({"bootstrap.servers": stack.bootstrap_servers})
    for number in range(200):
        odd = {50: T0_MS * 1_000, 60: 1_700_000_000, 61: T0_MS * 1_000}
        producer.produce(name, b"", partition=number % 2, timestamp=odd.get(number, T0_MS + number))
    assert producer.flush(30) == 0
    assert_brute_force(stack.bootstrap_servers, name, dice)


def test_log_append_time(stack: Endpoints, topic: TopicFactory) -> None:
    dice, name = random.Random(3), topic(partitions=2, config={**EVER, "message.timestamp.type": "LogAppendTime"})
    producer = Producer({"bootstrap.servers": stack.bootstrap_servers})
    for number in range(300):
        producer.produce(name, b"", partition=number % 2)
        if number % 20 == 0:
            assert producer.flush(30) == 0
    assert producer.flush(30) == 0
    assert_brute_force(stack.bootstrap_servers, name, dice)


@pytest.mark.parametrize("first_ms", [T0_MS, None])
def test_marks_of_transactions_and_what_was_aborted_do_not_count(
    stack: Endpoints, topic: TopicFactory, first_ms: int | None
) -> None:
    dice, name = random.Random(4), topic(partitions=2, config=EVER)
    producer = Producer({"bootstrap.servers": stack.bootstrap_servers, "transactional.id": name})
    producer.init_transactions(30)
    for number in range(20):
        producer.begin_transaction()
        for step in range(10):
            time_ms = first_ms + number * 1_000 - dice.randrange(5_000) if first_ms is not None else 0
            producer.produce(name, b"", partition=step % 2, timestamp=time_ms)
        assert producer.flush(30) == 0
        if number % 3 == 2:
            producer.abort_transaction(30)
        else:
            producer.commit_transaction(30)
    assert_brute_force(stack.bootstrap_servers, name, dice)
