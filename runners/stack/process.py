"""Child processes that are sessions of their own, told apart from strangers by pid and start time.

A note in `pids/` says what runs and what shall become of it. Standard library only: the supervisor, which must outlive
its parent, imports nothing else.
"""

import contextlib
import fcntl
import json
import os
import secrets
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import IO, Literal

from runners.stack.whole import write_whole

POLL_S = 0.05
STOP_GRACE_S = 10.0
_GROUP_GONE_S = 5.0
_TOKEN = "HORIZON_PROCESS_TOKEN"
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

# "run": started again when it dies. "stop": somebody ends it. "given up": died too often, and stays dead.
Intent = Literal["run", "stop", "given up"]

_children: dict[int, subprocess.Popen[bytes]] = {}  # ours, kept so that the dead are reaped
_ended: dict[int, int] = {}  # exit codes of those


@dataclass(frozen=True)
class ProcessSpec:
    """What to run: the whole command line, and what it adds to our environment."""

    name: str
    command: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Running:
    """A started process. `born` is the kernel's start time, for pids are used again; `restarted` is UTC, ISO 8601.

    `token` is in its environment, and in that of all that it starts: so what a dead one left behind is told from a
    stranger's group that has got its number.
    """

    name: str
    pid: int
    born: str
    intent: Intent = "run"
    restarts: int = 0
    restarted: str | None = None
    token: str = ""


def born(pid: int) -> str | None:
    """When a living process was started, in the kernel's own words, and since which boot; None: dead or a zombie."""
    child = _children.get(pid)
    if child is not None and child.poll() is not None:
        del _children[pid]
        _ended[pid] = child.returncode
        return None
    stat = Path(f"/proc/{pid}/stat")
    if Path("/proc/self/stat").exists():
        try:
            fields = stat.read_text().rpartition(")")[2].split()  # the name before it may hold blanks
        except (FileNotFoundError, ProcessLookupError):
            return None
        return None if fields[0] in "ZX" else f"{fields[19]} of boot {_BOOT_ID.read_text().strip()}"
    listed = subprocess.run(["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    state, _, started = listed.stdout.strip().partition(" ")
    return None if not state or state.startswith("Z") else started.strip()


def exit_code(process: Running) -> int | None:
    """What a child of ours ended with; None: it lives, or is not ours."""
    return None if is_alive(process) else _ended.get(process.pid)


def is_alive(process: Running) -> bool:
    """Whether that very process still runs."""
    return born(process.pid) == process.born


def spawn(spec: ProcessSpec, state_dir: Path) -> Running:
    """Start a process in a session of its own, output to `logs/<name>.log`, and note it in `pids/`."""
    return _spawn(spec, state_dir, subprocess.DEVNULL, ())


def spawn_listener(spec: ProcessSpec, state_dir: Path, pass_fds: Sequence[int]) -> tuple[Running, IO[bytes]]:
    """The same with our end of a pipe to its standard input, and with descriptors of ours that it gets too."""
    running = _spawn(spec, state_dir, subprocess.PIPE, pass_fds)
    pipe = _children[running.pid].stdin
    assert pipe is not None
    return running, pipe


def _spawn(spec: ProcessSpec, state_dir: Path, stdin: int, pass_fds: Sequence[int]) -> Running:
    logs = state_dir / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    token = secrets.token_hex(16)
    with (logs / f"{spec.name}.log").open("ab") as log:
        child = subprocess.Popen(
            spec.command,
            # by the locale a JVM knows how a file's name is spelt in bytes
            env={**os.environ, "LC_ALL": "C.UTF-8", **spec.environment, _TOKEN: token},
            cwd=state_dir,
            stdin=stdin,
            stdout=log,
            stderr=subprocess.STDOUT,
            pass_fds=pass_fds,
            start_new_session=True,  # the terminal's Ctrl-C reaches only us, and a group is one signal's target
        )
    process = Running(spec.name, child.pid, born(child.pid) or "gone", token=token)
    _children[child.pid] = child
    write_note(process, state_dir)
    return process


def write_note(process: Running, state_dir: Path) -> None:
    """Write the note of a process whole or not at all."""
    write_whole(_note(process.name, state_dir), json.dumps(asdict(process)))


@contextlib.contextmanager
def noting(state_dir: Path) -> Iterator[None]:
    """Hold the notes: whoever decides by them that something is to start or to stop, writes before others look."""
    (state_dir / "pids").mkdir(parents=True, exist_ok=True)
    with (state_dir / "pids" / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def noted(state_dir: Path) -> dict[str, Running]:
    """Every process that was started under this directory and not yet stopped, by name; some may be dead."""
    found = {}
    for note in sorted((state_dir / "pids").glob("*.json")):
        with contextlib.suppress(FileNotFoundError, ValueError):
            process = Running(**json.loads(note.read_text()))
            found[process.name] = process
    return found


def signal_group(process: Running, number: signal.Signals) -> None:
    """Signal the process and all that it started and that still is in its group, also when itself is dead."""
    for pid in _members(process):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def kill_group(process: Running) -> None:
    """SIGKILL the process and all that it started, and wait until none of them runs."""
    until = time.monotonic() + _GROUP_GONE_S
    while _members(process) and time.monotonic() < until:
        signal_group(process, signal.SIGKILL)  # again, for what was started meanwhile
        time.sleep(POLL_S)


def mark_stopping(processes: Sequence[Running], state_dir: Path) -> list[Running]:
    """Note that these are to end, so that nobody starts them again; those that somebody just did are what is given."""
    with noting(state_dir):
        known = noted(state_dir)
        ending = [replace(known.get(process.name, process), intent="stop") for process in processes]
        for process in ending:
            write_note(process, state_dir)
    return ending


def stop(processes: Sequence[Running], state_dir: Path, grace_s: float = STOP_GRACE_S) -> None:
    """SIGTERM to all at once, SIGKILL to what is left after `grace_s`, and to what their workers left behind."""
    ending = mark_stopping(processes, state_dir)
    if grace_s > 0:
        for process in ending:
            signal_group(process, signal.SIGTERM)
        wait_gone(ending, grace_s)
    for process in ending:
        kill_group(process)
    for process in ending:
        _note(process.name, state_dir).unlink(missing_ok=True)


def _note(name: str, state_dir: Path) -> Path:
    return state_dir / "pids" / f"{name}.json"


def _members(process: Running) -> list[int]:
    """The living processes of its group, as far as they are of its making."""
    if not Path("/proc/self/stat").exists():
        return [process.pid] if is_alive(process) else []
    ours, mark = is_alive(process), f"{_TOKEN}={process.token}\0".encode()
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, group = stat.read_text().rpartition(")")[2].split()[:3]
            lives = int(group) == process.pid and state not in "ZX"
            if lives and (ours or mark in stat.with_name("environ").read_bytes()):
                found.append(int(stat.parent.name))
    return found


def wait_gone(processes: Sequence[Running], timeout_s: float) -> bool:
    """Wait until none of them runs; False when time was up first."""
    until = time.monotonic() + timeout_s
    while any(is_alive(process) for process in processes):
        if time.monotonic() > until:
            return False
        time.sleep(POLL_S)
    return True
