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
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from runners.flink_rest import ENDED, FlinkError, UnknownJobError, failure_of, job_of, watermark_ms
from runners.live import LiveError, LiveJob, LiveOptions, submitted_s
from runners.log import Log, SilentLogError
from runners.next_job import NextJob, Say
from runners.reach import Reach, reach_at
from runners.resume import (
    GroupNote,
    ResumeError,
    Snapshot,
    check_shape,
    check_topic,
    next_offsets,
    note_file,
    noted_path,
    read_note,
    write_note,
)
from runners.run_note import note_reach
from runners.stack import Endpoints
from runners.stack.flink import path_of
from runners.status import MANY, REMEDY
from schemas.units import US_PER_MS

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
        self._places, self._options, self._say = places, options, say
        self._log = Log(places.bootstrap_servers, options.topic)
        self._next = NextJob(places, options, self._log, say, accept_gap=accept_gap)
        self._tries: list[float] = []
        self._silent_since: float | None = None
        self._look_at_log = 0.0
        self._failure = ""  # the one that was told last

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
            self._begin(self._next.from_snapshot(Snapshot(path_of(savepoint), time.time()), note))
        elif fresh or note is None:
            self._begin(self._next.from_start())
        else:
            self._begin(self._next.from_newest(note))

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
            self._hold_against_log(state)
            self._look_at_log = time.monotonic() + _LOOK_AT_LOG_S
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
        try:
            check_topic(self._note, self._options.topic, self._log.topic_id())
            count = len(self._log.partitions())
        except ResumeError:
            self._job().cancel()  # it reads another log at the offsets of the one that is gone
            raise
        except SilentLogError as error:  # the job waits for the broker too
            self._say(f"{error}")
            return
        if count > self._note.partitions and state == "RUNNING":
            self._move(f"{self._options.topic} has {count} partitions, {self._note.partitions} of them are read")
            return
        job = job_of(self._places.flink_rest, self._options.group)
        failure = None if job is None else failure_of(self._places.flink_rest, job)
        if failure is not None and _MISSED in failure.error:
            self._say(f"job {self._note.job} cannot read on: retention took what comes next")
            self._job().cancel()
            self._begin(self._next.from_newest(self._note))
        elif failure is not None and failure.times >= MANY and str(failure) != self._failure:
            self._failure = str(failure)
            self._say(f"job {self._note.job} fails again and again {failure}; {REMEDY}")

    def _move(self, why: str) -> None:
        self._say(f"{why}: stopping job {self._note.job} with a savepoint, to go on with a new source")
        self.stop()
        self._begin(self._next.from_newest(self._note))

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
            self._begin(self._next.from_newest(self._note))

    def _begin(self, note: GroupNote) -> None:
        """Keep the note of a job that was just submitted."""
        self._keep(note)
        self._say(f"job {note.job} runs on {note.partitions} partitions with parallelism {note.parallelism}")

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
