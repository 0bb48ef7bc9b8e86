"""Beam's Python worker with an output that cannot fail.

When a bundle fails, Beam's worker prints the error before it tells the runner. If the log is on a disk that is full,
the print raises, the runner never hears of the failure and waits for the bundle for ever (docs/facts.md).
"""

import io
import os
import sys
from contextlib import suppress

from apache_beam.runners.worker import sdk_worker_main


class _Unfailing(io.TextIOBase):
    """Standard error, where what cannot be written is left out."""

    def write(self, text: str) -> int:
        with suppress(OSError):
            os.write(2, text.encode(errors="replace"))
        return len(text)

    def fileno(self) -> int:
        return 2


if __name__ == "__main__":
    sys.stdout = sys.stderr = _Unfailing()
    sdk_worker_main.main(sys.argv)
