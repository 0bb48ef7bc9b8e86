"""The numbers of a live job, asked of Kafka and Flink; status.py says what they mean."""

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from pipelines.options import MarketDataConfig
from runners import flink_rest
from runners.flink_rest import FlinkJob
from runners.gaps import read_gaps
from runners.log import Log
from runners.peek import PeekError, peek
from runners.resume import read_note
from runners.status import JobNumbers, PartitionNumbers
from runners.watch import Counts, Watch
from schemas.units import MS_PER_S, US_PER_MS
from transforms.brokers import Brokers, client_settings
from transforms.log_clock import counts
from transforms.topics import TopicNames

OFFSETS_TOPIC: Final = "__consumer_offsets"  # Kafka's own; its records carry the broker's clock
_NO_COORDINATOR: Final = (
    KafkaError.NOT_COORDINATOR,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
)
_TIMEOUT_S: Final = 30.0
_REJECTS_READ: Final = 500  # the newest ones, counted by reason
_RATE_S: Final = 1.0  # between two looks at the ends of the topics


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Whose numbers are asked for, and where."""

    bootstrap_servers: Brokers
    flink_rest: str
    group: str
    topic: str
    prefix: str
    state_dir: Path  # where the group's notes lie


def job_numbers(asked: Asked) -> JobNumbers:
    """All numbers of the group's job; takes a second, for rates are counted over one.

    FlinkError, LogError or KafkaException when one of them does not answer, ResumeError when the group's note is none.
    """
    watch = Watch(asked.bootstrap_servers, asked.topic, asked.prefix, MarketDataConfig().intervals_s)
    job = flink_rest.job_of(asked.flink_rest, asked.group)
    told: dict[str, Any] = {} if job is None else _of_job(asked.flink_rest, job)
    time.sleep(_RATE_S)
    told |= _per_second(watch.counts())
    if job is not None and not (
        job.ended or job.starting
    ):  # Flink fetches what it was asked for the first time: by now it has come
        told["watermark_ms"] = flink_rest.watermark_ms(asked.flink_rest, job)
    note = read_note(asked.state_dir, asked.group)
    stopped = note is not None and note.ends and (job is None or job.ended)
    return JobNumbers(
        group=asked.group,
        topic=asked.topic,
        now_ms=time.time_ns() // 1_000_000,
        partitions=partition_numbers(asked.bootstrap_servers, asked.topic, asked.group),
        gaps=read_gaps(asked.state_dir, asked.group),
        savepoint=note.origin if note and stopped else None,
        ends={int(p): offset for p, offset in note.ends.items()} if note and stopped else {},
        rejects=_reject_count(asked),
        reasons=_newest_reasons(asked),
        **told,
    )


def _of_job(rest: str, job: FlinkJob) -> dict[str, Any]:
    told: dict[str, Any] = {"job_id": job.job_id, "state": job.state, "age_s": (job.now_ms - job.start_ms) / MS_PER_S}
    if job.starting:
        return told
    told |= {"checkpoints": flink_rest.checkpoints_of(rest, job), "failure": flink_rest.failure_of(rest, job)}
    if not job.ended:
        told |= {"restarts": flink_rest.restarts_of(rest, job), "watermark_ms": flink_rest.watermark_ms(rest, job)}
    return told


def _per_second(counts: Counts) -> dict[str, float]:
    bars = sum(counts.bars.values())
    numbers = {"read_per_s": counts.read, "unique_per_s": counts.unique, "bars_per_s": bars}
    return {name: number / counts.at for name, number in numbers.items()}


def partition_numbers(bootstrap_servers: Brokers, topic: str, group: str) -> tuple[PartitionNumbers, ...]:
    """Where each partition of the topic stands, and where the group does. LogError without topic or broker."""
    log = Log(bootstrap_servers, topic)
    first, newest = log.earliest(), newest_ms(log)
    committed = committed_offsets(bootstrap_servers, topic, group, list(first))
    end = log.latest()  # last, so that no commit is ahead of it
    open_ = {p: offset for p, offset in committed.items() if first[p] <= offset < end[p]}
    positions = {p: ms for p, ms in log.log_times_ms(open_).items() if counts(ms * US_PER_MS)}
    return tuple(
        PartitionNumbers(
            partition=partition,
            first=first[partition],
            end=end[partition],
            committed=committed.get(partition),
            newest_ms=newest[partition],
            position_ms=positions.get(partition),
        )
        for partition in sorted(first)
    )


def newest_ms(log: Log) -> dict[int, int]:
    """The newest log time in each partition, ms; -1 where there is none.

    Where a log time in a wrong unit hides it, that of the partition's last record stands for it, if that has one.
    """
    found = log.newest_ms()
    hidden = [p for p, ms in found.items() if ms >= 0 and not counts(ms * US_PER_MS)]
    if not hidden:
        return found
    ends = log.latest()
    last = log.log_times_ms({partition: ends[partition] - 1 for partition in hidden})
    return found | dict.fromkeys(hidden, -1) | {p: ms for p, ms in last.items() if counts(ms * US_PER_MS)}


def committed_offsets(bootstrap_servers: Brokers, topic: str, group: str, partitions: list[int]) -> dict[int, int]:
    """The group's committed offset in each partition that has one; KafkaException when its coordinator is silent.

    By a consumer that never joins. The admin client's own question ended this process with a segmentation fault on a
    broker that had no offsets topic yet (docs/facts.md).
    """
    consumer = Consumer({**client_settings(bootstrap_servers), "group.id": group, "log_level": 0})
    try:
        # who has to show ACLs does not see that topic
        if isinstance(bootstrap_servers, str) and OFFSETS_TOPIC not in consumer.list_topics(timeout=_TIMEOUT_S).topics:
            return {}
        places = [TopicPartition(topic, partition) for partition in partitions]
        found = _committed(consumer, places)
        return {place.partition: place.offset for place in found if place.offset >= 0}
    finally:
        consumer.close()


def _committed(consumer: Consumer, places: list[TopicPartition]) -> list[TopicPartition]:
    """Asks again while a coordinator is still being chosen, as it is when the offsets topic has just come."""
    deadline = time.monotonic() + _TIMEOUT_S
    while True:
        try:
            return consumer.committed(places, timeout=_TIMEOUT_S)
        except KafkaException as error:
            if error.args[0].code() not in _NO_COORDINATOR or time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def _reject_count(asked: Asked) -> int:
    """Rejects that lie on their topic."""
    topic = TopicNames(asked.prefix).rejects
    admin = AdminClient(client_settings(asked.bootstrap_servers) | {"log_level": 0})
    if topic not in admin.list_topics(timeout=_TIMEOUT_S).topics:
        return 0
    log = Log(asked.bootstrap_servers, topic)
    first = log.earliest()
    return sum(end - first[partition] for partition, end in log.latest().items())


def _newest_reasons(asked: Asked) -> Mapping[str, int]:
    try:
        newest = list(peek(asked.bootstrap_servers, TopicNames(asked.prefix).rejects, limit=_REJECTS_READ))
    except (PeekError, KafkaException):  # no such topic, or nothing to be read: then there are no reasons to tell
        return {}
    reasons = Counter(str(record.row["reason"]) for record in newest if record.kind == "Reject")
    return dict(reasons.most_common())
