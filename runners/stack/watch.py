"""The guard's own process: waits for the end of its parent, then stops what that left running.

It waits at the end of a pipe whose other end only the parent holds. A byte on it means "let them run on";
its end without one means that the parent stopped, crashed or was killed. Run as `python -m runners.stack.watch DIR`.
"""

import os
import select
import signal
import sys
from pathlib import Path

from runners.stack import process
from runners.stack.guard import RELEASE

_POLL_S = 1.0
_GRACE_S = 3.0


def main(state_dir: Path) -> None:
    """Wait for the parent's end, then stop what it left running."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = os.getppid()
    while not select.select([0], [], [], _POLL_S)[0]:
        if os.getppid() != parent:  # a fork of the parent may hold the pipe open after its death
            break
    else:
        if os.read(0, 1) == RELEASE:
            return
    process.stop(list(process.noted(state_dir).values()), state_dir, _GRACE_S)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
