"""Is what runs fit: the broker, its topics and clock, the group, Flink, the job and its checkpoints."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from runners import flink_rest
from runners.beacons import MAX_AHEAD_MS
from runners.broker_version import VersionError, broker_version
from runners.doctor import Check
from runners.flink_rest import Checkpoints, Failure, FlinkError, FlinkJob
from runners.job_numbers import OFFSETS_TOPIC, partition_numbers
from runners.log import LogError, list_offsets
from runners.stack import Endpoints, LocalStack
from runners.status import JobNumbers, checkpoint_findings
from runners.topics import COMPACTED, Plan, TopicsError, TopicSpec, plan_topics, read_specs, settings_of
from schemas.units import MS_PER_S
from transforms.brokers import Brokers, client_settings

_SKEW_S: Final = 1.0
_LAG_WARNING: Final = 1_000_000  # records; half a minute of what one slot reads
_TIMEOUT_S: Final = 10.0
_AHEAD: Final = "message.timestamp.after.max.ms"  # brokers from before 3.6 know none: there anything goes
_UNLIMITED: Final = 2**63 - 1


def stack_checks(places: Endpoints, group: str, topic: str) -> list[Check]:
    """What runs in this stack, and whether it can be relied on."""
    checks = [processes_check(places.state_dir), broker_check(places.bootstrap_servers)]
    if checks[-1].level != "failed":
        checks += [
            topics_check(places.bootstrap_servers),
            log_times_verdict(topic, settings_of(places.bootstrap_servers, topic)),
            clock_check(places, topic, group),
            lag_check(places.bootstrap_servers, topic, group),
        ]
    return [*checks, *flink_checks(places.flink_rest, group)]


def processes_check(state_dir: Path) -> Check:
    """Whether every process of the stack lives."""
    stack = LocalStack(state_dir)
    dead = stack.dead()
    if dead:
        remedy = f"see {state_dir / 'logs'}, then `horizon stack down` and `horizon stack up`"
        return Check("processes", "failed", f"dead: {', '.join(dead)}", remedy)
    return Check("processes", "ok", f"{len(stack.pids())} alive")


def broker_check(bootstrap_servers: Brokers) -> Check:
    """Whether a broker answers, how many there are, and which Kafka they are."""
    admin = AdminClient(client_settings(bootstrap_servers) | {"log_level": 0})
    try:
        brokers = admin.list_topics(timeout=_TIMEOUT_S).brokers
    except KafkaException as error:
        said = f"no broker answers at {bootstrap_servers}: {error.args[0].str()}"
        return Check("broker", "failed", said, "see its log; `horizon stack status`")
    try:
        version = f"Kafka {broker_version(bootstrap_servers)}"
    except VersionError as error:
        return Check("broker", "warning", f"{len(brokers)} at {bootstrap_servers}; {error}", "check it by hand")
    return Check("broker", "ok", f"{len(brokers)} at {bootstrap_servers}, {version}")


def topics_check(bootstrap_servers: Brokers) -> Check:
    """Whether the topics are what the code says, like `horizon topics check`."""
    try:
        specs = read_specs()
        return topics_verdict(specs, plan_topics(bootstrap_servers, specs))
    except TopicsError as error:
        return Check("topics", "failed", str(error), "`horizon topics plan`")


def topics_verdict(specs: tuple[TopicSpec, ...], plan: Plan) -> Check:
    """What a plan means: a missing topic stops the job, another setting does not. A compacted one is told first."""
    missing = [change.topic for change in plan.changes if change.kind == "create"]
    if missing:
        said = f"{len(missing)} of {len(specs)} missing: {', '.join(missing)}"
        return Check("topics", "failed", said, "`horizon topics apply`")
    if plan.changes:
        first = next((change for change in plan.changes if COMPACTED in change.detail), plan.changes[0])
        said = f"{len(plan.changes)} differences, the first: {first.topic} {first.detail}"
        return Check("topics", "warning", said, "`horizon topics plan` shows them, `horizon topics apply` removes them")
    return Check("topics", "ok", f"{len(specs)} as in topics.toml")


def log_times_verdict(topic: str, settings: Mapping[str, str]) -> Check:
    """Whose clock dates the input topic's records, and whether one that runs far ahead is kept out of the log."""
    if settings.get("message.timestamp.type") == "LogAppendTime":
        return Check("log times", "ok", f"{topic} has the broker's (LogAppendTime)")
    ahead_ms = int(settings.get(_AHEAD, _UNLIMITED))
    if ahead_ms <= MAX_AHEAD_MS:
        return Check("log times", "ok", f"{topic} takes none further than {ahead_ms / MS_PER_S:g} s ahead")
    limit = "any" if ahead_ms == _UNLIMITED else f"those up to {ahead_ms / MS_PER_S:,.0f} s"
    said = (
        f"{topic} takes {limit} ahead of the broker's clock: what one producer's wrong clock dates, makes others late"
    )
    return Check("log times", "warning", said, f"set {_AHEAD}={MAX_AHEAD_MS} on it, as runners/topics.toml has it")


