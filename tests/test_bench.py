"""What the meters make of what they saw."""

import numpy as np
import pytest

from bench.against import flags
from bench.delays import by_checkpoint, by_tenth
from bench.live import Sample, figures, report

DUE = 1_700_000_000_000_000_000 + np.arange(200, dtype=np.int64) * 10_000_000  # ns; 2 s, every 10 ms
START_MS = 1_700_000_000_000


def series(seconds: int, rate: int = 1_000) -> list[Sample]:
    """A sample a second of a job that uses 10 us an event."""
    return [Sample(50.0 + at, 7 + at * rate, 3 + at * 48, {"workers": at * rate / 1e5}) for at in range(seconds + 1)]


def test_delays_are_told_by_the_tenth_of_the_second_in_which_the_record_was_due() -> None:
    lines = by_tenth(DUE, np.where(DUE % 1_000_000_000 >= 900_000_000, 80.0, 5.0))
    assert [part.split(", ")[0] for part in lines[8:]] == [
        "  due at +0.8 s: p50 5.0 ms",
        "  due at +0.9 s: p50 80.0 ms",
    ]


@pytest.mark.parametrize(("starts", "near"), [(set(), 0), ({START_MS + 1_000}, 50), ({0, START_MS - 100}, 40)])
def test_what_was_due_within_half_a_second_after_a_checkpoint_is_apart(starts: set[int], near: int) -> None:
    lines = by_checkpoint(DUE, np.ones(200), starts)
    assert lines[0].endswith(f"({near})" if near else "nothing arrived")
    assert lines[1].endswith(f"({200 - near})")


def test_rate_and_cpu_are_of_the_time_after_the_warm_up() -> None:
    slow = [Sample(at - 30.0, 7, 3, {"workers": 0.0}) for at in range(50, 80)]
    found = figures([*slow, *series(20)], warm_up=30)
    assert (found.rate, found.bars, found.seconds) == (1_000, 48, 20)
    assert found.cpu_us == pytest.approx({"workers": 10})


@pytest.mark.parametrize(("warm_up", "seconds", "word"), [(10, 60, "what there was"), (40, 60, "warm-up is in")])
def test_a_topic_that_ended_early_is_told(
    warm_up: int, seconds: int, word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report(series(30), warm_up, seconds).rate == 1_000
    told = capsys.readouterr().out
    assert "THE TOPIC ENDED 30 s after" in told
    assert word in told


def test_options_are_given_on_as_they_were_asked() -> None:
    assert flags({"warm_up": 0.0, "no_files": True, "shards": None, "files": False}) == ["--warm-up=0.0", "--no-files"]
