"""Nothing goes out twice, and nothing is overwritten by less."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.utils.timestamp import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from pipelines.options import MarketDataConfig
from tests.testing import T0_US, Log, trade
from tests.transforms.build_events import events
from tests.transforms.test_cell import CONFIG, MS, WINDOWS, S, Timeline
from transforms import parquet_file
from transforms.bar_columns import bar_batch
from transforms.batches import EventBatch
from transforms.cell import FoldCells
from transforms.datasets import Dataset
from transforms.parquet_file import FileKey, write_file
from transforms.roll_up import Span, fixed, roll_up
from transforms.seconds import NONE, fold
from transforms.split import SplitByCell
from transforms.stat_columns import stat_batch
from transforms.window_kinds import Fold, Gone, Windowing, newer
from transforms.window_state import Window, due_us
from transforms.windows import FoldWindows, ShardRecords


def bars(versions: dict[str, int]) -> pa.RecordBatch:
    """A bar of each symbol whose version is so many trades."""
    log = Log()
    for symbol, version in versions.items():
        for number in range(version):
            log.add(trade(number, symbol=symbol))
    batch = events(log)
    folded = fold(NONE, batch.instruments, batch.rows, 0)
    return bar_batch(T0_US // 1_000_000, folded, np.arange(len(folded.rows)), 1)


@given(st.lists(st.dictionaries(st.sampled_from("ABC"), st.integers(1, 4), min_size=1), max_size=6))
def test_each_instrument_passes_with_rising_versions_only(panes: list[dict[str, int]]) -> None:
    published: dict[str, int] = {}
    plain: dict[str, int] = {}
    for versions in panes:
        grown, published = newer(bars(versions), published)
        wanted = {symbol: version for symbol, version in versions.items() if version > plain.get(symbol, 0)}
        found = zip(grown["symbol"].to_pylist(), grown["version"].to_pylist(), strict=True) if grown else ()
        assert dict(found) == wanted
        plain |= wanted
        assert published == {f"{T0_US}\tbinance\t{symbol}": version for symbol, version in plain.items()}


def test_what_was_published_is_not_changed_in_place() -> None:
    before: dict[str, int] = {}
    newer(bars({"A": 1}), before)
    assert before == {}


@pytest.mark.parametrize(
    ("span", "start_s", "wanted"),
    [
        (fixed(10), 120, [120]),
        (fixed(10), 129, [120]),
        (fixed(3_600), 3_599, [0]),
        (Span(60, 10), 129, [120, 110, 100, 90, 80, 70]),
        (Span(60, 10), 120, [120, 110, 100, 90, 80, 70]),
    ],
)
def test_a_part_is_in_the_windows_that_hold_its_start(span: Span, start_s: int, wanted: list[int]) -> None:
    assert list(span.windows_of(start_s)) == wanted
    assert all(start <= start_s < start + span.length_s for start in wanted)


def test_kinds_of_stats_do_not_stand_for_each_other() -> None:
    log = Log()
    for event_type in (1, 1, 2):
        log.add(trade(0, event_type=event_type))
    batch = events(log)
    stats = stat_batch(T0_US // 1_000_000, fold(NONE, batch.instruments, batch.rows, 0), np.arange(2), 1)
    grown, published = newer(stats, {f"{T0_US}\tbook\tbinance\tBTC-USDT": 2})
    assert grown["kind"].to_pylist() == ["ticker"]
    assert published == {f"{T0_US}\tbook\tbinance\tBTC-USDT": 2, f"{T0_US}\tticker\tbinance\tBTC-USDT": 1}


# ---- on a timeline ----------------------------------------------------------------------------------------------


class _Note(beam.DoFn):  # type: ignore[misc]
    """Note the records that come by, and the clock."""

    def process(self, element: ShardRecords, at: Timestamp = beam.DoFn.TimestampParam) -> Iterator[None]:
        _SEEN.extend((at.micros - T0_US, row) for row in element[1].to_pylist())
        return iter(())


_SEEN: list[tuple[int, dict[str, Any]]] = []


def folded_from(
    timeline: Timeline, part_s: int, files_root: Path | None = None, windowing: Windowing = WINDOWS, shards: int = 1
) -> list[tuple[int, dict[str, Any]]]:
    """Bars of 1 and 2 minutes from those of 1 s or of 10 s, when the step gave them."""
    _SEEN.clear()
    root = str(files_root) if files_root else None
    kinds = [Fold(f"{length_s}s", roll_up, fixed(length_s), part_s, windowing) for length_s in (60, 120)]
    with beam.Pipeline(options=PipelineOptions(["--runner=BundleBasedDirectRunner", "--streaming"])) as pipeline:
        batches = pipeline | timeline.end() | beam.Map(EventBatch.from_bytes).with_output_types(EventBatch)
        parts = (batches | SplitByCell(shards) | FoldCells(replace(CONFIG, shards=shards), None)).bars
        _ = (parts | FoldWindows(kinds, windowing, root)).bars | beam.ParDo(_Note())
    return list(_SEEN)


def late_trades(every_us: int = 5 * S) -> Timeline:
    """Trades of the first seconds that come in order until 70 s, then late ones, one after the other until 130 s."""
    timeline = Timeline()
    for number, at_us in enumerate(range(S // 2, 130 * S, every_us)):
        timeline.clock(at_us).read(trade(at_us if at_us < 70 * S else at_us % (30 * S), trade_id=str(number)))
    for at_s in (131, 141, 151, 161, 1_000):  # in steps: this runner's clock does not wait for what timers give
        timeline.clock(at_s * S)
    return timeline


def test_a_larger_window_is_whole_when_it_first_goes_out_whatever_its_shard() -> None:
    timeline, end_us = Timeline(), 60 * S - T0_US % (60 * S)
    symbols = [f"S{number}-USDT" for number in range(6)]
    for at_us in range(S // 2, end_us, 5 * S):
        for symbol in symbols:
            timeline.read(trade(at_us, symbol=symbol, trade_id=str(at_us)))
        timeline.clock(at_us)
    for later_us in range(400 * MS, 1_200 * MS, 50 * MS):
        timeline.clock(end_us + later_us)
    seen = folded_from(timeline, 10, windowing=MarketDataConfig().windows, shards=2)
    first = {row["symbol"]: row for _, row in reversed(seen) if row["interval_s"] == 60}
    wanted = {row["symbol"]: row for _, row in seen if row["interval_s"] == 60}
    assert sorted(wanted) == symbols
    assert first == wanted
    assert {row["trade_count"] for row in wanted.values()} == {len(range(S // 2, end_us, 5 * S))}


def last_versions(seen: list[tuple[int, dict[str, Any]]]) -> dict[tuple[int, Any], dict[str, Any]]:
    return {(row["interval_s"], row["window_start"]): row for _, row in seen}


def test_windows_from_parts_of_ten_seconds_are_those_from_seconds() -> None:
    found = last_versions(folded_from(late_trades(), 10))
    assert len(found) == 4
    assert found == last_versions(folded_from(late_trades(), 1))


def test_revisions_go_out_every_ten_seconds_while_late_trades_keep_coming() -> None:
    end_us = 60 * S - T0_US % (60 * S)  # of the minute in which the log begins, and to which the late trades belong
    seen = [(at, row["version"]) for at, row in folded_from(late_trades(), 1) if row["interval_s"] == 60]
    found = [(at, version) for at, version in seen if version >= 8]
    assert found[0] == (end_us + CONFIG.grace_us, 8)
    assert [at for at, _ in found[1:]] == list(range(90 * S, 150 * S, 10 * S))  # the cell's own, then theirs
    assert found[-1] == (140 * S, 20)


def test_file_of_a_minute_is_written_once_and_then_every_ten_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []

    def note(root: str, dataset: Dataset, key: FileKey, table: pa.Table) -> None:
        written.append(key[0])
        write_file(root, dataset, key, table)

    monkeypatch.setattr(parquet_file, "write_file", note)
    folded_from(late_trades(every_us=2 * S), 1, tmp_path)
    rows = pq.read_table(tmp_path / "bars", partitioning=None).to_pylist()
    assert {row["interval_s"] for row in rows} == {1, 10, 60, 120}
    minute_s = T0_US // (60 * S) * 60
    assert (
        written.count(minute_s) <= 2 * 8
    )  # for 30 late trades; once for its records and once for what is made of them


@pytest.mark.parametrize("gap", [1, 1_000])
def test_due_time_is_never_before_what_asks_for_it(gap: int) -> None:
    for at_us in range(0, 50 * S, 7 * gap * MS):
        found = due_us(20 * S, at_us)
        assert at_us <= found <= max(20 * S, at_us + 10 * S)
        assert found == 20 * S or found % (10 * S) == 0


class _Held:
    """One bag, value or timer in memory."""

    def __init__(self) -> None:
        self.held: list[Any] = []

    def read(self) -> Any:
        return self.held[-1] if self.held else None

    def write(self, value: Any) -> None:
        self.held = [value]

    def clear(self) -> None:
        self.held = []

    set = add = lambda self, value: self.held.append(value)


def test_what_comes_meanwhile_never_puts_a_window_off() -> None:
    due, publish = _Held(), _Held()
    window = Window(_Held(), _Held(), due, publish, _Held())  # type: ignore[arg-type]
    for us in (70, 80, 60, 90):
        window.publish_at(us)
    assert [at.micros for at in publish.held] == [70, 60]
    window.woken()
    window.publish_at(90)
    assert publish.held[-1].micros == 90


def test_kind_that_a_resume_left_out_is_forgotten() -> None:
    parts, versions, due = _Held(), _Held(), _Held()
    for state in (parts, versions, due):
        state.add(1)
    assert list(Gone().due(Window(parts, versions, due, _Held(), _Held()), 0, 0)) == []  # type: ignore[arg-type]
    assert [state.held for state in (parts, versions, due)] == [[], [], []]
