"""A group's live job over its whole life: started or found, followed, submitted again when it is lost, moved to more
partitions or another parallelism, stopped with a savepoint.

Each job goes on from a snapshot, at just the offsets that lie in it, or reads the log from its start; nothing else
would have what is open in windows and files. Its source is a new one (runners/live.py), so a move to more partitions is
a stop with a savepoint and a start. Before each start the log is held against what the snapshot says of it.
"""

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from pipelines.market_data import STATE_LAYOUT
from runners.flink_rest import ENDED, FlinkError, UnknownJobError, job_of, root_cause, watermark_ms
from runners.gaps import GapError, gaps_of, note_gaps
from runners.live import LiveError, LiveJob, LiveOptions, job_name, start, submitted_s
from runners.log import Log
from runners.reach import Reach, reach_at
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
from runners.run_note import note_reach
from runners.stack import Endpoints
from runners.stack.flink import path_of
from schemas.units import US_PER_MS

Say = Callable[[str], None]

LOST: Final = "LOST"  # Flink does not know the job any more: its JobManager is a new one
SILENT: Final = "SILENT"  # Flink does not answer
_LOOK_AT_LOG_S: Final = 5.0
_SILENT_S: Final = 180.0
_METRICS_S: Final = 1.0
_TRIES: Final = 5  # submissions within _TRIES_WITHIN_S, then the job is given up
_TRIES_WITHIN_S: Final = 900.0
_BACK_OFF_S: Final = 2.0  # doubled with each try
_SUBMITTED_S: Final = 60.0  # after which a job whose submission was cut off is not to come any more
_MISSED: Final = "OffsetOutOfRangeException"  # Kafka's word: retention took what is to be read next


