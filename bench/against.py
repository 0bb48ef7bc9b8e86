"""Two revisions measured in turns: what else the machine does then falls on both.

The other revision gets this checkout's bench/, so that both are measured by the same meter; all else is its own.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

_HERE = Path(__file__).parents[1]


def against(revision: str, runs: int, asked: Mapping[str, Any]) -> None:
    """Run `bench.live` so often at each, print every run, the medians and their ratio; `asked` are its options."""
    rates: dict[str, list[float]] = {revision: [], "this checkout": []}
    with checkout(revision) as there:
        for run in range(1, runs + 1):
            for name, root in zip(rates, (there, _HERE), strict=True):
                print(f"--- run {run} of {runs}: {name}", flush=True)
                rates[name].append(rate_at(root, asked))
    for name, found in rates.items():
        print(f"{name}: {', '.join(f'{rate:,.0f}' for rate in found)} events/s, median {median(found):,.0f}")
    before, now = (median(found) for found in rates.values())
    print(f"this checkout / {revision}: {now / before:.3f}")


@contextmanager
def checkout(revision: str) -> Iterator[Path]:
    """A git worktree of the revision with this bench/ in it, which goes with the measurement, however that ends."""
    with TemporaryDirectory(prefix="horizon-against-") as scratch:
        root = Path(scratch, "checkout")
        git = ("git", "-C", str(_HERE), "worktree")
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # else it would leave the worktree and a run behind
        subprocess.run((*git, "add", "--quiet", "--detach", str(root), revision), check=True)
        try:
            shutil.rmtree(root / "bench", ignore_errors=True)
            shutil.copytree(_HERE / "bench", root / "bench")
            yield root
        finally:
            subprocess.run((*git, "remove", "--force", str(root)), check=True)


def rate_at(root: Path, asked: Mapping[str, Any]) -> float:
    """Events a second of one run of the checkout at `root`, on a stack of its own."""
    with TemporaryDirectory() as scratch:
        figures = Path(scratch, "figures.json")
        command = (sys.executable, "-m", "bench.live", *flags({**asked, "figures": figures}))
        # the installed package is one checkout; this one must come before it
        subprocess.run(command, cwd=root, env={**os.environ, "PYTHONPATH": str(root)}, check=True)
        return float(json.loads(figures.read_text())["rate"])


def flags(asked: Mapping[str, Any]) -> list[str]:
    """Options as a command line takes them; None and False are not given."""
    given = {f"--{name.replace('_', '-')}": value for name, value in asked.items() if value is not None}
    return [flag if value is True else f"{flag}={value}" for flag, value in given.items() if value is not False]
