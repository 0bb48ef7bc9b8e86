"""What beacons say: the topic's newest log time, but for what a clock that runs ahead has dated."""

from collections.abc import Mapping
from typing import Any

import pytest

from runners import beacons
from runners.beacons import Beacons, silent_partitions

NOW_MS = 1_700_000_000_000


@pytest.mark.parametrize(
    ("behind_ms", "newest_behind_ms", "silent"),
    [
        ({0: 0, 1: 300, 2: 301, 3: 60_000}, 0, [2, 3]),
        ({0: 20_000, 1: 25_000, 2: None}, 20_000, [1, 2]),  # never the wall clock
        ({0: 20_000, 1: 25_000, 2: 30_000, 3: -50 * 60_000}, 20_000, [1, 2]),  # one clock 50 minutes ahead
        ({0: 20_000, 1: -5_001}, 20_000, []),
        ({0: 20_000, 1: -5_000}, 0, [0]),  # a machine's clock may be off by so much
        ({0: 20_000, 1: -100}, 0, [0]),
        ({0: -50 * 60_000, 1: None}, 0, [1]),  # this machine's own clock may be the wrong one: the job must go on
        ({0: -(2**62), 1: None, 2: 10}, 10, [1]),
        ({0: None, 1: None}, None, []),
        ({}, None, []),
    ],
)
def test_a_beacon_carries_the_newest_log_time_that_no_clock_ahead_has_set(
    behind_ms: Mapping[int, int | None], newest_behind_ms: int | None, silent: list[int]
) -> None:
    times = {p: -1 if by is None else NOW_MS - by for p, by in behind_ms.items()}
    newest = -1 if newest_behind_ms is None else NOW_MS - newest_behind_ms
    assert silent_partitions(times, NOW_MS) == (newest, silent)
    everywhere = [] if newest < 0 else list(times)
    assert silent_partitions(times, NOW_MS, everywhere=True) == (newest, everywhere)


def test_one_record_dated_far_ahead_dates_no_other_partition(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[int, int]] = []

    class Broker:
        """Twelve partitions; a second after each other's newest record, and the fourth dated 50 minutes ahead."""

        topic = "md.events.raw"

        def __init__(self, *_: Any) -> None: ...

        def newest_ms(self) -> dict[int, int]:
            return {p: NOW_MS - 1_000 * p - 1_000 for p in range(12)} | {3: NOW_MS + 50 * 60_000}

        def produce(self, topic: str, key: None, value: None, partition: int, timestamp: int, headers: Any) -> None:
            sent.append((partition, timestamp))

        def flush(self, timeout: float) -> int:
            return 0

    monkeypatch.setattr(beacons, "Log", Broker)
    monkeypatch.setattr(beacons, "Producer", Broker)
    monkeypatch.setattr(beacons.time, "time_ns", lambda: NOW_MS * 1_000_000)
    assert Beacons("", "md.events.raw").send() == 10
    assert sent == [(p, NOW_MS - 1_000) for p in range(12) if p not in (0, 3)]
