"""What must hold for any records whatever: the laws of the Hypothesis tests and of the coverage-guided fuzzer."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from schemas import avro
from schemas.reject import REASONS
from schemas.units import LOG_TIME_UNTIL_US, US_PER_HOUR, US_PER_S
from tests.oracle import Place, utc
from tests.testing import Recorded, place_of, raw_batch
from transforms import files, topics
from transforms.batches import EventBatch
from transforms.check import check
from transforms.datasets import EVENTS, REJECTS
from transforms.decode import BEACON_HEADER, decode
from transforms.event_rows import event_table
from transforms.faults import Limits
from transforms.fitting import MAX_REJECT_BYTES, _sizes
from transforms.late import late_rows
from transforms.topics import TopicNames

LIMITS = Limits()
NAMES = TopicNames()

Row = dict[str, Any]


def judged(records: Sequence[Recorded]) -> tuple[EventBatch | None, list[pa.RecordBatch], int]:
    """Decode and check: the events, what was refused, and the number of beacons."""
    decoded, undecoded, beacons = decode(raw_batch(records), LIMITS.max_value_bytes)
    good, unchecked = check(decoded, LIMITS) if decoded is not None else (None, None)
    return good, [batch for batch in (undecoded, unchecked) if batch is not None], beacons


def assert_laws(records: Sequence[Recorded]) -> None:
    """Each record is an event, a reject or a beacon, whatever lies beside it, and every output takes it."""
    good, refused, beacons = judged(records)
    events = rows_by_place(good)
    rejects = rejects_by_place(refused)
    silent = {
        record.place
        for record in records
        if record.value is None and any(key == BEACON_HEADER for key, _ in record.headers)
    }
    assert beacons == len(silent)
    assert [*events, *rejects].count((-1, -1)) == 0
    assert sorted([*events, *rejects, *silent]) == sorted(record.place for record in records)
    assert_rejects_as_sent(records, rejects)
    assert_neighbours_unharmed(records, events, rejects)
    assert_outputs_take(good, refused)


def rows_by_place(batch: EventBatch | None) -> dict[Place, Row]:
    """The fields of each event with its names in place of their number; a place that is met twice is an error.

    Without the clock of its partition, which every record before it tells, good or bad.
    """
    if batch is None:
        return {}
    names = [name for name in batch.rows.dtype.names or () if name not in ("clock_us", "lag_us")]
    rows: dict[Place, Row] = {}
    for row, value in zip(batch.rows, batch.values.to_pylist(), strict=True):
        found = {name: row[name].item() for name in names} | {"value": value}
        found["instrument"] = batch.instruments[found["instrument"]]
        place = (found["partition"], found["offset"])
        assert place not in rows
        rows[place] = found
    return rows


def rejects_by_place(refused: Sequence[pa.RecordBatch]) -> dict[Place, Row]:
    """The rejects; a place that is met twice is an error."""
    rows = [row for batch in refused for row in batch.to_pylist()]
    found = {(row["partition"], row["offset"]): row for row in rows}
    assert len(found) == len(rows)
    return found


def assert_rejects_as_sent(records: Sequence[Recorded], rejects: dict[Place, Row]) -> None:
    sent = {record.place: record for record in records}
    for place, row in rejects.items():
        record = sent[place]
        assert (row["key"], row["value"]) == (record.key, record.value)
        assert [(header["key"], header["value"]) for header in row["headers"]] == list(record.headers)
        is_dated = 0 <= record.log_time_us < LOG_TIME_UNTIL_US
        assert row["log_time"] == utc(record.log_time_us if is_dated else 0)
        assert is_dated or f"log_time_us={record.log_time_us} " in row["detail"]
        assert row["reason"] in REASONS
        assert len(row["detail"]) <= 200


def assert_neighbours_unharmed(
    records: Sequence[Recorded], events: dict[Place, Row], rejects: dict[Place, Row]
) -> None:
    """The good ones alone give the same rows, and each bad one alone has the same reason."""
    alone, refused, _ = judged([record for record in records if record.place in events])
    assert refused == []
    assert rows_by_place(alone) == events
    for record in records:
        if record.place in rejects:
            _, refused, _ = judged([record])
            assert rejects_by_place(refused) == {record.place: rejects[record.place]}


def assert_fitting(sent: Row, row: Row) -> None:
    """A reject as its topic has it: whole, or with a detail that names the parts that are in the files alone."""
    detail, parts = sent["detail"], list[str]()
    while detail != row["detail"]:
        said, _, detail = detail.partition(" in the files alone; ")
        parts.append(said.partition(" ")[0])
    left_out = {part: [] if part == "headers" else None for part in parts}
    assert sent == row | left_out | {"detail": sent["detail"]}
    assert bool(parts) == (sum(_sizes(row).values()) > MAX_REJECT_BYTES)


def assert_outputs_take(good: EventBatch | None, refused: Sequence[pa.RecordBatch]) -> None:
    """Topics and files take what decode and check let through, and give it back."""
    for batch in refused:
        _, messages = topics.rejects(batch, NAMES, lambda _: 12)
        assert max(len(message[0]) for message in messages) < MAX_REJECT_BYTES + 5_000
        for (message, *_), row in zip(messages, batch.to_pylist(), strict=True):
            assert_fitting(avro.decode(message)[1], row)
        pieces = list(files.reject_pieces(batch, REJECTS))
        assert all(REJECTS.path(*key) for key, _ in pieces)
        whole = REJECTS.merged([REJECTS.table([piece[8:]]) for _, piece in pieces])
        assert whole.to_pylist() == sorted(batch.to_pylist(), key=place_of)
    if good is None:
        return
    again = EventBatch.from_bytes(good.to_bytes())
    assert rows_by_place(again) == rows_by_place(good)
    late = late_rows(good, "beyond_horizon")
    _, messages = topics.late_events(late, NAMES, lambda _: 12)
    decoded = [avro.decode(message[0])[1] for message in messages]
    np.testing.assert_equal(decoded, late.to_pylist())  # NaN equals NaN
    assert len(topics.unique_events(((0, 0), good), NAMES, lambda _: 12)[1]) == len(good)
    assert len(event_table([(good, np.arange(len(good)))])) == len(good)
    for time_us in good.rows["event_time_us"].tolist():
        end_s = time_us // US_PER_HOUR * 3_600 + 3_600  # of the largest window that an event is in
        assert utc(end_s * US_PER_S)
        assert EVENTS.path(end_s, 0)
