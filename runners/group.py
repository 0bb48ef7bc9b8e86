"""A group's live job over its whole life: started or found, followed, submitted again when it is lost, moved to more
partitions or another parallelism, stopped with a savepoint.

A move is a savepoint, and a job that goes on from it with a source of a new generation: KafkaIO fixes its splits when a
job is submitted and keeps them in the snapshot, so the old source never sees new partitions and never spreads over more
slots. The new one starts without state at the group's committed offsets, which are set to those in the savepoint first.
Such a source knows no log time of a partition that it has read nothing from, and so holds back what the savepoint has
open; a beacon in every partition tells it, also when the market is silent.
"""

import contextlib
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from pipelines.market_data import STATE_LAYOUT
from runners.beacons import Beacons
from runners.flink_rest import ENDED, FlinkError, UnknownJobError
from runners.live import LiveError, LiveJob, LiveOptions, start
from runners.log import Log
from runners.resume import (
    GroupNote,
    Snapshot,
    check_layout,
    check_shape,
    newest_snapshot,
    next_offsets,
    read_note,
    write_note,
)
from runners.stack import Endpoints

Say = Callable[[str], None]

LOST: Final = "LOST"  # Flink does not know the job any more: its JobManager is a new one
SILENT: Final = "SILENT"  # Flink does not answer
_PARTITIONS_EVERY_S: Final = 5.0
_SILENT_S: Final = 180.0
_TRIES: Final = 5  # submissions within _TRIES_WITHIN_S, then the job is given up
_TRIES_WITHIN_S: Final = 900.0
_BACK_OFF_S: Final = 2.0  # doubled with each try


