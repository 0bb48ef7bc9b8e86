"""Where a group goes on: the note of its newest job, that job's newest snapshot, and the offsets in a snapshot."""

import json
import subprocess
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from runners import artifacts
from runners.run_note import Shape
from runners.stack import own_jar
from runners.stack.java import runtime
from runners.stack.whole import write_whole

_METADATA: Final = "_metadata"  # Flink writes it last: a snapshot without it is not whole
_READ_S: Final = 60.0


class ResumeError(RuntimeError):
    """A snapshot that cannot be gone on from; says which and why."""


@dataclass(frozen=True)
class GroupNote:
    """What is kept of a group between its jobs, in STATE/groups/<group>.json; written before a job is submitted."""

    name: str  # of the newest job, as Flink lists it
    job: str  # Flink's id of it; empty until it runs
    origin: str | None  # directory of the snapshot it started from or was stopped with, below STATE or absolute
    starts: dict[str, int]  # partition -> the offset at which it began to read
    topic_id: str
    parallelism: int
    layout: int  # of the job's state, see STATE_LAYOUT
    shape: Shape  # options that shape what it gives
    ends: dict[str, int] = field(default_factory=dict)  # partition -> the offset before which it was stopped

    @property
    def partitions(self) -> int:
        """How many the job reads."""
        return len(self.starts)


@dataclass(frozen=True)
class Snapshot:
    """A savepoint or a checkpoint that is whole."""

    path: Path
    taken_s: float  # seconds since the Unix epoch

    @property
    def kind(self) -> str:
        """checkpoint or savepoint, by Flink's own names."""
        return "checkpoint" if self.path.name.startswith("chk-") else "savepoint"


def note_file(state_dir: Path, group: str) -> Path:
    """Where a group's note lies."""
    return state_dir / "groups" / f"{group}.json"


def read_note(state_dir: Path, group: str) -> GroupNote | None:
    """The group's note; None when it never ran here. ResumeError when it cannot be read."""
    file = note_file(state_dir, group)
    try:
        return GroupNote(**json.loads(file.read_text()))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise ResumeError(
            f"{file} is no note of a group ({error}); name a snapshot with --savepoint, or --fresh"
        ) from error


def write_note(state_dir: Path, group: str, note: GroupNote) -> None:
    """Write the note whole or not at all."""
    write_whole(note_file(state_dir, group), json.dumps(asdict(note), indent=1))


def noted_path(snapshot: Path, state_dir: Path) -> str:
    """A snapshot's directory as a note keeps it, so that a state directory may be moved."""
    root = state_dir.absolute()
    return str(snapshot.relative_to(root)) if snapshot.is_relative_to(root) else str(snapshot)


def newest_snapshot(state_dir: Path, note: GroupNote) -> Snapshot | None:
    """The newest of what the noted job started from, was stopped with, and its own checkpoints."""
    places = [state_dir.absolute() / note.origin] if note.origin else []
    if note.job:
        places += (state_dir.absolute() / "flink" / "checkpoints" / note.job).glob("chk-*")
    found = [Snapshot(place, (place / _METADATA).stat().st_mtime) for place in places if is_whole(place)]
    return max(found, key=lambda snapshot: snapshot.taken_s, default=None)


def check_layout(snapshot: Snapshot, note: GroupNote, layout: int) -> None:
    """ResumeError when the snapshot's state is of another layout than this code's: it would be misread."""
    if note.layout != layout:
        raise ResumeError(
            f"{snapshot.kind} {snapshot.path} holds state of layout {note.layout}, this version reads layout {layout}; "
            "go on with the version that took it, or start --fresh (or another --group) with this one"
        )


def check_topic(note: GroupNote, topic: str, topic_id: str) -> None:
    """ResumeError when the topic was deleted and made anew: an offset then names another record."""
    if note.topic_id != topic_id:
        raise ResumeError(
            f"topic {topic} was made anew since job {note.name} read it (id {note.topic_id} then, {topic_id} now), so "
            "what it had read, and what is open of it, is gone from the log; --fresh reads the new one from its start"
        )


