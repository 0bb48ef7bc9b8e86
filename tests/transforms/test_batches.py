"""Batches travel as bytes and come back the same."""

import numpy as np
import pyarrow as pa
import pytest
from apache_beam.coders import registry
from hypothesis import given
from hypothesis import strategies as st

from tests.testing import Log, raw_batch, trade
from tests.transforms.build_events import events
from transforms.batches import EventBatch
from transforms.header_bytes import Header, pack_headers, unpack_headers
from transforms.rows import EVENT_ROW, joined, narrowed, pack_rows, unpack_rows


def three() -> EventBatch:
    log = Log()
    log.add(trade(1, symbol="A"), key=b"k", headers=[("h", b"1"), ("n", None)])
    log.add(trade(2, symbol="Ω-ユーロ"), partition=3)
    log.add(trade(3, symbol="A"), key=b"", headers=[("h", b"")])
    return events(log)


def assert_same(left: EventBatch, right: EventBatch) -> None:
    assert left.topic == right.topic
    assert list(left.instruments) == list(right.instruments)
    assert left.rows.tolist() == right.rows.tolist()
    assert left.values.to_pylist() == right.values.to_pylist()
    assert left.keys.to_pylist() == right.keys.to_pylist()
    assert left.headers == right.headers


def test_event_batch_survives_bytes_with_null_keys_and_headers() -> None:
    batch = three()
    assert batch.keys.to_pylist() == [b"k", None, b""]
    assert_same(EventBatch.from_bytes(batch.to_bytes()), batch)


@pytest.mark.parametrize(("start", "stop"), [(0, 1), (1, 2), (1, 3), (2, 3), (0, 3)])
def test_slice_survives_bytes_and_is_the_same_as_take(start: int, stop: int) -> None:
    batch = three()
    sliced, taken = batch.slice(start, stop), batch.take(np.arange(start, stop))
    again = EventBatch.from_bytes(sliced.to_bytes())
    assert_same(again, sliced)
    assert sliced.values.to_pylist() == taken.values.to_pylist()
    assert sliced.headers == taken.headers
    names = [sliced.instruments[code] for code in sliced.rows["instrument"]]
    assert names == [taken.instruments[code] for code in taken.rows["instrument"]]
    assert set(names) == set(sliced.instruments)


def test_take_reorders_headers_with_their_rows() -> None:
    assert three().take(np.array([2, 1, 0])).headers == {0: [("h", b"")], 2: [("h", b"1"), ("n", None)]}


def test_raw_gives_back_the_records_as_read() -> None:
    log = Log()
    log.add(trade(1), partition=2, key=b"k", headers=[("h", None)], log_time_us=1_700_000_000_123_000)
    read, raw = raw_batch(log.records), events(log).raw()
    assert raw.values.to_pylist() == read.values.to_pylist()
    assert (raw.keys.to_pylist(), raw.headers, raw.topic) == ([b"k"], {0: [("h", None)]}, read.topic)
    for name in ("partition", "offset", "log_time_us"):
        assert getattr(raw, name).tolist() == getattr(read, name).tolist()


names = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=8)


@given(st.lists(st.tuples(names, names), unique=True, max_size=5), st.integers(0, 20))
def test_packed_rows_come_back(instruments: list[tuple[str, str]], count: int) -> None:
    rows = np.zeros(count if instruments else 0, EVENT_ROW)
    rows["instrument"] = np.arange(len(rows)) % max(len(instruments), 1)
    rows["offset"] = np.arange(len(rows))
    again = unpack_rows(pack_rows(instruments, rows))
    assert again[0] == instruments
    assert again[1].tolist() == rows.tolist()


@given(st.lists(st.lists(st.sampled_from("ABCDE"), min_size=1, max_size=5), min_size=1, max_size=4))
def test_joined_rows_keep_their_instruments(parts: list[list[str]]) -> None:
    tables = []
    for part in parts:
        instruments = [("x", name) for name in sorted(set(part))]
        rows = np.zeros(len(part), EVENT_ROW)
        rows["instrument"] = [instruments.index(("x", name)) for name in part]
        tables.append(narrowed(instruments, rows))
    instruments, rows = joined(tables)
    assert [instruments[code][1] for code in rows["instrument"]] == [name for part in parts for name in part]


def test_coders_of_the_shapes_are_deterministic_and_inverse() -> None:
    batch = three()
    coder = registry.get_coder(EventBatch)
    assert coder.is_deterministic()
    assert_same(coder.decode(coder.encode(batch)), batch)
    arrow = pa.record_batch({"a": [1, None], "b": ["x", "y"]})
    coder = registry.get_coder(pa.RecordBatch)
    assert coder.is_deterministic()
    assert coder.decode(coder.encode(arrow)).equals(arrow)


HEADER = st.tuples(st.text(max_size=5), st.none() | st.binary(max_size=9))


@given(st.dictionaries(st.integers(0, 9), st.lists(HEADER, min_size=1, max_size=3), max_size=4))
def test_headers_come_back_and_one_of_no_row_raises(headers: dict[int, list[Header]]) -> None:
    packed = pack_headers(headers)
    assert unpack_headers(memoryview(packed), 10) == headers
    if headers:
        with pytest.raises(ValueError, match="beyond"):
            unpack_headers(memoryview(packed), max(headers))  # a row that the batch does not have
