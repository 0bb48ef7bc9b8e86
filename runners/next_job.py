"""Where a group's next job begins, and its submission: from a snapshot at just the offsets that lie in it, or from the
log's start.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from pipelines.market_data import STATE_LAYOUT
from runners.gaps import GapError, gaps_of, note_gaps
from runners.live import LiveOptions, job_name, start
from runners.log import Log
from runners.resume import (
    GroupNote,
    ResumeError,
    Snapshot,
    check_layout,
    check_shape,
    check_topic,
    newest_snapshot,
    next_offsets,
    note_file,
    noted_path,
    read_note,
    write_note,
)
from runners.stack import Endpoints

Say = Callable[[str], None]


class NextJob:
    """Submits jobs of `options.group`. Each method gives the note of the job that runs then, which is not yet kept.

    ResumeError when snapshot, log or options do not fit, GapError when retention took what comes next, LiveError when
    the job does not come up.
    """

    def __init__(self, places: Endpoints, options: LiveOptions, log: Log, say: Say, *, accept_gap: bool) -> None:
        self._places, self._options, self._log, self._say = places, options, log, say
        self._accept_gap = accept_gap

    def from_start(self) -> GroupNote:
        """From the log's start."""
        return self._submit(None, self._log.earliest())

    def from_newest(self, note: GroupNote) -> GroupNote:
        """From the newest snapshot, or where the noted job began when it has not got as far as its first."""
        found = newest_snapshot(self._places.state_dir, note)
        if found is None and note.origin is not None:
            raise ResumeError(
                f"the snapshots of job {note.name} are gone, the last known is {note.origin}; what was open in it can "
                "only be made anew from the log: --fresh reads that from its start, and comes to the same results"
            )
        return self.from_snapshot(found, note)

    def from_snapshot(self, snapshot: Snapshot | None, note: GroupNote | None) -> GroupNote:
        """From a snapshot, of the noted job if there is a note; None: from where the noted job began."""
        if note is not None:
            if snapshot is not None:
                check_layout(snapshot, note, STATE_LAYOUT)
            check_shape(note, self._options.shape, runs=False)
            check_topic(note, self._options.topic, self._log.topic_id())
        began = {} if note is None else {int(partition): offset for partition, offset in note.starts.items()}
        wanted = began
        if snapshot is not None:
            # the job's own snapshot holds all that it reads; the one it started from may be of before a move
            is_own = note is not None and note.job in snapshot.path.parts
            read = next_offsets(snapshot.path, self._options.topic, note.partitions if note and is_own else None)
            wanted = {p: began.get(p, 0) if offset < 0 else offset for p, offset in read.items()}
        return self._submit(snapshot, self._from_here(wanted))

    def _from_here(self, wanted: Mapping[int, int]) -> dict[int, int]:
        """Where to read on, partitions that were added among them; GapError when the log has that no more."""
        first, end = self._log.earliest(), self._log.latest()
        gaps = gaps_of(self._options.topic, dict.fromkeys(first, 0) | dict(wanted), first, end)
        if gaps and not self._accept_gap:
            raise GapError(self._options.topic, gaps)
        note_gaps(self._places.state_dir, self._options.group, gaps)
        for gap in gaps:
            self._say(f"gap: {gap} is gone ({gap.why}), going on behind it")
        return first | {p: max(offset, first[p]) for p, offset in wanted.items()}

    def _submit(self, snapshot: Snapshot | None, starts: Mapping[int, int]) -> GroupNote:
        origin = "the log's start"
        if snapshot is not None:
            origin = f"{snapshot.kind} {snapshot.path}, {max(time.time() - snapshot.taken_s, 0):.0f} s old"
        self._say(f"starting on Flink at http://{self._places.flink_rest} from {origin}")
        options = replace(self._options, savepoint=None if snapshot is None else snapshot.path, starts=starts)
        note = GroupNote(
            name=job_name(options.group),
            job="",
            origin=None if snapshot is None else noted_path(snapshot.path, self._places.state_dir),
            starts={str(partition): offset for partition, offset in starts.items()},
            topic_id=self._log.topic_id(),
            parallelism=options.parallelism,
            layout=STATE_LAYOUT,
            shape=options.shape,
        )
        with self._noted_before(note):
            job = start(self._places, options, note.name)
        return replace(note, job=job.job_id)

    @contextlib.contextmanager
    def _noted_before(self, note: GroupNote) -> Iterator[None]:
        """Note a job while it is submitted: should we be killed, whoever comes next finds it by its name."""
        state_dir, group = self._places.state_dir, self._options.group
        before = read_note(state_dir, group)
        write_note(state_dir, group, note)
        try:
            yield
        except BaseException:
            if before is None:
                note_file(state_dir, group).unlink()
            else:
                write_note(state_dir, group, before)
            raise
