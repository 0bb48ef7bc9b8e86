"""A group that is started again, whatever happened meanwhile: it goes on exactly, or says what is lost and ends."""

import os
import shutil
import signal
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient
from typer.testing import CliRunner

from runners.__main__ import app
from runners.gaps import Gap, GapError, read_gaps
from runners.group import LiveGroup
from runners.live import LiveError, LiveJob, LiveOptions
from runners.log import Log, LogError
from runners.publish import PublishBatch, publish_batches
from runners.replay import replay
from runners.resume import ResumeError, read_note
from runners.simulate import Market, MarketConfig
from runners.stack import Endpoints, LocalStack
from runners.stack.guard import NAME
from tests import live, proof
from tests.conftest import TopicFactory
from tests.simulated import Simulated
from transforms.topics import TopicNames

pytestmark = pytest.mark.slow

MARKET = MarketConfig(seed=21, rate=10_000, count=400_000)
TIMEOUT_S = 240.0


class Feed:
    """A simulated market of the past, published in parts."""

    def __init__(self, servers: str, topic: str) -> None:
        self.known, self.servers, self.topic = Simulated(), servers, topic
        start_us = time.time_ns() // 1_000 - 3 * live.HOUR_US
        self._batches = Market(MARKET, start_us).batches()

    def publish(self, records: int) -> None:
        """Publish until the topic has so many."""
        publish_batches(self.servers, self.topic, self._until(records))

    def publish_rest(self) -> None:
        """What is left, and the beacons that close every window."""
        self.publish(MARKET.count)
        live.end(self.servers, self.topic, self.known.newest_us + 2 * live.HOUR_US)

    def _until(self, records: int) -> Iterator[PublishBatch]:
        for batch in self._batches:
            self.known.add(batch)
            yield batch.to_publish()
            if self.known.truth.records >= records:
                return


def unique_out(servers: str, options: LiveOptions) -> int:
    return sum(Log(servers, TopicNames(options.outputs.topic_prefix).unique).latest().values())


def run_a_while(places: Endpoints, options: LiveOptions, out: int) -> LiveGroup:
    """The group, until so many unique events are out and a checkpoint holds some of them."""
    group = LiveGroup(places, options, print)
    group.start()
    checkpoints = places.state_dir / "flink" / "checkpoints" / group.job_id
    live.wait_until(lambda: unique_out(places.bootstrap_servers, options) >= out, TIMEOUT_S, "the job is slow")
    live.wait_until(lambda: any(checkpoints.glob("chk-*/_metadata")), TIMEOUT_S, "no checkpoint")
    return group


def run_to_the_end(places: Endpoints, options: LiveOptions, feed: Feed, *, fresh: bool = False) -> None:
    """The group until the files hold all of the log; and they are what a replay gives, byte for byte."""
    root = Path(options.outputs.files_root or "")
    group = LiveGroup(places, options, print)
    group.start(fresh=fresh)
    live.wait_until(lambda: live.is_complete(root, feed.known.truth), TIMEOUT_S, "records are missing", 1.0)
    group.stop()
    proof.assert_every_record_once(places, options.topic, root, feed.known)
    proof.assert_true_bars(root, feed.known)
    replayed = root.with_name("replay")
    replay(places.bootstrap_servers, Log(places.bootstrap_servers, options.topic).freeze(), replayed)
    assert live.sums(root) == live.sums(replayed)


# ---- the stack is another one --------------------------------------------------------------------------------


def cut_the_power(stack: LocalStack) -> None:
    """SIGKILL of all processes, the one first that would start the others again."""
    pids = stack.pids()
    for name in sorted(pids, key=lambda name: name != NAME):
        os.killpg(pids[name], signal.SIGKILL)
    live.wait_until(lambda: not stack.pids(), 30, "processes live on")


