"""The shape of the graph: its step labels, which a running stream depends on, and a flow that fits one screen."""

import ast
import inspect
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from pipelines.market_data import build
from pipelines.options import ConfigError, MarketDataConfig
from pipelines.outputs import Outputs, write
from runners.direct import FLAGS
from tests.testing import config_with
from transforms.batches import RawBatch

LABELS = Path(__file__).parents[1] / "golden" / "market_data.labels"


def whole_graph(outputs: Outputs, config: MarketDataConfig | None = None) -> beam.Pipeline:
    """build + write over no records."""
    pipeline = beam.Pipeline(options=PipelineOptions(FLAGS))
    raw = pipeline | "Raw" >> beam.Create([""]) | "Feed" >> beam.Map(lambda _: None).with_output_types(RawBatch)
    config = config or MarketDataConfig()
    write(build(raw, config, outputs.files_root), outputs, config.cell.grace_us)
    return pipeline


def labels(outputs: Outputs, config: MarketDataConfig | None = None) -> list[str]:
    """Full label of every step of build + write, in the order of the graph."""
    transforms = whole_graph(outputs, config).to_runner_api().components.transforms.values()
    # only the project's own: what Beam's composites hold inside is Beam's to change
    names = {t.unique_name for t in transforms}
    own = [name for name in names if name.split("/")[0] not in ("Raw", "Feed") and not name.startswith("ref_")]
    return sorted({name for name in own if _parent(name) in names or "/" not in name})


def _parent(name: str) -> str:
    return name.rpartition("/")[0]


def test_labels_of_all_steps_are_as_recorded() -> None:
    """A renamed label loses the state of a running stream: change the file only with a note in the changelog."""
    found = labels(Outputs(files_root="files", bootstrap_servers="127.0.0.1:9"))
    assert found == LABELS.read_text().splitlines()


def test_sessions_are_one_step_more_and_rename_no_other() -> None:
    outputs = Outputs(files_root="files", bootstrap_servers="127.0.0.1:9")
    found = labels(outputs, MarketDataConfig(session_gap_s=30))
    assert [name for name in found if name.split("/")[0] != "FoldSessions"] == LABELS.read_text().splitlines()
    assert {"FoldSessions", "FoldSessions/JoinSeconds/Fold", "FoldSessions/Close"} <= {*found}


def test_outputs_left_out_are_not_in_the_graph() -> None:
    tops = {name.split("/")[0] for name in labels(Outputs(files_root="files"))}
    assert not any(name.startswith("Publish") for name in tops)
    tops = {name.split("/")[0] for name in labels(Outputs(bootstrap_servers="127.0.0.1:9"))}
    assert not any(name.startswith("Write") for name in tops)


def test_no_stage_of_the_direct_runner_has_two_timers_of_one_name() -> None:
    """It would give a step the other's timers: bars that never come, without a word (docs/facts.md)."""
    proto = whole_graph(Outputs(files_root="files"), MarketDataConfig(session_gap_s=30)).to_runner_api()
    _, stages = FnApiRunner().create_stages(proto)
    timers = [sorted(name for _, name in stage.timers) for stage in stages]
    assert sum(map(len, timers)) >= 15
    assert [names for names in timers if len(set(names)) < len(names)] == []


def test_build_fits_one_screen_without_branches() -> None:
    source = inspect.getsource(build)
    assert len(source.splitlines()) <= 25
    assert not [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.If | ast.IfExp | ast.Try)]


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        ({"grace_us": -1}, "grace must be >= 0, was -1 us"),
        ({"horizon_us": 500_000}, "horizon must exceed grace"),
        ({"shards": 0}, "shards must be 1 to 1024, was 0"),
        ({"shards": 1025}, "shards must be 1 to 1024, was 1025"),
    ],
)
def test_options_that_cannot_be_are_refused_by_name(cell: dict[str, int], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        config_with(**cell)


@pytest.mark.parametrize("interval_s", [0, 1, -60, 7, 86_401])
def test_intervals_that_do_not_divide_a_day_are_refused(interval_s: int) -> None:
    with pytest.raises(ConfigError, match=f"was {interval_s} s"):
        MarketDataConfig(intervals_s=(interval_s,))


@pytest.mark.parametrize("gap_s", [0, -30, 86_401])
def test_session_gaps_beyond_a_day_are_refused(gap_s: int) -> None:
    with pytest.raises(ConfigError, match=f"session gap must be 1 to 86400 s, was {gap_s} s"):
        MarketDataConfig(session_gap_s=gap_s)
