"""A job that fails at one record again and again says which, and where; and goes on as soon as the code takes it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner

from runners.__main__ import app
from runners.flink_rest import failure_of, job_of
from runners.live import LiveOptions
from runners.stack import Endpoints, LocalStack
from tests import live
from tests.conftest import TopicFactory
from tests.poisons import PARTITIONS, TOPIC_CONFIG, publish

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 240.0


@contextmanager
def failing_at(stack: LocalStack, record: str) -> Iterator[None]:
    """Workers that fail at this record while entered, and those as before afterwards."""
    os.environ["HORIZON_FAULT_AT"] = f"checked RAISE {record}"
    try:
        restart_workers(stack)
        yield
    finally:
        os.environ.pop("HORIZON_FAULT_AT", None)
        restart_workers(stack)


def restart_workers(stack: LocalStack) -> None:
    stack.kill("workers")
    stack.start("workers")
    stack.wait_ready()


@contextmanager
def following(stack: Endpoints, options: LiveOptions, said: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """`horizon live` as its user starts it; what it says is in that file."""
    words = f"live --topic {options.topic} --group {options.group} --prefix {options.outputs.topic_prefix} --no-beacons"
    command = [sys.executable, "-m", "runners", *words.split(), "--out", str(options.outputs.files_root)]
    with said.open("wb") as file:
        client = subprocess.Popen([*command, "--state-dir", str(stack.state_dir)], cwd=ROOT, stderr=file)
        try:
            yield client
        finally:
            client.terminate()
            client.wait(120)


def test_live_and_status_name_the_record_and_the_step_and_nothing_is_lost(
    stack: Endpoints, topic: TopicFactory, local_stack: LocalStack, tmp_path: Path
) -> None:
    raw = topic(PARTITIONS, TOPIC_CONFIG, "raw")
    sent = publish(stack.bootstrap_servers, raw, 3_000, [], 0)
    live.end(stack.bootstrap_servers, raw, sent.newest_us + 2 * live.HOUR_US)
    options = live.options(stack, topic, raw, tmp_path / "live")
    record, told = f"{raw}/3/77", tmp_path / "told"
    error = f"at {record}: RuntimeError: a fault that a test asked for"

    def times() -> int:
        job = job_of(stack.flink_rest, options.group)
        failure = None if job is None else failure_of(stack.flink_rest, job)
        return 0 if failure is None else failure.times

    with ExitStack() as fault:
        fault.enter_context(failing_at(local_stack, record))
        with following(stack, options, told):
            live.wait_until(lambda: times() >= 4, TIMEOUT_S, "the job does not fail", 1.0)
            live.wait_until(lambda: error in told.read_text(), 60, f"live does not tell: {told.read_text()}", 1.0)
            words = f"status --topic {raw} --group {options.group} --prefix {options.outputs.topic_prefix} --state-dir"
            shown = CliRunner().invoke(app, [*words.split(), str(stack.state_dir)])
            assert shown.exit_code == 1
            assert error in shown.output, shown.output
            assert "in CheckEvents/Check" in shown.output
            fault.close()
            live.wait_settled(stack, options, len(sent.places), sent.newest_us + live.HOUR_US, TIMEOUT_S)
    (line,) = [line for line in told.read_text().splitlines() if "again and again" in line]
    print(line)
    assert "in CheckEvents/Check" in line
    assert sorted(sent.places) == [
        (home >> 40, home & (1 << 40) - 1) for home in live.places_in_files(tmp_path / "live")
    ]
