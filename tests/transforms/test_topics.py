"""Messages of the output topics, decoded as a consumer would."""

import itertools
import random
import struct
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from confluent_kafka import KafkaError, KafkaException

from runners.stack import Endpoints
from schemas import avro
from schemas.bar import BAR
from schemas.late import LATE
from schemas.market_data_pb2 import MarketDataEvent
from schemas.newest import newest
from schemas.reject import REJECT
from schemas.stat import STAT
from tests import live
from tests.conftest import TopicFactory
from tests.testing import T0_US, Log, raw_batch, trade
from tests.transforms.build_events import events
from transforms import topics
from transforms.bar_columns import bar_batch
from transforms.cell_fold import judge
from transforms.dedup import CONFLICT
from transforms.event_messages import version_of
from transforms.fitting import smaller
from transforms.late import late_rows
from transforms.named_failure import RecordError
from transforms.rejects import reject_rows
from transforms.seconds import NONE, fold
from transforms.stat_columns import stat_batch
from transforms.topics import TopicNames

NAMES = TopicNames()


def twelve(topic: str) -> int:
    return 12


def log_of_three() -> Log:
    log = Log()
    log.add(trade(0, 36_000.01, 1e9, trade_id="1", symbol="A"), key=b"k")
    log.add(trade(5, 0.1, 0.0, symbol="B"), headers=[("horizon-event-id", b"h1"), ("trace", None)])
    log.add(trade(9, 36_000.02, 0.5, trade_id="2", symbol="A"), partition=3)
    return log


