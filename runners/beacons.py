"""Beacons: records without data that keep a silent partition from stopping the log's clock.

KafkaIO's watermark is that of its slowest partition, and one that never delivered a record holds it for ever: no bar
would come out. A beacon lies in the log like any record, so a replay reads it too; it carries the topic's newest log
time, so one producer's clock that runs ahead must not date the other partitions: times ahead of this machine's clock
count as now. It is known by its header and never shows up as data.
"""

import threading
import time
from types import TracebackType
from typing import Final, Self

from confluent_kafka import KafkaException, Producer

from runners.log import Log, LogError
from transforms.decode import BEACON_HEADER

_EVERY_S: Final = 0.3  # asking for the newest log time makes the broker read: ten times a second took 0.4 of a core
_BEHIND_MS: Final = 300  # a partition this far behind the newest one gets a beacon


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
        times = self._log.newest_ms()
        now = time.time_ns() // 1_000_000
        newest = max((min(time_ms, now) for time_ms in times.values()), default=-1)
        silent = [p for p, time_ms in times.items() if time_ms < newest - _BEHIND_MS or (everywhere and newest >= 0)]
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
