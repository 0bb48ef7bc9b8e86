"""Where the fault tests make a worker die or freeze; nothing happens unless HORIZON_FAULT_AT is set.

Its value is `STEP SIGNAL FILE`, as in `synced SIGKILL /tmp/once`: whoever comes to that step and can remove the file
sends itself the signal. So it happens once, however many workers there are and however often they start.
"""

import os
import signal
from pathlib import Path
from typing import Final

_STEP, _SIGNAL, _ONCE = os.environ.get("HORIZON_FAULT_AT", "- - -").split(maxsplit=2)
FILE_STEPS: Final = ("read", "made", "written", "synced", "renamed")  # of the writing of a file, in this order


def fault_point(step: str) -> None:
    """The place in the code where a step has been done."""
    if step == _STEP:
        _fault()


def _fault() -> None:
    try:
        Path(_ONCE).unlink()
    except FileNotFoundError:
        return
    os.kill(os.getpid(), signal.Signals[_SIGNAL])
