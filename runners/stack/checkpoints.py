"""Checkpoints of jobs that ended: kept as long as somebody may resume from them, and then deleted.

Flink deletes the older checkpoints of a job that runs, and none of a job that ended or that it forgot. Standard library
only, for the supervisor sweeps.
"""

import re
import shutil
import time
from collections.abc import Collection
from pathlib import Path

from runners.stack.endpoints import load
from runners.stack.ready import flink_answer

EVERY_S = 600.0
NEWEST_KEPT = 5  # jobs; whatever they were
YOUNG_S = 3_600.0  # a job that was lost just now may be resumed before any note names it
_ENDED = ("FAILED", "CANCELED", "FINISHED")
_JOB_ID = re.compile("[0-9a-f]{32}")


def expendable(checkpoints: Path, live: Collection[str], notes: str, now_s: float) -> list[Path]:
    """The directories of jobs that do not live, that no note names, and that are neither young nor the newest.

    `live` are job ids, `notes` the text of all groups' notes, `now_s` seconds since the epoch.
    """
    found = [(job.stat().st_mtime, job) for job in checkpoints.iterdir() if _JOB_ID.fullmatch(job.name)]
    ended = sorted((at, job) for at, job in found if job.name not in live and job.name not in notes)
    return [job for at, job in ended[: max(len(ended) - NEWEST_KEPT, 0)] if now_s - at > YOUNG_S]


class Sweep:
    """Deletes what is expendable below a state directory, now and then."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir, self._due = state_dir, 0.0

    def when_due(self, now: float) -> list[str]:
        """Sweep when it is time (`now` of the monotonic clock); what was deleted, in a line each."""
        if now < self._due:
            return []
        self._due = now + EVERY_S
        jobs = flink_answer(load(self._state_dir).endpoints.flink_rest, "/jobs/overview").get("jobs")
        if jobs is None:  # nobody can say what lives
            return []
        live = {job["jid"] for job in jobs if job["state"] not in _ENDED}
        notes = "".join(note.read_text() for note in (self._state_dir / "groups").glob("*.json"))
        lines = []
        for job in expendable(self._state_dir / "flink" / "checkpoints", live, notes, time.time()):
            shutil.rmtree(job, ignore_errors=True)
            lines.append(f"deleted {job}, checkpoints of an ended job that no group's note names")
        return lines
