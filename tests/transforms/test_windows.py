"""Nothing goes out twice, and nothing is overwritten by less."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.testing import T0_US, Log, trade
from tests.transforms.build_events import events
from transforms.bar_columns import second_bar_batch
from transforms.roll_up import Span, fixed
from transforms.seconds import NONE, fold
from transforms.stat_columns import second_stat_batch
from transforms.window_kinds import newer


def bars(versions: dict[str, int]) -> pa.RecordBatch:
    """A bar of each symbol whose version is so many trades."""
    log = Log()
    for symbol, version in versions.items():
        for number in range(version):
            log.add(trade(number, symbol=symbol))
    batch = events(log)
    folded = fold(NONE, batch.instruments, batch.rows, 0)
    return second_bar_batch(T0_US // 1_000_000, folded, np.arange(len(folded.rows)))


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
    stats = second_stat_batch(T0_US // 1_000_000, fold(NONE, batch.instruments, batch.rows, 0), np.arange(2))
    grown, published = newer(stats, {f"{T0_US}\tbook\tbinance\tBTC-USDT": 2})
    assert grown["kind"].to_pylist() == ["ticker"]
    assert published == {f"{T0_US}\tbook\tbinance\tBTC-USDT": 2, f"{T0_US}\tticker\tbinance\tBTC-USDT": 1}
