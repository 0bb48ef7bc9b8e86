"""`horizon compare` of what is not there, not whole, or of another run: never "equal"."""

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from pipelines.options import MarketDataConfig
from runners.__main__ import app
from runners.dataset_files import count_rows, read_dataset
from runners.reach import IN_FILES_US, Reach
from runners.replay import MANIFEST
from runners.run_note import RUN, note_reach, note_rows, write_run
from schemas.units import US_PER_S
from tests.testing import T0_US, Log, run, trade
from transforms.datasets import BARS, EVENTS, LATE_EVENTS, REJECTS, Dataset
from transforms.read_offsets import Manifest, Stretch

SECONDS = 400
CONFIG = MarketDataConfig()
DUE_US = T0_US + SECONDS * US_PER_S


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`live` and `again`, equal, of trades of 400 s, a late one and rejects among them."""
    log, root = Log(), tmp_path_factory.mktemp("made")
    for second in range(0, SECONDS, 4):
        log.add(trade(second * US_PER_S, trade_id=str(second)))
    log.add(trade(0, trade_id="late"), log_time_us=DUE_US)
    log.add(b"\xff", log_time_us=DUE_US)
    end = len(log.records)
    for name, batches in (("live", log.batches()), ("again", log.by_partition())):
        run(batches, root / name, CONFIG)
        write_run(root / name, CONFIG)
    clock_us = DUE_US + IN_FILES_US
    (root / "again" / MANIFEST).write_text(Manifest((Stretch(log.topic, 0, 0, end, clock_us),), 0, clock_us).to_json())
    note_rows(root / "again", count_rows(root / "again"))
    note_reach(root / "live", Reach(log.topic, {0: end}, DUE_US, {0: end}))
    return root


@pytest.fixture
def roots(made: Path, tmp_path: Path) -> Path:
    """Copies of them, to be changed."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return tmp_path


def compare(roots: Path, *words: str) -> Result:
    return CliRunner().invoke(app, ["compare", str(roots / "live"), str(roots / "again"), *words], prog_name="horizon")


def one_line(result: Result) -> str:
    assert result.stderr.count("\n") == 1, result.stderr
    return result.stderr.removeprefix("error: ").strip()


def lines(result: Result) -> list[list[str]]:
    return [line.split()[:2] for line in result.stdout.splitlines()]


def write(root: Path, dataset: Dataset, table: pa.Table) -> None:
    shutil.rmtree(root / dataset.name, ignore_errors=True)
    (root / dataset.name).mkdir()
    pq.write_table(table, root / dataset.name / "all.parquet")


def renote(roots: Path, manifest: Manifest) -> None:
    (roots / "again" / MANIFEST).write_text(manifest.to_json())


def test_equal_runs_are_equal(roots: Path) -> None:
    result = compare(roots)
    assert (result.exit_code, result.stderr) == (0, "")
    assert lines(result) == [[name, "equal"] for name in ("events", "bars", "stats", "late", "rejects")]
    told = json.loads(compare(roots, "--json").stdout)
    assert [(one["equal"], one["live_rows"] > 0) for one in told] == [(True, True)] * 5


@pytest.mark.parametrize("dataset", ["events", "bars", "stats", "late", "rejects"])
def test_a_dataset_that_is_missing_live_is_a_difference(roots: Path, dataset: str) -> None:
    shutil.rmtree(roots / "live" / dataset)
    result = compare(roots)
    assert result.exit_code == 1
    assert [dataset, "DIFFERENT"] in lines(result)
    assert "first difference: only in replay: " in result.stdout


@pytest.mark.parametrize("dataset", ["events", "bars", "stats", "late", "rejects"])
def test_a_dataset_that_is_missing_in_both_is_not_equal(roots: Path, dataset: str) -> None:
    rows = count_rows(roots / "again")[dataset]
    for name in ("live", "again"):
        shutil.rmtree(roots / name / dataset)
    result = compare(roots)
    said = f"has not the files that the replay left: 0 of {rows} {dataset}; replay again"
    assert (result.exit_code, result.stdout, one_line(result).endswith(said)) == (2, "", True)


