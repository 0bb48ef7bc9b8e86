"""Sees to it that a stack goes when the process that started it is gone, however it went."""

import os
import subprocess
import sys
from pathlib import Path

RELEASE = b"r"  # on the pipe: let them run on


class Guard:
    """The parent's end: starts the guard, and lets the stack go or leaves it to the guard."""

    def __init__(self, state_dir: Path, environment: dict[str, str]) -> None:
        self._child = subprocess.Popen(
            [sys.executable, "-m", "runners.stack.watch", str(state_dir)],
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            start_new_session=True,
        )

    def release(self) -> None:
        """The stack shall outlive us."""
        self._end(RELEASE)

    def close(self) -> None:
        """Stop whatever of the stack still runs, and wait for it."""
        self._end(b"")

    def _end(self, last_words: bytes) -> None:
        pipe = self._child.stdin
        assert pipe is not None
        if not pipe.closed:
            pipe.write(last_words)
            pipe.close()
        self._child.wait()