class LiveGroup:
    """The job of `options.group` on the stack at `places`; `say` tells people what happens to it.

    Entered, it keeps other processes from following the group. With `accept_gap` it goes on behind records that
    retention took before they were read.
    """

    def __init__(self, places: Endpoints, options: LiveOptions, say: Say, *, accept_gap: bool = False) -> None:
        self._places, self._options, self._say, self._accept_gap = places, options, say, accept_gap
        self._log = Log(places.bootstrap_servers, options.topic)
        self._tries: list[float] = []
        self._silent_since: float | None = None
        self._look_at_log = 0.0

    def __enter__(self) -> Self:
        lock = note_file(self._places.state_dir, self._options.group).with_suffix(".lock")
        lock.parent.mkdir(parents=True, exist_ok=True)
        self._lock = lock.open("a+")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._lock.seek(0)
            raise LiveError(
                f"group {self._options.group} is followed by another `horizon live`, pid {self._lock.read().strip()}; "
                "stop that first, or start another --group"
            ) from error
        self._lock.truncate(0)
        self._lock.write(f"{os.getpid()}\n")
        self._lock.flush()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.close()

    @property
    def job_id(self) -> str:
        """Flink's id of the job as it runs now."""
        return self._note.job

    def start(self, *, fresh: bool = False, savepoint: str | None = None) -> None:
        """Follow the group's job if it runs, else go on from its newest snapshot, else read the log from its start.

        `fresh` reads the log from its start in any case, `savepoint` (a path or URI) names a snapshot. LiveError when
        the job does not come up, or must not be replaced by another; ResumeError when the snapshot, the log or the
        options do not fit.
        """
        note = read_note(self._places.state_dir, self._options.group)
        running = self._running(note)
        if running is not None:
            if fresh or savepoint:
                raise LiveError(
                    f"job {running} of group {self._options.group} runs; stop it (Ctrl-C where it is followed, or "
                    "start `horizon live` without options and stop that), or start another --group"
                )
            self._follow(note, running)
        elif savepoint:
            self._resume(Snapshot(path_of(savepoint), time.time()), note)
        elif fresh or note is None:
            self._submit(None, self._log.earliest())
        else:
            self._resume(self._newest(note), note)

    def look(self) -> str:
        """The job's state, after what it made necessary: submit a lost one again, move to new partitions.

        LiveError when the job cannot be kept up, GapError when retention took what it was to read next.
        """
        state = self._state(self._note.job)
        self._bear_silence(state)
        if state == "CANCELED":
            raise LiveError(f"job {self._note.job} was cancelled by somebody; `horizon live` goes on where it ended")
        if state in (LOST, *ENDED):
            self._submit_again(state)
        elif state != SILENT and time.monotonic() >= self._look_at_log:
            self._look_at_log = time.monotonic() + _LOOK_AT_LOG_S
            self._hold_against_log(state)
        return state

    def stop(self) -> str:
        """Stop with a savepoint and note it; its directory. LiveError when there is nothing to stop."""
        savepoint = self._job().stop((self._places.state_dir / "flink" / "savepoints").absolute())
        self._keep(replace(self._note, origin=noted_path(savepoint, self._places.state_dir)))
        return str(savepoint)

    def stop_and_tell(self) -> tuple[str, Callable[[], Reach]]:
        """Stop with a savepoint: its directory, and what notes and tells how far the job had come.

        That reads the savepoint, which is there whatever happens then: ResumeError, LogError, RunNoteError.
        """
        clock_us = self._step_clock_us()
        return self.stop(), lambda: self._note_reach(clock_us)

    def _note_reach(self, step_clock_us: int | None) -> Reach:
        note, topic = self._note, self._options.topic
        assert note.origin is not None
        offsets = next_offsets(self._places.state_dir.absolute() / note.origin, topic, note.partitions)
        offsets = {p: note.starts.get(str(p), 0) if offset < 0 else offset for p, offset in offsets.items()}
        self._keep(replace(note, ends={str(partition): offset for partition, offset in offsets.items()}))
        reach = reach_at(self._log, offsets, step_clock_us)
        if self._options.outputs.files_root is not None:
            note_reach(Path(self._options.outputs.files_root), reach)
        return reach

    def _step_clock_us(self) -> int | None:
        """The log's clock as the slowest step had it lately; None when Flink does not say."""
        job = job_of(self._places.flink_rest, self._options.group)
        if job is None or job.starting or job.ended:
            return None
        watermark_ms(self._places.flink_rest, job)
        time.sleep(_METRICS_S)  # Flink fetches what it is asked for the first time
        clock_ms = watermark_ms(self._places.flink_rest, job)
        return None if clock_ms is None else max(clock_ms, 0) * US_PER_MS

    def _running(self, note: GroupNote | None) -> str | None:
        """Flink's id of the group's job if it runs, also when whoever submitted it was killed before it had the id."""
        if note is not None and note.job:
            return note.job if self._asked(note.job) not in (LOST, *ENDED) else None
        until_s = 0.0 if note is None else submitted_s(note.name) + _SUBMITTED_S
        while True:
            job = job_of(self._places.flink_rest, self._options.group)
            if job is not None and not job.ended:
                if note is None or not job.name.startswith(note.name):
                    raise LiveError(
                        f"job {job.job_id} of group {self._options.group} runs, and no note says what it reads; cancel "
                        f"it on Flink's page at http://{self._places.flink_rest}, or start another --group"
                    )
                return job.job_id
            if time.time() >= until_s:
                return None
            time.sleep(1.0)

    def _follow(self, note: GroupNote | None, job_id: str) -> None:
        assert note is not None
        check_shape(note, self._options.shape, runs=True)
        self._keep(replace(note, job=job_id))
        self._say(f"job {job_id} of group {self._options.group} runs already")
        if note.parallelism != self._options.parallelism:
            self._move(f"parallelism {note.parallelism} -> {self._options.parallelism}")

    def _hold_against_log(self, state: str) -> None:
        count = len(self._log.partitions())
        if count > self._note.partitions and state == "RUNNING":
            self._move(f"{self._options.topic} has {count} partitions, {self._note.partitions} of them are read")
            return
        job = job_of(self._places.flink_rest, self._options.group)
        if job is not None and _MISSED in (root_cause(self._places.flink_rest, job) or ""):
            self._say(f"job {self._note.job} cannot read on: retention took what comes next")
            self._job().cancel()
            self._resume(self._newest(self._note), self._note)

    def _move(self, why: str) -> None:
        self._say(f"{why}: stopping job {self._note.job} with a savepoint, to go on with a new source")
        self.stop()
        self._resume(self._newest(self._note), self._note)

    def _submit_again(self, state: str) -> None:
        now = time.monotonic()
        self._tries = [at for at in self._tries if now - at < _TRIES_WITHIN_S]
        if len(self._tries) >= _TRIES:
            raise LiveError(
                f"job {self._note.job} is {state}, and {_TRIES} submissions within {_TRIES_WITHIN_S:.0f} s did not "
                "help; look at the logs of the JobManager, the TaskManager and the workers"
            )
        wait_s = _BACK_OFF_S * 2 ** len(self._tries)
        self._tries.append(now)
        self._say(f"job {self._note.job} is {state}; submitting it again in {wait_s:.0f} s")
        time.sleep(wait_s)
        with contextlib.suppress(LiveError, FlinkError):  # the next look finds the job as it is, and counts the tries
            self._resume(self._newest(self._note), self._note)

    def _newest(self, note: GroupNote) -> Snapshot | None:
        """The newest snapshot; None when the job has not got as far as its first. ResumeError when all are gone."""
        found = newest_snapshot(self._places.state_dir, note)
        if found is None and note.origin is not None:
            raise ResumeError(
                f"the snapshots of job {note.name} are gone, the last known is {note.origin}; what was open in it can "
                "only be made anew from the log: --fresh reads that from its start, and comes to the same results"
            )
        return found

    def _resume(self, snapshot: Snapshot | None, note: GroupNote | None) -> None:
        """A job that goes on from a snapshot, or without one from where the noted job began."""
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
        self._submit(snapshot, self._from_here(wanted))

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

    def _submit(self, snapshot: Snapshot | None, starts: Mapping[int, int]) -> None:
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
        self._keep(replace(note, job=job.job_id))
        self._say(f"job {job.job_id} runs on {len(starts)} partitions with parallelism {options.parallelism}")

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

    def _keep(self, note: GroupNote) -> None:
        self._note = note
        write_note(self._places.state_dir, self._options.group, note)

    def _job(self) -> LiveJob:
        return LiveJob(self._places.flink_rest, self._note.job)

    def _asked(self, job_id: str) -> str:
        try:
            return LiveJob(self._places.flink_rest, job_id).state()
        except UnknownJobError:
            return LOST

    def _state(self, job_id: str) -> str:
        try:
            return self._asked(job_id)
        except FlinkError:
            return SILENT

    def _bear_silence(self, state: str) -> None:
        if state != SILENT:
            self._silent_since = None
            return
        if self._silent_since is None:
            self._silent_since = time.monotonic()
            self._say(f"Flink at http://{self._places.flink_rest} does not answer; waiting for it")
        elif time.monotonic() - self._silent_since > _SILENT_S:
            raise LiveError(
                f"Flink at http://{self._places.flink_rest} has not answered for {_SILENT_S:.0f} s; "
                "see `horizon stack status`"
            )
