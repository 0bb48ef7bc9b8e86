"""Records that a group missed, because retention took them before they were read: found, told, and kept in a note."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from runners.resume import ResumeError
from runners.stack.whole import write_whole


@dataclass(frozen=True)
class Gap:
    """Offsets from `start` (inclusive) to `stop` (exclusive) of a partition."""

    partition: int
    start: int
    stop: int
    why: str

    def __str__(self) -> str:
        return f"partition {self.partition} from {self.start:,} to {self.stop - 1:,}"


class GapError(ResumeError):
    """The log has no more what was to be read next."""

    def __init__(self, topic: str, gaps: Sequence[Gap]) -> None:
        said = ", ".join(map(str, gaps))
        super().__init__(
            f"retention took records of {topic} before they were read: {said}; bars and files around them will lack "
            "them, and a replay cannot show it: --accept-gap goes on behind them and notes that"
        )


def gaps_of(topic: str, wanted: Mapping[int, int], first: Mapping[int, int], end: Mapping[int, int]) -> list[Gap]:
    """What is gone of what was to be read from the offsets `wanted` on; `first` and `end` are the log's own.

    ResumeError when the log ends before one of them: those records were read, and are not there any more.
    """
    beyond = {p: offset for p, offset in wanted.items() if offset > end.get(p, 0)}
    if beyond:
        said = ", ".join(f"partition {p} ends at {end.get(p, 0):,}, read were {at:,}" for p, at in beyond.items())
        raise ResumeError(
            f"{topic} has lost records that were read: {said}; was it made anew, or a broker restored from a backup? "
            "--fresh reads it from its start"
        )
    return [Gap(p, offset, first[p], "retention") for p, offset in sorted(wanted.items()) if offset < first[p]]


def read_gaps(state_dir: Path, group: str) -> list[Gap]:
    """What the group has gone on behind so far; the oldest first."""
    file = _file(state_dir, group)
    return [Gap(**fields) for fields in json.loads(file.read_text())] if file.exists() else []


def note_gaps(state_dir: Path, group: str, gaps: Sequence[Gap]) -> None:
    """Keep them, beside those that are noted."""
    if gaps:
        known = [asdict(gap) for gap in (*read_gaps(state_dir, group), *gaps)]
        write_whole(_file(state_dir, group), json.dumps(known, indent=1))


def _file(state_dir: Path, group: str) -> Path:
    return state_dir / "groups" / f"{group}.gaps"
