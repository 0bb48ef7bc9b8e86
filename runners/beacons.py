"""Beacons: records without data that keep a silent partition from stopping the log's clock.

The job's clock is that of its slowest partition, and a partition's is its newest log time: one that falls silent would
hold all bars back. A beacon lies in the log like any record, so a replay reads it too; it carries the topic's newest
log time, so one producer's clock that runs ahead must not date the other partitions: times ahead of this machine's
clock count as now. It is known by its header and never shows up as data.

When the whole topic is silent, beacons go on from its newest log time at the pace of this machine's clock, so that the
last bars come out, but not so far that what a producer kept back meanwhile would be late. Each says in its header which
log time its writer had heard, so that several writers, or one that starts anew, do not move each other on.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Final, Self

import numpy as np
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from runners.log import Log, LogError
from schemas.units import MS_PER_S, US_PER_MS
from transforms.brokers import Brokers, client_settings
from transforms.cell_config import CellConfig
from transforms.decode import BEACON_HEADER
from transforms.log_clock import in_us, plausible

_LOG: Final = logging.getLogger(__name__)
_KEY: Final = BEACON_HEADER.encode()  # a topic that is compacted takes nothing without one
_EVERY_S: Final = 0.3  # asking for the newest log time makes the broker read: ten times a second took 0.4 of a core
_BEHIND_MS: Final = 300  # a partition this far behind the newest one gets a beacon
_SILENT_S: Final = 1.0  # without anything new on the topic
_MS_DIGITS: Final = 13  # of a log time from 2001 to 2286; beacons of before say 1
MAX_AHEAD_MS: Final = 5_000
"""What clocks of machines may differ by; as runners/topics.toml has it, the broker refuses more than that."""


def newest(times_ms: Mapping[int, int], now_ms: int) -> int:
    """The topic's newest log time, by that of each partition, as far as it is believed; -1: nothing in it.

    The fourth lies far ahead of now, and the third a little:

    >>> newest({0: 1_000, 1: -1, 2: 61_000, 3: 3_000_000}, now_ms=60_000)
    60000
    """
    believed = [time_ms for time_ms in times_ms.values() if time_ms <= now_ms + MAX_AHEAD_MS]
    found = min(max(believed, default=-1), now_ms)
    # nothing but what lies far ahead: then it is this machine's clock that is off, or all others
    return found if found >= 0 else min(max(times_ms.values(), default=-1), now_ms)


def silent_partitions(times_ms: Mapping[int, int], clock_ms: int) -> list[int]:
    """The partitions that need a beacon when the topic's clock shows this.

    Of one that holds a log time in a wrong unit, which no clock counts, nothing else is known. The last is one:

    >>> now_ms = 1_700_000_000_000
    >>> silent_partitions({0: now_ms - 1_000, 1: -1, 2: now_ms, 3: now_ms * 1_000_000}, now_ms)
    [0, 1, 3]
    """
    clocks_ms = np.array([*times_ms.values()], np.int64)
    silent = (clocks_ms < clock_ms - _BEHIND_MS) | ~plausible(in_us(clocks_ms))
    return [partition for partition, is_silent in zip(times_ms, silent.tolist(), strict=True) if is_silent]


class Silence:
    """How far the log's clock goes on while nothing comes: three quarters of the horizon after the newest record.

    The last quarter is for the lag of what comes then.
    """

    def __init__(self, horizon_us: int) -> None:
        self._most_ms = horizon_us * 3 // 4 // US_PER_MS
        self._heard_ms, self._heard_at_s, self._shown_ms = -1, 0.0, -1
        self._is_known = False  # whether a record was heard, and no beacon of another writer or of an earlier run

    @property
    def heard_ms(self) -> int:
        """The newest log time that no silence has moved on, as far as it is known."""
        return self._heard_ms

    def clock_ms(self, newest_ms: int, now_ms: int, at_s: float, heard_by: Callable[[], int | None]) -> int:
        """The clock for the topic's newest log time, what beacons said included.

        at_s: a time that never goes back. heard_by: what its writer had heard, if the newest one is a beacon's.

        >>> silence = Silence(horizon_us=120_000_000)
        >>> looks = (5_000, 0.0), (5_000, 0.5), (5_000, 10.0), (15_000, 500.0), (95_001, 501.0)
        >>> [silence.clock_ms(newest, 1_000_000, at, lambda: None) for newest, at in looks]
        [5000, 5000, 15000, 95000, 95001]
        """
        is_first = self._shown_ms < 0
        if newest_ms > self._shown_ms:
            self._heard_ms, self._heard_at_s, self._is_known = newest_ms, at_s, False
        if not self._is_known and (is_first or at_s - self._heard_at_s > _SILENT_S):
            before_ms = heard_by()
            if before_ms is not None and before_ms < self._heard_ms:
                self._heard_at_s -= (self._heard_ms - before_ms) / MS_PER_S
                self._heard_ms = before_ms
            self._is_known = True
        silent_s = at_s - self._heard_at_s
        on_ms = min(round(silent_s * MS_PER_S), self._most_ms) if silent_s > _SILENT_S else 0
        self._shown_ms = max(newest_ms, min(self._heard_ms + on_ms, now_ms))
        return self._shown_ms


class Beacons:
    """Writes beacons to the silent partitions of a topic while it is entered.

    horizon_us: of the job that reads them, the log lag above which an event is late. `say` is told why they cannot be
    written, once for each reason.
    """

    def __init__(
        self,
        bootstrap_servers: Brokers,
        topic: str,
        horizon_us: int = CellConfig.horizon_us,
        say: Callable[[str], None] = _LOG.warning,
    ) -> None:
        self._log, self._silence = Log(bootstrap_servers, topic), Silence(horizon_us)
        self._say, self._said = say, set[str]()
        self._producer = Producer(
            {
                **client_settings(bootstrap_servers),
                "acks": "all",
                "linger.ms": 0,
                "message.timeout.ms": 10_000,  # by then the next ones are due
                "on_delivery": self._delivered,
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

    def send(self) -> int:
        """One round, to the silent partitions: the number of beacons sent."""
        times_ms, now_ms = self._log.newest_ms(), time.time_ns() // 1_000_000
        newest_ms = newest(times_ms, now_ms)
        if newest_ms < 0:
            return 0
        clock_ms = self._silence.clock_ms(newest_ms, now_ms, time.monotonic(), lambda: self._heard_by(newest_ms))
        heard = str(self._silence.heard_ms).encode()
        silent = silent_partitions(times_ms, clock_ms)
        for partition in silent:
            self._producer.produce(
                self._log.topic, None, _KEY, partition, timestamp=clock_ms, headers=[(BEACON_HEADER, heard)]
            )
        self._producer.flush(10)
        return len(silent)

    def _delivered(self, error: KafkaError | None, _: Message) -> None:
        if error is not None and error.name() not in self._said:
            self._said.add(error.name())
            self._say(
                f"beacons cannot be written to {self._log.topic}: {error.str()}; a silent partition then holds back "
                "bars and files: allow the writing, or start with --no-beacons"
            )

    def _heard_by(self, newest_ms: int) -> int | None:
        """What the writer of the topic's newest record had heard, if it is a beacon of today's form."""
        headers = self._log.newest_headers(newest_ms)
        said = next((value for key, value in headers if key == BEACON_HEADER), None) or b""
        return int(said) if said.isdigit() and len(said) == _MS_DIGITS else None

    def _run(self) -> None:
        while not self._stop.wait(_EVERY_S):
            try:
                self.send()
            except (KafkaException, LogError):
                continue  # the broker is away: its clients retry, and so does the next round