def check_shape(note: GroupNote, asked: Shape, *, runs: bool) -> None:
    """ResumeError when options that shape what comes out are others than the noted job's.

    Its open windows were folded by the old ones: with other shards an instrument's records would lie in two of them, in
    two rows and files of one bar. Sessions may be turned on or off by a resume, beacons too, venues of any price be
    named, and files go elsewhere when their directory did; a job that runs takes nothing.
    """
    other = {name: (was, asked[name]) for name, was in note.shape.items() if name in asked and was != asked[name]}
    if not runs:
        other = {name: values for name, values in other.items() if not _may_change(name, *values)}
    if other:
        said = ", ".join(f"{name} was {was}, now {now}" for name, (was, now) in other.items())
        way = "stop it first" if runs else "start --fresh (it reads the log from its start) or another --group"
        raise ResumeError(
            f"job {note.name} {'runs' if runs else 'ran'} with other options: {said}; name its own, or {way}"
        )


def _may_change(name: str, was: Any, now: Any) -> bool:
    if name == "--session-gap-s":
        return was is None or now is None
    return name in ("--any-price", "--beacons") or (name == "--out" and was is not None and not Path(was).exists())


def is_whole(snapshot: Path) -> bool:
    """Whether Flink finished writing it."""
    return (snapshot / _METADATA).exists()


def next_offsets(snapshot: Path, topic: str, partitions: int | None = None) -> dict[int, int]:
    """The offset that KafkaIO would read next in each partition, as the snapshot has it; -1 where it never read.

    `partitions` is how many there are, where that is known. ResumeError when the snapshot cannot be read, or has not
    one offset for each of them.
    """
    jars = own_jar.flink_jars(artifacts.read_lock(), artifacts.default_cache_dir())
    command = [runtime(), "-cp", ":".join(map(str, jars)), "horizon.SavedState", str(snapshot.absolute())]
    told = subprocess.run(command, capture_output=True, text=True, timeout=_READ_S, check=False)
    if told.returncode:
        raise ResumeError(f"{snapshot} cannot be read: {' '.join(told.stderr.split())[-500:]}")
    try:
        return offsets_in([bytes.fromhex(line) for line in told.stdout.split()], topic, partitions)
    except ResumeError as error:
        raise ResumeError(f"{snapshot}: {error}") from error


def offsets_in(states: list[bytes], topic: str, partitions: int | None = None) -> dict[int, int]:
    """Partition -> next offset, of the states of all tasks of a source.

    KafkaIO keeps an Avro record a partition: next offset, partition, topic, watermark in ms, where numbers and the
    topic's length are varints. An encoding that only the pinned versions promise: so each partition must be found
    exactly once. ResumeError otherwise.
    """
    name = _zigzag(len(topic.encode())) + topic.encode()
    found: dict[int, list[int]] = {}
    for data in states:
        at = data.find(name)
        while at >= 0:
            partition, start = _zigzag_before(data, at)
            offset, start = _zigzag_before(data, start)
            found.setdefault(partition, []).append(offset)
            at = data.find(name, at + 1)
    wanted = list(range(len(found) if partitions is None else partitions))
    if not found or sorted(found) != wanted or any(len(offsets) != 1 for offsets in found.values()):
        raise ResumeError(
            f"it has these offsets of {topic}: {found}, not one for each partition; "
            "is it of another topic, or Flink or Beam of another version? --fresh reads the topic from its start"
        )
    return {partition: offsets[0] for partition, offsets in sorted(found.items())}


def _zigzag(number: int) -> bytes:
    rest, out = number << 1, bytearray()
    while rest > 0x7F:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    return bytes([*out, rest])


def _zigzag_before(data: bytes, end: int) -> tuple[int, int]:
    """The varint whose last byte lies before `end`, and where it starts."""
    start = end - 1
    while start > 0 and data[start - 1] >= 0x80:
        start -= 1
    value = sum((byte & 0x7F) << 7 * place for place, byte in enumerate(data[start:end]))
    return value >> 1 ^ -(value & 1), start
