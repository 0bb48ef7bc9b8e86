"""A live run on the real stack held against its log, its simulator and its replay."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipelines.options import MarketDataConfig
from runners.compare import Verdict, compare, read_dataset
from runners.live import running
from runners.log import Log
from runners.replay import replay
from runners.stack import Endpoints
from tests import live
from tests.conftest import TopicFactory
from tests.simulated import Simulated
from transforms.datasets import BARS, LATE_EVENTS

TIMEOUT_S = 300.0
_PRICES = ("open", "high", "low", "close", "volume")


def run_over_ended_log(stack: Endpoints, topic: TopicFactory, raw: str, root: Path, known: Simulated) -> None:
    """A live job over a log that has ended, and all that must hold of it: see the asserts below."""
    written = root / "live"
    with running(stack, live.options(stack, topic, raw, written)) as job:
        live.wait_until(lambda: live.is_complete(written, known.truth), TIMEOUT_S, "records are missing", 1.0)
        job.stop(root / "savepoints")
    assert_every_record_once(stack, raw, written, known)
    assert_true_bars(written, known)
    replay(stack.bootstrap_servers, Log(stack.bootstrap_servers, raw).freeze(), root / "replay")
    assert live.sums(written) == live.sums(root / "replay")


def assert_every_record_once(stack: Endpoints, topic: str, root: Path, known: Simulated) -> None:
    """Every record of the topic once, the simulator's unique events, and late what is beyond the horizon alone."""
    published = live.places_in_log(stack.bootstrap_servers, topic)
    assert len(published) == known.truth.records
    np.testing.assert_array_equal(live.places_in_files(root), published)
    assert live.identities_in_files(root).equals(known.identities)
    assert read_dataset(root, LATE_EVENTS)["reason"].to_pylist() == ["beyond_horizon"] * known.truth.late


def assert_true_bars(root: Path, known: Simulated) -> None:
    """The bars of a run that closed every window are those of the simulator's unique trades."""
    bars = read_dataset(root, BARS)
    for interval_s in live.INTERVALS_S:
        true = known.bars(interval_s)
        found = bars.filter(pa.array(bars["interval_s"].to_numpy() == interval_s))
        found = found.sort_by([(name, "ascending") for name in ("exchange", "symbol", "window_start")])
        assert len(found) == len(true)
        for name in ("exchange", "symbol", "trade_count"):
            assert found[name].equals(true[name].cast(found[name].type)), (interval_s, name)
        np.testing.assert_array_equal(found["window_start"].cast(pa.int64()).to_numpy(), true["window_start"])
        for name in _PRICES:
            np.testing.assert_array_equal(_e9(found[name]), true[name], f"{name} of {interval_s} s")


def assert_replay_equals(stack: Endpoints, topic: str, root: Path, replayed: Path) -> list[Verdict]:
    """The very content that a replay of the topic's offsets gives, for the windows that closed in both."""
    manifest = Log(stack.bootstrap_servers, topic).freeze()
    replay(stack.bootstrap_servers, manifest, replayed)
    verdicts = compare(root, replayed, manifest, MarketDataConfig().cell.grace_us)
    assert [verdict.difference for verdict in verdicts] == [None] * len(verdicts)
    return verdicts


def _e9(column: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """Prices (doubles) and volumes (decimals) of at most nine places as integers."""
    if pa.types.is_floating(column.type):
        return np.rint(column.to_numpy() * 1e9).astype(np.int64)
    return np.array([int(value * 10**9) for value in column.to_pylist()], np.int64)
