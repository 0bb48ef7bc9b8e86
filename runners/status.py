"""Why a live job gives nothing, or is about to: a diagnosis from numbers alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from runners.flink_rest import STARTING, Checkpoints, Failure
from runners.gaps import Gap
from schemas.units import MS_PER_S

Level = Literal["ok", "warning", "failed"]

STUCK_S: Final = 30.0  # the job's clock is read up to 10 s late and moves with the records; more behind is not normal
_CHECKPOINTS_MISSED: Final = 5  # intervals without one
MANY: Final = 3  # equal failures in succession, after which a job does not get over them by itself
REMEDY: Final = "nothing behind that comes out until the code takes it; the worker's log has the whole error"
_RECENT_S: Final = 120.0  # seconds
_SHOWN: Final = 6  # partitions named in one line


@dataclass(frozen=True, kw_only=True)
class PartitionNumbers:
    """One partition of the input topic; times in milliseconds since the Unix epoch."""

    partition: int
    first: int  # offset of its oldest record
    end: int  # offset behind its newest
    committed: int | None  # where the group would go on; moves with each checkpoint. None: nowhere yet
    newest_ms: int = -1  # newest log time; -1: there is no record
    position_ms: int | None = None  # log time of the record at `committed`; None: read to the end, or not known

    @property
    def never_held_a_record(self) -> bool:
        """Whether nothing was ever written to it."""
        return self.end == 0

    @property
    def lag(self) -> int:
        """Records that no checkpoint covers yet."""
        return self.end - (self.first if self.committed is None else max(self.committed, self.first))


@dataclass(frozen=True, kw_only=True)
class JobNumbers:
    """A group's job at one moment; times in milliseconds since the Unix epoch."""

    group: str
    topic: str
    now_ms: int
    job_id: str | None = None  # None: Flink knows of no job of the group
    state: str | None = None
    age_s: float = 0.0
    restarts: int | None = None
    failure: Failure | None = None  # the newest
    watermark_ms: int | None = None  # None: not known; negative: none yet
    partitions: Sequence[PartitionNumbers] = ()
    checkpoints: Checkpoints = field(default_factory=Checkpoints)
    read_per_s: float = 0.0  # records that come onto the input topic
    unique_per_s: float = 0.0
    bars_per_s: float = 0.0
    gaps: Sequence[Gap] = ()  # records that the group went on behind, for retention had taken them
    savepoint: str | None = None  # with which the job was stopped; None: it was not, or goes on
    ends: Mapping[int, int] = field(default_factory=dict)  # partition -> the offset before which it was stopped
    rejects: int = 0
    reasons: Mapping[str, int] = field(default_factory=dict)  # of the newest rejects

    @property
    def newest_ms(self) -> int:
        """The newest log time of the topic; -1 when it is empty."""
        return max((one.newest_ms for one in self.partitions), default=-1)

    @property
    def lag(self) -> int:
        """Records that no checkpoint covers yet, of all partitions."""
        return sum(one.lag for one in self.partitions)

    @property
    def clock_behind_s(self) -> float | None:
        """How far the job's clock is behind the newest log time; None when either is not known."""
        if self.watermark_ms is None or self.watermark_ms < 0 or self.newest_ms < 0:
            return None
        return (self.newest_ms - self.watermark_ms) / MS_PER_S


@dataclass(frozen=True)
class Finding:
    """What is not as it should be, and what to do."""

    level: Level
    said: str
    remedy: str


def diagnose(numbers: JobNumbers) -> list[Finding]:
    """Everything that is wrong with a job, what stops its output first; empty when nothing is."""
    if numbers.job_id is None:
        said = f"Flink knows of no job of group {numbers.group}"
        return [Finding("failed", said, f"start it: `horizon live --group {numbers.group}`")]
    if numbers.state in STARTING:
        return [Finding("warning", f"job {numbers.job_id} is starting, nothing comes out yet", "ask again")]
    if numbers.state != "RUNNING":
        return [_not_running(numbers)]
    return [*_repeated(numbers), *_clock(numbers), *checkpoint_findings(numbers), *_missed(numbers), *_dated(numbers)]


def holding_back(numbers: JobNumbers) -> list[PartitionNumbers]:
    """The partitions that the job's clock waits for, those that never held a record first.

    The job's clock is that of its slowest partition, and a partition's is its newest log time.
    """
    partitions = numbers.partitions
    empty = [one for one in partitions if one.never_held_a_record]
    if empty:
        return empty
    limit_ms = numbers.newest_ms - STUCK_S * MS_PER_S
    behind = [one for one in partitions if one.lag and one.position_ms is not None and one.position_ms < limit_ms]
    if behind:
        return sorted(behind, key=lambda one: one.position_ms or 0)
    return sorted((one for one in partitions if one.newest_ms < limit_ms), key=lambda one: one.newest_ms)


