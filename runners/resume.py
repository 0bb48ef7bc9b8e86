"""Where a group goes on: the note of its newest job, that job's newest snapshot, and the offsets in a snapshot."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

_METADATA = "_metadata"  # Flink writes it last: a snapshot without it is not whole

Shape = dict[str, Any]  # name of an option -> its value; LiveOptions.shape


class ResumeError(RuntimeError):
    """A snapshot that cannot be gone on from; says which and why."""


@dataclass(frozen=True)
class GroupNote:
    """What is kept of a group between its jobs, in STATE/groups/<group>.json."""

    job: str  # Flink's id of the newest job
    origin: str | None  # URI of the snapshot it started from or was stopped with
    generation: int  # of the source, see LiveOptions
    partitions: int  # of the topic, which that generation reads
    parallelism: int
    layout: int = 1  # of the job's state, see STATE_LAYOUT; notes from before there was one do not say
    shape: Shape | None = None  # options that shape what it gives; notes from before there were any do not say


@dataclass(frozen=True)
class Snapshot:
    """A savepoint or a checkpoint that is whole."""

    uri: str
    taken_s: float  # seconds since the Unix epoch

    @property
    def kind(self) -> str:
        """checkpoint or savepoint, by Flink's own names."""
        return "checkpoint" if self.uri.rpartition("/")[2].startswith("chk-") else "savepoint"


def read_note(state_dir: Path, group: str) -> GroupNote | None:
    """The group's note; None when it never ran here. ResumeError when it cannot be read."""
    file = _note_file(state_dir, group)
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
    file = _note_file(state_dir, group)
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_suffix(".new")
    beside.write_text(json.dumps(asdict(note), indent=1))
    beside.replace(file)


def _note_file(state_dir: Path, group: str) -> Path:
    return state_dir / "groups" / f"{group}.json"


def newest_snapshot(checkpoints: Path, note: GroupNote) -> Snapshot | None:
    """The newest of what the noted job started from, was stopped with, and its own checkpoints below `checkpoints`."""
    places = [Path(urlparse(note.origin).path)] if note.origin else []
    places += (checkpoints / note.job).glob("chk-*")
    found = [Snapshot(place.as_uri(), (place / _METADATA).stat().st_mtime) for place in places if is_whole(place)]
    return max(found, key=lambda snapshot: snapshot.taken_s, default=None)


def check_layout(snapshot: Snapshot, note: GroupNote, layout: int) -> None:
    """ResumeError when the snapshot's state is of another layout than this code's: it would be misread."""
    if note.layout != layout:
        raise ResumeError(
            f"{snapshot.kind} {snapshot.uri} holds state of layout {note.layout}, this version reads layout {layout}; "
            "go on with the version that took it, or start --fresh (or another --group) with this one"
        )


def check_shape(note: GroupNote, asked: Shape, *, runs: bool) -> None:
    """ResumeError when options that shape what comes out are others than the noted job's.

    Its open windows were folded by the old ones: with other shards an instrument's records would lie in two of them, in
    two rows and files of one bar. Sessions may be turned on or off by a resume, venues of any price be named, and files
    go elsewhere when their directory did; a job that runs takes nothing.
    """
    if note.shape is None:
        return
    other = {name: (was, asked[name]) for name, was in note.shape.items() if name in asked and was != asked[name]}
    if not runs:
        other = {name: values for name, values in other.items() if not _may_change(name, *values)}
    if other:
        said = ", ".join(f"{name} was {was}, now {now}" for name, (was, now) in other.items())
        way = "stop it first" if runs else "start --fresh (its open windows are lost) or another --group"
        raise ResumeError(
            f"job {note.job} {'runs' if runs else 'ran'} with other options: {said}; name its own, or {way}"
        )


def _may_change(name: str, was: Any, now: Any) -> bool:
    if name == "--session-gap-s":
        return was is None or now is None
    return name == "--any-price" or (name == "--out" and was is not None and not Path(was).exists())


def is_whole(snapshot: Path) -> bool:
    """Whether Flink finished writing it."""
    return (snapshot / _METADATA).exists()


def next_offsets(snapshot_uri: str, topic: str, partitions: int) -> dict[int, int]:
    """The offset that KafkaIO would read next in each partition, as the snapshot has it.

    KafkaIO keeps an Avro record a partition (next offset, partition, topic, watermark in ms; numbers and the topic's
    length as varints), which Flink puts into the snapshot's metadata. An encoding that only the pinned versions
    promise: so each partition must be found exactly once. ResumeError otherwise.
    """
    data = (Path(urlparse(snapshot_uri).path) / _METADATA).read_bytes()
    name = _zigzag(len(topic.encode())) + topic.encode()
    found: dict[int, list[int]] = {}
    at = data.find(name)
    while at >= 0:
        partition, start = _zigzag_before(data, at)
        offset, start = _zigzag_before(data, start)
        found.setdefault(partition, []).append(offset)
        at = data.find(name, at + 1)
    if sorted(found) != list(range(partitions)) or any(len(offsets) != 1 for offsets in found.values()):
        raise ResumeError(
            f"{snapshot_uri} has these offsets of {topic}: {found}, not one for each of 0 to {partitions - 1}; "
            "is Flink or Beam of another version? A new group reads the topic from its start: --group"
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
