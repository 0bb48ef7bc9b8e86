"""The supervisor's own process: starts again what died, and ends the stack when its parent ends.

It waits at the end of a pipe whose other end only the parent holds. SUPERVISE on it means "the stack is up: start again
what dies", RELEASE "let it outlive me"; its end before RELEASE means that the parent stopped, crashed or was killed.
Run as `python -m runners.stack.supervisor DIR [TERMINAL]`, TERMINAL a descriptor on which a person may be reading.
"""

import contextlib
import os
import select
import signal
import sys
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from runners.stack import process
from runners.stack.checkpoints import Sweep
from runners.stack.endpoints import load
from runners.stack.guard import NAME, RELEASE, SUPERVISE
from runners.stack.process import Running

_POLL_S = 0.5
_GRACE_S = 3.0
FIRST_DELAY_S = 0.5  # doubled with each death that is remembered
LONGEST_DELAY_S = 30.0
REMEMBERED_S = 120.0
GIVE_UP_AT = 6  # deaths that are remembered


@dataclass
class Deaths:
    """When a process died, of late, and when it is to be started again; seconds of the monotonic clock."""

    times: list[float] = field(default_factory=list)
    due: float | None = None

    def add(self, now: float) -> float | None:
        """Remember a death; the delay until the next start, None when there were too many."""
        self.times = [*(time_ for time_ in self.times if now - time_ < REMEMBERED_S), now]
        if len(self.times) >= GIVE_UP_AT:
            self.times.clear()  # for a person may start it again
            return None
        delay = min(FIRST_DELAY_S * 2.0 ** (len(self.times) - 1), LONGEST_DELAY_S)
        self.due = now + delay
        return delay


class Supervisor:
    """Looks after the processes that are noted in a state directory."""

    def __init__(self, state_dir: Path, terminal: int | None = None) -> None:
        self._state_dir, self._terminal = state_dir, terminal
        self._deaths: dict[str, Deaths] = {}

    def look(self, now: float) -> None:
        """One round: note who died since the last, and start who is due."""
        for running in process.noted(self._state_dir).values():
            if running.name == NAME or running.intent != "run":
                continue
            deaths = self._deaths.setdefault(running.name, Deaths())
            if process.is_alive(running):
                deaths.due = None
            elif deaths.due is None:
                self._died(running, deaths, now)
            elif now >= deaths.due:
                deaths.due = None
                self._start(running)

    def say(self, line: str) -> None:
        """One line into our log, and onto the terminal as long as there is one."""
        sys.stdout.write(f"{_utc()} {line}\n")  # our output is the log
        sys.stdout.flush()
        if self._terminal is not None:
            try:
                os.write(self._terminal, f"horizon stack: {line}\n".encode())
            except OSError:  # it was closed
                self._terminal = None

    def _died(self, running: Running, deaths: Deaths, now: float) -> None:
        delay = deaths.add(now)
        log = self._state_dir / "logs" / f"{running.name}.log"
        if delay is not None:
            self.say(f"{running.name} (pid {running.pid}) died; starting it again in {delay:.1f} s; see {log}")
            return
        if self._note_over(running, replace(running, intent="given up")):
            self.say(
                f"{running.name} died {GIVE_UP_AT} times within {REMEMBERED_S:.0f} s and stays dead; the reason should "
                f"be at the end of {log}; then `horizon stack down` and `horizon stack up`"
            )

    def _note_over(self, seen: Running, new: Running) -> bool:
        with process.noting(self._state_dir):
            if process.noted(self._state_dir).get(seen.name) != seen:
                return False  # somebody else stopped or started it meanwhile
            process.write_note(new, self._state_dir)
            return True

    def _start(self, dead: Running) -> None:
        process.kill_group(dead)  # the workers of a pool outlive it, and would work on beside those of the next
        with process.noting(self._state_dir):
            if process.noted(self._state_dir).get(dead.name) != dead:
                return
            started = process.spawn(load(self._state_dir).spec(dead.name), self._state_dir)
            restarts = dead.restarts + 1
            process.write_note(replace(started, restarts=restarts, restarted=_utc()), self._state_dir)
        self.say(f"{dead.name} runs again, with pid {started.pid}; restarted {restarts} time(s) so far")


def _utc() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class _Pipe:
    """What the parent has said so far."""

    def __init__(self) -> None:
        self.supervise = self.released = self.orphaned = False
        self._parent = os.getppid()

    def listen(self, wake: int) -> None:
        """Wait for the parent's next word, for a signal, or for the next round."""
        inputs = [wake] if self.released else [wake, 0]
        if 0 in select.select(inputs, [], [], _POLL_S)[0]:
            said = os.read(0, 1)
            self.supervise |= said in (SUPERVISE, RELEASE)
            self.released |= said == RELEASE
            self.orphaned = not said
        elif not self.released and os.getppid() != self._parent:
            self.orphaned = True  # a fork of the parent may hold the pipe open after its death


def main(state_dir: Path, terminal: int | None) -> None:
    """Look after the stack until SIGTERM, or until its parent has ended without releasing it."""
    wake, ring = os.pipe()
    os.set_blocking(ring, False)
    signal.set_wakeup_fd(ring)
    ended = False

    def end(*_: object) -> None:
        nonlocal ended
        ended = True  # not at once: a process that was just started must be noted

    signal.signal(signal.SIGTERM, end)
    pipe, supervisor, sweep = _Pipe(), Supervisor(state_dir, terminal), Sweep(state_dir)
    while not ended and not pipe.orphaned:
        pipe.listen(wake)
        if pipe.supervise and not ended and not pipe.orphaned:
            supervisor.look(time.monotonic())
            for line in sweep.when_due(time.monotonic()):
                supervisor.say(line)
    if pipe.orphaned:
        others = [running for running in process.noted(state_dir).values() if running.name != NAME]
        process.stop(others, state_dir, _GRACE_S)
        with contextlib.suppress(FileNotFoundError):
            (state_dir / "pids" / f"{NAME}.json").unlink()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else None)
