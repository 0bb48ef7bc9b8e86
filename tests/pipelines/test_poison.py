"""Poison between good events, on real Kafka: live on Flink and replayed, equal, with every record accounted for."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from runners.compare import read_dataset
from runners.flink_rest import job_of, restarts_of
from runners.live import running
from runners.log import Log
from runners.replay import replay
from runners.stack import Endpoints
from schemas import avro
from tests import live
from tests.conftest import TopicFactory
from tests.poisons import COPY, LATE, PARTITIONS, POISONS, TOPIC_CONFIG, UNIQUE, Sent, publish
from tests.testing import place_of
from transforms.datasets import EVENTS, LATE_EVENTS, REJECTS
from transforms.topics import TopicNames

pytestmark = pytest.mark.slow

TIMEOUT_S = 600.0


def assert_accounted(root: Path, sent: Sent) -> None:
    """Each record is where it belongs, once; and in = unique + copies + late + rejects."""
    tables = {dataset.name: read_dataset(root, dataset) for dataset in (EVENTS, LATE_EVENTS, REJECTS)}
    rejects = tables["rejects"].select(["partition", "offset", "reason"]).to_pylist()
    assert {place_of(row): row["reason"] for row in rejects} == sent.refused()
    events = tables["events"].select(["partition", "offset", "copies"]).to_pylist()
    copies = sorted(place_of(copy) for row in events for copy in row["copies"])
    late = sorted(place_of(row) for row in tables["late"].select(["partition", "offset"]).to_pylist())
    assert (sorted(map(place_of, events)), copies, late) == (
        sent.those(UNIQUE),
        sent.those(COPY),
        sent.those(LATE),
    )
    assert len(events) + len(copies) + len(late) + len(rejects) == len(sent.places)


def assert_on_topic(servers: str, prefix: str, root: Path) -> None:
    """Every reject is on its topic too, whole or without what the detail names."""
    whole = {place_of(row): row for row in read_dataset(root, REJECTS).to_pylist()}
    on_topic = [avro.decode(m.value())[1] for m in live.records(servers, TopicNames(prefix).rejects)]
    assert sorted(map(place_of, on_topic)) == sorted(whole)
    for row in on_topic:
        known = whole[place_of(row)]
        left_out = [text.partition(" ")[0] for text in row["detail"].split(" in the files alone; ")[:-1]]
        assert all(row[name] == known[name] for name in ("key", "value", "headers") if name not in left_out)


@pytest.mark.parametrize(
    ("kinds", "count", "percent"),
    [([kind], 3_000, 3.0) for kind in POISONS] + [(list(POISONS), 200_000, 1.0)],
    ids=[*(kind.replace(" ", "-") for kind in POISONS), "all-at-once"],
)
def test_poison_stops_nothing_and_is_found_again_live_and_replayed(
    stack: Endpoints, topic: TopicFactory, tmp_path: Path, kinds: list[str], count: int, percent: float
) -> None:
    servers, raw = stack.bootstrap_servers, topic(PARTITIONS, TOPIC_CONFIG, "raw")
    sent = publish(servers, raw, count, kinds, percent)
    np.testing.assert_array_equal(live.places(*zip(*sent.places, strict=True)), live.places_in_log(servers, raw))
    live.end(servers, raw, sent.newest_us + 2 * live.HOUR_US)
    options = replace(live.options(stack, topic, raw, tmp_path / "live"), checkpoint_ms=2_000)
    with running(stack, options) as job:
        live.wait_settled(stack, options, len(sent.places), sent.newest_us + live.HOUR_US, TIMEOUT_S)
        ran = job_of(stack.flink_rest, options.group)
        assert ran is not None
        assert restarts_of(stack.flink_rest, ran) == 0
        job.stop(tmp_path / "savepoints")
    replay(servers, Log(servers, raw).freeze(), tmp_path / "replay")
    assert live.sums(tmp_path / "live") == live.sums(tmp_path / "replay")
    assert_accounted(tmp_path / "live", sent)
    assert_on_topic(servers, options.outputs.topic_prefix, tmp_path / "live")
