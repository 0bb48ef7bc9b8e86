"""The worker's index of a cell's records gives the verdicts that a search of all of them gives, and is never stale."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from bench.core import Bag, Value
from transforms import dedup
from transforms.batches import EventBatch
from transforms.cell_state import CellState
from transforms.rows import EVENT_ROW, Rows
from transforms.seen_index import SeenIndex

CELL = (0, 0)
EMPTY = np.empty(0, EVENT_ROW)
Drawn = tuple[int, int, int]  # identity, content, offset


def rows_of(drawn: Sequence[Drawn]) -> Rows:
    rows = np.zeros(len(drawn), EVENT_ROW)
    for name, column in zip(("identity_lo", "content", "offset"), zip(*drawn, strict=True), strict=True):
        rows[name] = column
    rows["clock_us"] = 1
    rows["key"] = dedup.keys(rows["identity_hi"], rows["identity_lo"], rows["event_time_us"])
    return rows


def cell_of(waiting: Bag) -> CellState:
    """The cell as a bundle finds it: it lives no longer than that."""
    return CellState(0, Value(), waiting, Bag(), Bag(), Bag())  # type: ignore[arg-type]


def as_batch(rows: Rows) -> EventBatch:
    empty = pa.array([b""] * len(rows), pa.binary())
    return EventBatch("t", [("X", "S")], rows, empty, empty, {})


batches = st.lists(
    st.lists(st.tuples(st.integers(0, 6), st.integers(0, 1), st.integers(0, 12)), min_size=1, max_size=8), max_size=8
)


@given(batches, st.lists(st.tuples(st.integers(0, 6), st.integers(0, 1), st.integers(0, 12)), max_size=6), st.data())
def test_verdicts_are_those_of_a_search_of_all_records(
    drawn: list[list[Drawn]], final: list[Drawn], data: st.DataObject
) -> None:
    index, waiting = SeenIndex(), Bag()
    kept = [dedup.seen_rows(rows_of(final))] if final else []
    before: list[Rows] = []
    for rows in map(rows_of, drawn):
        cell, known = cell_of(waiting), [*kept, *([dedup.seen_rows(np.concatenate(before))] if before else [])]
        expected = dedup.verdicts(rows, known)
        assert index.verdicts(CELL, cell.chunks(), kept, rows).tolist() == expected.tolist()
        index.add(CELL, cell.add(as_batch(rows)))
        before.append(rows)
        if data.draw(st.booleans()):  # the worker's cache lost the bag and fetched it anew
            waiting.held = [bytes(bytearray(chunk)) for chunk in waiting.held]


def test_records_of_an_attempt_that_failed_are_forgotten() -> None:
    index, waiting = SeenIndex(), Bag()
    for identity in (1, 2):
        cell, rows = cell_of(waiting), rows_of([(identity, 0, identity)])
        index.verdicts(CELL, cell.chunks(), [], rows)
        index.add(CELL, cell.add(as_batch(rows)))
    waiting.held.pop()  # the second bundle was not committed
    found = index.verdicts(CELL, cell_of(waiting).chunks(), [], rows_of([(2, 0, 2), (1, 0, 7)]))
    assert found.tolist() == [dedup.NEW, dedup.COPY]
    waiting.held.clear()
    index.forget(CELL)
    assert index.verdicts(CELL, cell_of(waiting).chunks(), [], rows_of([(1, 0, 1)])).tolist() == [dedup.NEW]


@given(batches, st.lists(st.tuples(st.integers(0, 6), st.integers(0, 1), st.integers(0, 12)), max_size=6), st.data())
def test_verdicts_of_what_is_not_folded_are_those_of_the_whole_cell(
    drawn: list[list[Drawn]], final: list[Drawn], data: st.DataObject
) -> None:
    index, waiting = SeenIndex(), Bag()
    kept = [dedup.seen_rows(rows_of(final))] if final else []
    held = [rows_of(rows) for rows in drawn]
    for rows in held:
        cell = cell_of(waiting)
        rows["clock_us"] = rows["offset"] // 3  # of one place always one clock
        index.verdicts(CELL, cell.chunks(), kept, rows)
        index.add(CELL, cell.add(as_batch(rows)))
    until_us = np.zeros(10, np.int64)
    until_us[0] = data.draw(st.integers(0, 5))
    _, found = index.unfolded(CELL, cell_of(waiting).chunks(), kept, until_us)
    whole = np.concatenate([EMPTY, *held])
    whole["verdict"] = dedup.verdicts(whole, kept, by_log=True)
    expected = whole[whole["clock_us"] >= until_us[0]]
    assert found["offset"].tolist() == expected["offset"].tolist()
    assert found["verdict"].tolist() == expected["verdict"].tolist()
    if len(whole):
        assert index.clocks(CELL, cell_of(waiting).chunks()) == (whole["clock_us"].min(), whole["clock_us"].max())
