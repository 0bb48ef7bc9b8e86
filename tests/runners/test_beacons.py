"""What beacons say: the topic's newest log time, but for what a clock that runs ahead has dated."""

import re
import time
from collections.abc import Mapping
from typing import Any

import pytest

from runners import beacons
from runners.beacons import Beacons, Silence, newest, silent_partitions
from runners.job_numbers import newest_ms
from runners.log import Log
from runners.publish import PublishBatch, publish_batches
from runners.stack import Endpoints
from schemas.units import US_PER_S
from tests.conftest import TopicFactory
from tests.wire import WireRecord, send

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
        ({0: -(2**62), 1: None, 2: 10}, 10, [0, 1]),  # nanoseconds sent for milliseconds are no clock
        ({0: None, 1: None}, None, []),
        ({}, None, []),
    ],
)
def test_a_beacon_carries_the_newest_log_time_that_no_clock_ahead_has_set(
    behind_ms: Mapping[int, int | None], newest_behind_ms: int | None, silent: list[int]
) -> None:
    times = {p: -1 if by is None else NOW_MS - by for p, by in behind_ms.items()}
    clock_ms = -1 if newest_behind_ms is None else NOW_MS - newest_behind_ms
    assert newest(times, NOW_MS) == clock_ms
    assert clock_ms < 0 or silent_partitions(times, clock_ms) == silent


def shown(looks: list[tuple[float, int]], heard_ms: int | None = None) -> list[int]:
    """The clock at each look (at so many s, with the newest log time so many ms after an old one), as ms after that.

    heard_ms: what the newest record, a beacon, says of what its writer heard.
    """
    silence, start_ms = Silence(120 * US_PER_S), NOW_MS - 3_600_000
    heard = None if heard_ms is None else start_ms + heard_ms
    return [
        silence.clock_ms(start_ms + after_ms, NOW_MS + round(1_000 * at_s), at_s, lambda: heard) - start_ms
        for at_s, after_ms in looks
    ]


def test_in_a_silence_the_clock_goes_on_at_the_pace_of_this_machines_and_no_further_than_leaves_room_for_lag() -> None:
    looks = [(0.0, 0), (0.9, 0), (2.0, 0), (30.0, 2_000), (89.0, 30_000), (95.0, 89_000), (9_999.0, 90_000)]
    assert shown(looks) == [0, 0, 2_000, 30_000, 89_000, 90_000, 90_000]


def test_what_comes_ends_the_silence_also_when_it_is_older_than_the_clock_that_was_said() -> None:
    assert shown([(0.0, 0), (60.0, 0), (60.3, 60_000), (61.0, 60_500), (61.5, 60_500)])[-2:] == [60_500, 60_500]
    # of partitions that are behind: the newest log time is still what was said
    assert shown([(0.0, 0), (60.0, 0), (61.0, 60_000)])[-1] == 61_000


def test_the_clock_never_passes_this_machines_though_that_is_set_back() -> None:
    silence = Silence(120 * US_PER_S)
    assert silence.clock_ms(NOW_MS, NOW_MS, 0.0, lambda: None) == NOW_MS
    shown = [silence.clock_ms(NOW_MS, NOW_MS + late, 50.0, lambda: None) for late in (-7_000, 20_000)]
    assert shown == [NOW_MS, NOW_MS + 20_000]


def test_who_starts_in_a_silence_goes_on_from_where_another_has_come_to_and_no_further() -> None:
    looks = [(0.0, 50_000), (1.0, 50_000), (2.0, 51_000), (500.0, 52_000)]
    assert shown(looks, heard_ms=0) == [50_000, 51_000, 52_000, 90_000]
    assert shown([(0.0, 90_000), (500.0, 90_000)], heard_ms=0) == [90_000, 90_000]


def test_two_writers_do_not_move_each_other_on() -> None:
    silences, start_ms = [Silence(120 * US_PER_S), Silence(120 * US_PER_S)], NOW_MS - 3_600_000
    newest_ms, heard = start_ms, list[int]()
    for look in range(2_000):  # ten minutes
        one = silences[look % 2]
        before_ms = newest_ms
        newest_ms = one.clock_ms(before_ms, NOW_MS, look * 0.3, lambda: heard[-1] if heard else None)
        if newest_ms > before_ms:
            heard.append(one.heard_ms)
    assert start_ms + 90_000 <= newest_ms <= start_ms + 92_000


