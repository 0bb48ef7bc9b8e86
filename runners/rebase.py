"""When a captured event is sent, and what is added to its times. All pure; times in microseconds unless named."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from schemas.units import US_PER_MS, US_PER_S

SHIFT_HEADER: Final = "horizon-shift-us"
"""Decimal text: what was added to every time of the record."""


@dataclass(frozen=True)
class Schedule:
    """How to send the rows of a capture; columns in sending order."""

    row: npt.NDArray[np.int64]  # number of the row in the capture
    due_s: npt.NDArray[np.float64] | None  # seconds after the start; None: at once
    shift_us: npt.NDArray[np.int64]  # to add to every time of the row; whole milliseconds

    @property
    def seconds(self) -> float:
        """How long the sending takes at least."""
        return float(self.due_s[-1]) if self.due_s is not None and len(self.due_s) else 0.0


def schedule(
    log_us: npt.NDArray[np.int64],
    now_us: int,
    *,
    speed: float | None = None,
    rate: float | None = None,
    close_gaps_s: float | None = None,
    own_times: bool = False,
) -> Schedule:
    """Order the rows by log time (equal ones stay as they are), say when each is due and shift the times to now.

    Rule of the shift: one constant for all rows, the largest for which no log time lies ahead of the wall clock at
    the moment its record is due. So at speed 1 the log times run with the wall clock; faster, the last record is
    dated when it is sent and those before it earlier; unpaced, the newest log time becomes now.
    It is whole milliseconds, so that every log lag stays as it was (Kafka's timestamps are milliseconds).

    With `close_gaps_s` a silence longer than that is shortened to it before anything else, for captures of several
    days or years. The rows between two such silences share one constant shift.

    Raises:
        ValueError: speed or rate is not > 0, both are given, or close_gaps_s < 0.
    """
    _check(speed, rate, close_gaps_s)
    row = np.argsort(log_us, kind="stable")
    ordered = log_us[row]
    cut = np.zeros(len(row), np.int64) if close_gaps_s is None else _cut(ordered, int(close_gaps_s * US_PER_S))
    ordered = ordered - cut
    due_s = None
    if speed is not None:
        due_s = (ordered - ordered[:1]) / US_PER_S / speed
    elif rate is not None:
        due_s = np.arange(len(row)) / rate
    if own_times:
        return Schedule(row, due_s, np.zeros(len(row), np.int64))
    sent_us = now_us + (np.zeros(len(row), np.int64) if due_s is None else (due_s * US_PER_S).astype(np.int64))
    shift_us = int((sent_us - ordered).min()) if len(row) else 0
    return Schedule(row, due_s, _whole_ms(shift_us - cut))


def _check(speed: float | None, rate: float | None, close_gaps_s: float | None) -> None:
    for name, value in (("speed", speed), ("rate", rate)):
        if value is not None and not value > 0:
            raise ValueError(f"{name} must be > 0, was {value}")
    if speed is not None and rate is not None:
        raise ValueError(f"speed ({speed}) and rate ({rate}) both set the pace: give one of them")
    if close_gaps_s is not None and close_gaps_s < 0:
        raise ValueError(f"close-gaps must be >= 0 seconds, was {close_gaps_s}")


def _cut(ordered: npt.NDArray[np.int64], longest_us: int) -> npt.NDArray[np.int64]:
    """What each row moves to the front when no silence may be longer than `longest_us`."""
    silence = np.diff(ordered, prepend=ordered[:1])
    return np.cumsum(np.maximum(silence - longest_us, 0))


def _whole_ms(shift_us: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    whole: npt.NDArray[np.int64] = shift_us // US_PER_MS * US_PER_MS
    return whole
