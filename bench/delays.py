"""What the times of sending and arrival say: percentiles over all, by place within the second, and near checkpoints."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

_TENTH_NS = 100_000_000
_NEAR_MS = 500  # after a checkpoint started

Ms = npt.NDArray[np.float64]
Ns = npt.NDArray[np.int64]  # since the Unix epoch


def line(name: str, ms: Ms) -> str:
    """p50, p90, p99 of a column of milliseconds."""
    if not len(ms):
        return f"{name}: nothing arrived"
    p50, p90, p99 = np.percentile(ms, (50, 90, 99))
    return f"{name}: p50 {p50:.1f} ms, p90 {p90:.1f} ms, p99 {p99:.1f} ms ({len(ms):,})"


def by_tenth(sent: Ns, ms: Ms) -> list[str]:
    """A line for each tenth of a second in which something was due: a second's end shows in those around it."""
    tenths = sent // _TENTH_NS % 10
    return [line(f"  due at +0.{tenth} s", ms[tenths == tenth]) for tenth in range(10)]


def by_checkpoint(sent: Ns, ms: Ms, starts_ms: Iterable[int]) -> list[str]:
    """What was due within half a second after a checkpoint started (ms since the Unix epoch), and the rest."""
    starts = np.array(sorted(starts_ms), np.int64)
    newest = np.searchsorted(starts, sent // 1_000_000, "right") - 1
    since_ms = sent // 1_000_000 - np.append(starts, 0)[newest]  # 0: none had started yet
    near = since_ms < _NEAR_MS
    return [
        line(f"  due within {_NEAR_MS} ms after one of {len(starts)} checkpoints started", ms[near]),
        line("  due at other times", ms[~near]),
    ]