@pytest.mark.parametrize("how", ["power cut", "down and up at other addresses", "moved"])
def test_group_goes_on_when_the_stack_is_up_again(tmp_path: Path, how: str) -> None:
    state = tmp_path / "Zustand 100 % süß"
    stack = LocalStack(state)
    try:
        places = stack.up()
        topic = TopicFactory(places.bootstrap_servers)
        raw = topic(config={"retention.ms": "-1"}, prefix="raw")
        options = replace(live.options(places, topic, raw, tmp_path / "files"), checkpoint_ms=1_000)
        feed = Feed(places.bootstrap_servers, raw)
        feed.publish(MARKET.count * 3 // 4)
        run_a_while(places, options, 20_000)
        if how == "power cut":
            cut_the_power(stack)
        else:
            stack.down()
        if how == "moved":
            state = state.rename(tmp_path / "umgezogen")
        elif how != "power cut":
            (state / "ports.json").unlink()
        stack = LocalStack(state)
        again = stack.up()
        if how == "power cut":
            assert again == places
        options = replace(options, outputs=replace(options.outputs, bootstrap_servers=again.bootstrap_servers))
        feed.servers = again.bootstrap_servers
        feed.publish_rest()
        run_to_the_end(again, options, feed)
    finally:
        stack.down()


# ---- the log is another one ----------------------------------------------------------------------------------


def delete_before(servers: str, topic: str, offsets: Mapping[int, int]) -> None:
    """What retention does."""
    admin = AdminClient({"bootstrap.servers": servers})  # which must outlive its answers
    wanted = [TopicPartition(topic, partition, offset) for partition, offset in offsets.items()]
    for done in admin.delete_records(wanted).values():
        done.result()


@pytest.mark.parametrize("taken", ["of all partitions", "of one"])
def test_what_retention_took_is_told_and_passed_over_only_on_demand(
    stack: Endpoints, topic: TopicFactory, tmp_path: Path, taken: str
) -> None:
    servers, raw = stack.bootstrap_servers, topic(config={"retention.ms": "-1"}, prefix="raw")
    options = replace(live.options(stack, topic, raw, tmp_path / "live"), checkpoint_ms=1_000)
    feed = Feed(servers, raw)
    feed.publish(100_000)
    run_a_while(stack, options, 50_000).stop()
    note = read_note(stack.state_dir, options.group)
    assert note is not None
    feed.publish_rest()
    log = Log(servers, raw)
    read, end = Log(servers, raw).latest(), log.latest()
    first = {p: end[p] * 3 // 4 for p in (range(12) if taken == "of all partitions" else [5])}
    delete_before(servers, raw, first)
    with pytest.raises(GapError) as told:
        LiveGroup(stack, options, print).start()
    assert all(f"partition {p} from " in str(told.value) and f" to {first[p] - 1:,}" in str(told.value) for p in first)

    arguments = ["--state-dir", str(stack.state_dir), "--topic", raw, "--group", options.group, "--duration", "5"]
    arguments += ["--prefix", options.outputs.topic_prefix, "--out", str(tmp_path / "live")]
    refused = CliRunner().invoke(app, ["live", *arguments])
    assert refused.exit_code == 1
    assert refused.output.count("error:") == 1
    assert read_gaps(stack.state_dir, options.group) == []

    group = LiveGroup(stack, options, print, accept_gap=True)
    group.start()
    gaps = read_gaps(stack.state_dir, options.group)
    assert [(gap.partition, gap.stop, gap.why) for gap in gaps] == [(p, first[p], "retention") for p in first]
    kept = feed.known.truth.records - sum(gap.stop - gap.start for gap in gaps)
    live.wait_until(lambda: len(live.places_in_files(tmp_path / "live")) >= kept, TIMEOUT_S, "records are missing", 1.0)
    assert any(said.startswith("never read: ") for said in live.findings(stack, options))
    group.stop()
    assert len(live.places_in_files(tmp_path / "live")) == kept
    assert read == end


def test_a_job_that_retention_overtakes_ends_with_what_it_missed(
    stack: Endpoints, topic: TopicFactory, tmp_path: Path, local_stack: LocalStack
) -> None:
    servers, raw = stack.bootstrap_servers, topic(config={"retention.ms": "-1"}, prefix="raw")
    options = replace(live.options(stack, topic, raw, tmp_path), checkpoint_ms=1_000)
    feed = Feed(servers, raw)
    feed.publish(50_000)
    group = run_a_while(stack, options, 20_000)
    local_stack.kill("taskmanager-1")
    try:
        feed.publish_rest()
        end = Log(servers, raw).latest()
        delete_before(servers, raw, {p: offset // 2 for p, offset in end.items()})
    finally:
        local_stack.start("taskmanager-1")
    with pytest.raises(GapError, match="partition 0 from "):
        live.wait_until(lambda: bool(group.look()) and False, TIMEOUT_S, "nothing is told")


@pytest.mark.parametrize("partitions", [6, 12, 24])
def test_a_topic_that_was_made_anew_is_not_read_from_the_old_ones_offsets(
    stack: Endpoints, topic: TopicFactory, tmp_path: Path, partitions: int
) -> None:
    servers, raw = stack.bootstrap_servers, topic(config={"retention.ms": "-1"}, prefix="raw")
    options = replace(live.options(stack, topic, raw, tmp_path / "live"), checkpoint_ms=1_000)
    Feed(servers, raw).publish(100_000)
    run_a_while(stack, options, 20_000).stop()
    admin = AdminClient({"bootstrap.servers": servers})
    admin.delete_topics([raw])[raw].result()
    live.wait_until(lambda: raw not in admin.list_topics().topics, 60, "the topic is not deleted")
    topic.create_named(raw, partitions, {"retention.ms": "-1"})
    shutil.rmtree(tmp_path / "live")
    feed = Feed(servers, raw)
    feed.publish_rest()
    with pytest.raises(ResumeError, match=rf"topic {raw} was made anew .*--fresh"):
        LiveGroup(stack, options, print).start()
    run_to_the_end(stack, options, feed, fresh=True)


def test_a_topic_that_is_made_anew_under_a_job_ends_it(stack: Endpoints, topic: TopicFactory, tmp_path: Path) -> None:
    servers, raw = stack.bootstrap_servers, topic(config={"retention.ms": "-1"}, prefix="raw")
    options = replace(live.options(stack, topic, raw, tmp_path / "live"), checkpoint_ms=1_000)
    Feed(servers, raw).publish(20_000)
    group = run_a_while(stack, options, 10_000)
    admin = AdminClient({"bootstrap.servers": servers})
    admin.delete_topics([raw])[raw].result()
    live.wait_until(lambda: raw not in admin.list_topics().topics, 60, "the topic is not deleted")
    with pytest.raises(LogError, match=rf"topic {raw}: "):
        group.look()
    topic.create_named(raw, 12, {"retention.ms": "-1"})
    feed = Feed(servers, raw)
    feed.publish(50_000)  # more than the job had read, so that its offsets are there again
    with pytest.raises(ResumeError, match=rf"topic {raw} was made anew .*--fresh"):
        live.wait_until(lambda: bool(group.look()) and False, TIMEOUT_S, "nothing is told")
    assert LiveJob(stack.flink_rest, group.job_id).state() == "CANCELED"
    shutil.rmtree(tmp_path / "live")
    feed.publish_rest()
    run_to_the_end(stack, options, feed, fresh=True)


# ---- the user asks for something else ------------------------------------------------------------------------


def test_a_second_live_and_other_options_are_refused_and_fresh_comes_to_the_same(
    stack: Endpoints, topic: TopicFactory, tmp_path: Path
) -> None:
    servers, raw = stack.bootstrap_servers, topic(config={"retention.ms": "-1"}, prefix="raw")
    options = replace(live.options(stack, topic, raw, tmp_path / "live"), checkpoint_ms=1_000)
    arguments = ["live", "--state-dir", str(stack.state_dir), "--topic", raw, "--group", options.group]
    arguments += ["--prefix", options.outputs.topic_prefix, "--out", str(tmp_path / "live"), "--duration", "5"]

    def refused(*others: str) -> str:
        told = CliRunner().invoke(app, [*arguments, *others])
        assert (told.exit_code, told.output.count("error:")) == (1, 1), told.output
        return " ".join(told.output.split())

    feed = Feed(servers, raw)
    feed.publish(MARKET.count // 2)
    with LiveGroup(stack, options, print) as group:
        group.start()
        assert f"followed by another `horizon live`, pid {os.getpid()}" in refused()
        assert "--shards was 2, now 4" not in refused("--shards", "4")  # whoever follows it comes first
        live.wait_until(lambda: unique_out(servers, options) >= 50_000, TIMEOUT_S, "the job is slow")
        group.stop()
    assert "--shards was 2, now 4" in refused("--shards", "4")
    assert "--horizon-s was 120.0, now 60" in refused("--horizon-s", "60")
    feed.publish_rest()
    run_to_the_end(stack, options, feed, fresh=True)


# ---- the snapshots -------------------------------------------------------------------------------------------


def test_snapshots_that_are_gone_are_told_and_fresh_comes_to_the_same(
    stack: Endpoints, topic: TopicFactory, tmp_path: Path
) -> None:
    servers, raw = stack.bootstrap_servers, topic(config={"retention.ms": "-1"}, prefix="raw")
    options = replace(live.options(stack, topic, raw, tmp_path / "live"), checkpoint_ms=1_000)
    feed = Feed(servers, raw)
    feed.publish(MARKET.count // 2)
    savepoint = run_a_while(stack, options, 50_000).stop()
    feed.publish_rest()
    note = read_note(stack.state_dir, options.group)
    assert note is not None
    shutil.rmtree(savepoint)
    shutil.rmtree(stack.state_dir / "flink" / "checkpoints" / note.job)
    with pytest.raises(ResumeError, match=r"snapshots of job .* are gone.*--fresh"):
        LiveGroup(stack, options, print).start()
    run_to_the_end(stack, options, feed, fresh=True)


def test_a_start_that_was_killed_while_it_submitted_leaves_one_job(
    stack: Endpoints, topic: TopicFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = topic(2, prefix="raw")
    options = live.options(stack, topic, raw, tmp_path)
    first = LiveGroup(stack, options, print)
    monkeypatch.setattr(first, "_keep", lambda note: None)  # dead before it could note the job's id
    first.start()
    note = read_note(stack.state_dir, options.group)
    assert note is not None
    assert note.job == ""
    second = LiveGroup(stack, options, print)
    second.start()
    assert second.job_id
    with pytest.raises(LiveError, match="runs; stop it"):
        LiveGroup(stack, options, print).start(fresh=True)
    (stack.state_dir / "groups" / f"{options.group}.json").rename(tmp_path / "note")
    with pytest.raises(LiveError, match=f"job {second.job_id} .* no note says what it reads"):
        LiveGroup(stack, options, print).start()
    second.stop()


def test_gap_names_its_first_and_last_offset() -> None:
    assert str(Gap(3, 1_000, 2_000, "retention")) == "partition 3 from 1,000 to 1,999"
