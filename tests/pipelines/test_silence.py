"""Silence on the real stack: of all partitions for a while, and of eleven in twelve without beacons."""

import time
from dataclasses import replace
from pathlib import Path

import pytest

from runners.beacons import Beacons
from runners.live import LiveOptions, running
from runners.log import Log
from runners.simulate import MarketConfig
from runners.stack import Endpoints
from schemas.bar import BAR
from schemas.newest import newest
from tests import live, proof
from tests.conftest import TopicFactory
from transforms.topics import TopicNames

pytestmark = pytest.mark.slow

TIMEOUT_S = 180.0
SILENCE_S = 70.0  # the last minute with trades ends within it
MARKET = MarketConfig(seed=51, rate=1_000, count=15_000)


def trades_out(stack: Endpoints, options: LiveOptions, interval_s: int) -> int:
    """Trades in the bars that are out, of each bar the highest version."""
    return sum(bar["trade_count"] for bar in newest(live.bars_out(stack, options, interval_s), BAR.key).values())


def test_bars_of_the_time_before_a_silence_come_out_in_it_and_what_follows_is_right(
    stack: Endpoints, topic: TopicFactory, tmp_path: Path
) -> None:
    raw, servers = topic(prefix="raw"), stack.bootstrap_servers
    options = live.options(stack, topic, raw, tmp_path / "live")
    said: list[str] = []
    with running(stack, options) as job, Beacons(servers, raw):
        known = live.publish_market(servers, raw, MARKET, time.time_ns() // 1_000, paced=True)
        silent_until = time.monotonic() + SILENCE_S
        trades, waiting = known.truth.trades, {1, 10, 60}
        while time.monotonic() < silent_until:
            said += live.findings(stack, options)
            waiting -= {interval_s for interval_s in waiting if trades_out(stack, options, interval_s) == trades}
            time.sleep(1.0)
        assert waiting == set(), f"bars of these intervals are not all out after {SILENCE_S:.0f} s of silence"
        assert said == []
        live.publish_market(servers, raw, replace(MARKET, seed=52), time.time_ns() // 1_000, paced=True, known=known)
        live.wait_settled(stack, options, known.truth.records, known.newest_us, TIMEOUT_S)
        assert live.findings(stack, options) == []
        job.stop(tmp_path / "savepoints")
    proof.assert_every_record_once(stack, raw, tmp_path / "live", known)
    proof.assert_replay_equals(stack, raw, tmp_path / "live", tmp_path / "replay")
    proof.assert_true_bars(tmp_path / "replay", known)


def test_status_names_eleven_empty_partitions_and_beacons_bring_what_waited_for_them(
    stack: Endpoints, topic: TopicFactory, tmp_path: Path
) -> None:
    raw, servers = topic(prefix="raw"), stack.bootstrap_servers
    options = live.options(stack, topic, raw, tmp_path / "live")
    known = live.publish_market(servers, raw, MARKET, time.time_ns() // 1_000 - 20_000_000, partition=5)
    empty = "partitions 0, 1, 2, 3, 4, 6 and 5 more never held a record and no beacons come: the job's clock waits"
    uniques = Log(servers, TopicNames(options.outputs.topic_prefix).unique)
    with running(stack, options) as job:
        live.wait_until(lambda: sum(uniques.latest().values()) == known.truth.unique, TIMEOUT_S, "events are missing")
        live.wait_until(lambda: any(said.startswith(empty) for said in live.findings(stack, options)), 60, "not named")
        assert not any(live.bars_out(stack, options, interval_s) for interval_s in live.INTERVALS_S)
        with Beacons(servers, raw):
            live.wait_settled(stack, options, known.truth.records, known.newest_us, TIMEOUT_S)
        assert trades_out(stack, options, 1) == known.truth.trades
        live.wait_until(lambda: live.findings(stack, options) == [], 60, "something is still found")
        job.stop(tmp_path / "savepoints")
    proof.assert_every_record_once(stack, raw, tmp_path / "live", known)
    proof.assert_replay_equals(stack, raw, tmp_path / "live", tmp_path / "replay")
    proof.assert_true_bars(tmp_path / "replay", known)
