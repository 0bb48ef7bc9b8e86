"""Publishing to a real broker: every record confirmed, its time, key and headers kept, failures loud."""

import gzip
import json
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from runners.__main__ import app
from runners.peek import Peeked, peek
from runners.publish import PublishBatch, Published, PublishError, publish_batches
from runners.rebase import SHIFT_HEADER
from runners.simulate import Market, MarketConfig
from runners.stack import Endpoints
from schemas.records import TIMESTAMP


def on(stack: Endpoints, topic: str) -> list[Peeked]:
    return list(peek(stack.bootstrap_servers, topic, start="first", limit=None))


def of(count: int, **columns: Any) -> PublishBatch:
    now_ms = time.time_ns() // 1_000_000
    keys, values = [b"k%d" % n for n in range(count)], [b"v%d" % n for n in range(count)]
    return PublishBatch(**{"keys": keys, "values": values, "log_time_ms": [now_ms] * count, **columns})


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_market_arrives_whole_with_its_times(stack: Endpoints, topic: Any) -> None:
    name = topic(partitions=3)
    market = list(Market(MarketConfig(count=20_000), time.time_ns() // 1_000 - 10_000_000).batches())
    sent = [PublishBatch(batch.keys, batch.values, batch.log_time_ms) for batch in market]
    assert publish_batches(stack.bootstrap_servers, name, sent).records == 20_000
    found = sorted((r.key, int(r.log_time.timestamp() * 1_000), str(r.row["timestamp"])) for r in on(stack, name))
    expected = sorted(
        (key, log_ms, str(row))
        for batch in market
        for key, log_ms, row in zip(
            batch.keys,
            batch.log_time_ms.tolist(),
            batch.columns["timestamp"].cast(TIMESTAMP).to_pylist(),
            strict=True,
        )
    )
    assert found == expected


def test_key_decides_the_partition_unless_one_is_named(stack: Endpoints, topic: Any) -> None:
    name = topic(partitions=4)
    publish_batches(stack.bootstrap_servers, name, [of(200), of(200)])
    by_key: dict[bytes | None, set[int]] = {}
    for record in on(stack, name):
        by_key.setdefault(record.key, set()).add(record.partition)
    assert all(len(partitions) == 1 for partitions in by_key.values())
    assert {partition for partitions in by_key.values() for partition in partitions} == {0, 1, 2, 3}
    other = topic(partitions=4)
    publish_batches(stack.bootstrap_servers, other, [of(50)], partition=2)
    assert {record.partition for record in on(stack, other)} == {2}


def test_headers_nulls_and_empty_values_are_kept(stack: Endpoints, topic: Any) -> None:
    name = topic(partitions=1)
    batch = of(
        3, keys=[None, b"", b"k"], values=[None, b"", b"v"], headers=[[], [("a", b"1")], [("a", b""), ("a", b"2")]]
    )
    publish_batches(stack.bootstrap_servers, name, [batch])
    found = [(record.key, record.headers, record.kind) for record in on(stack, name)]
    assert found == [
        (None, (), "tombstone"),
        (b"", (("a", b"1"),), "bytes"),
        (b"k", (("a", b""), ("a", b"2")), "bytes"),
    ]


def test_rate_is_held(stack: Endpoints, topic: Any) -> None:
    seen: list[Published] = []
    done = publish_batches(stack.bootstrap_servers, topic(), [of(500)] * 2, rate=1_000, on_progress=seen.append)
    assert 0.9 < done.seconds < 3
    assert len(seen) > 20  # in small steps, not in one go
    assert seen[-1].records == done.records == 1_000


def test_records_wait_until_they_are_due(stack: Endpoints, topic: Any) -> None:
    due = of(3, due_s=np.array([0.0, 0.5, 0.2]))  # the last waits for the one before it
    seen: list[Published] = []
    publish_batches(stack.bootstrap_servers, topic(), [due], on_progress=seen.append)
    assert [step.records for step in seen] == [1, 3]
    assert seen[1].seconds >= 0.5


def test_stop_ends_it_and_what_was_sent_is_confirmed(stack: Endpoints, topic: Any) -> None:
    stop, name = threading.Event(), topic()

    def after_100(done: Published) -> None:
        if done.records >= 100:
            stop.set()

    done = publish_batches(stack.bootstrap_servers, name, [of(10_000)], rate=1_000, stop=stop, on_progress=after_100)
    assert 100 <= done.records < 1_000
    assert len(on(stack, name)) == done.records


def test_failures_name_the_thing_and_the_remedy(stack: Endpoints, topic: Any) -> None:
    name, servers = topic(), stack.bootstrap_servers
    with pytest.raises(PublishError, match=r"topic absent does not exist at .*horizon topics apply"):
        publish_batches(servers, "absent", [of(1)])
    with pytest.raises(PublishError, match="Message size too large"):
        publish_batches(servers, name, [of(1, values=[b"x" * 5_000_000])])
    ahead = time.time_ns() // 1_000_000 + 3 * 3_600_000
    with pytest.raises(PublishError, match="a record was not taken: Broker: Invalid timestamp"):
        publish_batches(servers, name, [of(1, log_time_ms=[ahead])])
    with pytest.raises(ValueError, match="rate must be > 0"):
        publish_batches(servers, name, [of(1)], rate=0)


@pytest.mark.slow
def test_no_broker_is_said_so() -> None:
    with pytest.raises(PublishError, match=r"no broker answers at 127\.0\.0\.1:1 "):
        publish_batches("127.0.0.1:1", "t", [of(1)])


def test_command_publishes_a_capture_and_reports_bad_rows(stack: Endpoints, topic: Any, tmp_path: Path) -> None:
    name, file = topic(partitions=2), tmp_path / "capture.jsonl.gz"
    good = {"exchange": "x", "symbol": "A-B", "event_type": "TRADE", "price": 1, "volume": 2, "event_id": "7"}
    lines = [json.dumps({**good, "timestamp_us": 1_618_677_810_000_000 + n}) for n in (30, 10, 20)]
    file.write_bytes(gzip.compress("\n".join([*lines, "{oops"]).encode()))
    result = run("publish", file, "--topic", name, "--bootstrap-servers", stack.bootstrap_servers, "--json")
    assert result.exit_code == 1
    assert f"not published: {file}:4: not JSON" in result.stderr
    report = json.loads(result.stdout)
    assert (report["published"], len(report["bad_rows"]), report["shifts"]) == (3, 1, 1)
    records = on(stack, name)
    assert {header for record in records for header in record.headers} == {
        (SHIFT_HEADER, str(report["shift_us"]).encode())
    }
    assert abs(max(record.log_time.timestamp() for record in records) - time.time()) < 60
    offsets = [record.row["timestamp"] for record in sorted(records, key=lambda record: record.offset)]
    assert offsets == sorted(offsets)


def test_command_keeps_own_times(stack: Endpoints, topic: Any, tmp_path: Path) -> None:
    name, file = topic(partitions=1, config={"retention.ms": "-1"}), tmp_path / "capture.csv"
    file.write_text(
        "exchange,symbol,event_type,price,volume,timestamp_us,received_us\n"
        "x,A-B,TICKER,1.5,2,1618677810000001,1618677810123456\n"
    )
    result = run("publish", file, "--own-times", "--topic", name, "--bootstrap-servers", stack.bootstrap_servers)
    assert result.exit_code == 0, result.output
    (record,) = on(stack, name)
    assert record.headers == ()
    assert record.log_time.isoformat() == "2021-04-17T16:43:30.123000+00:00"
    assert "warning" not in result.stderr  # nothing lay there
    on_time = {"exchange": "x", "symbol": "A-B", "event_type": "TICKER", "price": 1, "volume": 2}
    for after_us, warns in ((61_000_000, False), (0, True)):
        file = tmp_path / "again.jsonl"
        file.write_text(json.dumps({**on_time, "timestamp_us": 1_618_677_810_000_000 + after_us}))
        result = run("publish", file, "--own-times", "--topic", name, "--bootstrap-servers", stack.bootstrap_servers)
        assert result.exit_code == 0, result.output
        assert ("holds records up to 61 s newer than the first log time" in " ".join(result.stderr.split())) is warns


def test_command_simulates_at_a_pace_and_reports_the_truth(stack: Endpoints, topic: Any) -> None:
    name = topic()
    arguments = ("simulate", "--topic", name, "--bootstrap-servers", stack.bootstrap_servers, "--json")
    result = run(*arguments, "--rate", 5_000, "--duration", 1, "--bursts", 0)
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["truth"]["records"] == report["published"] == 5_000
    assert 0.8 < report["seconds"] < 5
    newest = max(record.log_time.timestamp() for record in on(stack, name))
    assert -10 < newest - time.time() <= 0


def test_commands_refuse_what_makes_no_sense(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("{}")
    for arguments, message in [
        (("simulate", "--unpaced"), "give --count or --duration"),
        (("simulate", "--count", 1, "--mix", "1,2"), "mix must be three numbers"),
        (("simulate", "--count", 1, "--late", 2), "late_share must be between 0 and 1"),
        (("publish", tmp_path / "a.jsonl", "--speed", 0, "--bootstrap-servers", "x:1"), "speed must be > 0"),
        (("publish", tmp_path / "none.jsonl"), "does not exist"),
    ]:
        result = run(*arguments)
        assert result.exit_code == 2, result.output
        assert message in " ".join(result.output.replace("│", " ").split())


def test_without_a_stack_the_message_says_how_to_start_one(tmp_path: Path) -> None:
    result = run("simulate", "--count", 1, "--state-dir", tmp_path)
    assert result.exit_code == 1
    assert "horizon stack up" in result.output


def test_simulate_writes_a_file_without_a_broker(tmp_path: Path) -> None:
    result = run("simulate", "--count", 500, "--out", tmp_path / "m.jsonl")
    assert result.exit_code == 0, result.output
    assert len((tmp_path / "m.jsonl").read_text().splitlines()) == 500
