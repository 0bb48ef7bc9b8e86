"""The newest log time before an offset, told by the broker.

The earliest offset with a log time >= t lies before offset o if and only if the newest log time before o is >= t: so
Kafka's time index, which gives the former, tells the latter by a binary search over t, for all partitions at once.
The index also knows records that no reader is given (aborted ones, a transaction's marks, dated by the broker) and log
times that are no times. So what it says is read: of the records from there on only those that count are taken.

What retention took is gone: a search that comes to the log's start says what the log still has. A run that begins there
may therefore call an event on time that an earlier run, which saw a newer record before it, called late.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from schemas.units import LOG_TIME_UNTIL_US, US_PER_MS
from transforms.brokers import Brokers, client_settings
from transforms.log_clock import NOTHING, counts

_TIMEOUT_S: Final = 30.0
_FAR: Final = 10_000  # offsets of a hole that are read through; a wider one is searched


@dataclass(frozen=True)
class TimeIndex:
    """A broker's time index; connects when it is first asked, and goes with the process."""

    bootstrap_servers: Brokers

    @cached_property
    def _consumer(self) -> Consumer:
        return Consumer(
            {
                **client_settings(self.bootstrap_servers),
                "group.id": "horizon-clock",  # never commits; the client demands one
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",  # what retention took meanwhile is passed over
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
            }
        )

    def newest_before(
        self, topic: str, offsets: Mapping[int, int], carried: Mapping[int, tuple[int, int]]
    ) -> dict[int, int]:
        """Of each partition the newest log time before an offset, us; `carried` as log_clock has it."""
        return newest_before(self._consumer, topic, offsets, carried)

    def first_after(self, topic: str, stops: Mapping[int, int], time_us: int) -> dict[int, int]:
        """Of each partition the first offset at which the newest log time is above `time_us`; the stop where none is
        before it."""
        return first_after(self._consumer, topic, stops, time_us)


def first_after(consumer: Consumer, topic: str, stops: Mapping[int, int], time_us: int) -> dict[int, int]:
    """As TimeIndex has it. KafkaException when no broker answers."""
    told = _first_offsets(consumer, topic, dict.fromkeys(stops, time_us // US_PER_MS + 1))
    low, high = {p: min(told[p], stop) for p, stop in stops.items()}, dict(stops)
    middle = dict(low)  # the index is right but for records that do not count
    while asked := {p: middle[p] + 1 for p in stops if low[p] < high[p]}:
        for partition, newest_us in newest_before(consumer, topic, asked, {}).items():
            side = high if newest_us > time_us else low
            side[partition] = middle[partition] + (side is low)
        middle = {p: (low[p] + high[p]) // 2 for p in stops}
    return low


def newest_before(
    consumer: Consumer, topic: str, offsets: Mapping[int, int], carried: Mapping[int, tuple[int, int]]
) -> dict[int, int]:
    """Of each partition the newest log time before an offset, us, or NOTHING. KafkaException when no broker answers.

    A partition carried to a place before the offset costs one look-up, and a read where something newer lies between.
    """
    newest: dict[int, int] = {}
    ahead = {p: carried[p] for p, offset in offsets.items() if p in carried and carried[p][0] <= offset}
    # what is newer than the carried time lies behind the carried place, so its first offset bounds what is to be read
    firsts = _first_offsets(consumer, topic, {p: max(known // US_PER_MS + 1, 0) for p, (_, known) in ahead.items()})
    for partition, first in firsts.items():
        stop, (place, known) = offsets[partition], ahead[partition]
        if first >= stop:
            newest[partition] = known
        elif stop - max(first, place) <= _FAR:
            newest[partition] = max(known, _read(consumer, topic, partition, max(first, place), stop))
    for partition, time_ms in _search(consumer, topic, {p: o for p, o in offsets.items() if p not in newest}).items():
        newest[partition] = _counted(consumer, topic, partition, offsets[partition], time_ms)
    return newest


def _search(consumer: Consumer, topic: str, offsets: Mapping[int, int]) -> dict[int, int]:
    """Of each partition the newest time in the index before an offset, ms, or -1."""
    known = dict.fromkeys(offsets, -1)
    unknown = dict.fromkeys(offsets, LOG_TIME_UNTIL_US // US_PER_MS)
    while searched := {p: (known[p] + unknown[p] + 1) // 2 for p in offsets if unknown[p] - known[p] > 1}:
        for partition, first in _first_offsets(consumer, topic, searched).items():
            side = known if first < offsets[partition] else unknown
            side[partition] = searched[partition]
    return known


def _first_offsets(consumer: Consumer, topic: str, times_ms: Mapping[int, int]) -> dict[int, int]:
    """Of each partition the earliest offset with that log time or a later one; beyond all offsets when none has."""
    if not times_ms:
        return {}
    asked = [TopicPartition(topic, partition, time_ms) for partition, time_ms in times_ms.items()]
    found = {}
    for place in consumer.offsets_for_times(asked, timeout=_TIMEOUT_S):
        if place.error is not None:
            raise KafkaException(place.error)
        found[place.partition] = place.offset if place.offset >= 0 else 1 << 62
    return found


def _counted(consumer: Consumer, topic: str, partition: int, stop: int, time_ms: int) -> int:
    """The newest log time before `stop` of the records that count, us; the index says that none is above `time_ms`."""
    step_ms, newest_us = 1_000, time_ms * US_PER_MS
    while time_ms >= 0:
        first = _first_offsets(consumer, topic, {partition: time_ms})[partition]
        found = _read(consumer, topic, partition, first, stop, enough_us=newest_us)
        if found >= time_ms * US_PER_MS:  # all that is as new lies from there on
            return found
        # what was found bounds what is left; where nothing was, go back further and further
        time_ms = found // US_PER_MS if found != NOTHING else time_ms - step_ms
        step_ms *= 10
    return _read(consumer, topic, partition, 0, stop)


def _read(
    consumer: Consumer, topic: str, partition: int, start: int, stop: int, enough_us: int = LOG_TIME_UNTIL_US
) -> int:
    """The newest log time that counts from `start` to before `stop`, us; the first that is `enough_us` will do."""
    newest = NOTHING
    if start >= stop:
        return newest
    consumer.assign([TopicPartition(topic, partition, start)])
    try:
        while newest < enough_us:
            message = consumer.poll(_TIMEOUT_S)
            error = KafkaError(KafkaError._TIMED_OUT) if message is None else message.error()
            if error is not None and error.code() != KafkaError._PARTITION_EOF:
                raise KafkaException(error)
            if message is None or error is not None or (message.offset() or 0) >= stop:
                return newest
            time_us = message.timestamp()[1] * US_PER_MS
            newest = max(newest, time_us if counts(time_us) else NOTHING)
        return newest
    finally:
        consumer.unassign()
