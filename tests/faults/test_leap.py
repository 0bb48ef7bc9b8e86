"""A log whose clock leaps: hours without a record, and a checkpoint just when everything that waited comes out."""

from dataclasses import replace
from pathlib import Path

import pytest

from runners.live import running
from runners.log import Log
from runners.replay import replay
from runners.simulate import MarketConfig
from runners.stack import Endpoints
from tests import live
from tests.conftest import TopicFactory


@pytest.mark.slow
def test_bars_that_come_out_during_a_checkpoint_are_in_the_larger_bars(
    stack: Endpoints, topic: TopicFactory, tmp_path: Path
) -> None:
    raw = topic(config={"retention.ms": "-1"}, prefix="raw")
    known = live.publish_ended(stack.bootstrap_servers, raw, MarketConfig(seed=3, rate=1_000, count=20_000))
    options = live.options(stack, topic, raw, tmp_path / "live")
    with running(stack, replace(options, checkpoint_ms=500, bundle_ms=3_000)) as job:
        live.wait_until(lambda: live.is_complete(tmp_path / "live", known.truth), 90, "bars are missing", poll_s=1.0)
        job.stop(tmp_path / "savepoints")
    replay(stack.bootstrap_servers, Log(stack.bootstrap_servers, raw).freeze(), tmp_path / "replay")
    assert live.sums(tmp_path / "live") == live.sums(tmp_path / "replay")