def test_steady_records_are_no_silence() -> None:
    assert shown([(0.3 * look, 300 * look) for look in range(20)]) == [300 * look for look in range(20)]


def test_one_record_dated_far_ahead_dates_no_other_partition(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[int, int]] = []

    class Broker:
        """Twelve partitions; a second after each other's newest record, and the fourth dated 50 minutes ahead."""

        topic = "md.events.raw"

        def __init__(self, *_: Any) -> None: ...

        def newest_headers(self, log_time_ms: int) -> list[Any]:
            return []

        def newest_ms(self) -> dict[int, int]:
            return {p: NOW_MS - 1_000 * p - 1_000 for p in range(12)} | {3: NOW_MS + 50 * 60_000}

        def produce(self, topic: str, value: None, key: bytes, partition: int, timestamp: int, headers: Any) -> None:
            sent.append((partition, timestamp))

        def flush(self, timeout: float) -> int:
            return 0

    monkeypatch.setattr(beacons, "Log", Broker)
    monkeypatch.setattr(beacons, "Producer", Broker)
    monkeypatch.setattr(beacons.time, "time_ns", lambda: NOW_MS * 1_000_000)
    assert Beacons("", "md.events.raw").send() == 10
    assert sent == [(p, NOW_MS - 1_000) for p in range(12) if p not in (0, 3)]
    monkeypatch.setattr(Broker, "newest_ms", lambda _: {0: -1, 1: -1})
    assert Beacons("", "md.events.raw").send() == 0


def test_beacons_that_a_broker_refuses_are_told_once_with_the_way_out(stack: Endpoints, topic: TopicFactory) -> None:
    name, said = topic(2), list[str]()
    record = PublishBatch([None], [b""], [time.time_ns() // 1_000_000])
    publish_batches(stack.bootstrap_servers, name, [record], partition=0)
    topic.create_named(name, 2, {"max.message.bytes": "20"})  # smaller than any beacon
    beacons = Beacons(stack.bootstrap_servers, name, say=said.append)
    assert [beacons.send() for _ in range(3)] == [1] * 3
    assert len(said) == 1
    assert re.search(rf"cannot be written to {name}: .*; a silent partition .* --no-beacons", said[0])


def test_a_compacted_topic_takes_beacons(stack: Endpoints, topic: TopicFactory) -> None:
    name, said = topic(2, {"cleanup.policy": "compact"}), list[str]()
    now_ms = time.time_ns() // 1_000_000
    publish_batches(stack.bootstrap_servers, name, [PublishBatch([b"key"], [b""], [now_ms])], partition=0)
    beacons = Beacons(stack.bootstrap_servers, name, say=said.append)
    assert (beacons.send(), said) == (1, [])
    assert Log(stack.bootstrap_servers, name).newest_ms() == {0: now_ms, 1: now_ms}


@pytest.mark.parametrize("header", [b"\xff\xfe", b"horizon-beacon"], ids=["no UTF-8", "digits without end"])
def test_beacons_go_on_behind_a_record_of_any_bytes(stack: Endpoints, topic: TopicFactory, header: bytes) -> None:
    """A writer's thread that dies of a header holds up the job's clock for good."""
    name, now_ms = topic(partitions=3), time.time_ns() // 1_000_000
    send(stack.bootstrap_servers, name, 1, [WireRecord(None, b"k", [(header, b"9" * 5_000)], now_ms)])
    with Beacons(stack.bootstrap_servers, name) as written:
        deadline = time.monotonic() + 20
        while min(Log(stack.bootstrap_servers, name).newest_ms().values()) < now_ms:
            assert time.monotonic() < deadline, "no beacons come"
            time.sleep(0.2)
        assert written._thread.is_alive()


def test_a_log_time_in_a_wrong_unit_hides_the_newest_of_no_partition(stack: Endpoints, topic: TopicFactory) -> None:
    name = topic(3, {"retention.ms": "-1", "message.timestamp.after.max.ms": str(2**63 - 1)})
    for home, times_ms in enumerate([[NOW_MS, NOW_MS + 5], [NOW_MS * 1_000, NOW_MS + 7], [NOW_MS, NOW_MS * 10**6]]):
        send(stack.bootstrap_servers, name, home, [WireRecord(b"v", time_ms=time_ms) for time_ms in times_ms])
    assert newest_ms(Log(stack.bootstrap_servers, name)) == {0: NOW_MS + 5, 1: NOW_MS + 7, 2: -1}
