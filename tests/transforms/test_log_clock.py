"""KafkaIO's clock of a partition, in the packaged Java: what the log says, and the wall clock only without beacons."""

import subprocess

import pytest

from tests import java_main

NONE = -(2**63 // 1_000)  # Beam's beginning of time, ms
NO_TIME = -1


@pytest.fixture(scope="module")
def java(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command that tells a clock what came."""
    return java_main.command(tmp_path_factory.mktemp("java"), "horizon.ToldClock")


def shown(java: list[str], has_beacons: bool, before_ms: int | None, told: list[str]) -> list[int]:
    """What the clock shows after each."""
    arguments = [str(has_beacons).lower(), "none" if before_ms is None else str(before_ms)]
    done = subprocess.run([*java, *arguments], input="\n".join(told), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return [int(line) for line in done.stdout.split()]


def test_clock_is_the_newest_log_time_and_stands_when_the_partition_is_drained(java: list[str]) -> None:
    told = ["block 5000", "block 7000", "block 6000", f"block {NO_TIME}", "ask 3 90000", "ask 0 90000", "block 7001"]
    assert shown(java, True, None, told) == [5_000, 7_000, 7_000, 7_000, 7_000, 7_000, 7_001]


def test_clock_goes_on_from_the_savepoints(java: list[str]) -> None:
    assert shown(java, True, 8_000, ["ask 0 90000", "block 7000", "block 9000"]) == [8_000, 8_000, 9_000]


@pytest.mark.parametrize("has_beacons", [True, False])
def test_partition_that_never_gave_a_log_time_has_no_clock(java: list[str], has_beacons: bool) -> None:
    assert shown(java, has_beacons, None, ["ask 0 90000", f"block {NO_TIME}", "ask 0 90000"]) == [NONE] * 3


def test_without_beacons_a_drained_partition_goes_on_with_the_wall_clock_and_never_back(java: list[str]) -> None:
    told = ["block 5000", "ask 1 90000", "ask -1 90000", "ask 0 90000", "block 6000", "ask 0 80000", "block 91000"]
    assert shown(java, False, None, told) == [5_000, 5_000, 5_000, 90_000, 90_000, 90_000, 91_000]