def clock_check(places: Endpoints, topic: str, group: str) -> Check:
    """Clocks of the broker, of Flink and of the producers against this machine's, as far as they can be known."""
    admin = AdminClient(client_settings(places.bootstrap_servers) | {"log_level": 0})
    newest = {name: _newest_ms(admin, name) for name in (OFFSETS_TOPIC, topic)}
    try:
        job = flink_rest.job_of(places.flink_rest, group)
    except FlinkError:
        job = None
    flink_ahead_s = None if job is None else (job.now_ms - time.time_ns() // 1_000_000) / MS_PER_S
    return clock_verdict(time.time_ns() // 1_000_000, newest[OFFSETS_TOPIC], newest[topic], flink_ahead_s)


def _newest_ms(admin: AdminClient, topic: str) -> int | None:
    """The newest time on a topic; None when it is not there or empty."""
    known = admin.list_topics(timeout=_TIMEOUT_S).topics.get(topic)
    if known is None or not known.partitions:
        return None
    wanted = {TopicPartition(topic, partition): OffsetSpec.max_timestamp() for partition in known.partitions}
    newest = max(found.timestamp for found in list_offsets(admin, wanted).values())
    return newest if newest >= 0 else None


def clock_verdict(now_ms: int, broker_ms: int | None, topic_ms: int | None, flink_ahead_s: float | None) -> Check:
    """A time ahead of ours is a clock that runs ahead; one behind may only be old, so it tells nothing of a clock."""
    remedy = "set the clocks by NTP: lateness and the log's clock follow the Kafka timestamps"
    ahead = {
        name: (time_ms - now_ms) / MS_PER_S
        for name, time_ms in (("the broker's newest commit", broker_ms), ("the newest log time", topic_ms))
        if time_ms is not None
    }
    wrong = [f"{name} is {by_s:,.1f} s ahead of this machine" for name, by_s in ahead.items() if by_s > _SKEW_S]
    if flink_ahead_s is not None and abs(flink_ahead_s) > _SKEW_S:
        way = "ahead of" if flink_ahead_s > 0 else "behind"
        wrong.append(f"Flink's clock is {abs(flink_ahead_s):,.1f} s {way} this machine")
    if wrong:
        return Check("clocks", "warning", "; ".join(wrong), remedy)
    known = [f"{name} {-by_s:,.1f} s ago" for name, by_s in ahead.items()]
    known += [] if flink_ahead_s is None else [f"Flink's within {abs(flink_ahead_s):.1f} s"]
    return Check("clocks", "ok", ", ".join(known) or "no record and no job to tell by")


def lag_check(bootstrap_servers: Brokers, topic: str, group: str) -> Check:
    """What the group has not committed yet."""
    try:
        partitions = partition_numbers(bootstrap_servers, topic, group)
    except LogError as error:
        return Check("lag", "failed", str(error), "`horizon topics apply`")
    if all(one.committed is None for one in partitions):
        return Check("lag", "ok", f"group {group} has committed nothing on {topic} yet")
    lag = sum(one.lag for one in partitions)
    said = f"group {group} is {lag:,} records behind on {topic}"
    if lag > _LAG_WARNING:
        return Check("lag", "warning", said, "`horizon status` tells which partition; or start the live job")
    return Check("lag", "ok", said)


def flink_checks(rest: str, group: str) -> list[Check]:
    """Flink, the group's job and its checkpoints."""
    try:
        slots = slots_verdict(flink_rest.ask(rest, "/overview"))
        job = flink_rest.job_of(rest, group)
        if job is None:
            return [slots, Check("job", "ok", f"none of group {group} was started")]
        if job.ended or job.starting:
            return [slots, job_verdict(job, None)]
        checkpoints = flink_rest.checkpoints_of(rest, job)
        return [slots, job_verdict(job, flink_rest.failure_of(rest, job)), checkpoint_verdict(job, checkpoints)]
    except FlinkError as error:
        return [Check("flink", "failed", str(error), "see the JobManager's log; `horizon stack status`")]


def slots_verdict(overview: dict[str, Any]) -> Check:
    """What Flink's overview means."""
    total, free = int(overview["slots-total"]), int(overview["slots-available"])
    said = f"{overview['flink-version']}, {free} of {total} slots free, {overview['taskmanagers']} TaskManagers"
    if not total:
        return Check("flink", "failed", said, "no TaskManager has come: see its log")
    if not free:
        return Check("flink", "warning", said, "another job would wait; `horizon stack up --slots` gives more")
    return Check("flink", "ok", said)


def job_verdict(job: FlinkJob, failure: Failure | None) -> Check:
    """What a job's state means; one that was stopped or cancelled is fine."""
    said = f"{job.name} is {job.state}"
    if job.state in ("RUNNING", "FINISHED", "CANCELED"):
        return Check("job", "ok", said)
    if job.starting:
        return Check("job", "warning", said, "it has only just been submitted: ask again")
    because = f": {failure}" if failure else ""
    return Check("job", "failed", f"{said}{because}", "see the logs of the JobManager and the workers")


def checkpoint_verdict(job: FlinkJob, checkpoints: Checkpoints) -> Check:
    """What the age of the newest checkpoint means; the rules are those of `horizon status`."""
    age_s = (job.now_ms - job.start_ms) / MS_PER_S
    numbers = JobNumbers(
        group="",
        topic="",
        now_ms=job.now_ms,
        job_id=job.job_id,
        state="RUNNING",
        age_s=age_s,
        checkpoints=checkpoints,
    )
    for finding in checkpoint_findings(numbers)[:1]:
        return Check("checkpoints", finding.level, finding.said, finding.remedy)
    if checkpoints.last_at_ms is None:
        return Check("checkpoints", "ok", f"none yet, the job runs for {age_s:,.0f} s")
    said = f"newest {(job.now_ms - checkpoints.last_at_ms) / MS_PER_S:,.1f} s old, {checkpoints.completed:,} so far"
    return Check("checkpoints", "ok", said)
