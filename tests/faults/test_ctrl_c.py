"""Ctrl-C on a busy stream: what `horizon live` then says is pasted into a shell, and the replay equals the live run."""

import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from runners.__main__ import app
from runners.bounds import parse_bound
from runners.dataset_files import read_dataset
from runners.log import Log
from runners.publish import publish_batches
from runners.resume import read_note
from runners.run_note import read_reach
from runners.simulate import Market, MarketConfig
from runners.stack import Endpoints
from tests import live
from tests.conftest import TopicFactory
from transforms.datasets import EVENTS

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
BUSY_S = 100
RATE = 1_000
OPTIONS = "--horizon-s 20 --session-gap-s 5 --grace-ms 400"


@contextmanager
def busy(servers: str, topic: str) -> Iterator[None]:
    """A market in real time, with copies, disorder and late events, that goes on over whatever happens to the job."""
    market = Market(
        MarketConfig(seed=3, rate=RATE, disorder_ms=8_000, late_share=0.002, horizon_s=20), time.time_ns() // 1_000
    )
    start_us, ended = time.time_ns() // 1_000, threading.Event()

    def batches() -> Iterator[object]:
        for batch in market.batches():
            if ended.is_set():
                return
            yield batch.to_publish(paced_from_us=start_us)

    thread = threading.Thread(target=publish_batches, args=(servers, topic, batches()))
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(60)


@dataclass(frozen=True)
class Stopped:
    group: str
    files: Path
    said: str


@pytest.fixture(scope="module")
def stopped(stack: Endpoints, topic: TopicFactory, tmp_path_factory: pytest.TempPathFactory) -> Stopped:
    """A job that was stopped with Ctrl-C while a thousand records a second came, and they went on to come."""
    raw, prefix = topic(config={"retention.ms": "-1"}, prefix="raw"), topic.outputs()
    files = tmp_path_factory.mktemp("files") / "live"
    command = [sys.executable, "-m", "runners", "live", *shlex.split(OPTIONS), "--topic", raw, "--group", prefix]
    command += ["--prefix", prefix, "--out", str(files), "--state-dir", str(stack.state_dir)]
    with busy(stack.bootstrap_servers, raw):
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as client:
            live.wait_until(lambda: len(read_dataset(files, EVENTS, ("offset",))) > 0, 180, "nothing comes out", 1.0)
            time.sleep(BUSY_S + random.random() * 10)  # any moment of the ten seconds between two revisions
            client.send_signal(signal.SIGINT)
            said, _ = client.communicate(timeout=180)
        time.sleep(5)
    assert client.returncode == 0
    return Stopped(prefix, files, said)


def horizon(*words: str) -> Result:
    return CliRunner().invoke(app, words, prog_name="horizon")


def test_what_was_read_is_noted_and_told_and_the_log_has_gone_on(stack: Endpoints, stopped: Stopped) -> None:
    told = parse_bound(re.search(r"^read to (\S+) \(partition:offset\)$", stopped.said, re.M)[1])  # type: ignore[index]
    reach, note = read_reach(stopped.files), read_note(stack.state_dir, stopped.group)
    assert reach is not None
    assert note is not None
    assert told == reach.offsets == {int(p): offset for p, offset in note.ends.items()}
    end = Log(stack.bootstrap_servers, reach.topic).latest()
    assert all(0 < reach.filed[p] <= reach.offsets[p] <= end[p] for p in end)
    assert sum(end.values()) > sum(reach.offsets.values()) + 3 * RATE
    status = horizon("status", "--group", stopped.group, "--topic", reach.topic, "--state-dir", str(stack.state_dir))
    assert f"stopped with savepoint {note.origin}, read to " in status.stdout


def test_the_line_that_it_prints_replays_and_finds_them_equal(stopped: Stopped) -> None:
    line = next(one for one in stopped.said.splitlines() if one.startswith("horizon replay "))
    shell = line.replace("horizon ", f"{shlex.quote(sys.executable)} -m runners ")
    done = subprocess.run(shell, shell=True, cwd=ROOT, env=os.environ, capture_output=True, text=True, check=False)
    print(done.stdout, done.stderr)
    assert done.returncode == 0
    rows = {
        one.split()[0]: int(re.search(r"live ([\d,]+)", one)[1].replace(",", ""))  # type: ignore[index]
        for one in done.stdout.splitlines()
        if " equal " in one
    }
    assert rows.keys() == {"events", "bars", "stats", "late", "rejects"}
    assert rows["events"] > RATE * BUSY_S / 4


def test_a_replay_of_all_that_the_log_has_is_equal_too(stack: Endpoints, stopped: Stopped, tmp_path: Path) -> None:
    line = next(one for one in stopped.said.splitlines() if one.startswith("horizon replay "))
    words = shlex.split(line.split(" && ")[0])[1:]
    words[words.index("--out") + 1] = str(tmp_path / "again")
    at = words.index("--to")
    assert horizon(*words[:at], *words[at + 2 :]).exit_code == 0
    result = horizon("compare", str(stopped.files), str(tmp_path / "again"))
    print(result.stdout)
    assert result.exit_code == 0


def test_one_event_less_is_called_different(stopped: Stopped, tmp_path: Path) -> None:
    shutil.copytree(stopped.files, tmp_path / "live")
    again = Path(f"{stopped.files}-again")
    events = read_dataset(again, EVENTS)
    lost = events.sort_by("event_time").slice(len(events) // 4, 1)["offset"][0]
    changed(tmp_path / "live", events.schema, lost.as_py())
    result = horizon("compare", str(tmp_path / "live"), str(again))
    assert (result.exit_code, "first difference: only in replay: identity=" in result.stdout) == (1, True)


def changed(root: Path, schema: pa.Schema, offset: int) -> None:
    """Take the events at an offset out of the files."""
    for file in (root / EVENTS.name).glob("**/*.parquet"):
        table = pq.read_table(file, schema=schema, partitioning=None)
        kept = [value != offset for value in table["offset"].to_pylist()]
        if not all(kept):
            pq.write_table(table.filter(pa.array(kept)), file)
