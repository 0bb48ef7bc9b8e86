"""The edges of what a replay covers: what it read in part, or is not final in both runs, makes no difference."""

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipelines.options import MarketDataConfig
from runners.compare import CompareError, Verdict, compare
from schemas.units import US_PER_S
from tests.oracle import clock_of
from tests.testing import T0_US, Log, config_with, raw_batch, run, trade
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
    with pytest.raises(CompareError, match="the files hold sessions, which the options of the run do not make"):
        compare(whole, whole, stretch(log, 0, len(TRADES))[0], CONFIG.cell.grace_us)


# ---- replays that are cut: what they hold in part is not compared -----------------------------------------------


def cut(log: Log, read: dict[int, tuple[int, int]]) -> tuple[Manifest, list[RawBatch]]:
    """The manifest that Log.freeze gives for these offsets of each partition, and its records."""
    clocks = clock_of({record.place: record.log_time_us for record in log.records})

    def clock_us(partition: int, upto: int) -> int:
        return max((us for (home, offset), us in clocks.items() if home == partition and offset <= upto), default=0)

    stretches = tuple(Stretch(log.topic, p, start, stop, clock_us(p, stop)) for p, (start, stop) in read.items())
    oldest_us = max((clock_us(p, start) for p, (start, _) in read.items() if start), default=0)
    newest_us = max(clock_us(p, stop - 1) for p, (_, stop) in read.items())
    kept = [one for one in log.records if read[one.partition][0] <= one.offset < read[one.partition][1]]
    return Manifest(stretches, oldest_us, newest_us), [raw_batch(kept)]


def verdicts_of(log: Log, manifest: Manifest, batches: list[RawBatch], root: Path, **told: int) -> dict[str, Verdict]:
    live, replay = run(log.batches(), root / "live", PLAIN).root, run(batches, root / "replay", PLAIN).root
    return {verdict.dataset: verdict for verdict in compare(live, replay, manifest, PLAIN.cell.grace_us, **told)}


def rows_of(verdicts: dict[str, Verdict]) -> dict[str, int]:
    assert {name: verdict.difference for name, verdict in verdicts.items() if not verdict.equal} == {}
    return {name: verdict.live_rows for name, verdict in verdicts.items()}


def add(log: Log, at_ms: int, trade_id: str, log_ms: int | None = None, partition: int = 0, price: float = 1.0) -> None:
    time_us = None if log_ms is None else T0_US + log_ms * 1_000
    log.add(trade(at_ms * 1_000, price, trade_id=trade_id), partition=partition, log_time_us=time_us)


def test_a_second_to_which_a_late_record_behind_the_end_belongs_is_not_compared(tmp_path: Path) -> None:
    log = Log()
    add(log, 200, "1", 210, price=100.0)
    add(log, 2_000, "2", 2_010, price=101.0)
    add(log, 2_100, "3", 2_200, price=102.0)
    add(log, 500, "4", 2_400, price=99.0)
    manifest = Manifest((Stretch(log.topic, 0, 0, 3),), 0, T0_US + 2_200_000)
    verdicts = verdicts_of(log, manifest, [raw_batch(log.records[:3])], tmp_path)
    assert rows_of(verdicts) == dict.fromkeys(verdicts, 0)
    assert (verdicts["bars"].is_empty, verdicts["bars"].live_left_out) == (True, 4)


