"""Peek: whatever lies on a topic is shown as what it is."""

import json
import threading
import time
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from runners.__main__ import app
from runners.peek import PeekError, describe, peek
from runners.publish import PublishBatch, publish_batches
from runners.stack import Endpoints
from schemas.avro import MAGIC, RECORDS, encode, fingerprint
from schemas.market_data_pb2 import MarketDataEvent
from schemas.reject import REJECT
from schemas.stat import STAT
from tests.testing import T0_US, Log, trade
from tests.transforms.build_events import events
from tests.wire import WireRecord, send
from transforms.seconds import NONE, fold
from transforms.stat_columns import stat_batch

AT = datetime(2021, 4, 17, 16, 43, 30, 244075, UTC)
EVENT = MarketDataEvent(exchange="x", symbol="A-B", price=1.5, volume=2, timestamp=1_618_677_810_244_075)
REJECT_ROW: dict[str, Any] = {
    "topic": "md.events.raw",
    "partition": 3,
    "offset": 7,
    "log_time": AT,
    "key": None,
    "value": b"\xff\x00",
    "headers": [],
    "step": "decode",
    "reason": "undecodable",
    "detail": "cut short",
    "code_version": "1",
}


def test_event_is_told_by_its_protobuf() -> None:
    kind, row = describe(EVENT.SerializeToString(), {})
    assert kind == "MarketDataEvent"
    assert row == {
        "exchange": "x",
        "symbol": "A-B",
        "event_type": "TRADE",
        "price": 1.5,
        "volume": 2.0,
        "timestamp": AT,
    }


def test_event_with_strange_numbers_is_still_shown() -> None:
    odd = MarketDataEvent(exchange="x", timestamp=-5, price=float("nan"))
    odd.event_type = 77  # type: ignore[assignment]
    odd.side = 9  # type: ignore[assignment]
    kind, row = describe(odd.SerializeToString(), {})
    assert kind == "MarketDataEvent"
    assert (row["event_type"], row["timestamp"], row["side"]) == (77, -5, 9)


def test_avro_is_told_by_its_fingerprint() -> None:
    (message,) = encode(REJECT, [REJECT_ROW])
    assert describe(message, {}) == ("Reject", REJECT_ROW)


