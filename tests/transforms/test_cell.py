"""The cell on a timeline: what goes out when the log's clock passes, again when it grows, and what is too late."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
import pyarrow.parquet as pq
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing.test_stream import TestStream
from apache_beam.utils.timestamp import Timestamp

from schemas.market_data_pb2 import MarketDataEvent
from tests.testing import T0_US, Log, raw_batch
from tests.testing import trade as trade_at
from tests.transforms.build_events import checked
from transforms.batches import EventBatch
from transforms.cell import FoldCells
from transforms.cell_config import CellConfig, CellKey
from transforms.dedup import DECIDED, NEW
from transforms.split import SplitByCell
from transforms.window_kinds import Kind, Windowing, larger, sliding
from transforms.windows import FoldWindows

MS, S = 1_000, 1_000_000
CONFIG = CellConfig(grace_us=500 * MS, horizon_us=120 * S, slack_us=30 * S, shards=1)
CLOSE_US = 10 * S + CONFIG.horizon_us + CONFIG.slack_us
LATENESS_US = CONFIG.horizon_us + CONFIG.slack_us + 60 * S
WINDOWS = Windowing(CONFIG.grace_us, LATENESS_US)
SETTLE_US = 10_600 * MS  # end of the window, grace, and a moment for the last second


class Timeline:
    """Records and the log's clock, step by step; elements are the encoded batches, which TestStream keeps as bytes."""

    def __init__(self) -> None:
        self.log = Log()
        self.stream = TestStream(coder=beam.coders.BytesCoder())
        self.clock_us = 0
        self.clock(0)

    def clock(self, us: int) -> "Timeline":
        """The watermark, in microseconds after T0_US."""
        self.clock_us = us
        self.stream.advance_watermark_to(Timestamp(micros=T0_US + us))
        return self

    def read(self, *sent: MarketDataEvent, log_time_us: int | None = None) -> "Timeline":
        """One batch of events, read now; log time in microseconds after T0_US, by default the clock."""
        before = len(self.log.records)
        for event in sent:
            self.log.add(event, log_time_us=T0_US + (self.clock_us if log_time_us is None else log_time_us))
        return self.again(before, len(self.log.records))

    def again(self, start: int, stop: int) -> "Timeline":
        """The records start..stop, read once more."""
        batch = checked(raw_batch(self.log.records[start:stop]))
        self.stream.add_elements([beam.window.TimestampedValue(batch.to_bytes(), Timestamp(micros=T0_US))])
        return self

    def end(self) -> TestStream:
        return self.stream.advance_watermark_to_infinity()


_SEEN: list[tuple[str, int, dict[str, Any]]] = []


class _Note(beam.DoFn):  # type: ignore[misc]
    """Note what comes by in the order it does; a name may hold fields of the row."""

    def __init__(self, name: str) -> None:
        self._name = name

    def process(self, batch: Any, timestamp: Any = beam.DoFn.TimestampParam) -> Iterator[Any]:
        _SEEN.extend((self._name.format(**row), timestamp.micros - T0_US, row) for row in batch.to_pylist())
        return iter(())


class _NoteEvents(beam.DoFn):  # type: ignore[misc]
    def process(self, element: tuple[CellKey, EventBatch]) -> Iterator[Any]:
        rows = element[1].rows
        _SEEN.extend(("event", int(row["offset"]), {"verdict": int(row["verdict"])}) for row in rows)
        return iter(())