def test_an_output_root_without_files_is_not_equal(roots: Path) -> None:
    for dataset in (EVENTS.name, BARS.name, "stats", "late", "rejects"):
        shutil.rmtree(roots / "live" / dataset)
    assert compare(roots).exit_code == 1
    (roots / "live" / RUN).unlink()
    assert "has no run.json" in one_line(compare(roots))


def test_late_files_alone_are_not_enough(roots: Path) -> None:
    for dataset in (EVENTS.name, BARS.name, "stats", "rejects"):
        shutil.rmtree(roots / "live" / dataset)
    result = compare(roots)
    assert result.exit_code == 1
    assert lines(result)[0] == ["events", "DIFFERENT"]
    assert "cause: in live that record is nowhere" in result.stdout


def test_a_replay_that_has_not_ended_is_told(roots: Path) -> None:
    write_run(roots / "again", CONFIG)
    result = compare(roots)
    assert (result.exit_code, "has not ended" in one_line(result)) == (2, True)


def test_rows_of_another_run_in_the_replay_are_told(roots: Path) -> None:
    late = read_dataset(roots / "again", LATE_EVENTS)
    write(roots / "again", LATE_EVENTS, pa.concat_tables([late, late]))
    result = compare(roots)
    assert (result.exit_code, one_line(result).endswith("2 of 1 late; replay again")) == (2, True)


def renamed(table: pa.Table, column: str, name: str) -> pa.Table:
    """The rows with that name in a column."""
    at = table.schema.get_field_index(column)
    return table.set_column(at, table.schema.field(at), pa.array([name] * len(table)))


def test_rows_of_another_topic_live_are_told(roots: Path) -> None:
    events = read_dataset(roots / "live", EVENTS)
    write(roots / "live", EVENTS, pa.concat_tables([events, renamed(events, "topic", "another")]))
    result = compare(roots)
    assert (result.exit_code, "holds records of another, and the replay read" in one_line(result)) == (2, True)


def test_rows_of_another_run_live_are_a_difference(roots: Path) -> None:
    bars = read_dataset(roots / "live", BARS)
    write(roots / "live", BARS, pa.concat_tables([bars, renamed(bars, "symbol", "OTHER")]))
    result = compare(roots)
    assert (result.exit_code, "only in live: exchange=binance symbol=OTHER" in result.stdout) == (1, True)
    assert "cause: both have the same events there, so these were folded differently" in result.stdout


def test_a_live_run_of_another_topic_is_told(roots: Path) -> None:
    note_reach(roots / "live", Reach("another", {0: 5}, DUE_US, {0: 5}))
    result = compare(roots)
    assert (result.exit_code, "the live run read another, the replay " in one_line(result)) == (2, True)


@pytest.mark.parametrize("what", ["the live run's clock stood", "the replay read nothing", "begins behind the end"])
def test_a_span_that_leaves_out_everything_is_not_equal(roots: Path, what: str) -> None:
    manifest = Manifest.from_json((roots / "again" / MANIFEST).read_text())
    (stretch,) = manifest.stretches
    if what == "the live run's clock stood":
        note_reach(roots / "live", Reach(stretch.topic, {0: stretch.stop}, 0, {0: 0}))
    elif what == "the replay read nothing":
        renote(roots, Manifest((Stretch(stretch.topic, 0, 0, 0, 0),), 0, 0))
    else:
        renote(roots, Manifest((Stretch(stretch.topic, 0, 5, 5, DUE_US),), DUE_US, DUE_US))
    result = compare(roots)
    assert (result.exit_code, one_line(result).startswith("nothing to compare")) == (2, True)
    assert lines(result) == [[name, "nothing"] for name in ("events", "bars", "stats", "late", "rejects")]
    assert [one["equal"] for one in json.loads(compare(roots, "--json").stdout)] == [None] * 5


