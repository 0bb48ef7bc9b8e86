"""A job that is moved while the log goes on, to more partitions or another parallelism, counts every record once."""

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from confluent_kafka.admin import AdminClient, NewPartitions

from runners.beacons import Beacons
from runners.group import LiveGroup
from runners.live import LiveJob, LiveOptions
from runners.log import Log
from runners.publish import PublishBatch, publish_batches
from runners.replay import replay
from runners.resume import read_note
from runners.simulate import Market, MarketConfig
from runners.stack import Endpoints, LocalStack
from tests import live, proof
from tests.conftest import TopicFactory
from tests.simulated import Simulated

pytestmark = pytest.mark.slow

RATE, SECONDS = int(os.environ.get("HORIZON_TEST_RATE", "20000")), 75
MARKET = MarketConfig(seed=5, rate=RATE, count=RATE * SECONDS, instruments=400)  # enough to fill 24 partitions
TIMEOUT_S = 240.0


class Feed:
    """A simulated market published in real time, in two halves, by a producer each."""

    def __init__(self, servers: str, topic: str) -> None:
        self.known, self._servers, self._topic = Simulated(), servers, topic
        self._start_us = _now_us()
        self._batches = Market(MARKET, self._start_us).batches()

    def publish_until(self, elapsed_s: float) -> None:
        """Publish what the market gives in so many seconds since its start, at its own pace."""
        publish_batches(self._servers, self._topic, self._told(_now_us(), self._start_us + round(elapsed_s * 1e6)))

    def _told(self, from_us: int, until_us: int) -> Iterator[PublishBatch]:
        for batch in self._batches:
            self.known.add(batch)
            yield batch.to_publish(from_us)
            if self.known.newest_us >= until_us:
                return


def _now_us() -> int:
    return time.time_ns() // 1_000


def follow(group: LiveGroup, until: Callable[[], bool]) -> None:
    """What `horizon live` does: look once a second, here until something holds."""
    deadline = time.monotonic() + TIMEOUT_S
    while not until():
        assert time.monotonic() < deadline, "it does not come about"
        group.look()
        time.sleep(1.0)


def follow_to_the_end(group: LiveGroup, published: Future[None], root: Path, known: Simulated) -> None:
    """Look after the group until everything is published and in the files, the last revisions too."""
    follow(group, lambda: published.done() and len(live.places_in_files(root)) >= known.truth.records)
    published.result()
    moment = time.monotonic() + live.REVISED_S
    follow(group, lambda: time.monotonic() > moment)


def assert_all_once(stack: Endpoints, options: LiveOptions, root: Path, known: Simulated) -> None:
    """Every record once, the simulator's identities, and the very content that a replay of the offsets gives."""
    proof.assert_every_record_once(stack, options.topic, root, known)
    verdicts = proof.assert_replay_equals(stack, options.topic, root, root / "replay")
    assert verdicts[0].live_rows == known.truth.unique


def test_partitions_added_to_a_live_topic_are_read_from_their_start(
    stack: Endpoints, topic: TopicFactory, tmp_path: Path
) -> None:
    raw = topic(prefix="raw")
    options = replace(live.options(stack, topic, raw, tmp_path), checkpoint_ms=2_000)
    said: list[str] = []
    beacons = Beacons(stack.bootstrap_servers, raw)
    group = LiveGroup(stack, options, said.append)
    group.start()
    feed = Feed(stack.bootstrap_servers, raw)
    with ThreadPoolExecutor(max_workers=1) as pool, beacons:
        first = pool.submit(feed.publish_until, SECONDS / 2)
        follow(group, first.done)
        first.result()
        admin = AdminClient({"bootstrap.servers": stack.bootstrap_servers})
        admin.create_partitions([NewPartitions(raw, 24)])[raw].result()
        second = pool.submit(feed.publish_until, SECONDS)
        follow_to_the_end(group, second, tmp_path, feed.known)
    group.stop()
    print(*said, sep="\n")
    assert any("has 24 partitions, 12 of them are read" in line for line in said)
    filled = {partition for partition, end in Log(stack.bootstrap_servers, raw).latest().items() if end}
    assert filled == set(range(24))
    assert_all_once(stack, options, tmp_path, feed.known)


def test_parallelism_goes_up_and_down_under_load(
    stack: Endpoints, topic: TopicFactory, tmp_path: Path, local_stack: LocalStack
) -> None:
    raw = topic(prefix="raw")
    options = replace(live.options(stack, topic, raw, tmp_path), checkpoint_ms=2_000)
    said: list[str] = []
    beacons = Beacons(stack.bootstrap_servers, raw)
    group = LiveGroup(stack, options, said.append)
    local_stack.start("taskmanager-2")
    try:
        group.start()
        feed = Feed(stack.bootstrap_servers, raw)
        with ThreadPoolExecutor(max_workers=1) as pool, beacons:
            published = pool.submit(feed.publish_until, SECONDS)
            for parallelism in (3, 2):
                moment = time.monotonic() + 15
                follow(group, lambda moment=moment: time.monotonic() > moment)  # type: ignore[misc]
                group = LiveGroup(stack, replace(options, parallelism=parallelism), said.append)
                group.start()  # as after `horizon live` was killed
            follow_to_the_end(group, published, tmp_path, feed.known)
        group.stop()
    finally:
        local_stack.kill("taskmanager-2")
    print(*said, sep="\n")
    note = read_note(stack.state_dir, options.group)
    assert note is not None
    assert note.parallelism == 2
    assert [line.partition(":")[0] for line in said if "->" in line] == ["parallelism 1 -> 3", "parallelism 3 -> 2"]
    assert_all_once(stack, options, tmp_path, feed.known)


def test_a_job_that_was_lost_goes_on_from_its_newest_checkpoint(
    stack: Endpoints, topic: TopicFactory, tmp_path: Path
) -> None:
    raw = topic(config={"retention.ms": "-1"}, prefix="raw")
    known = live.publish_ended(stack.bootstrap_servers, raw, MarketConfig(seed=6, rate=10_000, count=200_000))
    options = replace(live.options(stack, topic, raw, tmp_path), checkpoint_ms=1_000)
    said: list[str] = []
    LiveGroup(stack, options, said.append).start()
    note = read_note(stack.state_dir, options.group)
    assert note is not None
    checkpoints = stack.state_dir / "flink" / "checkpoints" / note.job
    live.wait_until(lambda: any(checkpoints.glob("chk-*/_metadata")), TIMEOUT_S, "no checkpoint is completed")
    LiveJob(stack.flink_rest, note.job).cancel()  # as if it had died: nothing is noted
    second = LiveGroup(stack, options, said.append)
    second.start()
    live.wait_until(lambda: live.is_complete(tmp_path, known.truth), TIMEOUT_S, "records are missing", 1.0)
    second.stop()
    assert any(" from checkpoint " in line for line in said)
    np.testing.assert_array_equal(live.places_in_files(tmp_path), live.places_in_log(stack.bootstrap_servers, raw))
    manifest = Log(stack.bootstrap_servers, raw).freeze()
    replay(stack.bootstrap_servers, manifest, tmp_path / "replay")
    files = live.sums(tmp_path)
    assert {name: digest for name, digest in files.items() if not name.startswith("replay")} == live.sums(
        tmp_path / "replay"
    )
