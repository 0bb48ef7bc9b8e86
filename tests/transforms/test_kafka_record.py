"""A chunk of KafkaIO's records: how its records lie in blocks does not show, and other bytes are told."""

import contextlib
from dataclasses import dataclass
from typing import cast

import numpy as np
import pytest
from confluent_kafka import Message
from hypothesis import given
from hypothesis import strategies as st

from tests.transforms.build_blocks import Polled, block, chunk, chunk_of, kafka_record, polled, prefixed
from transforms.batches import RawBatch
from transforms.kafka_record import EncodingError, parse_chunk
from transforms.log_clock import plausible
from transforms.read_offsets import batch_of

ONE = kafka_record(block([Polled()]))


def read_back(batch: RawBatch) -> list[Polled]:
    """The records of a batch; what kind their log time is of is not in it."""
    numbers = (batch.partition, batch.offset, batch.log_time_us // 1_000)
    columns = (*(column.tolist() for column in numbers), batch.keys.to_pylist(), batch.values.to_pylist())
    rows = enumerate(zip(*columns, strict=True))
    return [Polled(*fields, headers=tuple(batch.headers.get(row, ()))) for row, fields in rows]


@st.composite
def cut(draw: st.DrawFn) -> list[list[Polled]]:
    """Records in blocks: each of one partition, cut anywhere."""
    blocks: list[list[Polled]] = []
    for record in draw(st.lists(polled, min_size=1, max_size=12)):
        if blocks and blocks[-1][0].partition == record.partition and draw(st.booleans()):
            blocks[-1].append(record)
        else:
            blocks.append([record])
    return blocks


@given(cut())
def test_any_records_in_any_blocks_are_read_back_in_order(blocks: list[list[Polled]]) -> None:
    batch = parse_chunk(chunk_of(blocks))
    assert batch.topic == "md.events.raw"
    wanted = [Polled(**{**vars(record), "kind": 0}) for records in blocks for record in records]
    assert read_back(batch) == wanted
    assert set(batch.headers) == {row for row, record in enumerate(wanted) if record.headers}


def test_null_and_empty_are_not_the_same() -> None:
    records = [Polled(value=b"", key=None), Polled(value=None, key=b"", headers=(("", None), ("", b"")))]
    batch = parse_chunk(chunk_of([records]))
    assert (batch.keys.to_pylist(), batch.values.to_pylist()) == ([None, b""], [b"", None])
    assert batch.headers == {1: [("", None), ("", b"")]}


def test_records_that_carry_the_time_of_the_broker_are_read_like_others() -> None:
    batch = parse_chunk(chunk_of([[Polled(kind=1, time_ms=7), Polled(kind=0, offset=1, time_ms=5)]]))
    assert batch.log_time_us.tolist() == [7_000, 5_000]


@dataclass(frozen=True)
class Consumed:
    """A record as the replay's client gives it."""

    time: tuple[int, int]

    def topic(self) -> str:
        return "md.events.raw"

    def partition(self) -> int:
        return 0

    offset = partition

    def timestamp(self) -> tuple[int, int]:
        return self.time

    def value(self) -> bytes:
        return b"v"

    key = value

    def headers(self) -> None:
        return None


@pytest.mark.parametrize("kind", [1, 2], ids=["CreateTime", "LogAppendTime"])
@pytest.mark.parametrize(
    "time_ms", [1_700_000_000_000, -1, 0, 1_764_288_000_000_000, 1_764_288_000_000_000_000, 2**63 - 1]
)
def test_a_log_time_is_the_same_to_both_readers_and_beyond_int64_it_is_no_time(time_ms: int, kind: int) -> None:
    live = parse_chunk(chunk_of([[Polled(time_ms=time_ms, kind=kind - 1)]])).log_time_us.tolist()
    replayed = batch_of([cast(Message, Consumed((kind, time_ms)))]).log_time_us.tolist()
    wanted = min(time_ms, 2**63 // 1_000 - 1) * 1_000
    assert (live, replayed) == ([wanted], [wanted])
    assert plausible(np.array(live)).tolist() == [time_ms == 1_700_000_000_000]


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        pytest.param(kafka_record(b"an event of the topic, long enough"), "a record that is no block", id="raw"),
        pytest.param(kafka_record(b"v", key=b"k"), "a record that is no block", id="raw-with-key"),
        pytest.param(kafka_record(None), "a record that is no block", id="raw-null"),
        pytest.param(kafka_record(b"v", headers=1), "a record that is no block", id="raw-with-headers"),
        pytest.param(kafka_record(block([Polled()], version=2)), "a block of layout 2, not 1", id="other-layout"),
        pytest.param(kafka_record(block([Polled()])[:-1]), "does not end where its head says", id="cut-block"),
        pytest.param(kafka_record(block([])), "does not end where its head says", id="no-records"),
        pytest.param(ONE[:-1], "does not end where its length says", id="cut-record"),
        pytest.param(ONE + b"\0", "does not end where its length says", id="bytes-left-over"),
        pytest.param(kafka_record(block([Polled()]), topic="other"), "records of 2 topics", id="another-topic"),
        pytest.param(prefixed(b"md.events.raw") + b"\xff" * 12, "more than 10 bytes", id="endless-varint"),
        pytest.param(kafka_record(block([Polled()]), 2**40), "partition 1099511627776", id="partition"),
    ],
)
def test_other_bytes_raise_and_name_the_way_out(wrong: bytes, reason: str) -> None:
    with pytest.raises(EncodingError, match=f"{reason}.*Run `make setup`"):
        parse_chunk(chunk([ONE, wrong, ONE]))


@given(st.binary(max_size=60), st.integers(0, 3))
def test_any_bytes_give_a_batch_or_an_encoding_error(wrong: bytes, at: int) -> None:
    records = [ONE] * 3
    records.insert(at, wrong)
    with contextlib.suppress(EncodingError):
        assert len(parse_chunk(chunk(records))) == 4


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(b"", id="empty"),
        pytest.param(chunk([ONE])[:-1], id="cut-record"),
        pytest.param(chunk([ONE])[:9], id="cut-head"),
        pytest.param(chunk([ONE], b"\0" * 8 + b"\0\0\0\2\x0f"), id="two-windows"),
        pytest.param(chunk([ONE], b"\0" * 8 + b"\0\0\0\1\x05"), id="another-pane"),
    ],
)
def test_a_chunk_that_is_not_whole_raises(wrong: bytes) -> None:
    with pytest.raises(EncodingError, match="gives no block of records"):
        parse_chunk(wrong)


@given(cut(), st.data())
def test_one_flipped_byte_gives_a_batch_or_an_encoding_error(blocks: list[list[Polled]], data: st.DataObject) -> None:
    whole = bytearray(chunk_of(blocks))
    whole[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(EncodingError):
        parse_chunk(bytes(whole))
