"""A job that something happened to writes what one that nothing happened to writes, byte for byte.

Each fault of `faults.py` comes at a moment drawn by a seed, with at least 500,000 records left. HORIZON_FAULT_RUNS says
how many moments each is tried at: 1, or 5 for the whole proof.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from runners.compare import read_dataset
from runners.group import LiveGroup
from runners.live import running
from runners.log import Log
from runners.replay import replay
from runners.resume import read_note
from runners.stack import Endpoints, LocalStack
from schemas import avro
from schemas.newest import newest
from tests import live
from tests.conftest import TopicFactory
from tests.faults.faults import FAULTS
from tests.faults.frame import LEFT, MARKET, TIMEOUT_S, Case, Scene, Silence
from transforms.datasets import BARS, STATS, Dataset
from transforms.topics import TopicNames

pytestmark = pytest.mark.slow

Row = dict[str, Any]

ROOT = Path(__file__).parents[2]
RUNS = int(os.environ.get("HORIZON_FAULT_RUNS", "1"))


@dataclass(frozen=True)
class Run:
    """What one run gave."""

    root: Path
    prefix: str


@dataclass(frozen=True)
class Sent:
    """What was published, and where it lies in the log."""

    places: npt.NDArray[np.int64]
    values: frozenset[bytes]


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


@pytest.fixture(scope="module")
def sent(case: Case) -> Sent:
    servers = case.places.bootstrap_servers
    values = frozenset(message.value() for message in live.records(servers, case.topic))
    return Sent(live.places_in_log(servers, case.topic), values)


def struck(name: str, case: Case, root: Path, seed: str) -> Run:
    """A run that the fault of that name strikes."""
    options = case.options(root)
    with case.whole_afterwards(), running(case.places, options) as job:
        out = case.wait_for_moment(options, seed)
        with Silence(case.places.bootstrap_servers, options) as silence:
            FAULTS[name](Scene(case, job, options))
            after_s = case.wait_complete(root)
        print(f"{name}: struck with {out:,} unique events out; longest silence {silence.longest_s:.1f} s, ", end="")
        print(f"all files {after_s:.1f} s after its end")
        job.stop(case.savepoints)
    return Run(root, options.group)


def resumed(name: str, case: Case, root: Path, seed: str) -> Run:
    """Stop with a savepoint in the middle, and a second job that goes on from it."""
    options = case.options(root)
    with running(case.places, options) as job:
        out = case.wait_for_moment(options, seed)
        savepoint = job.stop(case.savepoints)
    stopped = case.unique_out(options)
    with (
        Silence(case.places.bootstrap_servers, options) as silence,
        running(case.places, replace(options, savepoint=savepoint)) as job,
    ):
        live.wait_until(lambda: case.unique_out(options) > stopped, TIMEOUT_S, "nothing comes out again", poll_s=0.05)
        after_s = case.wait_complete(root)
        job.stop(case.savepoints)
    print(f"{name}: with {out:,} unique events out; longest silence {silence.longest_s:.1f} s, ", end="")
    print(f"all files {after_s:.1f} s after the next output")
    return Run(root, options.group)


def resubmitted(name: str, case: Case, root: Path, seed: str) -> Run:
    """The JobManager dies and forgets the job, which is submitted again from its newest checkpoint."""
    options = case.options(root)
    group = LiveGroup(case.places, options, print)
    group.start()
    with case.whole_afterwards():
        case.wait_for_moment(options, seed)
        first, checkpoints = group.job_id, case.places.state_dir / "flink" / "checkpoints"
        live.wait_until(lambda: any((checkpoints / first).glob("chk-*/_metadata")), TIMEOUT_S, "no checkpoint")
        out = case.unique_out(options)
        assert MARKET.count - out >= LEFT // 2  # a quick job has read much before its first checkpoint is there
        with Silence(case.places.bootstrap_servers, options) as silence:
            case.stack.kill("jobmanager", stays_dead=False)
            live.wait_until(
                lambda: group.look() == "RUNNING" and group.job_id != first, TIMEOUT_S, "it is not submitted again"
            )
            note = read_note(case.places.state_dir, options.group)
            assert note is not None
            assert note.origin is not None
            assert f"{first}/chk-" in note.origin
            after_s = case.wait_complete(root)
        group.stop()
    print(f"{name}: with {out:,} unique events out; longest silence {silence.longest_s:.1f} s, ", end="")
    print(f"all files {after_s:.1f} s after the new job ran")
    return Run(root, options.group)


def orphaned(name: str, case: Case, root: Path, seed: str) -> Run:
    """`horizon live` is killed; the job goes on, and another `horizon live` finds it and stops it."""
    options = case.options(root)
    words = f"live --topic {case.topic} --group {options.group} --prefix {options.group} --no-beacons"
    command = [sys.executable, "-m", "runners", *words.split(), "--out", str(root)]
    command += ["--state-dir", str(case.places.state_dir)]
    with subprocess.Popen(command, cwd=ROOT) as client:
        try:
            out = case.wait_for_moment(options, seed)
        finally:
            client.kill()
    with Silence(case.places.bootstrap_servers, options) as silence:
        after_s = case.wait_complete(root)
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as client:
        assert client.stderr is not None
        assert any("runs already" in line for line in client.stderr)
        client.send_signal(signal.SIGINT)
        client.communicate()
    assert client.returncode == 0
    print(f"{name}: with {out:,} unique events out; longest silence {silence.longest_s:.1f} s, ", end="")
    print(f"all files after {after_s:.1f} s")
    return Run(root, options.group)


RUN_WITH: dict[str, Callable[[str, Case, Path, str], Run]] = {
    **dict.fromkeys(FAULTS, struck),
    "stopped and resumed": resumed,
    "JobManager killed": resubmitted,
    "client killed": orphaned,
}
EVERY_RUN = [(name, number) for number in range(RUNS) for name in RUN_WITH]


@pytest.fixture(scope="module", params=EVERY_RUN, ids=lambda run: f"{run[0]}-{run[1]}".replace(" ", "-"))
def faulty(request: pytest.FixtureRequest, case: Case, tmp_path_factory: pytest.TempPathFactory) -> Run:
    name, number = request.param
    return RUN_WITH[name](name, case, tmp_path_factory.mktemp("faulty"), seed=f"{name} {number}")


def test_files_are_those_of_a_run_without_a_fault(calm: Run, faulty: Run) -> None:
    assert live.sums(faulty.root) == live.sums(calm.root)


def test_every_record_is_found_exactly_once(case: Case, sent: Sent, faulty: Run) -> None:
    assert len(sent.places) == case.known.truth.records
    np.testing.assert_array_equal(live.places_in_files(faulty.root), sent.places)


def test_no_half_written_file_is_left(faulty: Run) -> None:
    assert [path for path in faulty.root.rglob(".*") if path.is_file()] == []


def test_identities_are_the_simulators(case: Case, faulty: Run) -> None:
    assert live.identities_in_files(faulty.root).equals(case.known.identities)


@pytest.mark.parametrize("dataset", [BARS, STATS], ids=lambda dataset: dataset.name)
def test_highest_version_of_a_key_on_the_topics_is_the_one_in_the_files(
    case: Case, faulty: Run, dataset: Dataset
) -> None:
    names = TopicNames(faulty.prefix)
    topics = [names.bars(interval_s) for interval_s in live.INTERVALS_S] if dataset is BARS else [names.stats]
    rows: list[Row] = []
    for topic in topics:
        rows += (avro.decode(message.value())[1] for message in live.records(case.places.bootstrap_servers, topic))
    in_files = read_dataset(faulty.root, dataset).to_pylist()
    found = newest(rows, dataset.record.key).values()
    assert sorted(found, key=window_order) == sorted(in_files, key=window_order)


def window_order(row: Row) -> tuple[object, ...]:
    return row.get("kind", ""), row["interval_s"], row["window_start"], row["exchange"], row["symbol"]


def test_unique_events_on_the_topic_are_the_published_ones_each_under_one_key(
    case: Case, sent: Sent, faulty: Run
) -> None:
    servers = case.places.bootstrap_servers
    values: dict[bytes, bytes] = {}
    for message in live.records(servers, TopicNames(faulty.prefix).unique):
        assert values.setdefault(message.key(), message.value()) == message.value(), "one key with two contents"
    assert len(values) == case.known.truth.unique
    assert set(values.values()) <= sent.values
    assert len(set(values.values())) == len(values)


def test_replay_of_the_same_offsets_writes_the_same_files(case: Case, calm: Run, tmp_path: Path) -> None:
    manifest = Log(case.places.bootstrap_servers, case.topic).freeze()
    replay(case.places.bootstrap_servers, manifest, tmp_path)
    assert live.sums(tmp_path) == live.sums(calm.root)
