"""Child processes that are sessions of their own, told apart from strangers by pid and start time.

Standard library only: the guard, which must outlive its parent, imports nothing else.
"""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

POLL_S = 0.05
STOP_GRACE_S = 10.0

_children: dict[int, subprocess.Popen[bytes]] = {}  # ours, kept so that the dead are reaped


@dataclass(frozen=True)
class ProcessSpec:
    """What to run: the whole command line, and what it adds to our environment."""

    name: str
    command: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Running:
    """A started process. `born` is the kernel's start time, for pids are used again."""

    name: str
    pid: int
    born: str


def born(pid: int) -> str | None:
    """The start time of a living process in the kernel's own words; None when it is dead or a zombie."""
    child = _children.get(pid)
    if child is not None and child.poll() is not None:
        del _children[pid]
        return None
    stat = Path(f"/proc/{pid}/stat")
    if Path("/proc/self/stat").exists():
        try:
            fields = stat.read_text().rpartition(")")[2].split()  # the name before it may hold blanks
        except (FileNotFoundError, ProcessLookupError):
            return None
        return None if fields[0] in "ZX" else fields[19]
    listed = subprocess.run(["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    state, _, started = listed.stdout.strip().partition(" ")
    return None if not state or state.startswith("Z") else started.strip()


def is_alive(process: Running) -> bool:
    """Whether that very process still runs."""
    return born(process.pid) == process.born


def spawn(spec: ProcessSpec, state_dir: Path) -> Running:
    """Start a process in a session of its own, output to `logs/<name>.log`, and note it in `pids/`."""
    logs, pids = state_dir / "logs", state_dir / "pids"
    logs.mkdir(parents=True, exist_ok=True)
    pids.mkdir(parents=True, exist_ok=True)
    with (logs / f"{spec.name}.log").open("ab") as log:
        child = subprocess.Popen(
            spec.command,
            env={**os.environ, **spec.environment},
            cwd=state_dir,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # the terminal's Ctrl-C reaches only us, and a group is one signal's target
        )
    process = Running(spec.name, child.pid, born(child.pid) or "gone")
    _children[child.pid] = child
    note = pids / f"{spec.name}.json"
    note.with_suffix(".new").write_text(json.dumps(asdict(process)))
    note.with_suffix(".new").replace(note)
    return process


def noted(state_dir: Path) -> dict[str, Running]:
    """Every process that was started under this directory and not yet stopped, by name; some may be dead."""
    found = {}
    for note in sorted((state_dir / "pids").glob("*.json")):
        with contextlib.suppress(FileNotFoundError, ValueError):
            process = Running(**json.loads(note.read_text()))
            found[process.name] = process
    return found


def signal_group(process: Running, number: signal.Signals) -> None:
    """Signal the process and all that it started; the group of a dead leader is still ours while members live."""
    now = born(process.pid)
    if now is not None and now != process.born:
        return  # the pid belongs to a stranger by now
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def stop(processes: Sequence[Running], state_dir: Path, grace_s: float = STOP_GRACE_S) -> None:
    """SIGTERM to all at once, SIGKILL to what is left after `grace_s`, and to what their workers left behind."""
    for process in processes:
        signal_group(process, signal.SIGTERM)
    wait_gone(processes, grace_s)
    for process in processes:
        signal_group(process, signal.SIGKILL)
    wait_gone(processes, grace_s)
    for process in processes:
        (state_dir / "pids" / f"{process.name}.json").unlink(missing_ok=True)


def wait_gone(processes: Sequence[Running], timeout_s: float) -> bool:
    """Wait until none of them runs; False when time was up first."""
    until = time.monotonic() + timeout_s
    while any(is_alive(process) for process in processes):
        if time.monotonic() > until:
            return False
        time.sleep(POLL_S)
    return True