def played(
    timeline: Timeline, files_root: Path | None = None, kinds: Sequence[Kind] = ()
) -> list[tuple[str, int, dict[str, Any]]]:
    """(what, when or where, row) in the order the steps gave them; kinds: of larger windows."""
    _SEEN.clear()
    options = PipelineOptions(["--runner=BundleBasedDirectRunner", "--streaming"])
    with beam.Pipeline(options=options) as pipeline:
        batches = pipeline | timeline.end() | beam.Map(EventBatch.from_bytes).with_output_types(EventBatch)
        folded = batches | SplitByCell(1) | FoldCells(CONFIG, None if files_root is None else str(files_root))
        _ = folded.events | beam.ParDo(_NoteEvents())
        _ = folded.bars | "Bars" >> beam.Values() | "NoteBars" >> beam.ParDo(_Note("bar{interval_s}"))
        _ = folded.stats | "Stats" >> beam.Values() | "NoteStats" >> beam.ParDo(_Note("stat{interval_s}"))
        _ = folded.late | "NoteLate" >> beam.ParDo(_Note("late"))
        _ = folded.bad | "NoteBad" >> beam.ParDo(_Note("bad"))
        windows = folded.bars | FoldWindows(kinds, WINDOWS)
        _ = windows.bars | "Larger" >> beam.Values() | "NoteLarger" >> beam.ParDo(_Note("bar{interval_s}"))
        _ = windows.stats | "LargerStats" >> beam.Values() | "NoteLargerStats" >> beam.ParDo(_Note("{kind}"))
    return list(_SEEN)


def bars(seen: list[tuple[str, int, dict[str, Any]]], name: str = "bar1") -> list[tuple[int, int]]:
    return [(row["trade_count"], row["version"]) for what, _, row in seen if what == name]


def times(seen: list[tuple[str, int, dict[str, Any]]], name: str = "bar1") -> list[int]:
    return [at for what, at, _ in seen if what == name]


def trade(at_us: int, trade_id: int | str, price: float = 100.0, **fields: Any) -> MarketDataEvent:
    return trade_at(at_us, price, 1.0, trade_id=str(trade_id), **fields)


def test_bar_goes_out_once_when_the_clock_passes_end_and_grace() -> None:
    timeline = Timeline().read(trade(0, 1), trade(900 * MS, 2)).clock(1_400 * MS).read(trade(950 * MS, 3))
    seen = played(timeline.clock(1_499 * MS).clock(1_500 * MS).clock(30 * S))
    assert bars(seen) == [(3, 3)]
    assert times(seen) == [1_500 * MS]
    assert [row["delayed_count"] for what, _, row in seen if what == "bar1"] == [0]


def test_window_goes_out_as_a_bar_of_ten_seconds() -> None:
    timeline = Timeline().read(trade(0, 1)).clock(9 * S).read(trade(9 * S, 2), trade(9 * S, 2))
    seen = played(timeline.clock(SETTLE_US - MS).clock(SETTLE_US).clock(60 * S))
    assert bars(seen) == [(1, 1), (1, 2)]
    assert bars(seen, "bar10") == [(2, 3)]
    assert times(seen, "bar10") == [SETTLE_US]


def places_of(seen: list[tuple[str, int, dict[str, Any]]]) -> list[int]:
    return [at for what, at, _ in seen if what == "event"]


def test_events_go_out_at_once_and_copies_do_not() -> None:
    timeline = Timeline().read(trade(0, 1), trade(0, 2), trade(0, 1)).read(trade(0, 2)).clock(2 * S)
    seen = played(timeline)
    assert [what for what, *_ in seen] == ["event"] * 2 + ["bar1", "bar10"]
    assert places_of(seen) == [0, 1]
    assert bars(seen) == [(2, 4)]


def test_late_row_within_the_horizon_revises_the_bar() -> None:
    timeline = Timeline().read(trade(0, 1)).clock(15 * S).read(trade(500 * MS, 2)).clock(16 * S)
    seen = played(timeline.clock(19_999 * MS).clock(20 * S).clock(60 * S))
    assert bars(seen) == [(1, 1), (2, 2)]
    assert times(seen) == [1_500 * MS, 20 * S]
    assert [row["delayed_count"] for what, _, row in seen if what == "bar1"] == [0, 1]


def test_revisions_are_not_put_off_by_what_comes_in_between() -> None:
    timeline = Timeline().read(trade(0, 1)).clock(11 * S)
    for number in range(2, 20):
        timeline.read(trade(number, number)).clock((10 + number) * S)
    seen = played(timeline.clock(60 * S))
    assert bars(seen) == [(1, 1), (10, 10), (19, 19)]
    assert times(seen) == [1_500 * MS, 20 * S, 30 * S]


def test_late_copy_revises_the_bar_without_adding_to_the_sums() -> None:
    seen = played(Timeline().read(trade(0, 1)).clock(10 * S).read(trade(0, 1)).clock(20 * S))
    assert bars(seen) == [(1, 1), (1, 2)]
    assert len({str(row["volume"]) for what, _, row in seen if what == "bar1"}) == 1


