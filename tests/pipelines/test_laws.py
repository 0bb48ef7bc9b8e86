"""Every verdict is a function of the log alone: laws of the whole graph, over any log and any way to read it.

The oracle is told the log, never the reading.
"""

import random
import struct
from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta
from operator import itemgetter
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from pipelines.options import MarketDataConfig
from schemas.bar import BAR
from schemas.newest import newest
from schemas.stat import STAT
from schemas.units import US_PER_S
from tests.expectations import assert_as_expected, assert_rejects, assert_same_rows, expected_of
from tests.live_clock import Played, play
from tests.oracle import expect, utc
from tests.readings import PARTITIONS, garbage, in_step, logs, reading
from tests.testing import Log, Written, place_of, places_written, run
from transforms.dedup import DECIDED

LIVE = MarketDataConfig()
CONFIG = replace(LIVE, session_gap_s=5)
SIDES = {None: 0, "BUY": 1, "SELL": 2}
# a run takes half a second, with a clock two or three; what fails is shrunk by the slow ones
few = settings(max_examples=6, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
many = settings(max_examples=60, deadline=None)
dices = st.randoms(use_true_random=False)
offsets_of = st.fixed_dictionaries({partition: st.integers(0, 12) for partition in range(PARTITIONS)})
Roots = pytest.TempPathFactory


def calm(log: Log, roots: Roots) -> Written:
    """The log as one batch, in the order in which it was written; held against the oracle."""
    written = run(log.batches(), roots.mktemp("calm"), CONFIG)
    expected = expected_of(log, CONFIG)
    assert_as_expected(written, expected, CONFIG.session_gap_s)
    assert_rejects(written, log, garbage(log) | dict.fromkeys(expected.conflicts, "identity_conflict"))
    assert places_written(written) == sorted(record.place for record in log.records)
    return written


# ---- any order between partitions, any cutting into blocks and batches, records read again -------------------------


def check_no_reading_changes_a_byte(log: Log, dice: random.Random, crashes: int, roots: Roots) -> None:
    batches = reading(log, dice, crashes=crashes)
    assert run(batches, roots.mktemp("other"), CONFIG).files() == calm(log, roots).files()


@few
@given(log=logs(), dice=dices, crashes=st.integers(0, 2))
def test_no_reading_of_the_log_changes_a_byte(
    log: Log, dice: random.Random, crashes: int, tmp_path_factory: Roots
) -> None:
    check_no_reading_changes_a_byte(log, dice, crashes, tmp_path_factory)


# ---- a run with a clock, killed and begun anew over its files ------------------------------------------------------


def check_no_kill_changes_a_byte(log: Log, dice: random.Random, roots: Roots) -> None:
    wanted = run(log.batches(), roots.mktemp("calm"), LIVE).files()
    played = play(log, in_step(log, dice), dice, roots.mktemp("clocked"), LIVE)
    assert played.written.files() == wanted
    assert_said(played)
    assert run(reading(log, dice, crashes=1), played.killed.root, LIVE).files() == wanted


def assert_said(played: Played) -> None:
    """The highest version of each bar, stat and event that went out is the file's, in whatever order they are read."""
    for name, kinds in (("bars", BAR.key), ("stats", STAT.key)):
        said = [row for _, batch in played.said.get(name, ()) for row in batch.to_pylist()]
        key = itemgetter(*kinds)
        versions = Counter((key(row), row["version"]) for row in said)
        assert set(versions.values()) <= {1}, "a version went out twice"
        assert newest(reversed(said), kinds) == {key(row): row for row in played.written.rows(name)}
    said = []
    for _, batch in played.said.get("events", ()):
        for row in batch.rows:
            place = int(row["partition"]), int(row["offset"])
            second = int(row["event_time_us"]) // US_PER_S
            content = float(row["price"]), float(row["volume"]), int(row["side"])
            version = 2 if row["verdict"] == DECIDED else 1
            identity = struct.pack("<2Q", row["identity_hi"], row["identity_lo"])
            said.append({"key": (identity, second), "version": version, "told": (place, content)})
    rows = {(row["identity"], row["event_time"]): row for row in played.written.rows("events")}
    rows = {(identity, int(time.timestamp())): row for (identity, time), row in rows.items()}
    found = newest(reversed(said), ["key"])
    assert {key for (key,) in found} == rows.keys()
    for (key,), told in found.items():
        row, (place, content) = rows[key], told["told"]
        assert place in {place_of(row), *map(place_of, row["copies"])}
        assert content == (row["price"], row["volume"], SIDES[row["side"]])
    for name in ("late", "rejects"):
        said = [place_of(row) for batch in played.said.get(name, ()) for row in batch.to_pylist()]
        assert sorted(said) == sorted(map(place_of, played.written.rows(name)))


@few
@given(log=logs(), dice=dices)
def test_no_clock_no_bundle_and_no_kill_changes_a_byte(log: Log, dice: random.Random, tmp_path_factory: Roots) -> None:
    check_no_kill_changes_a_byte(log, dice, tmp_path_factory)


# ---- a run from the middle of the log ------------------------------------------------------------------------------


def check_run_from_any_offsets_agrees(log: Log, dice: random.Random, offsets: dict[int, int], roots: Roots) -> None:
    """A run from these offsets gives what the oracle gives for the records from there on, with the whole log's clocks.

    So it agrees with the whole run in each second and window to which no record before the offsets belongs: surely in
    those that begin more than max_ahead_us after the newest log time before the offsets, of all partitions. Late
    events and what decode and check refuse are those of the whole run from there on, all of them.
    """
    rest = [sent for sent in log.sent() if sent.offset >= offsets[sent.partition]]
    before = [sent for sent in log.sent() if sent.offset < offsets[sent.partition]]
    part = run(reading(log, dice, offsets), roots.mktemp("part"), CONFIG, log)
    expected = expect(rest, horizon_us=CONFIG.cell.horizon_us, grace_us=CONFIG.cell.grace_us)
    assert_as_expected(part, expected, CONFIG.session_gap_s)

    whole = run(log.batches(), roots.mktemp("whole"), CONFIG)
    folded = [sent for sent in before if sent.lag_us <= CONFIG.cell.horizon_us]
    newest_us = max((sent.log_time_us for sent in before), default=0)
    assert all(sent.event.timestamp <= newest_us + CONFIG.limits.max_ahead_us for sent in folded)

    def is_untouched(row: dict[str, Any], start: datetime, end: datetime) -> bool:
        """Whether no record before the offsets belongs there."""
        names = row["exchange"], row["symbol"]
        return not any(start <= utc(s.event.timestamp) < end for s in folded if s.instrument == names)

    def untouched(written: Written, name: str) -> list[dict[str, Any]]:
        if name == "late":
            return [row for row in written.rows(name) if row["offset"] >= offsets[row["partition"]]]
        if name == "events":
            seconds = [(row, row["event_time"].replace(microsecond=0)) for row in written.rows(name)]
            return [row for row, start in seconds if is_untouched(row, start, start + timedelta(seconds=1))]
        rows = [row for row in written.rows(name) if row.get("kind") != "session"]
        return [row for row in rows if is_untouched(row, row["window_start"], row["window_end"])]

    for name in ("events", "bars", "stats", "late"):
        assert untouched(part, name) == untouched(whole, name)
    later = {place: why for place, why in garbage(log).items() if place[1] >= offsets[place[0]]}
    assert_rejects(part, log, later | dict.fromkeys(expected.conflicts, "identity_conflict"))


@few
@given(log=logs(), dice=dices, offsets=offsets_of)
def test_run_from_any_offsets_agrees_with_the_whole_run(
    log: Log, dice: random.Random, offsets: dict[int, int], tmp_path_factory: Roots
) -> None:
    check_run_from_any_offsets_agrees(log, dice, offsets, tmp_path_factory)


# ---- shards --------------------------------------------------------------------------------------------------------


@few
@given(log=logs(), dice=dices, shards=st.sampled_from([1, 3, 7]))
def test_number_of_shards_changes_no_row(log: Log, dice: random.Random, shards: int, tmp_path_factory: Roots) -> None:
    split = replace(CONFIG, cell=replace(CONFIG.cell, shards=shards))
    other = run(reading(log, dice), tmp_path_factory.mktemp("split"), split)
    assert_same_rows(other, run(log.batches(), tmp_path_factory.mktemp("calm"), CONFIG))


# ---- the same over many logs ---------------------------------------------------------------------------------------


@pytest.mark.slow
@many
@given(log=logs(), dice=dices, offsets=offsets_of, crashes=st.integers(0, 2))
def test_no_reading_and_no_restart_of_many_logs_changes_what_is_written(
    log: Log, dice: random.Random, offsets: dict[int, int], crashes: int, tmp_path_factory: Roots
) -> None:
    check_no_reading_changes_a_byte(log, dice, crashes, tmp_path_factory)
    check_run_from_any_offsets_agrees(log, dice, offsets, tmp_path_factory)


@pytest.mark.slow
@many
@given(log=logs(), dice=dices)
def test_no_kill_of_many_runs_changes_a_byte(log: Log, dice: random.Random, tmp_path_factory: Roots) -> None:
    check_no_kill_changes_a_byte(log, dice, tmp_path_factory)
