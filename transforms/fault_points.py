"""Where the fault tests make a worker die, freeze or fail; nothing happens unless HORIZON_FAULT_AT is set.

Its value is `STEP SIGNAL FILE`, as in `synced SIGKILL /tmp/once`: whoever comes to that step and can remove the file
sends itself the signal. So it happens once, however many workers there are and however often they start. With
`STEP RAISE TOPIC/PARTITION/OFFSET` the step fails whenever it meets that record.
"""

import os
import signal
from pathlib import Path
from typing import Final

import numpy as np

from transforms.batches import RawBatch

_STEP, _SIGNAL, _ONCE = os.environ.get("HORIZON_FAULT_AT", "- - -").split(maxsplit=2)
FILE_STEPS: Final = ("read", "made", "written", "synced", "renamed")  # of the writing of a file, in this order


def fault_point(step: str) -> None:
    """The place in the code where a step has been done."""
    if step == _STEP:
        _fault()


def record_fault_point(step: str, raw: RawBatch) -> None:
    """The place in the code where a step has been done with these records. RuntimeError at the one that is told."""
    if step == _STEP:
        topic, partition, offset = _ONCE.split("/")
        if raw.topic == topic and np.any((raw.partition == int(partition)) & (raw.offset == int(offset))):
            raise RuntimeError("a fault that a test asked for")


def _fault() -> None:
    try:
        Path(_ONCE).unlink()
    except FileNotFoundError:
        return
    os.kill(os.getpid(), signal.Signals[_SIGNAL])