def test_unique_events_are_as_sent_keyed_by_identity_and_together_by_instrument() -> None:
    log = log_of_three()
    batch = events(log)
    topic, messages = topics.unique_events(((0, 0), batch), NAMES, twelve)
    assert topic == "md.events.unique"
    assert [message[0] for message in messages[::2]] == [log.records[0].value, log.records[2].value]
    sent = MarketDataEvent.FromString(messages[1][0])
    assert (sent.event_id, sent.symbol) == ("h1", "B")
    keys = [struct.unpack("<QQq", message[1]) for message in messages]
    rows = batch.rows
    second = [T0_US // 1_000_000] * 3
    assert keys == [*zip(rows["identity_hi"].tolist(), rows["identity_lo"].tolist(), second, strict=True)]
    assert messages[0][2] == messages[2][2]
    assert all(0 <= message[2] < 12 for message in messages)


def test_events_that_the_job_tells_apart_have_keys_of_their_own() -> None:
    """All of the identity ladder, and one id in two event seconds, which are two events; a copy has the same key."""
    log = Log()
    for at_us in (0, 1_500_000):
        log.add(trade(at_us, trade_id="1"))
        log.add(trade(at_us, trade_id="a-trade-id-of-more-than-15-bytes"))
        log.add(trade(at_us, event_id="1"))
        log.add(trade(at_us, event_id="1", event_type=2))
        log.add(trade(at_us))  # told apart by its place alone
        log.add(trade(at_us))
    log.add(trade(999_999, trade_id="1"))  # a copy of the first
    batch = events(log)
    _, messages = topics.unique_events(((0, 0), batch), NAMES, twelve)
    keys = [message[1] for message in messages]
    assert len(set(keys[:-1])) == len(keys) - 1 == 12
    assert keys[-1] == keys[0]
    assert {len(key) for key in keys} == {24}


def test_what_stays_of_a_conflict_is_version_2_and_all_else_version_1(monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log()
    log.add(trade(0, 100.0, trade_id="7"), partition=0)
    log.add(trade(0, 101.0, trade_id="7"), partition=1)
    log.add(trade(1, 102.0, trade_id="8"), partition=1)
    for first in (0, 1):  # whichever was read first
        batch = events(log)
        batch.rows["verdict"][1 - first] = CONFLICT
        decided = judge(batch, [], None).decided
        assert decided is not None
        broker = Broker(room=2)
        sent = [batch.take(np.array([first])), batch.take(np.array([2])), decided]
        monkeypatch.setattr(topics, "Producer", broker)
        step = topics._Publish("127.0.0.1:1", NAMES, topics.unique_events)
        step.setup()
        step._partition_counts[NAMES.unique] = 1
        for part in sent:
            step.process(((0, 0), part))
        step.finish_bundle()
        rows = [
            {"key": key, "version": version_of(headers), "price": MarketDataEvent.FromString(value).price}
            for (_, value, key, _), headers in zip(broker.taken, broker.headers, strict=True)
        ]
        assert [(row["version"], row["price"]) for row in rows] == [(1, 100.0 + first), (1, 102.0), (2, 100.0)]
        for order in itertools.permutations(rows):
            assert sorted(row["price"] for row in newest(order, ["key"]).values()) == [100.0, 102.0]


def test_a_batch_without_conflicts_decides_nothing() -> None:
    assert judge(events(log_of_three()), [], None).decided is None


def test_bars_decode_to_their_rows_and_are_keyed_by_bar() -> None:
    batch = events(log_of_three())
    folded = fold(NONE, batch.instruments, batch.rows, 500_000)
    bars = bar_batch(T0_US // 1_000_000, folded, np.arange(2), 1)
    topic, messages = topics.bars((0, bars), NAMES, twelve)
    assert topic == "md.bars.1s"
    assert [avro.decode(message[0]) for message in messages] == [(BAR, row) for row in bars.to_pylist()]
    assert [message[1] for message in messages] == [f"binance|{s}|1|{T0_US}".encode() for s in "AB"]


def test_stats_decode_to_their_rows_and_are_keyed_by_stat() -> None:
    log = Log()
    log.add(trade(0, 0.1, symbol="A", event_type=2))
    log.add(trade(9, 7.5, 0.5, symbol="A", event_type=1, side=2))
    batch = events(log)
    stats = stat_batch(T0_US // 1_000_000, fold(NONE, batch.instruments, batch.rows, 500_000), np.arange(2), 1)
    topic, messages = topics.stats((0, stats), NAMES, twelve)
    assert topic == "md.stats"
    assert [avro.decode(message[0]) for message in messages] == [(STAT, row) for row in stats.to_pylist()]
    keys = {f"{kind}|binance|A|1|{T0_US}".encode() for kind in ("book", "ticker")}
    assert {message[1] for message in messages} == keys


def test_late_events_decode_to_their_rows() -> None:
    late = late_rows(events(log_of_three()), "beyond_horizon")
    topic, messages = topics.late_events(late, NAMES, twelve)
    assert topic == "md.late"
    assert [avro.decode(message[0]) for message in messages] == [(LATE, row) for row in late.to_pylist()]
    places = [b"md.events.raw|0|0", b"md.events.raw|0|1", b"md.events.raw|3|0"]
    assert [message[1] for message in messages] == places


def test_rejects_decode_to_their_rows_with_null_and_binary_headers() -> None:
    raw = events(log_of_three()).raw()
    refused = reject_rows(raw, np.arange(3), "cell", ["identity_conflict"] * 3, ["x" * 500] * 3)
    topic, messages = topics.rejects(refused, NAMES, twelve)
    assert topic == "md.rejects"
    assert [avro.decode(message[0]) for message in messages] == [(REJECT, row) for row in refused.to_pylist()]
    assert {len(row["detail"]) for row in refused.to_pylist()} == {200}


GARBAGE = {"value": b"\xff garbage", "key": b"k", "headers": [("trace", b"1")]}
MB = 1_000_000


@pytest.mark.parametrize(
    ("large", "left_out"),
    [
        ({}, []),
        ({"headers": [("kafka_dlt-exception-stacktrace", b"x" * 4_100_000)]}, ["headers of 4100041 bytes"]),
        ({"key": b"k" * 4_100_000}, ["key of 4100000 bytes"]),
        ({"value": b"v" * 4_100_000}, ["value of 4100000 bytes"]),
        ({"headers": [("", None)] * 400_000}, ["headers of 4400000 bytes"]),
        ({"headers": [("\u20ac" * MB, None)]}, ["headers of 3000011 bytes"]),
        ({"value": b"v" * MB, "key": b"k" * (MB // 2)}, []),
        ({"value": b"v" * 1_200_000, "key": b"k" * 1_100_000}, ["value of 1200000 bytes"]),
        (
            {"value": b"v" * 9 * MB, "key": b"k" * 3 * MB, "headers": [("h", b"x" * 5 * MB)]},
            ["key of 3000000 bytes", "headers of 5000012 bytes", "value of 9000000 bytes"],
        ),
    ],
)
def test_a_reject_of_any_size_goes_to_the_topic_without_what_does_not_fit(
    large: dict[str, Any], left_out: list[str]
) -> None:
    sent = GARBAGE | large
    log = Log()
    log.add(sent["value"], key=sent["key"], headers=sent["headers"])
    refused = reject_rows(raw_batch(log.records), np.arange(1), "decode", ["undecodable"], ["why"])
    _, ((message, *_),) = topics.rejects(refused, NAMES, twelve)
    assert len(message) < 2_100_000
    parts = {text.partition(" ")[0] for text in left_out}
    kept = {name: ([] if name == "headers" else None) if name in parts else row for name, row in sent.items()}
    kept["headers"] = [{"key": name, "value": value} for name, value in kept["headers"]]
    detail = "".join(f"{text} in the files alone; " for text in left_out) + "why"
    assert avro.decode(message)[1] == refused.to_pylist()[0] | kept | {"detail": detail}
    assert refused["key"].to_pylist() == [sent["key"]]  # the files have all


@pytest.mark.parametrize(
    ("interval_s", "name"), [(1, "1s"), (10, "10s"), (60, "1m"), (300, "5m"), (3600, "1h"), (7200, "7200s")]
)
def test_topics_of_bars_are_named_by_interval_below_the_prefix(interval_s: int, name: str) -> None:
    assert TopicNames("x.y").bars(interval_s) == f"x.y.bars.{name}"


class Broker:
    """A producer whose queue holds `room` messages and is taken from by `poll` alone; it reports `error` at a flush."""

    def __init__(self, room: int, error: KafkaError | None = None) -> None:
        self.room, self.error = room, error
        self.queue: list[tuple[Any, ...]] = []
        self.headers: list[Any] = []
        self.taken: list[tuple[Any, ...]] = []

    def __call__(self, settings: dict[str, Any]) -> "Broker":
        self.delivered = settings["on_delivery"]
        return self

    def produce(self, topic: str, *message: Any, headers: Any = None) -> None:
        if len(self.queue) == self.room:
            raise BufferError
        self.headers.append(headers)
        self.queue.append((topic, *message))

    def poll(self, seconds: float) -> None:
        self.taken += self.queue
        self.queue = []

    def flush(self, seconds: float) -> int:
        self.poll(seconds)
        if self.error is not None:
            self.delivered(self.error, SimpleNamespace(topic=lambda: self.taken[-1][0]))
        return 0


def publish(broker: Any, messages: list[topics.Message], monkeypatch: pytest.MonkeyPatch) -> None:
    """One bundle with one element that becomes these messages."""
    monkeypatch.setattr(topics, "Producer", broker)
    step = topics._Publish("127.0.0.1:1", NAMES, lambda element, names, partitions: (names.late, element))
    step.setup()
    step.process(messages)
    step.finish_bundle()


@pytest.mark.parametrize("limit", [20_000, 200_000])
def test_a_topic_that_takes_less_is_given_what_it_takes(stack: Endpoints, topic: TopicFactory, limit: int) -> None:
    """On a real broker, which refuses a whole batch for its size: none is lost, and what fits alone is whole."""
    name = topic(1, {"max.message.bytes": str(limit)}, "less.rejects")
    log, sizes = Log(), [10, 15_000, 15_000, 15_000, 30_000, 190_000, 250_000, 1_900_000, 5_000_000, 10]
    for number, size in enumerate(sizes):
        part = bytes(random.Random(number).randbytes(size))
        about: dict[str, Any] = [{}, {"key": part}, {"headers": [("h", part)]}][number % 3]
        log.add(part if number % 3 == 0 else b"\xff", **about)
    count = len(sizes)
    refused = reject_rows(raw_batch(log.records), np.arange(count), "decode", ["undecodable"] * count, ["why"] * count)
    step = topics._Publish(stack.bootstrap_servers, TopicNames(name.removesuffix(".rejects")), topics.rejects, smaller)
    step._names.rejects = name
    step.setup()
    step.process(refused)
    step.finish_bundle()
    found = {
        row["offset"]: row for _, row in (avro.decode(m.value()) for m in live.records(stack.bootstrap_servers, name))
    }
    assert sorted(found) == list(range(count))
    for number, (size, row) in enumerate(zip(sizes, refused.to_pylist(), strict=True)):
        part = ("value", "key", "headers")[number % 3]
        if size + 1_000 < limit:
            assert found[number] == row
        else:
            detail = f"{part} of {size + (12 if part == 'headers' else 0)} bytes in the files alone; why"
            assert found[number] == row | {part: [] if part == "headers" else None, "detail": detail}


def test_a_full_queue_is_waited_for_and_nothing_is_lost_or_overtaken(monkeypatch: pytest.MonkeyPatch) -> None:
    broker, messages = Broker(room=3), [(b"value", b"%d" % n, n % 2) for n in range(10)]
    publish(broker, messages, monkeypatch)
    assert broker.taken == [("md.late", *message) for message in messages]


def test_a_message_that_is_not_delivered_fails_the_bundle(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KafkaException, match=r"_MSG_TIMED_OUT.*topic md\.late: "):
        publish(Broker(3, KafkaError(KafkaError._MSG_TIMED_OUT)), [(b"value", b"key", 0)], monkeypatch)


def test_a_message_that_the_client_refuses_fails_the_bundle() -> None:
    step = topics._Publish("127.0.0.1:1", NAMES, lambda element, names, partitions: (names.late, element))
    step.setup()
    with pytest.raises(RecordError, match="MSG_SIZE_TOO_LARGE"):
        step.process([(bytes(5_000_000), b"key", 0)])
