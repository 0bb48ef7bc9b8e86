"""The parent's end of the supervisor: starts it, and says whether the stack shall outlive us."""

import os
import sys
from pathlib import Path

from runners.stack import process
from runners.stack.process import ProcessSpec

NAME = "supervisor"
SUPERVISE = b"s"  # on the pipe: the stack is up, start again what dies
RELEASE = b"r"  # the same, and let it run on when we end


class Guard:
    """Starts the supervisor, and lets the stack go or leaves it to the supervisor, however we end."""

    def __init__(self, state_dir: Path, environment: dict[str, str]) -> None:
        command = (sys.executable, "-m", "runners.stack.supervisor", str(state_dir))
        terminal = os.dup(2) if os.isatty(2) else None  # where `stack up` was typed
        passed = [] if terminal is None else [terminal]
        spec = ProcessSpec(NAME, (*command, *map(str, passed)), environment)
        try:
            self._child, self._pipe = process.spawn_listener(spec, state_dir, passed)
        finally:
            for descriptor in passed:
                os.close(descriptor)

    def supervise(self) -> None:
        """The stack is up: from now on what dies is started again."""
        self._pipe.write(SUPERVISE)
        self._pipe.flush()

    def release(self) -> None:
        """The stack shall outlive us, and the supervisor too."""
        self._pipe.write(RELEASE)
        self._pipe.close()

    def close(self) -> None:
        """Stop whatever of the stack still runs, and wait for it."""
        self._pipe.close()
        process.wait_gone([self._child], process.STOP_GRACE_S)