def test_record_read_again_gives_nothing() -> None:
    seen = played(Timeline().read(trade(0, 1)).again(0, 1).clock(30 * S).again(0, 1).clock(60 * S))
    assert [what for what, *_ in seen] == ["event", "bar1", "bar10"]


def test_late_ticker_does_not_publish_the_bar_again() -> None:
    timeline = Timeline().read(trade(0, 1)).clock(20 * S).read(trade(0, "t", event_type=2)).clock(60 * S)
    seen = played(timeline)
    assert [what for what, *_ in seen] == ["event", "bar1", "bar10", "event", "stat1", "stat10"]


def stats(seen: list[tuple[str, int, dict[str, Any]]]) -> list[tuple[str, int, int]]:
    return [(row["kind"], row["event_count"], row["version"]) for what, _, row in seen if what == "stat1"]


def test_stats_go_out_with_the_bars_and_late_rows_revise_only_what_they_change() -> None:
    timeline = Timeline().read(trade(0, 1), trade(0, "t", event_type=2), trade(0, "b", event_type=1)).clock(10 * S)
    timeline.read(trade(5, "c", event_type=1), trade(0, "b", event_type=1))
    seen = played(timeline.again(0, 3).clock(60 * S))
    assert bars(seen) == [(1, 1)]
    assert stats(seen) == [("ticker", 1, 1), ("book", 1, 1), ("book", 2, 3)]
    assert times(seen, "stat1")[:2] == [1_500 * MS] * 2


def test_second_without_trades_has_no_bar_until_a_trade_comes() -> None:
    timeline = Timeline().read(trade(0, "t", event_type=2)).clock(10 * S).read(trade(5, 1)).clock(60 * S)
    assert bars(played(timeline)) == [(1, 1)]


def test_bars_of_other_instruments_are_not_published_again() -> None:
    timeline = Timeline().read(trade(0, 1, symbol="A"), trade(0, 1, symbol="B")).clock(10 * S)
    seen = played(timeline.read(trade(1, 2, symbol="B")).clock(60 * S))
    found = [(row["symbol"], row["version"]) for what, _, row in seen if what == "bar1"]
    assert found == [("A", 1), ("B", 1), ("B", 2)]


def events_of(seen: Sequence[tuple[str, int, dict[str, Any]]]) -> list[tuple[int, int]]:
    """(offset, verdict) of the events that went out."""
    return [(at, row["verdict"]) for what, at, row in seen if what == "event"]


def test_straggler_of_a_closed_cell_is_late_and_starts_no_second_cell() -> None:
    timeline = Timeline().read(trade(0, 1)).clock(CLOSE_US).read(trade(5, 2), log_time_us=119 * S)
    seen = played(timeline.clock(CLOSE_US + 60 * S).clock(23 * 3_600 * S).read(trade(6, 3), log_time_us=119 * S))
    assert bars(seen) == [(1, 1)]
    late = [row for what, _, row in seen if what == "late"]
    assert [(row["reason"], row["offset"]) for row in late] == [("cell_closed", 1), ("cell_closed", 2)]
    assert places_of(seen) == [0]


def test_row_just_before_the_cell_closes_is_published_at_its_close() -> None:
    timeline = Timeline().read(trade(0, 1)).clock(CLOSE_US - MS).read(trade(5, 2), log_time_us=CLOSE_US + 5 * S)
    assert bars(played(timeline.clock(CLOSE_US).clock(CLOSE_US + 60 * S))) == [(1, 1), (2, 2)]


def test_conflict_is_rejected_and_counts_in_the_version_alone() -> None:
    seen = played(Timeline().read(trade(0, 1)).clock(10 * S).read(trade(0, 1, price=7.0)).clock(60 * S))
    found = [(row["reason"], row["offset"]) for what, _, row in seen if what == "bad"]
    assert found == [("identity_conflict", 1)]
    assert events_of(seen) == [(0, NEW), (0, DECIDED)]
    assert bars(seen) == [(1, 1), (1, 2)]
    assert {float(row["close"]) for what, _, row in seen if what == "bar1"} == {100.0}


