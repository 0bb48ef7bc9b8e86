"""What lies on a topic: offsets, log times and counts, asked of the broker."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final

from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from runners.bounds import Bound, check_offsets, check_order, in_ms
from schemas.units import US_PER_MS
from transforms.brokers import Brokers, client_settings
from transforms.header_bytes import Header
from transforms.headers import headers_of
from transforms.log_clock import NOTHING, counts
from transforms.read_offsets import Manifest, Stretch
from transforms.time_index import TimeIndex

_TIMEOUT_S: Final = 30.0
_RECORD_S: Final = 5.0  # for one record
_NO_LEADER: Final = (
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._NOENT,  # the client's own word for it: "No leaders found"
    KafkaError.UNKNOWN_LEADER_EPOCH,  # the client heard of a new leader before the broker it asks did
    KafkaError.FENCED_LEADER_EPOCH,
)


class LogError(RuntimeError):
    """The topic or the offsets asked for are not there; says what is."""


class SilentLogError(LogError):
    """No broker answers; it may be back in a while."""


def list_offsets(
    admin: AdminClient,
    wanted: Mapping[TopicPartition, OffsetSpec],
    isolation: IsolationLevel = IsolationLevel.READ_UNCOMMITTED,
) -> dict[TopicPartition, Any]:
    """Offsets and their log times; asks again while a partition has no leader (a new topic, a broker that left)."""
    if not wanted:
        return {}
    deadline = time.monotonic() + _TIMEOUT_S
    while True:
        answers = admin.list_offsets(dict(wanted), request_timeout=_TIMEOUT_S, isolation_level=isolation)
        try:
            return {place: answer.result() for place, answer in answers.items()}
        except KafkaException as error:
            if error.args[0].code() not in _NO_LEADER or time.monotonic() > deadline:
                raise
            time.sleep(0.2)


class Log:
    """One topic at a broker."""

    def __init__(self, bootstrap_servers: Brokers, topic: str) -> None:
        self._admin = AdminClient(client_settings(bootstrap_servers) | {"log_level": 0})
        self._bootstrap_servers, self.topic = bootstrap_servers, topic
        self._index = TimeIndex(bootstrap_servers)

    def partitions(self) -> list[int]:
        """Its partitions. LogError when there is no such topic, SilentLogError when no broker answers."""
        try:
            found = self._admin.list_topics(self.topic, timeout=_TIMEOUT_S).topics[self.topic]
        except KafkaException as error:
            raise self._silent() from error
        if found.error is not None:
            raise LogError(f"topic {self.topic}: {found.error.str()}; see `horizon topics plan`")
        return sorted(found.partitions)

    def topic_id(self) -> str:
        """What tells a topic from one of its name that was deleted before. Errors as of partitions()."""
        asked = self._admin.describe_topics(TopicCollection([self.topic]), request_timeout=_TIMEOUT_S)
        try:
            return str(asked[self.topic].result().topic_id)
        except KafkaException as error:
            if error.args[0].code() < 0:  # the client's own errors, not a broker's answer
                raise self._silent() from error
            raise LogError(f"topic {self.topic}: {error.args[0].str()}; see `horizon topics plan`") from error

    def _silent(self) -> SilentLogError:
        return SilentLogError(f"no broker answers at {self._bootstrap_servers}; is it up? `horizon stack status`")

    def newest_before(self, offsets: Mapping[int, int]) -> dict[int, int]:
        """The newest log time before an offset, us, of each partition that has one there."""
        found = self._index.newest_before(self.topic, {p: offset for p, offset in offsets.items() if offset}, {})
        return {partition: time_us for partition, time_us in found.items() if time_us != NOTHING}

    def first_after(self, offsets: Mapping[int, int], time_us: int) -> dict[int, int]:
        """Of each partition the first offset at which its clock is above a time, us; the given one at the latest."""
        return self._index.first_after(self.topic, offsets, time_us)

    def earliest(self) -> dict[int, int]:
        """The first offset of each partition."""
        return {p: result.offset for p, result in self._ask(OffsetSpec.earliest()).items()}

    def latest(self) -> dict[int, int]:
        """The offset behind the last record of each partition."""
        return {p: result.offset for p, result in self._ask(OffsetSpec.latest()).items()}

    def readable(self) -> dict[int, int]:
        """The offset behind what a reader is given of each partition: where the oldest open transaction begins."""
        found = self._ask(OffsetSpec.latest(), IsolationLevel.READ_COMMITTED)
        return {p: result.offset for p, result in found.items()}

    def newest_ms(self) -> dict[int, int]:
        """The newest log time in each partition, ms since the Unix epoch; -1 for an empty one."""
        return {p: result.timestamp for p, result in self._ask(OffsetSpec.max_timestamp()).items()}

    def newest_headers(self, log_time_ms: int) -> list[Header]:
        """The headers of a record that has the topic's newest log time; none when it cannot be read."""
        newest = self._ask(OffsetSpec.max_timestamp())
        places = [(p, result.offset) for p, result in newest.items() if result.timestamp == log_time_ms]
        if not places:
            return []
        settings = {**client_settings(self._bootstrap_servers), "group.id": "horizon-log", "log_level": 0}
        consumer = Consumer(settings | {"enable.auto.commit": False, "isolation.level": "read_uncommitted"})
        try:
            consumer.assign([TopicPartition(self.topic, *places[0])])
            message = consumer.poll(_RECORD_S)
            return [] if message is None or message.error() else headers_of(message)
        finally:
            consumer.close()

    def at(self, log_time: datetime) -> dict[int, int]:
        """The first offset of each partition with that log time or a later one; its end when there is none."""
        ends = self.latest()
        spec = OffsetSpec.for_timestamp(in_ms(log_time))
        return {p: result.offset if result.offset >= 0 else ends[p] for p, result in self._ask(spec).items()}

    def freeze(self, start: Bound = None, stop: Bound = None) -> Manifest:
        """The offsets from `start` (inclusive) to `stop` (exclusive), fixed now, without what transactions still hold.

        BoundError for edges that it does not have.
        """
        check_order(start, stop)
        first, end = self.earliest(), self.readable()
        begins = first if start is None else self._bound(start, end)
        stops = end if stop is None else self._bound(stop, end)
        for offsets in (begins, stops):
            check_offsets(self.topic, offsets, first, end)
        before = self._index.newest_before(self.topic, stops, {})
        carried = {p: (stop, before[p]) for p, stop in stops.items()}
        at = self._index.newest_before(self.topic, {p: stop + 1 for p, stop in stops.items()}, carried)
        stretches = tuple(
            Stretch(self.topic, p, begin, max(begin, stops[p]), at[p]) for p, begin in sorted(begins.items())
        )
        newest = max((before[s.partition] for s in stretches if s.start < s.stop), default=0)
        return Manifest(stretches, self._newest_until_us({p: o for p, o in begins.items() if o}), max(newest, 0))

    def _newest_until_us(self, offsets: Mapping[int, int]) -> int:
        """The newest log time in any partition up to the record at an offset, us; 0 for none.

        Of what retention took nothing is known but that it lies before what it left.
        """
        if not offsets:
            return 0
        left = (time_ms * US_PER_MS for time_ms in self.log_times_ms(offsets).values())
        times = [*left, *self._index.newest_before(self.topic, offsets, {}).values()]
        return max((us for us in times if counts(us)), default=0)

    def _bound(self, bound: datetime | Mapping[int, int], end: Mapping[int, int]) -> Mapping[int, int]:
        if isinstance(bound, datetime):
            return {p: min(offset, end[p]) for p, offset in self.at(bound).items()}
        return bound

    def _ask(self, spec: OffsetSpec, isolation: IsolationLevel = IsolationLevel.READ_UNCOMMITTED) -> dict[int, Any]:
        wanted = {TopicPartition(self.topic, partition): spec for partition in self.partitions()}
        return {place.partition: found for place, found in list_offsets(self._admin, wanted, isolation).items()}

    def log_times_ms(self, offsets: Mapping[int, int]) -> dict[int, int]:
        """Log time of the first record at or behind an offset, by partition; also of one that a transaction holds.

        A partition that has none there is left out.
        """
        with self._consumer() as consumer:
            found = {p: self._time_ms(consumer, p, offset) for p, offset in offsets.items()}
        return {partition: time_ms for partition, time_ms in found.items() if time_ms is not None}

    @contextmanager
    def _consumer(self) -> Iterator[Consumer]:
        consumer = Consumer(
            {
                **client_settings(self._bootstrap_servers),
                "group.id": "horizon-look",
                "isolation.level": "read_uncommitted",
                "enable.partition.eof": True,
                "log_level": 0,
            }
        )
        try:
            yield consumer
        finally:
            consumer.close()

    def _time_ms(self, consumer: Consumer, partition: int, offset: int) -> int | None:
        """Log time of a partition's first record at or behind `offset`; None when it ends there now."""
        consumer.assign([TopicPartition(self.topic, partition, offset)])
        message = consumer.poll(_TIMEOUT_S)
        error = None if message is None else message.error()
        if error is not None and error.code() == KafkaError._PARTITION_EOF:
            return None
        if message is None or error is not None:
            raise LogError(f"{self.topic}[{partition}] gives no record at offset {offset}; check the broker")
        return int(message.timestamp()[1])
