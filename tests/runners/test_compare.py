"""Sessions at the edges of what a replay covers: what is not final in both runs makes no difference."""

from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.options import MarketDataConfig
from runners.compare import CompareError, compare
from schemas.units import US_PER_S
from tests.testing import Log, raw_batch, run, trade
from transforms.batches import RawBatch
from transforms.read_offsets import Manifest, Stretch

GAP_S = 8
PLAIN = MarketDataConfig(intervals_s=(60,))
CONFIG = replace(PLAIN, session_gap_s=GAP_S)
SECONDS = [*range(0, 60, 3), *range(80, 200, 7), 260, 300, 305, *range(400, 470, 9), 900, 901]  # 13 sessions of A
TRADES = sorted([*((second, "A") for second in SECONDS), (88, "B")])


@pytest.fixture(scope="module")
def log() -> Log:
    log = Log()
    for second, symbol in TRADES:
        log.add(trade(second * US_PER_S, symbol=symbol, trade_id=str(second)))
    return log


@pytest.fixture(scope="module")
def whole(log: Log, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(log.batches(), tmp_path_factory.mktemp("whole"), CONFIG).root


@pytest.fixture(scope="module")
def plain(log: Log, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(log.batches(), tmp_path_factory.mktemp("plain"), PLAIN).root


def stretch(log: Log, start: int, stop: int) -> tuple[Manifest, list[RawBatch]]:
    records = log.records[start:stop]
    oldest_us = records[0].log_time_us if start else 0
    manifest = Manifest((Stretch(log.topic, 0, start, stop),), oldest_us, records[-1].log_time_us)
    return manifest, [raw_batch(records)]


@pytest.mark.parametrize(
    ("start", "stop", "compared"),
    [
        (0, len(TRADES), 13),  # all but the last, which no live run has published when the log ends
        (0, len(TRADES) - 2, 3),  # the log ends at 463 s
        (3, len(TRADES), 12),  # it begins within the first session
        (22, len(TRADES), 10),  # with B: A traded a second before, and 6 s after
        (11, 42, 0),
    ],
)
def test_a_session_that_an_edge_cuts_makes_no_difference(
    log: Log, whole: Path, plain: Path, tmp_path: Path, start: int, stop: int, compared: int
) -> None:
    manifest, batches = stretch(log, start, stop)
    again = run(batches, tmp_path, CONFIG).root
    verdicts = compare(whole, again, manifest, CONFIG.cell.grace_us, *CONFIG.sessions)
    assert [verdict.difference for verdict in verdicts] == [None] * 5
    others = compare(plain, plain, manifest, PLAIN.cell.grace_us)[2].live_rows
    assert verdicts[2].live_rows - others == compared


def test_a_session_that_differs_is_named(log: Log, whole: Path, tmp_path: Path) -> None:
    manifest, batches = stretch(log, 0, len(TRADES))
    other = run(batches, tmp_path, replace(CONFIG, session_gap_s=GAP_S - 2)).root
    stats = compare(whole, other, manifest, CONFIG.cell.grace_us, *CONFIG.sessions)[2]
    assert stats.difference is not None
    assert "kind=session" in stats.difference


def test_sessions_are_not_compared_without_their_gap(log: Log, whole: Path) -> None:
    with pytest.raises(CompareError, match="name --session-gap-s as both runs had it"):
        compare(whole, whole, stretch(log, 0, len(TRADES))[0], CONFIG.cell.grace_us)
