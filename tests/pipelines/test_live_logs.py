"""The same logs that the graph is held against the oracle with, on real Kafka, live on Flink, and replayed."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from confluent_kafka import KafkaError, Producer

from pipelines.options import MarketDataConfig
from pipelines.outputs import Outputs
from runners.beacons import Beacons
from runners.capture import CapturedEvent, read_capture
from runners.compare import compare
from runners.flink import FlinkRun
from runners.live import LiveOptions, running
from runners.log import Log as KafkaLog
from runners.publish import publish_batches
from runners.publish_capture import capture_batches
from runners.rebase import schedule
from runners.replay import replay
from runners.simulate import MarketConfig
from runners.stack import Endpoints, LocalStack
from runners.topics import apply_topics, read_specs
from schemas import avro
from schemas.market_data_pb2 import MarketDataEvent
from schemas.units import US_PER_S
from tests import live
from tests.conftest import TopicFactory
from tests.expectations import assert_as_expected, assert_rejects, expected_of, harmless
from tests.logs import CAPTURE, capture_log, mixed_log, seeded_log, silent_log
from tests.oracle import Place
from tests.testing import Log, Recorded, Written, places_written
from transforms.log_clock import plausible
from transforms.topics import TopicNames

pytestmark = pytest.mark.slow

# Kafka deletes by the records' own times, and refuses whole batches for one that lies more than an hour ahead
ANY_TIMES = {"retention.ms": "-1", "message.timestamp.after.max.ms": str(2**63 - 1)}
TIMEOUT_S = 300.0


@dataclass(frozen=True)
class Runs:
    """One log, and what the live job and the replay wrote of it."""

    log: Log
    live: Written
    replayed: Written
    topics: TopicNames


def publish(servers: str, log: Log) -> None:
    """Put an in-memory log on its topic, so that every record gets the very place it has in memory."""
    failed: list[KafkaError] = []
    settings = {"bootstrap.servers": servers, "enable.idempotence": True, "message.max.bytes": 2_000_000}
    producer = Producer(settings | {"on_delivery": lambda error, _: failed.append(error) if error else None})
    for record in log.records:
        time_ms = record.log_time_us // 1_000
        headers = list(record.headers)
        producer.produce(log.topic, record.value, record.key, record.partition, timestamp=time_ms, headers=headers)
        producer.poll(0)
    assert producer.flush(60) == 0
    assert failed == []


def on_kafka(servers: str, topic: str) -> Log:
    """What lies on a topic, as an in-memory log."""
    log = Log(topic)
    for message in live.records(servers, topic):
        if not live.is_beacon(message):
            event = MarketDataEvent.FromString(message.value())
            place = (message.partition(), message.offset())
            log_us = message.timestamp()[1] * 1_000
            log.records.append(Recorded(*place, log_us, message.key(), message.value(), (), event))
    return log


@pytest.fixture
def run_both(stack: Endpoints, topic: TopicFactory, tmp_path: Path) -> Callable[..., Runs]:
    """Publish a log and its end, run the live job until it accounts for every record, replay the same offsets."""

    def run(make: Callable[[str], Log], config: MarketDataConfig | None = None) -> Runs:
        log = make(topic(config=ANY_TIMES, prefix="raw"))
        publish(stack.bootstrap_servers, log)
        times_us = np.array([record.log_time_us for record in log.records])
        newest_us = int(times_us[plausible(times_us)].max())
        live.end(stack.bootstrap_servers, log.topic, newest_us + 2 * live.HOUR_US)
        options = live.options(stack, topic, log.topic, tmp_path / "live")
        options = replace(options, config=config or options.config)
        with running(stack, options) as job:
            live.wait_settled(stack, options, len(log.records), newest_us + live.HOUR_US, TIMEOUT_S)
            job.stop(tmp_path / "savepoints")
        replayed = _replayed(stack, log.topic, tmp_path / "replay", config)
        return Runs(log, Written(tmp_path / "live"), replayed, TopicNames(options.outputs.topic_prefix))

    return run


def _replayed(stack: Endpoints, topic: str, root: Path, config: MarketDataConfig | None = None) -> Written:
    replay(stack.bootstrap_servers, KafkaLog(stack.bootstrap_servers, topic).freeze(), root, config)
    return Written(root)


def _named(log: Log, topic: str) -> Log:
    log.topic = topic
    return log


def test_real_capture_with_its_own_times_is_what_the_oracle_gives_live_and_replayed(
    run_both: Callable[[Callable[[str], Log]], Runs],
) -> None:
    runs = run_both(lambda topic: _named(capture_log(), topic))
    assert runs.live.files() == runs.replayed.files()
    assert_as_expected(runs.live, expected_of(runs.log, MarketDataConfig()))
    assert runs.live.rows("rejects") == []
    assert places_written(runs.live) == sorted(record.place for record in runs.log.records)


def test_copies_late_events_and_ids_in_headers_are_what_the_oracle_gives_live_and_replayed(
    run_both: Callable[[Callable[[str], Log]], Runs],
) -> None:
    runs = run_both(lambda topic: _named(seeded_log(), topic))
    assert runs.live.files() == runs.replayed.files()
    assert_as_expected(runs.live, expected_of(runs.log, MarketDataConfig()))


def test_sessions_are_what_the_oracle_gives_and_go_out_once_live_and_replayed(
    run_both: Callable[..., Runs], stack: Endpoints
) -> None:
    config = MarketDataConfig(session_gap_s=30)
    runs = run_both(lambda topic: _named(silent_log(30, half_us=300 * US_PER_S), topic), config)
    assert runs.live.files() == runs.replayed.files()
    assert_as_expected(runs.live, expected_of(runs.log, config), 30)
    sent = [avro.decode(message.value())[1] for message in live.records(stack.bootstrap_servers, runs.topics.stats)]
    in_files = [row["kind"] for row in runs.live.rows("stats")]
    assert sum(stat["kind"] == "session" for stat in sent) == in_files.count("session") > 20


@pytest.mark.parametrize(("percent", "rounds"), [(1, 1), (50, 3)])
def test_bad_records_are_rejected_and_harm_no_good_event_live_and_replayed(
    run_both: Callable[[Callable[[str], Log]], Runs], percent: int, rounds: int
) -> None:
    reasons: dict[Place, str] = {}

    def make(topic: str) -> Log:
        log, found = mixed_log(percent, rounds)
        reasons.update(found)
        return _named(log, topic)

    runs = run_both(make)
    assert runs.live.files() == runs.replayed.files()
    assert_rejects(runs.live, runs.log, reasons)
    assert_as_expected(runs.live, expected_of(runs.log, MarketDataConfig(), harmless(reasons)))
    assert places_written(runs.live) == sorted(record.place for record in runs.log.records)


def test_real_capture_moved_to_now_and_published_while_the_job_runs_is_what_the_oracle_gives(
    stack: Endpoints, topic: TopicFactory, tmp_path: Path
) -> None:
    if not CAPTURE.exists():
        pytest.skip(f"the real capture is not beside this checkout: put it at ../{CAPTURE.parent.name}/{CAPTURE.name}")
    raw = topic(config=ANY_TIMES, prefix="raw")
    events = [event for event in read_capture(CAPTURE) if isinstance(event, CapturedEvent)]
    times = np.array([event.log_us for event in events], np.int64)
    options = live.options(stack, topic, raw, tmp_path / "live")
    with running(stack, options) as job, Beacons(stack.bootstrap_servers, raw):
        plan = schedule(times, time.time_ns() // 1_000, speed=1.0, close_gaps_s=0.005)
        publish_batches(stack.bootstrap_servers, raw, capture_batches(events, plan))
        kafka_log = KafkaLog(stack.bootstrap_servers, raw)
        manifest, newest_ms = kafka_log.freeze(), max(kafka_log.newest_ms().values())
        live.wait_settled(stack, options, len(events), newest_ms * 1_000, TIMEOUT_S)
        job.stop(tmp_path / "savepoints")
    replay(stack.bootstrap_servers, manifest, tmp_path / "replay")
    # the windows that are open when the log ends have bars in the replay alone
    verdicts = compare(tmp_path / "live", tmp_path / "replay", manifest, options.config.cell.grace_us)
    assert [verdict.difference for verdict in verdicts] == [None] * 5
    log = on_kafka(stack.bootstrap_servers, raw)
    assert_as_expected(Written(tmp_path / "replay"), expected_of(log, MarketDataConfig()))
    written = Written(tmp_path / "live")
    assert places_written(written) == sorted(record.place for record in log.records)
    rows = written.rows("events") + written.rows("late")
    assert sum(row["event_type"] == 0 for row in rows) == 3_108


def test_replay_on_flink_writes_the_files_of_the_direct_runner(
    stack: Endpoints, topic: TopicFactory, tmp_path: Path
) -> None:
    log = _named(seeded_log(), topic(config=ANY_TIMES, prefix="raw"))
    publish(stack.bootstrap_servers, log)
    manifest = KafkaLog(stack.bootstrap_servers, log.topic).freeze()
    flags = FlinkRun.on(stack, f"replay-{log.topic}", bounded=True).flags()
    replay(stack.bootstrap_servers, manifest, tmp_path / "flink", flags=flags)
    on_direct = _replayed(stack, log.topic, tmp_path / "direct")
    assert on_direct.files()
    assert Written(tmp_path / "flink").files() == on_direct.files()


def test_bars_come_while_eleven_of_twelve_partitions_are_empty(
    stack: Endpoints, topic: TopicFactory, tmp_path: Path
) -> None:
    raw = topic(prefix="raw")
    options = live.options(stack, topic, raw, tmp_path / "live")
    with running(stack, options) as job, Beacons(stack.bootstrap_servers, raw):
        start_us = time.time_ns() // 1_000
        market = MarketConfig(rate=500, count=7_500, late_share=0.0)  # 15 s
        live.publish_market(stack.bootstrap_servers, raw, market, start_us, paced=True, partition=5)
        found = live.records(stack.bootstrap_servers, TopicNames(options.outputs.topic_prefix).bars(1))
        job.stop(tmp_path / "savepoints")
    # the time at which a bar's record was produced, by its Kafka timestamp
    firsts: dict[int, int] = {}
    for message in found:
        end_us = round(avro.decode(message.value())[1]["window_end"].timestamp() * 1e6)
        firsts[end_us] = min(firsts.get(end_us, 2**62), message.timestamp()[1] * 1_000)
    assert len(firsts) >= 8, "too few seconds had their bars when the input ended"
    grace_us = options.config.cell.grace_us
    delays = [at_us - end_us - grace_us for end_us, at_us in firsts.items() if end_us >= start_us + 5_000_000]
    print(f"bars after window end + grace: {sorted(round(delay / 1_000) for delay in delays)} ms")


def test_three_brokers_carry_the_job_and_the_replay_equals_it(tmp_path: Path) -> None:
    with LocalStack(tmp_path / "stack", brokers=3) as places:
        apply_topics(places.bootstrap_servers, read_specs())
        known = live.publish_market(
            places.bootstrap_servers,
            "md.events.raw",
            MarketConfig(rate=5_000, count=50_000),
            time.time_ns() // 1_000 - 3 * live.HOUR_US,
        )
        live.end(places.bootstrap_servers, "md.events.raw", known.newest_us + 2 * live.HOUR_US)
        outputs = Outputs(files_root=str(tmp_path / "live"), bootstrap_servers=places.bootstrap_servers)
        with running(places, LiveOptions(group="three", outputs=outputs)) as job:
            live.wait_until(lambda: live.is_complete(tmp_path / "live", known.truth), TIMEOUT_S, "not complete", 1.0)
            job.stop(tmp_path / "savepoints")
        replayed = _replayed(places, "md.events.raw", tmp_path / "replay")
    assert Written(tmp_path / "live").files() == replayed.files()
