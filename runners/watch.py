"""What a live job has given so far, seen from outside: the counts on its topics."""

import time
from dataclasses import dataclass
from typing import Final

from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from runners.log import list_offsets
from transforms.brokers import Brokers, client_settings
from transforms.topics import INTERVAL_NAMES, TopicNames

_TIMEOUT_S: Final = 30.0


@dataclass(frozen=True)
class Counts:
    """Records on the topics at one moment; `at` in seconds of a clock that only runs forward."""

    at: float
    read: int  # records on the input topic, beacons included
    unique: int
    bars: dict[int, int]  # interval in seconds -> bars, all versions
    stats: int  # all kinds and versions
    late: int
    rejects: int

    def since(self, start: "Counts") -> "Counts":
        """What has come since `start`."""
        bars = {interval: count - start.bars[interval] for interval, count in self.bars.items()}
        return Counts(
            self.at - start.at,
            self.read - start.read,
            self.unique - start.unique,
            bars,
            self.stats - start.stats,
            self.late - start.late,
            self.rejects - start.rejects,
        )

    def __str__(self) -> str:
        bars = " ".join(f"{INTERVAL_NAMES.get(interval, interval)} {count:,}" for interval, count in self.bars.items())
        return (
            f"{self.read:,} in, {self.unique:,} unique, late {self.late:,}, rejects {self.rejects:,}, "
            f"bars {bars or 0}, stats {self.stats:,}"
        )


class Watch:
    """Counts the records of a live job's topics, from the moment it was made."""

    def __init__(self, bootstrap_servers: Brokers, topic: str, prefix: str, intervals_s: tuple[int, ...]) -> None:
        self._admin = AdminClient(client_settings(bootstrap_servers))
        names = TopicNames(prefix)
        self._bars = {names.bars(interval): interval for interval in (1, *intervals_s)}
        self._topics = {
            "read": topic,
            "unique": names.unique,
            "stats": names.stats,
            "late": names.late,
            "rejects": names.rejects,
        }
        self._start = self._now()

    def counts(self) -> Counts:
        """What has come since the start."""
        return self._now().since(self._start)

    def _now(self) -> Counts:
        ends = self._ends([*self._topics.values(), *self._bars])
        bars = {interval: ends[topic] for topic, interval in self._bars.items()}
        return Counts(time.monotonic(), bars=bars, **{name: ends[topic] for name, topic in self._topics.items()})

    def _ends(self, topics: list[str]) -> dict[str, int]:
        """End offsets, summed over the partitions; one question to the broker."""
        known = self._admin.list_topics(timeout=_TIMEOUT_S).topics
        wanted = {
            TopicPartition(topic, partition): OffsetSpec.latest()
            for topic in topics
            if topic in known
            for partition in known[topic].partitions
        }
        ends = dict.fromkeys(topics, 0)
        for place, found in list_offsets(self._admin, wanted).items():
            ends[place.topic] += found.offset
        return ends