def test_uneven_ends_go_by_the_partition_that_is_read_least_far(tmp_path: Path) -> None:
    log = Log()
    for second in range(0, 500, 10):
        add(log, second * 1_000, str(second), partition=second // 10 % 2)
    verdicts = verdicts_of(log, *cut(log, {0: (0, 18), 1: (0, 24)}), tmp_path)
    assert verdicts["bars"].until_us == T0_US + 349 * US_PER_S
    assert rows_of(verdicts)["events"] == 35


def test_a_window_is_compared_once_the_clock_at_the_end_leaves_no_record_of_it_to_come(tmp_path: Path) -> None:
    log = Log()
    for second in range(0, 300, 10):
        add(log, second * 1_000, str(second))
    for number, lag_ms in enumerate((120_000, 119_999, 60_000, 120_001)):  # behind the end; the last is late
        add(log, 290_000 - lag_ms, f"late {number}", 290_000)
    manifest, batches = cut(log, {0: (0, 29)})
    verdicts = verdicts_of(log, manifest, batches, tmp_path)
    assert rows_of(verdicts)["events"] == 17
    assert verdicts["events"].until_us == T0_US + 170 * US_PER_S  # that second grew behind the end


def test_what_a_cut_replay_has_whole_is_compared(tmp_path: Path) -> None:
    log = Log()
    for second in range(0, 300, 10):
        add(log, second * 1_000, str(second))
    manifest, (batch,) = cut(log, {0: (0, 29)})
    lost = batch.take(np.delete(np.arange(len(batch)), 3))
    verdicts = verdicts_of(log, manifest, [lost], tmp_path)
    assert verdicts["events"].difference is not None
    assert verdicts["bars"].difference is not None


def test_nothing_behind_the_end_leaves_all_windows_that_are_due_in_a_file(tmp_path: Path) -> None:
    log = Log()
    for number in range(90):
        add(log, number * 1_000, str(number), partition=number % 2)
    add(log, 122_000, "far ahead of the slowest", partition=1)
    verdicts = verdicts_of(log, *cut(log, {0: (0, 45), 1: (0, 46)}), tmp_path)
    assert rows_of(verdicts)["events"] == 77
    assert (verdicts["bars"].after_us, verdicts["bars"].until_us) == (None, T0_US + 77 * US_PER_S)
    assert rows_of(verdicts)["bars"] == 77 + 7 + 1  # of 1 s, 10 s and a minute
    assert (verdicts["events"].live_left_out, verdicts["events"].replay_left_out) == (14, 14)


def test_a_start_goes_by_the_newest_log_time_before_it(tmp_path: Path) -> None:
    log = Log()
    add(log, 24_999, "ahead", 20_000)  # as far ahead of its log time as an event may be
    add(log, 15_000, "1", 16_000)  # the replay begins here
    for second in range(17, 60):
        add(log, second * 1_000, str(second))
    verdicts = verdicts_of(log, *cut(log, {0: (1, 45)}), tmp_path)
    assert verdicts["bars"].after_us == T0_US + 25_000_000
    assert rows_of(verdicts)["events"] == 22


@pytest.mark.parametrize("price", [1.0, 2.0], ids=["copy", "conflict"])
@pytest.mark.parametrize("at_ms", [95_000, 205_000], ids=["before the start", "behind the end"])
def test_an_event_is_not_compared_where_copies_of_it_may_lie_outside(tmp_path: Path, at_ms: int, price: float) -> None:
    log = Log()
    sent = sorted([*((second * 1_000, f"{second}", 1.0) for second in range(0, 300, 3)), (at_ms, "99", price)])
    for log_ms, trade_id, paid in sent:
        if trade_id == "99":
            log.add(trade(99_000_000, paid, trade_id=trade_id), log_time_us=T0_US + log_ms * 1_000)
        else:
            add(log, log_ms, trade_id, price=paid)
    start = next(n for n, one in enumerate(sent) if one[0] > 95_000) if at_ms == 95_000 else 0
    stop = next(n for n, one in enumerate(sent) if one[0] >= 205_000) if at_ms == 205_000 else len(sent)
    assert rows_of(verdicts_of(log, *cut(log, {0: (start, stop)}), tmp_path))["events"] > 10


CLOSE = config_with(grace_us=100_000, horizon_us=3 * US_PER_S, slack_us=0)


@pytest.mark.parametrize("seed", range(2))
def test_no_cut_makes_a_difference(tmp_path: Path, seed: int) -> None:
    dice, log, records = random.Random(seed), Log(), list[tuple[int, int, str, float]]()
    for number in range(600):
        at_ms = number * 100
        for _ in range(1 + (dice.random() < 0.2)):
            lag_ms = dice.choice([-4_000, 0, 0, 50, 2_500, 2_999, 3_001])
            records.append((at_ms + lag_ms, at_ms, str(number), dice.choice([1.0, 1.0, 1.0, 2.0])))
    for log_ms, at_ms, trade_id, price in sorted(records):
        add(log, at_ms, trade_id, log_ms + dice.choice([0, 0, -700]), dice.randrange(3), price)
    whole = run(log.batches(), tmp_path / "live", CLOSE).root
    for number in range(2):
        ends = {p: max(one.offset for one in log.records if one.partition == p) + 1 for p in range(3)}
        read = {p: (dice.randrange(end // 3), end - dice.randrange(end // 3)) for p, end in ends.items()}
        manifest, batches = cut(log, read)
        part = run(batches, tmp_path / f"replay-{number}", CLOSE, log).root
        verdicts = compare(whole, part, manifest, CLOSE.cell.grace_us, horizon_us=CLOSE.cell.horizon_us)
        assert {v.dataset: v.difference for v in verdicts} == dict.fromkeys(
            ("events", "bars", "stats", "late", "rejects")
        )
        assert verdicts[0].live_rows > 50
        assert verdicts[3].live_rows > 0


def test_what_retention_took_makes_no_difference_to_what_is_late_behind_it(tmp_path: Path) -> None:
    log = Log()
    add(log, 0, "the log's first", 100)
    add(log, 64_900, "ahead", 60_000)  # the newest that retention takes
    add(log, -61_000, "late by the clock of what was taken, and by its own log time", 59_500)  # the log begins here now
    add(log, -60_200, "late by the clock of what was taken alone", 59_600)
    for second in range(63, 200):
        add(log, second * 1_000, str(second))
        add(log, -100_000, f"late {second}", second * 1_000)
    end = len(log.records)
    manifest = Manifest((Stretch(log.topic, 0, 2, end, T0_US + 199_000_000),), T0_US + 59_500_000, T0_US + 199_000_000)
    live = run(log.batches(), tmp_path / "live", PLAIN).root
    replay = run([raw_batch(log.records[2:])], tmp_path / "replay", PLAIN).root
    verdicts = {verdict.dataset: verdict for verdict in compare(live, replay, manifest, PLAIN.cell.grace_us)}
    assert rows_of(verdicts)["late"] == 137
    assert verdicts["late"].live_left_out > verdicts["late"].replay_left_out > 0
    assert verdicts["bars"].after_us == T0_US + 65_000_000
