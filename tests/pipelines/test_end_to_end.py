"""The spine on real Kafka and real Flink: topic, KafkaIO, graph, topics and Parquet, replay, comparison."""

import time
from pathlib import Path

import pytest
from confluent_kafka import Producer

from pipelines.outputs import Outputs
from runners.beacons import Beacons
from runners.compare import compare, read_dataset
from runners.live import LiveOptions, running
from runners.log import Log
from runners.publish import publish_batches
from runners.replay import replay
from runners.simulate import Market, MarketConfig, Truth
from runners.stack import Endpoints
from runners.watch import Watch
from schemas import avro
from schemas.market_data_pb2 import MarketDataEvent
from tests.live import REVISED_S, events_in_stats, records
from transforms.datasets import BARS, EVENTS, LATE_EVENTS, REJECTS

_EVENTS = 60_000
_BAD = (b"\xff" * 30, b"", MarketDataEvent(exchange="x", symbol="y", price=-1, volume=1).SerializeToString())


def _publish(servers: str, topic: str) -> Truth:
    start_us = time.time_ns() // 1_000 - 9_000_000
    truth = Truth()
    for batch in Market(MarketConfig(rate=10_000, count=_EVENTS), start_us).batches():
        truth += batch.truth
        publish_batches(servers, topic, [batch.to_publish()])
    producer = Producer({"bootstrap.servers": servers})
    for number in range(30):
        producer.produce(topic, _BAD[number % len(_BAD)], key=b"bad")
    assert producer.flush(30) == 0
    return truth


def _wait_for_files(root: Path, truth: Truth) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        events, rejects = len(read_dataset(root, EVENTS)), len(read_dataset(root, REJECTS))
        if events >= truth.unique and rejects >= 30 and len(read_dataset(root, LATE_EVENTS)) >= truth.late:
            time.sleep(REVISED_S)  # the last revisions go through cells, windows and files
            return
        time.sleep(1)
    raise AssertionError(f"after 120 s {events} of {truth.unique} events and {rejects} of 30 rejects are in the files")


@pytest.mark.slow
def test_live_run_and_replay_are_equal_and_every_record_is_accounted_for(
    stack: Endpoints, topic, tmp_path: Path
) -> None:
    raw, prefix = topic(prefix="raw"), topic.outputs()
    live_root, replay_root = tmp_path / "live", tmp_path / "replay"
    outputs = Outputs(files_root=str(live_root), bootstrap_servers=stack.bootstrap_servers, topic_prefix=prefix)
    options = LiveOptions(topic=raw, group=prefix, outputs=outputs)
    watch = Watch(stack.bootstrap_servers, raw, prefix, options.config.intervals_s)
    with running(stack, options) as job, Beacons(stack.bootstrap_servers, raw):
        truth = _publish(stack.bootstrap_servers, raw)
        _wait_for_files(live_root, truth)
        counts = watch.counts()
        job.stop(tmp_path / "savepoints")
    manifest = Log(stack.bootstrap_servers, raw).freeze()
    replay(stack.bootstrap_servers, manifest, replay_root)

    verdicts = compare(live_root, replay_root, manifest, options.config.cell.grace_us)
    assert [verdict.difference for verdict in verdicts] == [None] * 5
    events, late, rejects = (read_dataset(live_root, dataset) for dataset in (EVENTS, LATE_EVENTS, REJECTS))
    copies = sum(len(found) for found in events["copies"].to_pylist())
    assert (len(events), copies, len(late), len(rejects)) == (truth.unique, truth.duplicates, truth.late, 30)
    assert counts.unique == truth.unique
    bars = read_dataset(replay_root, BARS)
    seconds = bars.filter(bars["interval_s"].to_numpy() == 1)
    assert sum(seconds["trade_count"].to_pylist()) == truth.trades
    counts_of = events_in_stats(replay_root)
    assert counts_of["ticker", 1] + counts_of["book", 1] == truth.unique - truth.trades
    assert counts_of["sliding", 60] == 6 * truth.trades
    assert verdicts[2].live_rows > 0
    found = [avro.decode(message.value())[1]["kind"] for message in records(stack.bootstrap_servers, f"{prefix}.stats")]
    assert {"ticker", "book"} <= set(found)  # a minute may not have ended while the job ran