def _not_running(numbers: JobNumbers) -> Finding:
    cause = f": {numbers.failure}" if numbers.failure else ""
    after = "" if numbers.restarts is None else f" after {numbers.restarts} restarts"
    said = f"job {numbers.job_id} is {numbers.state}{after}, nothing comes out{cause}"
    return Finding("failed", said, "see the logs of the JobManager and the workers; Flink's page shows the exceptions")


def _repeated(numbers: JobNumbers) -> list[Finding]:
    failure = numbers.failure
    if failure is None or failure.times < MANY or failure.at_ms < numbers.now_ms - _RECENT_S * MS_PER_S:
        return []
    said = f"restarted {numbers.restarts or failure.times} times, the last {failure.times} of them {failure}"
    return [Finding("failed", said, REMEDY)]


def _dated(numbers: JobNumbers) -> list[Finding]:
    count = numbers.reasons.get("log_time_implausible", 0)
    said = f"{count} of the newest rejects have a log time that is none: seconds or microseconds for milliseconds?"
    return [Finding("warning", said, "mend the producer, for retention too goes by it")] if count else []


def _missed(numbers: JobNumbers) -> list[Finding]:
    said = "never read: " + "; ".join(f"{gap}, taken by {gap.why}" for gap in numbers.gaps)
    return [Finding("warning", said, "bars and files around it lack it for good")] if numbers.gaps else []


def _clock(numbers: JobNumbers) -> list[Finding]:
    """Why bars and files do not come, or come late."""
    if numbers.newest_ms < 0:
        return [Finding("warning", f"topic {numbers.topic} holds no record", "publish: `horizon simulate`")]
    if (behind_s := numbers.clock_behind_s) is not None and behind_s <= STUCK_S:  # None: the partitions tell
        return []
    how_far = "has not started" if behind_s is None else f"is {behind_s:,.0f} s behind the newest log time"
    held = holding_back(numbers)
    if not held:
        if numbers.watermark_ms is None:
            return []
        said = f"the job's clock {how_far}, and no partition holds it back"
        return [Finding("warning", said, "a job that just started needs some seconds; else look for back pressure")]
    names = _named(held)
    if held[0].never_held_a_record:
        said = f"{names} never held a record and no beacons come: the job's clock waits, no bar and no file comes out"
        return [Finding("failed", said, "write beacons: `horizon live` does, unless told --no-beacons")]
    if held[0].lag:
        oldest_ms = held[0].position_ms or 0
        far_s = (numbers.newest_ms - oldest_ms) / MS_PER_S
        said = f"{names} {_are(held)} far behind and all bars wait: {far_s:,.0f} s of log time, {held[0].lag:,} records"
        remedy = "wait, or raise --parallelism; uneven keys load one partition, an open transaction holds it up"
        return [Finding("warning", said, remedy)]
    silent_s = (numbers.newest_ms - held[0].newest_ms) / MS_PER_S
    said = f"{names} {_are(held)} silent for {silent_s:,.0f} s without beacons: the job's clock waits"
    return [Finding("warning", said, "write beacons: `horizon live` does, unless told --no-beacons")]


def checkpoint_findings(numbers: JobNumbers) -> list[Finding]:
    """What is wrong with the checkpoints of a running job."""
    found, known = [], numbers.checkpoints
    allowed_s = _CHECKPOINTS_MISSED * known.interval_s + known.last_s
    remedy = "see the JobManager's log; `horizon doctor` looks at disk and slots"
    if known.last_at_ms is None and numbers.age_s > allowed_s:
        said = f"no checkpoint in {numbers.age_s:,.0f} s, one is due every {known.interval_s:g} s"
        found.append(Finding("failed", said, remedy))
    if known.last_at_ms is not None and (age_s := (numbers.now_ms - known.last_at_ms) / MS_PER_S) > allowed_s:
        said = f"the newest checkpoint is {age_s:,.0f} s old, one is due every {known.interval_s:g} s"
        found.append(Finding("warning", said, remedy))
    # an old failure is over when a checkpoint was completed since; one of just now may be every other one
    over_ms = min(known.last_at_ms or 0, numbers.now_ms - round(allowed_s * MS_PER_S))
    if known.failed_at_ms is not None and known.failed_at_ms >= over_ms:
        said = f"{known.failed} checkpoints failed" + (f": {known.failure}" if known.failure else "")
        found.append(Finding("warning", said, remedy))
    return found


def _named(partitions: Sequence[PartitionNumbers]) -> str:
    names = ", ".join(str(one.partition) for one in partitions[:_SHOWN])
    more = f" and {len(partitions) - _SHOWN} more" if len(partitions) > _SHOWN else ""
    return f"partition{'' if len(partitions) == 1 else 's'} {names}{more}"


def _are(partitions: Sequence[PartitionNumbers]) -> str:
    return "is" if len(partitions) == 1 else "are"
