"""Beacons: records without data that keep a silent partition from stopping the log's clock.

KafkaIO's watermark is that of its slowest partition, and one that never delivered a record holds it for ever: no bar
would come out. A beacon lies in the log like any record, so a replay reads it too; it carries the topic's newest log
time, so one producer's clock that runs ahead must not date the other partitions: times ahead of this machine's clock
count as now. It is known by its header and never shows up as data.
"""

import threading
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Final, Self

from confluent_kafka import KafkaException, Producer

from runners.log import Log, LogError
from transforms.decode import BEACON_HEADER

_EVERY_S: Final = 0.3  # asking for the newest log time makes the broker read: ten times a second took 0.4 of a core
_BEHIND_MS: Final = 300  # a partition this far behind the newest one gets a beacon
MAX_AHEAD_MS: Final = 5_000
"""What clocks of machines may differ by; as runners/topics.toml has it, the broker refuses more than that."""


def silent_partitions(times_ms: Mapping[int, int], now_ms: int, everywhere: bool = False) -> tuple[int, list[int]]:
    """The log time of a beacon, and the partitions that need one (or all), by the newest log time of each; -1: empty.

    The fourth lies far ahead of now, and the third a little:

    >>> silent_partitions({0: 1_000, 1: -1, 2: 61_000, 3: 3_000_000}, now_ms=60_000)
    (60000, [0, 1])
    """
    believed = [time_ms for time_ms in times_ms.values() if time_ms <= now_ms + MAX_AHEAD_MS]
    newest = min(max(believed, default=-1), now_ms)
    if newest < 0:  # nothing but what lies far ahead: then it is this machine's clock that is off, or all others
        newest = min(max(times_ms.values(), default=-1), now_ms)
    if newest < 0:
        return -1, []
    return newest, [p for p, time_ms in times_ms.items() if everywhere or time_ms < newest - _BEHIND_MS]


class Beacons:
    """Writes beacons to the silent partitions of a topic while it is entered."""

    def __init__(self, bootstrap_servers: str, topic: str) -> None:
        self._log = Log(bootstrap_servers, topic)
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap_servers,
                "acks": "all",
                "linger.ms": 0,
                "topic.metadata.refresh.interval.ms": 5_000,  # to know of partitions that were added
            }
        )
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="beacons", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(timeout=30)

    def send(self, everywhere: bool = False) -> int:
        """One round, to the silent partitions or to all: the number of beacons sent."""
        newest, silent = silent_partitions(self._log.newest_ms(), time.time_ns() // 1_000_000, everywhere)
        for partition in silent:
            self._producer.produce(
                self._log.topic, None, None, partition, timestamp=newest, headers=[(BEACON_HEADER, b"1")]
            )
        self._producer.flush(10)
        return len(silent)

    def _run(self) -> None:
        while not self._stop.wait(_EVERY_S):
            try:
                self.send()
            except (KafkaException, LogError):
                continue  # the broker is away: its clients retry, and so does the next round
