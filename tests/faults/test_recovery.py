"""A job that was killed, or stopped and resumed, writes what one that nothing happened to writes, byte for byte."""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from runners.compare import read_dataset
from runners.live import LiveOptions, running
from runners.log import Log
from runners.replay import replay
from runners.simulate import MarketConfig
from runners.stack import Endpoints, LocalStack
from schemas import avro
from tests import live
from tests.conftest import TopicFactory
from tests.live import Simulated
from transforms.datasets import BARS
from transforms.topics import TopicNames

pytestmark = pytest.mark.slow

MARKET = MarketConfig(seed=11, rate=10_000, count=600_000)
LEFT = 500_000  # records that must still be unprocessed when the fault comes
TIMEOUT_S = 180.0


@dataclass(frozen=True)
class Case:
    """A topic that ended long ago, with its beacons; every run over it must write the same files."""

    places: Endpoints
    stack: LocalStack
    new_topic: TopicFactory
    topic: str
    known: Simulated
    savepoints: Path

    def options(self, root: Path) -> LiveOptions:
        return replace(live.options(self.places, self.new_topic, self.topic, root), checkpoint_ms=2_000)

    def unique_out(self, options: LiveOptions) -> int:
        """Unique events that the job has published, those of a repeated bundle again."""
        prefix = options.outputs.topic_prefix
        return sum(Log(self.places.bootstrap_servers, TopicNames(prefix).unique).latest().values())

    def wait_complete(self, root: Path) -> float:
        return live.wait_until(
            lambda: live.is_complete(root, self.known.truth), TIMEOUT_S, f"{root} is not complete", poll_s=1.0
        )

    def wait_for_moment(self, options: LiveOptions, seed: int) -> int:
        """Wait for a moment drawn by the seed: the unique events that are out by then."""
        moment = random.Random(seed).randrange(5_000, MARKET.count - LEFT - 30_000)
        live.wait_until(lambda: self.unique_out(options) >= moment, TIMEOUT_S, "the job is slow", poll_s=0.05)
        out = self.unique_out(options)
        assert MARKET.count - out >= LEFT
        return out


@dataclass(frozen=True)
class Run:
    """What one run gave."""

    root: Path
    prefix: str


@pytest.fixture(scope="module")
def case(stack: Endpoints, topic: TopicFactory, tmp_path_factory: pytest.TempPathFactory) -> Case:
    raw = topic(config={"retention.ms": "-1"}, prefix="raw")
    known = live.publish_ended(stack.bootstrap_servers, raw, MARKET)
    return Case(stack, LocalStack(stack.state_dir), topic, raw, known, tmp_path_factory.mktemp("savepoints"))


