"""The shape of the graph: its step labels, which a running stream depends on, and a flow that fits one screen."""

import ast
import inspect
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability import common_urns
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.runners.pipeline_context import PipelineContext
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


def python_stages(pipeline: beam.Pipeline) -> list[str]:
    """The stages with Python workers that Flink would make of it: the label of the step each begins with.

    As Beam's GreedyPipelineFuser does: a step joins the stage that makes its input, a Flatten all that feed it; but a
    step with state or timers begins a stage behind an exchange, and so does whatever else reads the collection it reads
    (that is materialized) or follows what is not run by Python.
    """
    components = pipeline.to_runner_api().components
    steps = [step for step in components.transforms.values() if not step.subtransforms and step.spec.urn]
    stateful = {step.unique_name for step in steps if _is_stateful(step)}
    by_runner = {step.unique_name for step in steps if step.spec.urn in RUN_BY_FLINK}
    exchanged = {at for step in steps if step.unique_name in stateful | by_runner for at in step.inputs.values()}
    exchanged |= {at for step in steps if step.unique_name in by_runner for at in step.outputs.values()}
    return sorted(
        step.unique_name for step in steps if step.unique_name not in by_runner and exchanged & {*step.inputs.values()}
    )


RUN_BY_FLINK = {
    common_urns.primitives.IMPULSE.urn,
    common_urns.primitives.GROUP_BY_KEY.urn,
    common_urns.composites.RESHUFFLE.urn,
}


def _is_stateful(step: beam_runner_api_pb2.PTransform) -> bool:
    if step.spec.urn != common_urns.primitives.PAR_DO.urn:
        return False
    pardo = beam_runner_api_pb2.ParDoPayload.FromString(step.spec.payload)
    return bool(pardo.state_specs or pardo.timer_family_specs)


@pytest.mark.parametrize("gap_s", [None, 30])
def test_flink_makes_four_stages_of_it(gap_s: int | None) -> None:
    """Each is an exchange, and twice more the way between a Flink task and its worker, for every record."""
    everywhere = Outputs(files_root="files", bootstrap_servers="127.0.0.1:9")
    found = python_stages(whole_graph(everywhere, MarketDataConfig(session_gap_s=gap_s)))
    read, keyed = [name for name in found if name.startswith("Raw")], [n for n in found if not n.startswith("Raw")]
    assert len(read) == 1
    assert [name.split("/")[0] for name in keyed] == ["FoldCells", "FoldWindows", "WriteRefused"]


def test_nothing_that_travels_between_stages_is_pickled() -> None:
    """Whoever may write to a worker's port could run code in it then, and other versions could not read the state."""
    proto = whole_graph(Outputs(files_root="files", bootstrap_servers="127.0.0.1:9")).to_runner_api()
    keyed = [step for step in proto.components.transforms.values() if _is_stateful(step)]
    coders = PipelineContext(proto.components).coders
    found = [
        str(coders.get_by_id(proto.components.pcollections[at].coder_id))
        for step in keyed
        for at in step.inputs.values()
    ]
    assert len(found) == 3
    assert [coder for coder in found if "FastPrimitives" in coder or "Pickle" in coder] == []


def test_sessions_add_no_step() -> None:
    outputs = Outputs(files_root="files", bootstrap_servers="127.0.0.1:9")
    assert labels(outputs, MarketDataConfig(session_gap_s=30)) == LABELS.read_text().splitlines()


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
    assert sum(map(len, timers)) >= 7
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
