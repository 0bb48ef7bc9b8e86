"""A cell's event file is written beside the stream; what is lost in memory is done again from the state."""

from pathlib import Path

import pytest

from bench.core import Bag, Value
from tests.testing import T0_US, Log, trade
from tests.transforms.build_events import events
from transforms.cell_filing import Filing
from transforms.cell_state import CellState

START_S = T0_US // 10_000_000 * 10
KEY = (START_S, 0)
CLOCK_US = T0_US + 5_000_000


def held(*at_us: int) -> list[bytes]:
    """Chunks of a cell with a record each, whose clock is its event time."""
    state = CellState(START_S, Value(), Bag(), Bag(), Bag(), Bag())  # type: ignore[arg-type]
    log = Log()
    for us in at_us:
        log.add(trade(us, trade_id=str(us)), log_time_us=T0_US + us)
    batch = events(log)
    return [state.add(batch.slice(row, row + 1)) for row in range(len(batch))]


def files(root: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(root.rglob("*.parquet"))]


def test_what_is_final_is_in_the_file_and_what_came_since_is_told_apart(tmp_path: Path) -> None:
    chunks, filing = held(0, 1_000_000, 6_000_000, 7_000_000), Filing(str(tmp_path))
    filing.begin(KEY, chunks[:3], [], CLOCK_US)
    judged, later = filing.end(KEY, chunks, [], CLOCK_US)
    filing.finish()
    assert judged.batch.rows["event_time_us"][judged.final].tolist() == [T0_US, T0_US + 1_000_000]
    rest = judged.rest
    assert rest is not None
    assert rest.rows["event_time_us"].tolist() == [T0_US + 6_000_000]
    assert later == chunks[3:]
    assert len(files(tmp_path)) == 1


def test_another_attempt_judges_and_writes_again(tmp_path: Path) -> None:
    chunks = held(0, 1_000_000, 6_000_000)
    for name, again in (("calm", chunks), ("again", [bytes(bytearray(chunk)) for chunk in chunks])):
        filing = Filing(str(tmp_path / name))
        filing.begin(KEY, chunks[:2], [], CLOCK_US)
        judged, later = filing.end(KEY, again, [], CLOCK_US)
        filing.finish()
        assert int(judged.final.sum()) == 2
        assert len(later) == (1 if again is chunks else 0)
    assert files(tmp_path / "again") == files(tmp_path / "calm")


def test_nothing_begun_is_judged_at_once_and_nothing_final_makes_no_file(tmp_path: Path) -> None:
    filing = Filing(str(tmp_path))
    judged, later = filing.end(KEY, held(6_000_000), [], CLOCK_US)
    filing.finish()
    assert (int(judged.final.sum()), list(later), files(tmp_path)) == (0, [], [])


def test_a_file_that_cannot_be_written_is_an_error_of_the_bundle_that_relies_on_it(tmp_path: Path) -> None:
    (tmp_path / "root").write_text("no directory")
    filing, chunks = Filing(str(tmp_path / "root")), held(0)
    filing.begin(KEY, chunks, [], CLOCK_US)
    filing.finish()
    filing.end(KEY, chunks, [], CLOCK_US)
    with pytest.raises(OSError, match="root"):
        filing.finish()
