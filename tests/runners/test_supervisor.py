"""What dies in a stack is started again, what was stopped is not, and the stack ends with whoever keeps it."""

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runners.stack import LocalStack, process
from runners.stack.blueprint import IMPORT_ROOT
from runners.stack.checkpoints import NEWEST_KEPT, YOUNG_S, expendable
from runners.stack.endpoints import Blueprint, Endpoints, save
from runners.stack.guard import NAME, Guard
from runners.stack.process import ProcessSpec, noted, spawn
from runners.stack.supervisor import FIRST_DELAY_S, GIVE_UP_AT, LONGEST_DELAY_S, REMEMBERED_S, Deaths, Supervisor

NOBODY = "127.0.0.1:1"
IMPORTABLE = {"PYTHONPATH": str(IMPORT_ROOT)}
SLEEPER = ProcessSpec("sleeper", ("sleep", "1000"))
DYING = ProcessSpec("dying", ("false",))
POOL = ProcessSpec("pool", ("sh", "-c", "sleep 1000 & echo $! >>children; wait"))
PARENT = """
import sys, time
from pathlib import Path
from runners.stack.endpoints import load
from runners.stack.guard import Guard
from runners.stack.process import spawn

state_dir = Path(sys.argv[1])
guard = Guard(state_dir, {})
for spec in load(state_dir).specs:
    spawn(spec, state_dir)
guard.supervise()
if sys.argv[2] == "release":
    guard.release()
else:
    time.sleep(1000)
"""


@pytest.fixture
def state_dir(tmp_path: Path) -> Iterator[Path]:
    """A stack on paper whose processes are small ones; whatever of it runs at the end is stopped."""
    places = Endpoints(*[NOBODY] * 7, tmp_path, tmp_path, tmp_path)
    save(Blueprint(1, 1, 1, places, (SLEEPER, DYING, POOL)))
    yield tmp_path
    LocalStack(tmp_path).down()


@pytest.fixture
def supervised(state_dir: Path) -> Iterator[Path]:
    """The same with a supervisor at work, whose parent we are."""
    guard = Guard(state_dir, IMPORTABLE)
    guard.supervise()
    yield state_dir
    guard.close()


def eventually(holds: Callable[[], bool], timeout_s: float = 20.0) -> bool:
    until = time.monotonic() + timeout_s
    while not (held := holds()) and time.monotonic() < until:
        time.sleep(0.05)
    return held


def restarted(state_dir: Path, name: str) -> bool:
    found = noted(state_dir)[name]
    return found.restarts > 0 and process.is_alive(found)


def lives(pid: int) -> bool:
    return process.born(pid) is not None


def kept_by(state_dir: Path, what: str, stderr: int | None = None) -> subprocess.Popen[bytes]:
    """A process that starts SLEEPER and a supervisor, and then releases or keeps them."""
    save_only(state_dir, SLEEPER)
    command = [sys.executable, "-c", PARENT, str(state_dir), what]
    return subprocess.Popen(command, env={**os.environ, **IMPORTABLE}, cwd=state_dir, stderr=stderr)


def save_only(state_dir: Path, spec: ProcessSpec) -> None:
    places = Endpoints(*[NOBODY] * 7, state_dir, state_dir, state_dir)
    save(Blueprint(1, 1, 1, places, (spec,)))


def test_killed_process_is_started_again_and_both_are_said(supervised: Path) -> None:
    first = spawn(SLEEPER, supervised)
    LocalStack(supervised).kill("sleeper", stays_dead=False)
    assert eventually(lambda: restarted(supervised, "sleeper"))
    second = noted(supervised)["sleeper"]
    assert (second.restarts, second.restarted is not None) == (1, True)
    log = supervised / "logs" / f"{NAME}.log"
    assert eventually(lambda: f"sleeper runs again, with pid {second.pid}" in log.read_text())
    assert f"sleeper (pid {first.pid}) died; starting it again in 0.5 s" in log.read_text()


def test_what_a_dead_process_had_started_is_gone_before_it_starts_again(supervised: Path) -> None:
    pool = spawn(POOL, supervised)
    children = supervised / "children"
    assert eventually(lambda: children.exists() and children.read_text().endswith("\n"))
    os.kill(pool.pid, signal.SIGKILL)
    assert eventually(lambda: restarted(supervised, "pool"))
    assert eventually(lambda: len(children.read_text().split()) == 2)
    old, new = map(int, children.read_text().split())
    assert (lives(old), lives(new)) == (False, True)


def test_process_killed_on_purpose_stays_dead_until_it_is_started(supervised: Path) -> None:
    spawn(SLEEPER, supervised)
    LocalStack(supervised).kill("sleeper")
    time.sleep(2 * (FIRST_DELAY_S + 0.5))
    assert LocalStack(supervised).pids().keys() == {NAME}
    LocalStack(supervised).start("sleeper")
    assert noted(supervised)["sleeper"].restarts == 0
    LocalStack(supervised).kill("sleeper", stays_dead=False)
    assert eventually(lambda: restarted(supervised, "sleeper"))


