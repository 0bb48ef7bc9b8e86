"""What a run gives follows from the log alone: whoever reads it, how it is read, and what happens meanwhile.

Two live jobs read a log that is written while they do (`tests/staged.py`), at parallelism 1 and 2. Both crash in the
middle, both are stopped and go on from their savepoints; then its offsets are replayed, and it is given to the oracle.
Beacons lie in it, as `horizon live` writes them, until shortly before the partition that fell silent wakes.
"""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from pipelines.options import MarketDataConfig
from runners.beacons import Beacons
from runners.compare import compare
from runners.flink_rest import FlinkJob, checkpoints_of, job_of, restarts_of
from runners.live import LiveJob, LiveOptions, running
from runners.log import Log as KafkaLog
from runners.replay import replay
from runners.stack import Endpoints, LocalStack
from schemas.units import US_PER_S
from tests import live
from tests.conftest import TopicFactory
from tests.expectations import assert_as_expected, assert_rejects, expected_of, harmless
from tests.faults.frame import killed_and_back
from tests.oracle import Expected, Group
from tests.staged import AHEAD_US, BEHIND_US, HISTORY_US, Home, Market, Producers, history, on_kafka
from tests.testing import Written
from transforms.topics import TopicNames

pytestmark = pytest.mark.slow

TIMEOUT_S = 240.0
TASKMANAGERS = ("taskmanager-1", "taskmanager-2")
FILED_US = 75 * US_PER_S  # after it everything is in the files
STILL_AHEAD_US = 100 * US_PER_S  # of the wall clock, when the jobs start


class Jobs:
    """Live jobs, started and stopped together."""

    def __init__(self, stack: Endpoints, options: list[LiveOptions]) -> None:
        self._stack, self._options = stack, options

    @contextmanager
    def running(self, savepoints: list[Path] | None = None) -> Iterator[list[LiveJob]]:
        places = savepoints or [None] * len(self._options)
        told = [replace(options, savepoint=place) for options, place in zip(self._options, places, strict=True)]
        with ExitStack() as jobs:
            yield [jobs.enter_context(running(self._stack, options)) for options in told]

    def wait_for_output(self, more: int = 30) -> None:
        """Until so many more unique events of each are out."""
        before = self._out()
        live.wait_until(
            lambda: all(now >= then + more for now, then in zip(self._out(), before, strict=True)),
            TIMEOUT_S,
            f"nothing comes out beyond {before}",
        )

    def wait_for_checkpoints(self, count: int) -> None:
        rest = self._stack.flink_rest
        live.wait_until(
            lambda: all(checkpoints_of(rest, job).completed >= count for job in self._on_flink()),
            TIMEOUT_S,
            f"there are not {count} checkpoints",
        )

    def restarts(self) -> list[int]:
        return [restarts_of(self._stack.flink_rest, job) or 0 for job in self._on_flink()]

    def wait_settled(self, records: int, log_time_us: int) -> None:
        """Until the files of each account for every record, and for what is due by then."""
        with ThreadPoolExecutor() as pool:
            waits = [
                pool.submit(live.wait_settled, self._stack, options, records, log_time_us, TIMEOUT_S)
                for options in self._options
            ]
        for wait in waits:
            wait.result()

    def _on_flink(self) -> list[FlinkJob]:
        found = [job_of(self._stack.flink_rest, options.group) for options in self._options]
        return [job for job in found if job is not None]

    def _out(self) -> list[int]:
        names = [TopicNames(options.outputs.topic_prefix).unique for options in self._options]
        return [sum(KafkaLog(self._stack.bootstrap_servers, name).latest().values()) for name in names]


@pytest.fixture
def two_taskmanagers(local_stack: LocalStack) -> Iterator[LocalStack]:
    """Slots for both jobs."""
    local_stack.start(TASKMANAGERS[1])
    try:
        yield local_stack
    finally:
        if TASKMANAGERS[1] in local_stack.pids():
            local_stack.kill(TASKMANAGERS[1])
        local_stack.wait_ready()


