"""Records of every kind on a real topic, through KafkaIO as blocks: none is changed, lost or read twice.

All of them are rejects, for these keep key, value and headers as they were read.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Message, Producer

from runners.live import LiveOptions, running
from runners.log import Log
from runners.replay import replay
from runners.resume import next_offsets
from runners.stack import Endpoints
from schemas import avro
from tests import live
from tests.conftest import TopicFactory
from tests.testing import Written, place_of
from transforms.header_bytes import Header
from transforms.topics import TopicNames

pytestmark = pytest.mark.slow

PARTITIONS = 3
HEADERS: list[Header] = [("", b""), ("null", None), ("bytes", bytes(range(256))), ("ключ", b"\xff\0"), ("null", b"two")]
KINDS: list[dict[str, Any]] = [
    {"value": b"\xff" * 30},
    {"value": None, "key": b"a tombstone"},
    {"value": b"", "key": b""},
    {"value": b"\xff\0", "key": b"\0key", "headers": HEADERS},
    {"value": None, "headers": [("no-value", None)]},
]
LARGE = [{"value": b"\xff" * 900_000}, {"value": b"\xff", "key": b"k" * 700_000, "headers": [("h", b"h" * 200_000)]}]


def publish(servers: str, topic: str, rounds: int) -> None:
    """Records of all kinds, in transactions of which every second is aborted: it leaves offsets without a record."""
    settings = {"bootstrap.servers": servers, "transactional.id": topic, "message.max.bytes": 2_000_000}
    producer = Producer(settings)
    producer.init_transactions(30)
    for number in range(2 * rounds):
        producer.begin_transaction()
        for at, kind in enumerate(200 * KINDS + LARGE):
            producer.produce(topic, partition=at % PARTITIONS, **kind)
            producer.poll(0)
        producer.flush(30)
        if number % 2:
            producer.abort_transaction(30)
        else:
            producer.commit_transaction(30)


def rejected(servers: str, options: LiveOptions) -> list[dict[str, Any]]:
    """The rejects on the job's topic: they go out at once, while files wait for the clock."""
    found = live.records(servers, TopicNames(options.outputs.topic_prefix).rejects)
    return [avro.decode(message.value())[1] for message in found]


def assert_as_published(rows: list[dict[str, Any]], messages: list[Message]) -> None:
    """Each record once, as a plain consumer reads it."""
    by_place = {(message.partition(), message.offset()): message for message in messages}
    assert sorted(map(place_of, rows)) == sorted(by_place)
    for row in rows:
        message = by_place[place_of(row)]
        assert (row["key"], row["value"]) == (message.key(), message.value())
        assert [(header["key"], header["value"]) for header in row["headers"]] == (message.headers() or [])
        assert round(row["log_time"].timestamp() * 1_000) == message.timestamp()[1]


@pytest.mark.parametrize("time_type", ["CreateTime", "LogAppendTime"])
def test_records_of_every_kind_come_as_they_are_and_once_over_a_stop(
    stack: Endpoints, topic: TopicFactory, tmp_path: Path, time_type: str
) -> None:
    config = {"message.timestamp.type": time_type, "max.message.bytes": "2000000"}
    raw = topic(PARTITIONS, config, "raw")
    options = live.options(stack, topic, raw, tmp_path / "live")
    servers, per_round = stack.bootstrap_servers, 200 * len(KINDS) + len(LARGE)

    def read(until: int, options: LiveOptions) -> Path:
        with running(stack, options) as job:
            live.wait_until(lambda: len(rejected(servers, options)) >= until, 120, f"not {until} rejects", 1.0)
            return job.stop(tmp_path / "savepoints")

    publish(servers, raw, 1)
    savepoint = read(per_round, options)
    messages = live.records(servers, raw)
    lasts = {p: max(m.offset() for m in messages if m.partition() == p) for p in range(PARTITIONS)}
    assert next_offsets(savepoint, raw) == {partition: last + 1 for partition, last in lasts.items()}
    publish(servers, raw, 2)
    read(3 * per_round, replace(options, savepoint=savepoint))

    messages = live.records(servers, raw)
    assert len(messages) == 3 * per_round
    assert {message.timestamp()[0] for message in messages} == {1 if time_type == "CreateTime" else 2}
    assert_as_published(rejected(servers, options), messages)
    replay(servers, Log(servers, raw).freeze(), tmp_path / "replay")
    assert_as_published(Written(tmp_path / "replay").rows("rejects"), messages)