class LiveGroup:
    """The job of `options.group` on the stack at `places`; `say` tells people what happens to it.

    `beacons` of the topic, None where nobody may write to it.
    """

    def __init__(self, places: Endpoints, options: LiveOptions, say: Say, beacons: Beacons | None) -> None:
        self._places, self._options, self._say, self._beacons = places, options, say, beacons
        self._log = Log(places.bootstrap_servers, options.topic)
        self._tries: list[float] = []
        self._silent_since: float | None = None
        self._look_at_partitions = 0.0

    @property
    def job_id(self) -> str:
        """Flink's id of the job as it runs now."""
        return self._note.job

    def start(self, fresh: bool = False, savepoint: str | None = None) -> None:
        """Follow the group's job if it runs, else go on from its newest snapshot, else start at its committed offsets.

        `fresh` forgets the snapshots, `savepoint` (a URI) names one. LiveError when the job does not come up, or must
        not be replaced by another; ResumeError when the snapshot or the options do not fit.
        """
        note = read_note(self._places.state_dir, self._options.group)
        state = self._state(note.job) if note is not None else LOST
        if state not in (LOST, *ENDED) and note is not None:
            if fresh or savepoint:
                raise LiveError(
                    f"job {note.job} of group {self._options.group} is {state}; stop it (Ctrl-C where it runs), "
                    "or start another --group"
                )
            check_shape(note, self._options.shape, runs=True)
            self._note = note
            self._say(f"job {note.job} of group {self._options.group} runs already")
            self._options = replace(self._options, generation=note.generation)
            if note.parallelism != self._options.parallelism:
                self._move(f"parallelism {note.parallelism} -> {self._options.parallelism}")
            return
        if fresh or (note is None and savepoint is None):
            generation = 0 if note is None else note.generation + 1
            self._submit(
                replace(self._options, generation=generation, savepoint=None), None, len(self._log.partitions())
            )
            return
        known = note or GroupNote(
            "", savepoint, 0, len(self._log.partitions()), self._options.parallelism, STATE_LAYOUT
        )
        self._note = replace(known, job="", origin=savepoint) if savepoint else known
        self._resume()

    def look(self) -> str:
        """The job's state, after what it made necessary: follow a job that was moved by others, submit a lost one
        again, move to new partitions. LiveError when the job cannot be kept up."""
        self._follow_note()
        state = self._state(self._note.job)
        self._bear_silence(state)
        if state == "CANCELED":
            raise LiveError(f"job {self._note.job} was cancelled by somebody; `horizon live` goes on where it ended")
        if state in (LOST, *ENDED):
            self._submit_again(state)
        elif state == "RUNNING" and time.monotonic() >= self._look_at_partitions:
            self._look_at_partitions = time.monotonic() + _PARTITIONS_EVERY_S
            count = len(self._log.partitions())
            if count > self._note.partitions:
                self._move(f"{self._options.topic} has {count} partitions, {self._note.partitions} of them are read")
        return state

    def stop(self) -> str:
        """Stop with a savepoint and note it; its URI. LiveError when there is nothing to stop."""
        self._follow_note()
        savepoint = self._job().stop((self._places.state_dir / "flink" / "savepoints").absolute())
        self._keep(replace(self._note, origin=savepoint))
        return savepoint

    def _follow_note(self) -> None:
        """Another process may have moved the job."""
        noted = read_note(self._places.state_dir, self._options.group)
        if noted is not None and noted.job != self._note.job:
            check_shape(noted, self._options.shape, runs=True)
            self._say(f"job {self._note.job} was replaced by {noted.job}; following that")
            self._note = noted
            self._options = replace(self._options, generation=noted.generation, parallelism=noted.parallelism)

    def _move(self, why: str) -> None:
        self._say(f"{why}: stopping job {self._note.job} with a savepoint, to go on with a new source")
        self.stop()
        self._resume()

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
            self._resume()

    def _resume(self) -> None:
        """A job that goes on from the newest snapshot of the noted one; without any, from the committed offsets."""
        note = self._note
        snapshot = newest_snapshot(self._places.state_dir / "flink" / "checkpoints", note)
        if snapshot is not None:
            check_layout(snapshot, note, STATE_LAYOUT)
            check_shape(note, self._options.shape, runs=False)
        count = len(self._log.partitions())
        options = replace(self._options, generation=note.generation, savepoint=snapshot.uri if snapshot else None)
        if snapshot is None:
            options = replace(options, generation=note.generation + 1)
        elif (count, options.parallelism) != (note.partitions, note.parallelism):
            options = replace(options, generation=note.generation + 1, new_source=True)
            offsets = next_offsets(snapshot.uri, options.topic, note.partitions)
            self._commit(self._log.earliest() | offsets)
        self._submit(options, snapshot, count)
        if options.new_source and self._beacons is not None:
            self._beacons.send(everywhere=True)

    def _submit(self, options: LiveOptions, snapshot: Snapshot | None, partitions: int) -> None:
        origin = f"the offsets of group {options.group}"
        if snapshot is not None:
            origin = f"{snapshot.kind} {snapshot.uri}, {max(time.time() - snapshot.taken_s, 0):.0f} s old"
        self._say(f"starting on Flink at http://{self._places.flink_rest} from {origin}")
        job = start(self._places, options)
        self._options = replace(options, new_source=False)
        self._keep(
            GroupNote(
                job.job_id,
                options.savepoint,
                options.generation,
                partitions,
                options.parallelism,
                STATE_LAYOUT,
                options.shape,
            )
        )
        self._say(f"job {job.job_id} runs on {partitions} partitions with parallelism {options.parallelism}")

    def _commit(self, offsets: dict[int, int]) -> None:
        """Set the group's committed offsets; nobody else may read in it."""
        topic, group = self._options.topic, self._options.group
        wanted = [TopicPartition(topic, partition, offset) for partition, offset in offsets.items()]
        admin = AdminClient({"bootstrap.servers": self._places.bootstrap_servers})
        request = ConsumerGroupTopicPartitions(group, wanted)
        try:
            done = admin.alter_consumer_group_offsets([request])[group].result().topic_partitions
        except KafkaException as error:
            raise LiveError(
                f"cannot set the offsets of group {group}: {error}; does another consumer use it?"
            ) from error
        if failed := [place for place in done or () if place.error is not None]:
            raise LiveError(f"cannot set the offsets of group {group} for {failed}")

    def _keep(self, note: GroupNote) -> None:
        self._note = note
        write_note(self._places.state_dir, self._options.group, note)

    def _job(self) -> LiveJob:
        return LiveJob(self._places.flink_rest, self._note.job)

    def _state(self, job_id: str) -> str:
        try:
            return LiveJob(self._places.flink_rest, job_id).state()
        except UnknownJobError:
            return LOST
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