def test_conflict_whose_first_record_is_read_last_corrects_event_and_bar() -> None:
    timeline = Timeline()
    timeline.read(trade(0, 1, price=7.0), log_time_us=15 * S).clock(1_600 * MS)  # another partition is far behind
    timeline.read(trade(0, 1), log_time_us=2 * S)
    seen = played(timeline.clock(60 * S))
    assert events_of(seen) == [(0, NEW), (1, DECIDED)]
    assert [row["offset"] for what, _, row in seen if what == "bad"] == [0]
    assert [float(row["close"]) for what, _, row in seen if what == "bar1"] == [7.0, 100.0]
    assert bars(seen) == [(1, 1), (1, 2)]


def test_record_that_may_still_be_preceded_is_not_written_before_the_clock_has_passed_it(tmp_path: Path) -> None:
    timeline = Timeline().read(trade(0, 1, price=7.0), log_time_us=15 * S).clock(SETTLE_US)
    timeline.read(trade(0, 1), log_time_us=12 * S)
    seen = played(timeline.clock(60 * S), tmp_path)
    assert [row["offset"] for what, _, row in seen if what == "bad"] == [0]
    table = pq.read_table(next(tmp_path.rglob("*.parquet")), partitioning=None)
    assert (table["offset"].to_pylist(), table["price"].to_pylist()) == ([1], [100.0])


def test_clock_that_jumps_past_everything_loses_nothing() -> None:
    assert bars(played(Timeline().read(trade(0, 1), trade(0, 2)).clock(24 * 3_600 * S))) == [(2, 2)]


@pytest.mark.parametrize("chunks", [11, 12, 13, 14, 200])
def test_many_small_batches_before_the_bar_count_each_row_once(chunks: int) -> None:
    timeline = Timeline()
    for number in range(chunks):
        timeline.read(trade(0, number), trade(0, number // 2))
    seen = played(timeline.clock(2 * S).clock(60 * S))
    assert bars(seen) == [(chunks, 2 * chunks)]
    assert len(places_of(seen)) == chunks


def test_larger_bar_goes_out_after_its_last_part_and_grows_with_it() -> None:
    timeline = Timeline().read(trade(0, 1)).clock(15 * S).read(trade(15 * S, 2)).clock(21 * S).clock(41 * S)
    timeline.clock(99 * S)
    timeline.read(trade(3 * S, 3)).clock(101 * S).clock(111 * S).clock(300 * S).clock(3_600 * S)
    seen = played(timeline, kinds=larger((60,), WINDOWS))
    assert bars(seen, "bar60") == [(2, 2), (3, 3)]
    assert times(seen, "bar60") == [40_500 * MS, 110 * S]  # the minute ends 40 s after the log begins


def test_sliding_minute_goes_out_every_ten_seconds_and_again_when_a_second_grows() -> None:
    timeline = Timeline().read(trade(0, 1)).clock(20 * S).clock(25 * S).read(trade(500 * MS, 2)).clock(31 * S)
    timeline.clock(41 * S).clock(300 * S)
    found = [row for what, _, row in played(timeline, kinds=[sliding(WINDOWS)]) if what == "sliding"]
    starts = [(row["window_start"].timestamp() - T0_US / S, row["version"]) for row in found]
    assert starts[:2] == [(-50, 1), (-40, 1)]  # whose ends the clock had passed when the late trade came
    assert sorted(at for at in starts if at[1] == 2) == [(start, 2) for start in range(-50, 10, 10)]
    assert len(set(starts)) == len(starts)


def test_nothing_larger_goes_out_twice_in_the_same_version() -> None:
    timeline = Timeline().read(trade(0, 1)).clock(20 * S)
    for number in range(2, 5):
        timeline.read(trade(number, number)).clock((20 + number) * S)
    timeline.clock(31 * S).clock(41 * S).clock(51 * S)
    seen = played(timeline.clock(LATENESS_US + 60 * S).clock(3 * 3_600 * S), kinds=larger((10, 60), WINDOWS))
    for name in ("bar1", "bar10", "bar60"):
        found = [version for _, version in bars(seen, name)]
        assert found == sorted(set(found)), name
        assert found[-1] == 4
