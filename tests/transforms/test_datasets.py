"""What unites the rows of a file is idempotent and knows no order."""

import random
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.late import LATE
from tests.testing import Log, raw_batch, trade
from tests.transforms.build_events import events, whole
from transforms.bar_columns import bar_batch
from transforms.batches import EventBatch
from transforms.binary import ipc_bytes
from transforms.datasets import BARS, EVENTS, LATE_EVENTS, REJECTS, STATS, Dataset
from transforms.late import late_rows
from transforms.rejects import reject_rows
from transforms.seconds import NONE, fold
from transforms.stat_columns import stat_batch

Rows = list[tuple[int, int]]  # (trade id, partition)
rows_of_events = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2)), min_size=1, max_size=15)


def batch_of(rows: Rows) -> EventBatch:
    log = Log()
    for trade_id, partition in rows:
        log.add(trade(trade_id * 700_000, trade_id=str(trade_id)), partition=partition)
    return events(log)


def event_table(rows: Rows) -> pa.Table:
    return EVENTS.table([whole(batch_of(rows))])


def bar_table(rows: Rows) -> pa.Table:
    """The bar of every prefix: each instrument in several versions."""
    log = Log()
    tables = []
    for trade_id, partition in rows:
        log.add(trade(0, trade_id=f"{len(log.records)}", symbol=f"S{trade_id}"), partition=partition)
        batch = events(log)
        folded = fold(NONE, batch.instruments, batch.rows, 0)
        bars = bar_batch(1_700_000_000, folded, np.arange(len(folded.rows)), 1)
        tables.append(BARS.table([ipc_bytes(bars)]))
    return pa.concat_tables(tables)


def stat_table(rows: Rows) -> pa.Table:
    """The tickers and book changes of every prefix: each instrument and kind in several versions."""
    log = Log()
    tables = []
    for number, partition in rows:
        log.add(trade(0, symbol=f"S{number % 2}", event_type=1 + number % 2, side=number % 3), partition=partition)
        batch = events(log)
        folded = fold(NONE, batch.instruments, batch.rows, 0)
        stats = stat_batch(1_700_000_000, folded, np.arange(len(folded.rows)), 1)
        tables.append(STATS.table([ipc_bytes(stats)]))
    return pa.concat_tables(tables)


def late_table(rows: Rows) -> pa.Table:
    return LATE_EVENTS.table([ipc_bytes(late_rows(batch_of(rows), "beyond_horizon"))])


def reject_table(rows: Rows) -> pa.Table:
    raw = batch_of(rows).raw()
    every = np.arange(len(raw))
    return REJECTS.table([ipc_bytes(reject_rows(raw, every, "check", ["empty_symbol"] * len(raw), [""] * len(raw)))])


ALL = pytest.mark.parametrize(
    ("dataset", "table_of"),
    [(EVENTS, event_table), (BARS, bar_table), (STATS, stat_table), (LATE_EVENTS, late_table), (REJECTS, reject_table)],
    ids=["events", "bars", "stats", "late", "rejects"],
)


@ALL
@settings(max_examples=25, deadline=None)
@given(rows=rows_of_events, dice=st.randoms())
def test_uniting_is_idempotent_and_order_free(
    dataset: Dataset, table_of: Callable[[Rows], pa.Table], rows: Rows, dice: random.Random
) -> None:
    table = table_of(rows)
    whole = dataset.merged([table])
    assert dataset.merged([whole]).equals(whole)
    assert dataset.merged([whole, table, whole]).equals(whole)
    order = list(range(len(table)))
    dice.shuffle(order)
    at = dice.randrange(len(order) + 1)
    left, right = (table.take(pa.array(part, pa.int64())) for part in (order[:at], order[at:]))
    assert dataset.merged([left, right]).equals(whole)
    assert dataset.merged([dataset.merged([left]), right]).equals(whole)
    assert whole.schema.equals(dataset.record.arrow, check_metadata=True)


@given(rows_of_events)
def test_events_are_one_row_an_identity_with_all_other_places(rows: Rows) -> None:
    merged = EVENTS.merged([event_table(rows)]).to_pylist()
    assert len(merged) == len({trade_id for trade_id, _ in rows})
    for row in merged:
        places = [(copy["partition"], copy["offset"]) for copy in row["copies"]]
        assert [(row["partition"], row["offset"]), *places] == sorted({*places, (row["partition"], row["offset"])})
    assert sum(1 + len(row["copies"]) for row in merged) == len(rows)


def test_events_with_and_without_headers_lie_in_one_table() -> None:
    log = Log()
    log.add(trade(0), headers=[("horizon-event-id", b"h")])
    log.add(trade(1, symbol="B", event_id="f"))
    log.add(trade(2, symbol="C"))
    pieces = [whole(events(log).slice(row, row + 1)) for row in range(3)]
    merged = EVENTS.merged([EVENTS.table(pieces)])
    assert merged["symbol"].to_pylist() == ["B", "BTC-USDT", "C"]
    assert merged["event_id"].to_pylist() == ["f", "h", None]


def test_rows_of_a_late_file_hold_what_was_missed() -> None:
    log = Log()
    log.add(trade(1_234_567), log_time_us=1_700_000_200_000_000)
    row = LATE_EVENTS.merged([pa.Table.from_batches([late_rows(events(log), "cell_closed")])]).to_pylist()[0]
    assert row["missed_bar_start"].timestamp() == 1_700_000_001
    assert (row["lag_us"], row["reason"]) == (198_765_433, "cell_closed")
    assert row.keys() == set(LATE.arrow.names)


def test_rejects_of_several_topics_with_one_place_are_all_kept() -> None:
    log = Log()
    log.add(b"bad")
    raw = raw_batch(log.records)
    other = replace(raw, topic="md.events.g2")
    tables = [
        pa.Table.from_batches([reject_rows(part, np.array([0]), "decode", ["undecodable"], [""])])
        for part in (raw, other)
    ]
    assert len(REJECTS.merged(tables)) == 2


@pytest.mark.parametrize(
    ("dataset", "start_s", "part", "path"),
    [
        (EVENTS, 1_700_000_000, 3, "events/date=2023-11-14/hour=22/events-20231114T221320Z-10s-0003-v1.parquet"),
        (BARS, 0, 0, "bars/date=1970-01-01/hour=00/bars-19700101T000000Z-60s-0000-v3.parquet"),
        (REJECTS, 1_700_000_040, 11, "rejects/date=2023-11-14/hour=22/rejects-20231114T221400Z-60s-0011-v1.parquet"),
    ],
)
def test_name_of_a_file_follows_from_its_window_and_part(dataset: Dataset, start_s: int, part: int, path: str) -> None:
    assert dataset.path(start_s, part) == path
