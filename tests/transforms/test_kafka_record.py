"""KafkaIO's own encoding, written by hand as transforms/kafka_record.py describes it."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.testing import varint
from transforms.kafka_record import EncodingError, parse_chunk

Header = tuple[str, bytes | None]


def prefixed(data: bytes) -> bytes:
    return varint(len(data)) + data


def nullable(data: bytes | None) -> bytes:
    return b"\0" if data is None else b"\1" + prefixed(data)


def encoded(
    partition: int = 0,
    offset: int = 0,
    time_ms: int = 1_700_000_000_000,
    key: bytes | None = None,
    value: bytes | None = b"v",
    headers: list[Header] | None = None,
    topic: str = "md.events.raw",
    kind: int = 1,
) -> bytes:
    headers = headers or []
    return b"".join(
        [
            prefixed(topic.encode()),
            *map(varint, (partition, offset, time_ms, kind)),
            len(headers).to_bytes(4, "big"),
            *(prefixed(name.encode()) + nullable(data) for name, data in headers),
            nullable(key),
            nullable(value),
        ]
    )


def chunk(records: list[bytes], head: bytes = b"\x80" + b"\0" * 7 + b"\0\0\0\1\x0f") -> bytes:
    return b"".join(head + prefixed(record) for record in records)


blobs = st.none() | st.binary(max_size=300)
record = st.fixed_dictionaries(
    {
        "partition": st.integers(0, 2**31 - 1),
        "offset": st.integers(0, 2**62),
        "time_ms": st.integers(0, 2**42),
        "key": blobs,
        "value": blobs,
        "headers": st.lists(
            st.tuples(st.text(st.characters(exclude_categories=["Cs"]), max_size=9), blobs), max_size=3
        ),
    }
)


@given(st.lists(record, min_size=1, max_size=12))
def test_every_field_of_every_record_is_read_back(records: list[dict[str, object]]) -> None:
    batch = parse_chunk(chunk([encoded(**fields) for fields in records]))  # type: ignore[arg-type]
    assert batch.topic == "md.events.raw"
    assert batch.partition.tolist() == [fields["partition"] for fields in records]
    assert batch.offset.tolist() == [fields["offset"] for fields in records]
    assert batch.log_time_us.tolist() == [fields["time_ms"] * 1_000 for fields in records]  # type: ignore[operator]
    assert batch.keys.to_pylist() == [fields["key"] for fields in records]
    assert batch.values.to_pylist() == [fields["value"] for fields in records]
    assert batch.headers == {row: fields["headers"] for row, fields in enumerate(records) if fields["headers"]}


def test_null_and_empty_are_not_the_same() -> None:
    records = [encoded(key=None, value=b""), encoded(key=b"", value=None, headers=[("", None), ("", b"")])]
    batch = parse_chunk(chunk(records))
    assert (batch.keys.to_pylist(), batch.values.to_pylist()) == ([None, b""], [b"", None])
    assert batch.headers == {1: [("", None), ("", b"")]}


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(encoded()[:-1], id="cut-value"),
        pytest.param(encoded()[:9], id="cut-topic"),
        pytest.param(encoded() + b"\0", id="bytes-left-over"),
        pytest.param(encoded(kind=0), id="no-time-type"),
        pytest.param(encoded(kind=2), id="log-append-time"),
        pytest.param(encoded(topic="other.topic"), id="another-topic"),
        pytest.param(encoded(value=None)[:-1] + b"\2", id="presence-byte-2"),
        pytest.param(encoded(headers=[("h", b"x")])[:-5], id="cut-header"),
        pytest.param(prefixed(b"md.events.raw") + b"\xff" * 12, id="endless-varint"),
        pytest.param(b"\xff" * 40, id="garbage"),
    ],
)
def test_other_bytes_raise_and_name_the_way_out(wrong: bytes) -> None:
    with pytest.raises(EncodingError, match="does not parse as KafkaIO"):
        parse_chunk(chunk([encoded(), wrong, encoded(offset=1)]))
    if wrong != encoded(topic="other.topic"):
        with pytest.raises(EncodingError):
            parse_chunk(chunk([wrong]))


@given(st.binary(max_size=60), st.integers(0, 3))
def test_any_bytes_give_a_batch_or_an_encoding_error(wrong: bytes, at: int) -> None:
    records = [encoded(offset=number) for number in range(3)]
    records.insert(at, wrong)
    with contextlib.suppress(EncodingError):
        assert len(parse_chunk(chunk(records))) == 4


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(b"", id="empty"),
        pytest.param(chunk([encoded()])[:-1], id="cut-record"),
        pytest.param(chunk([encoded()])[:9], id="cut-head"),
        pytest.param(chunk([encoded()], b"\0" * 8 + b"\0\0\0\2\x0f"), id="two-windows"),
        pytest.param(chunk([encoded()], b"\0" * 8 + b"\0\0\0\1\x05"), id="another-pane"),
    ],
)
def test_a_chunk_that_is_not_whole_raises(wrong: bytes) -> None:
    with pytest.raises(EncodingError, match="does not parse as KafkaIO"):
        parse_chunk(wrong)


@given(st.lists(record, min_size=1, max_size=4), st.data())
def test_one_flipped_byte_gives_a_batch_or_an_encoding_error(
    records: list[dict[str, object]], data: st.DataObject
) -> None:
    whole = bytearray(chunk([encoded(**fields) for fields in records]))  # type: ignore[arg-type]
    whole[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(EncodingError):
        parse_chunk(bytes(whole))
