"""The Python worker's output goes on when the disk of its log is full."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
UNFAILING = "from runners.stack.worker_main import _Unfailing; import sys; sys.stderr = _Unfailing(); "
PRINT = "import sys; print('failed', file=sys.stderr); sys.stderr.flush()"


@pytest.mark.parametrize(("first", "fails"), [("", True), (UNFAILING, False)], ids=["plain", "unfailing"])
def test_print_to_a_full_disk(first: str, fails: bool) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run([sys.executable, "-c", first + PRINT], stderr=full, cwd=ROOT, check=False)
    assert (done.returncode != 0) == fails


def test_what_can_be_printed_is_printed() -> None:
    done = subprocess.run([sys.executable, "-c", UNFAILING + PRINT], stderr=subprocess.PIPE, cwd=ROOT, check=True)
    assert done.stderr.decode().splitlines()[-1] == "failed"