@pytest.fixture(scope="module")
def calm(case: Case, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run without a fault."""
    root = tmp_path_factory.mktemp("calm")
    options = case.options(root)
    with running(case.places, options) as job:
        print(f"without a fault: {MARKET.count:,} records in {case.wait_complete(root):.1f} s")
        job.stop(case.savepoints)
    return Run(root, options.group)


def killed(case: Case, root: Path, seed: int = 1) -> Run:
    """SIGKILL of the TaskManager in the middle, and a new one."""
    options = case.options(root)
    with running(case.places, options) as job, taskmanager_back(case):
        out = case.wait_for_moment(options, seed)
        case.stack.kill("taskmanager-1")
        killed_at = time.monotonic()
        case.stack.start("taskmanager-1")
        print(f"killed the TaskManager with {out:,} unique events out, checkpoints every {options.checkpoint_ms} ms")
        live.wait_until(lambda: job.state() != "RUNNING", TIMEOUT_S, "Flink does not notice", poll_s=0.05)
        noticed_at = time.monotonic()
        before = case.unique_out(options)
        live.wait_until(lambda: case.unique_out(options) > before, TIMEOUT_S, "nothing comes out again", poll_s=0.05)
        print(f"noticed after {noticed_at - killed_at:.1f} s, next output after {time.monotonic() - killed_at:.1f} s")
        print(f"all files after another {case.wait_complete(root):.1f} s")
        job.stop(case.savepoints)
    return Run(root, options.group)


def resumed(case: Case, root: Path, seed: int = 2) -> Run:
    """Stop with a savepoint in the middle, and a second job that goes on from it."""
    options = case.options(root)
    with running(case.places, options) as job:
        out = case.wait_for_moment(options, seed)
        began = time.monotonic()
        savepoint = job.stop(case.savepoints)
        print(f"stopped with {out:,} unique events out, in {time.monotonic() - began:.1f} s")
    stopped = case.unique_out(options)
    began = time.monotonic()
    with running(case.places, replace(options, savepoint=savepoint)) as job:
        live.wait_until(lambda: case.unique_out(options) > stopped, TIMEOUT_S, "nothing comes out again", poll_s=0.05)
        print(f"resumed: next output {time.monotonic() - began:.1f} s after the start")
        case.wait_complete(root)
        job.stop(case.savepoints)
    return Run(root, options.group)


@contextmanager
def taskmanager_back(case: Case) -> Iterator[None]:
    """Whatever happens inside, the stack has its TaskManager afterwards, for the tests that follow."""
    try:
        yield
    finally:
        if "taskmanager-1" not in case.stack.pids():
            case.stack.start("taskmanager-1")
        case.stack.wait_ready()


@pytest.fixture(scope="module", params=[killed, resumed], ids=lambda fault: fault.__name__)
def faulty(request: pytest.FixtureRequest, case: Case, tmp_path_factory: pytest.TempPathFactory) -> Run:
    fault: Callable[[Case, Path], Run] = request.param
    return fault(case, tmp_path_factory.mktemp(fault.__name__))


def test_files_are_those_of_a_run_without_a_fault(calm: Run, faulty: Run) -> None:
    assert live.sums(faulty.root) == live.sums(calm.root)


def test_every_record_is_found_exactly_once(case: Case, faulty: Run) -> None:
    published = live.places_in_log(case.places.bootstrap_servers, case.topic)
    assert len(published) == case.known.truth.records
    np.testing.assert_array_equal(live.places_in_files(faulty.root), published)


def test_identities_are_the_simulators(case: Case, faulty: Run) -> None:
    assert live.identities_in_files(faulty.root).equals(case.known.identities)


def test_newest_version_of_each_bar_on_the_topics_is_the_one_in_the_files(case: Case, faulty: Run) -> None:
    newest: dict[bytes, dict[str, object]] = {}
    last: dict[bytes, dict[str, object]] = {}
    for interval_s in live.INTERVALS_S:
        for message in live.records(case.places.bootstrap_servers, TopicNames(faulty.prefix).bars(interval_s)):
            key = message.key()
            last[key] = avro.decode(message.value())[1]
            if key not in newest or last[key]["version"] > newest[key]["version"]:
                newest[key] = last[key]
    assert last == newest, "what compaction keeps is not the highest version"
    in_files = read_dataset(faulty.root, BARS).to_pylist()
    ordered = sorted(newest.values(), key=bar_order)
    assert ordered == sorted(in_files, key=bar_order)


def bar_order(row: dict[str, object]) -> tuple[object, ...]:
    return row["interval_s"], row["window_start"], row["exchange"], row["symbol"]


def test_unique_events_on_the_topic_are_the_published_ones_each_under_one_key(case: Case, faulty: Run) -> None:
    servers = case.places.bootstrap_servers
    values: dict[bytes, bytes] = {}
    for message in live.records(servers, TopicNames(faulty.prefix).unique):
        assert values.setdefault(message.key(), message.value()) == message.value(), "one key with two contents"
    assert len(values) == case.known.truth.unique
    sent = {message.value() for message in live.records(servers, case.topic)}
    assert set(values.values()) <= sent
    assert len(set(values.values())) == len(values)


def test_replay_of_the_same_offsets_writes_the_same_files(case: Case, calm: Run, tmp_path: Path) -> None:
    manifest = Log(case.places.bootstrap_servers, case.topic).freeze()
    replay(case.places.bootstrap_servers, manifest, tmp_path)
    assert live.sums(tmp_path) == live.sums(calm.root)