@contextmanager
def whole_log(
    jobs: Jobs, producers: Producers, beacons: Beacons, local_stack: LocalStack, savepoints: Path
) -> Iterator[None]:
    """The jobs read while the log is written. It is whole when this is entered; the jobs are stopped at the exit."""
    with ExitStack() as writing, ExitStack() as clock:
        with jobs.running() as first:
            beacons.send()
            clock.enter_context(beacons)
            writing.enter_context(producers)
            producers.hang()
            jobs.wait_for_output()
            jobs.wait_for_checkpoints(2)
            killed_and_back(local_stack, *TASKMANAGERS)
            jobs.wait_for_output()
            assert min(jobs.restarts()) > 0
            stopped = [job.stop(savepoints) for job in first]
        with jobs.running(stopped) as second:
            jobs.wait_for_output()
            producers.commit()
            jobs.wait_for_output()
            clock.close()
            time.sleep(5.0)  # nobody moves the clock of a drained partition on
            producers.wake()
            time.sleep(8.0)
            writing.close()
            yield
            for job in second:
                job.stop(savepoints)


def test_log_is_read_alike_at_any_parallelism_through_crash_and_resume_and_replayed(
    stack: Endpoints, topic: TopicFactory, two_taskmanagers: LocalStack, tmp_path: Path
) -> None:
    servers, raw = stack.bootstrap_servers, topic(len(Home), prefix="raw")
    market, start_us = Market(), time.time_ns() // 1_000 - AHEAD_US - HISTORY_US + STILL_AHEAD_US
    producers = Producers(servers, raw, market)
    producers.write(history(market, start_us))
    roots = [tmp_path / "one", tmp_path / "two"]
    options = [
        replace(live.options(stack, topic, raw, root), parallelism=number + 1, checkpoint_ms=2_000)
        for number, root in enumerate(roots)
    ]
    jobs = Jobs(stack, options)
    with whole_log(jobs, producers, Beacons(servers, raw), two_taskmanagers, tmp_path / "savepoints"):
        newest_us = max(record.log_time_us for record in on_kafka(servers, raw)[0].records)
        live.end(servers, raw, newest_us + FILED_US)
        manifest = KafkaLog(servers, raw).freeze()
        log, reasons = on_kafka(servers, raw)
        records = sum(bool(record.event) or record.place in reasons for record in log.records)
        jobs.wait_settled(records, newest_us + FILED_US)
    replay(servers, manifest, tmp_path / "replay")
    replayed, config = Written(tmp_path / "replay"), MarketDataConfig()
    expected = expected_of(log, config, harmless(reasons))
    assert_tells(expected)
    assert_as_expected(replayed, expected)
    assert_rejects(replayed, log, reasons | dict.fromkeys(expected.conflicts, "identity_conflict"))
    ended = ended_files(replayed, newest_us - config.cell.grace_us)
    for root in roots:
        verdicts = compare(root, replayed.root, manifest, config.cell.grace_us)
        assert [verdict.difference for verdict in verdicts] == [None] * 5
        files = Written(root).files()
        assert {name: files.get(name) for name in ended} == ended
    for one in options:
        assert_corrected(stack, one, expected)


def assert_tells(expected: Expected) -> None:
    """The log holds what it is to hold."""
    late, conflicts = ({Home(partition) for partition, _ in places} for places in (expected.late, expected.conflicts))
    assert late >= {Home.BUSY, Home.OTHER, Home.AHEAD, *BEHIND_US}
    assert conflicts >= {Home.BUSY, Home.OTHER, Home.BEHIND, Home.DROWSY}
    on_time = {Home(partition) for partition, _ in expected.unique}
    assert on_time == set(Home)
    held = [group for group in expected.groups if group.records[0].event.trade_id.startswith("held-")]
    assert sum(_contradicted(group) for group in held) > 10


def assert_corrected(stack: Endpoints, options: LiveOptions, expected: Expected) -> None:
    """The highest version of each unique event on its topic is the right one; others read before it are there too."""
    servers, prefix = stack.bootstrap_servers, options.outputs.topic_prefix
    said: dict[bytes, set[bytes]] = {}
    for message in live.records(servers, TopicNames(prefix).unique):
        said.setdefault(message.key(), set()).add(message.value())
    right = sorted(expected.sent[place].event.SerializeToString() for place in expected.unique)
    assert sorted(live.events_out(servers, prefix).values()) == right
    assert sum(len(values) > 1 for values in said.values()) > 10


def _contradicted(group: Group) -> bool:
    return group.records[0].partition == Home.HELD and group.conflicts > 0


def ended_files(written: Written, until_us: int) -> dict[str, bytes]:
    """The files whose windows have all ended by then: a live run has said what it will say of them."""
    found = {}
    for name, data in written.files().items():
        if name.startswith(("bars", "stats")):
            ends = pq.read_table(written.root / name, partitioning=None)["window_end"]
            if pc.max(ends.cast("int64")).as_py() > until_us:
                continue
        found[name] = data
    return found