def test_events_that_are_left_out_are_not_proved_by_rejects(roots: Path) -> None:
    note_reach(roots / "live", Reach("md.events.raw", {0: 102}, T0_US, {0: 102}))
    result = compare(roots)
    assert lines(result) == [
        *([name, "nothing"] for name in ("events", "bars", "stats")),
        *([name, "equal"] for name in ("late", "rejects")),
    ]
    assert result.exit_code == 2
    assert one_line(result).startswith("nothing of events, bars, stats could be compared")


def test_a_run_that_was_not_stopped_is_compared_as_far_as_its_files_show(roots: Path) -> None:
    write_run(roots / "live", CONFIG)
    result = compare(roots)
    assert (result.exit_code, "is taken to have come as far as its files show" in result.stderr) == (0, True)
    assert lines(result)[0] == ["events", "equal"]
    assert "left out " in result.stdout


def test_a_file_that_is_no_parquet_is_one_line(roots: Path) -> None:
    file = next((roots / "live" / BARS.name).glob("**/*.parquet"))
    file.write_bytes(file.read_bytes()[:-9])
    result = compare(roots)
    assert (result.exit_code, "cannot be read" in one_line(result)) == (2, True)


# ---- causes --------------------------------------------------------------------------------------------------


def test_an_event_that_was_late_live_is_named_with_the_reason(roots: Path) -> None:
    """As --no-beacons may make it: such a run is not the replay's, and nobody is told otherwise."""
    events, late = (read_dataset(roots / "live", dataset) for dataset in (EVENTS, LATE_EVENTS))
    straggler = events.slice(7, 1)
    row = {name: straggler[name][0].as_py() for name in straggler.schema.names if name in late.schema.names}
    row |= {"reason": "cell_closed", "missed_bar_start": row["event_time"].replace(microsecond=0), "lag_us": 1}
    write(roots / "live", EVENTS, pa.concat_tables([events.slice(0, 7), events.slice(8)]))
    write(roots / "live", LATE_EVENTS, pa.concat_tables([late, pa.Table.from_pylist([row], late.schema)]))
    result = compare(roots)
    assert result.exit_code == 1
    assert "only in replay: identity=" in result.stdout
    assert "cause: in live that record is late: cell_closed, for that run's clock ran ahead" in result.stdout
    assert "cause: in replay that record is a unique event" in result.stdout  # of the row in late/


def test_the_record_behind_a_bar_that_differs_is_named(roots: Path) -> None:
    events, bars, rejects = (read_dataset(roots / "live", dataset) for dataset in (EVENTS, BARS, REJECTS))
    refused = rejects.set_column(2, rejects.schema.field("offset"), pa.array([int(events["offset"][3].as_py())]))
    write(roots / "live", EVENTS, pa.concat_tables([events.slice(0, 3), events.slice(4)]))
    write(roots / "live", REJECTS, pa.concat_tables([rejects, refused]))
    at = next(n for n, bar in enumerate(bars.to_pylist()) if bar["window_start"] == events["event_time"][3].as_py())
    write(roots / "live", BARS, pa.concat_tables([bars.slice(0, at), bars.slice(at + 1)]))
    text = compare(roots).stdout
    place = f"partition=0 offset={events['offset'][3]}"
    assert f"cause: the event at {place} is in replay; in live that record is refused: undecodable, " in text


def test_other_versions_of_the_code_are_told_of_a_difference(roots: Path) -> None:
    shutil.rmtree(roots / "live" / REJECTS.name)
    told = json.loads((roots / "live" / RUN).read_text())
    (roots / "live" / RUN).write_text(json.dumps(told | {"code version": "0.0.9"}))
    result = compare(roots)
    assert (result.exit_code, "the live run is of code 0.0.9, the replay of " in result.stderr) == (1, True)