def test_process_that_dies_at_once_is_given_up_aloud(state_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spawn(DYING, state_dir)
    supervisor, now = Supervisor(state_dir), 0.0
    while noted(state_dir)["dying"].intent == "run" and now < REMEMBERED_S:
        assert eventually(lambda: not process.is_alive(noted(state_dir)["dying"]))
        supervisor.look(now)
        now += FIRST_DELAY_S
    assert noted(state_dir)["dying"].restarts == GIVE_UP_AT - 1
    *_, last = capsys.readouterr().out.splitlines()
    assert f"dying died {GIVE_UP_AT} times within {REMEMBERED_S:.0f} s and stays dead" in last
    supervisor.look(now + REMEMBERED_S)
    assert noted(state_dir)["dying"].intent == "given up"
    assert capsys.readouterr().out == ""


def test_process_that_somebody_else_started_meanwhile_is_left_alone(state_dir: Path) -> None:
    dead = spawn(DYING, state_dir)
    supervisor = Supervisor(state_dir)
    assert eventually(lambda: not process.is_alive(dead))
    supervisor.look(0.0)
    started = spawn(ProcessSpec("dying", SLEEPER.command), state_dir)
    supervisor.look(FIRST_DELAY_S)
    assert noted(state_dir)["dying"] == started
    assert process.is_alive(started)


def test_delay_doubles_up_to_the_longest_and_old_deaths_are_forgotten() -> None:
    deaths = Deaths()
    assert [deaths.add(float(at)) for at in range(GIVE_UP_AT)] == [0.5, 1.0, 2.0, 4.0, 8.0, None]
    assert max(FIRST_DELAY_S * 2.0**n for n in range(GIVE_UP_AT)) <= LONGEST_DELAY_S
    assert deaths.add(10.0) == FIRST_DELAY_S  # a person has started it again
    assert deaths.add(10.0 + REMEMBERED_S) == FIRST_DELAY_S


def test_everything_goes_when_the_parent_is_killed(state_dir: Path) -> None:
    parent = kept_by(state_dir, "keep")
    assert eventually(lambda: len(LocalStack(state_dir).pids()) == 2)
    running = list(noted(state_dir).values())
    parent.kill()
    parent.wait()
    assert eventually(lambda: not any(map(process.is_alive, running)))
    assert eventually(lambda: noted(state_dir) == {})


def test_released_stack_outlives_its_parent_and_is_still_supervised_until_down(state_dir: Path) -> None:
    assert kept_by(state_dir, "release").wait(20) == 0
    time.sleep(1.0)
    LocalStack(state_dir).kill("sleeper", stays_dead=False)
    assert eventually(lambda: restarted(state_dir, "sleeper"))
    running = list(noted(state_dir).values())
    LocalStack(state_dir).down()
    assert not any(map(process.is_alive, running))
    assert noted(state_dir) == {}


def test_death_is_said_on_the_terminal_that_the_stack_was_started_from(state_dir: Path) -> None:
    ours, terminal = pty.openpty()
    parent = kept_by(state_dir, "keep", stderr=terminal)
    assert eventually(lambda: len(LocalStack(state_dir).pids()) == 2)
    pid = noted(state_dir)["sleeper"].pid
    time.sleep(1.0)
    LocalStack(state_dir).kill("sleeper", stays_dead=False)
    assert eventually(lambda: restarted(state_dir, "sleeper"))
    said = os.read(ours, 10_000).decode()
    assert f"horizon stack: sleeper (pid {pid}) died; starting it again in 0.5 s" in said
    parent.kill()
    parent.wait()
    assert eventually(lambda: noted(state_dir) == {})
    os.close(ours)
    os.close(terminal)


@pytest.fixture
def checkpoints(tmp_path: Path) -> Path:
    """More directories of jobs than are kept for being new, `0…` the oldest; and one that is no job's."""
    for number in range(NEWEST_KEPT + 3):
        job = tmp_path / (f"{number:x}" * 32)
        job.mkdir()
        os.utime(job, (number, number))
    (tmp_path / "mine").mkdir()
    os.utime(tmp_path / "mine", (0, 0))
    return tmp_path


OLD, OLDER, OLDEST = ("2" * 32, "1" * 32, "0" * 32)


@pytest.mark.parametrize(
    ("live", "notes", "now_s", "expected"),
    [
        ((), "", 1e6, [OLDEST, OLDER, OLD]),
        ((OLDEST,), "", 1e6, [OLDER, OLD]),
        ((), f'{{"savepoint": null, "job": "{OLDER}"}}', 1e6, [OLDEST, OLD]),
        ((), "", YOUNG_S + 1.5, [OLDEST, OLDER]),
        ((), "", YOUNG_S, []),
    ],
    ids=["nobody needs them", "one lives", "one is noted", "one is young", "all are young"],
)
def test_checkpoints_are_deleted_only_when_nobody_needs_them(
    checkpoints: Path, live: tuple[str, ...], notes: str, now_s: float, expected: list[str]
) -> None:
    assert [job.name for job in expendable(checkpoints, live, notes, now_s)] == expected