def test_stat_shows_what_its_kind_has_and_null_for_the_rest() -> None:
    log = Log()
    log.add(trade(0, 7.5, side=1, event_type=1))
    batch = events(log)
    stats = stat_batch(T0_US // 1_000_000, fold(NONE, batch.instruments, batch.rows, 0), np.arange(1), 1)
    kind, row = describe(encode(STAT, stats.to_pylist())[0], {})
    assert kind == "Stat"
    shown = [row[name] for name in ("kind", "max_bid_update_price", "min_ask_update_price", "vwap")]
    assert shown == ["book", 7.5, None, None]


def test_beacon_and_tombstone_are_marked() -> None:
    assert describe(b"", {"horizon-beacon": b""}) == ("bytes", {"hex": ""})
    assert describe(None, {"horizon-beacon": None}) == ("beacon", {})
    assert describe(None, {}) == ("tombstone", {})


def test_damaged_avro_is_bytes_with_the_reason() -> None:
    (message,) = encode(REJECT, [REJECT_ROW])
    kind, row = describe(message[:-3], {})
    assert kind == "bytes"
    assert row["hex"] == message[:-3].hex()
    assert "damaged Avro" in row["error"]


@given(st.one_of(st.binary(max_size=80), st.binary(max_size=40).map(lambda tail: MAGIC + tail)))
def test_any_bytes_are_described(value: bytes) -> None:
    kind, row = describe(value, {})
    assert kind in ("bytes", "MarketDataEvent")
    assert kind != "bytes" or row["hex"] == value.hex()


@given(st.binary(max_size=60), st.integers(0, 3))
def test_any_damaged_record_is_described(tail: bytes, record: int) -> None:
    kind, _ = describe(MAGIC + fingerprint(RECORDS[record].avro) + tail, {})
    assert kind in ("bytes", RECORDS[record].name)


@pytest.fixture(scope="module")
def mixed(stack: Endpoints, topic: Any) -> str:
    """A topic with one record of each kind, in three partitions, and one partition without any."""
    name: str = topic(partitions=4)
    now_ms = time.time_ns() // 1_000_000
    values = [EVENT.SerializeToString(), encode(REJECT, [REJECT_ROW])[0], b"\x00\xff", None]
    for number, value in enumerate(values):
        batch = PublishBatch([b"x|A-B"], [value], [now_ms + number])
        publish_batches(stack.bootstrap_servers, name, [batch], partition=number % 3)
    beacon = PublishBatch([None], [None], [now_ms + 9], headers=[[("horizon-beacon", b"1")]])
    publish_batches(stack.bootstrap_servers, name, [beacon], partition=1)
    return name


def test_records_come_in_order_of_their_log_times(stack: Endpoints, mixed: str) -> None:
    kinds = [record.kind for record in peek(stack.bootstrap_servers, mixed, start="first", limit=None)]
    assert kinds == ["MarketDataEvent", "Reject", "bytes", "tombstone", "beacon"]


def test_first_and_last_are_limited(stack: Endpoints, mixed: str) -> None:
    first = [record.kind for record in peek(stack.bootstrap_servers, mixed, start="first", limit=2)]
    last = [record.kind for record in peek(stack.bootstrap_servers, mixed, start="last", limit=2)]
    assert (first, last) == (["MarketDataEvent", "Reject"], ["tombstone", "beacon"])


def test_tail_shows_only_what_comes_after(stack: Endpoints, topic: Any) -> None:
    name, done = topic(partitions=2), threading.Event()

    def send(key: bytes) -> None:
        batch = PublishBatch([key], [b"\x01\x02"], [time.time_ns() // 1_000_000])
        publish_batches(stack.bootstrap_servers, name, [batch])

    def keep_sending() -> None:  # nobody announces that the consumer is there
        while not done.wait(0.3):
            send(b"new")

    send(b"old")
    sender = threading.Thread(target=keep_sending)
    sender.start()
    try:
        keys = [record.key for record in peek(stack.bootstrap_servers, name, start="tail", limit=2)]
    finally:
        done.set()
        sender.join()
    assert keys == [b"new", b"new"]


def test_empty_topic_shows_nothing(stack: Endpoints, topic: Any) -> None:
    assert list(peek(stack.bootstrap_servers, topic(), start="last", limit=10)) == []


def test_unknown_topic_names_those_there_are(stack: Endpoints, mixed: str) -> None:
    with pytest.raises(PeekError, match=f"topic absent does not exist at .*{mixed}"):
        list(peek(stack.bootstrap_servers, "absent"))


def test_command_shows_a_line_per_record(stack: Endpoints, mixed: str) -> None:
    result = CliRunner().invoke(app, ["peek", mixed, "--bootstrap-servers", stack.bootstrap_servers])
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert len(lines) == 5
    assert "x|A-B MarketDataEvent exchange=x symbol=A-B event_type=TRADE price=1.5" in lines[0]
    assert "Reject undecodable in decode: cut short (md.events.raw 3@7, value ff00)" in lines[1]
    assert lines[2].endswith("bytes 00ff")
    assert "beacon" in lines[4]


def test_command_prints_json(stack: Endpoints, mixed: str) -> None:
    result = CliRunner().invoke(
        app, ["peek", mixed, "--from-start", "--limit", "2", "--json", "--bootstrap-servers", stack.bootstrap_servers]
    )
    event, reject = (json.loads(line) for line in result.stdout.splitlines())
    assert event["row"]["timestamp"] == "2021-04-17T16:43:30.244075+00:00"
    assert (reject["kind"], reject["row"]["value"], reject["key"]) == ("Reject", "ff00", "x|A-B")


def test_any_name_of_a_header_and_any_log_time_is_shown(stack: Endpoints, topic: Any) -> None:
    name = topic(1, {"retention.ms": "-1", "message.timestamp.after.max.ms": str(2**63 - 1)})
    times_ms = [-(2**63), -1, 1_700_000_000, 1_700_000_000_000, 1_700_000_000_000_000, 2**63 - 1]
    for time_ms in times_ms:
        record = WireRecord(b"\xff", None, [(b"\xff\xfe", b"x"), (b"trace\0id", None)], time_ms)
        send(stack.bootstrap_servers, name, 0, [record])
    found = list(peek(stack.bootstrap_servers, name, start="first", limit=None))
    assert {record.headers for record in found} == {(("\ufffd", b"x"), ("trace", None))}
    numbers = [one.log_time for one in found if isinstance(one.log_time, int)]
    assert numbers == [time_ms * 1_000 for time_ms in times_ms if time_ms < 0 or time_ms > 10**13]
    for words in (["peek", name], ["peek", name, "--json"]):
        result = CliRunner().invoke(app, [*words, "--bootstrap-servers", stack.bootstrap_servers])
        assert (result.exit_code, len(result.stdout.splitlines())) == (0, len(times_ms)), result.output


def test_command_ends_with_one_line_for_an_unknown_topic(stack: Endpoints) -> None:
    result = CliRunner().invoke(app, ["peek", "absent", "--bootstrap-servers", stack.bootstrap_servers])
    assert result.exit_code == 1
    assert "error: topic absent does not exist" in result.stderr
