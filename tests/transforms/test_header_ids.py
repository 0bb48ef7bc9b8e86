"""Ids in headers: which counts, what it stands for, and that nothing else of the record changes."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.market_data_pb2 import MarketDataEvent
from tests.testing import Log, raw_batch, trade
from tests.transforms.build_events import checked, decoded, events
from transforms.batches import EventBatch
from transforms.decode import decode
from transforms.event_rows import event_table
from transforms.header_bytes import Header
from transforms.header_ids import IdHeaders, values_as_read
from transforms.late import late_rows

NAMES = IdHeaders(trade_id=("trade_id", "x-id"), event_id=("horizon-event-id", "ce_id"))
IDS = ("trade_id", "event_id")


def log_of(*records: tuple[MarketDataEvent | bytes, list[Header]]) -> Log:
    log = Log()
    for value, headers in records:
        log.add(value, headers=headers)
    return log


def found(*headers: Header, **fields: str) -> tuple[str, str]:
    """Trade id and event id of one record."""
    good, bad, _ = decode(raw_batch(log_of((trade(**fields), list(headers))).records), 65_536, NAMES)
    assert good is not None
    assert bad is None
    return good.fields["trade_id"][0].as_py(), good.fields["event_id"][0].as_py()


@pytest.mark.parametrize(
    ("headers", "fields", "expected"),
    [
        ([("trade_id", b"7")], {}, ("7", "")),
        ([("horizon-event-id", b"e")], {}, ("", "e")),
        ([("ce_id", b"c")], {}, ("", "c")),
        ([("ce_id", b"c"), ("trade_id", b"7")], {}, ("7", "c")),
        # the order of the option, not that of the record
        ([("x-id", b"8"), ("trade_id", b"7")], {}, ("7", "")),
        ([("ce_id", b"c"), ("horizon-event-id", b"e")], {}, ("", "e")),
        # of one name the first, but for those that say nothing
        ([("trade_id", b"7"), ("trade_id", b"8")], {}, ("7", "")),
        ([("trade_id", b""), ("trade_id", None), ("trade_id", b"8")], {}, ("8", "")),
        ([("trade_id", b""), ("x-id", b"8")], {}, ("8", "")),
        ([("trade_id", None)], {}, ("", "")),
        # a field wins, for itself
        ([("trade_id", b"7")], {"trade_id": "5"}, ("5", "")),
        ([("trade_id", b"7"), ("ce_id", b"c")], {"trade_id": "5"}, ("5", "c")),
        ([("trade_id", b"7"), ("ce_id", b"c")], {"event_id": "f"}, ("7", "f")),
        # names by their bytes
        ([("Trade_Id", b"7"), ("trade_id ", b"8"), ("CE_ID", b"c"), ("", b"x"), ("ce_id\0", b"y")], {}, ("", "")),
        # a text, whatever it holds
        ([("trade_id", "Ω \0\n".encode())], {}, ("Ω \0\n", "")),
        ([("trade_id", b"i" * 300)], {}, ("i" * 300, "")),
        ([("trade_id", b'"7"')], {}, ('"7"', "")),
    ],
)
def test_which_id_counts(headers: list[Header], fields: dict[str, str], expected: tuple[str, str]) -> None:
    assert found(*headers, **fields) == expected


def test_an_event_is_the_same_whether_its_ids_lie_in_the_message_or_in_headers() -> None:
    headers: list[list[Header]] = [[("trade_id", b"7"), ("ce_id", b"c")], [("ce_id", b"c")], [("trade_id", b"x" * 40)]]
    fields = [{"trade_id": "7", "event_id": "c"}, {"event_id": "c"}, {"trade_id": "x" * 40}]
    sent = events(log_of(*((trade(number), of) for number, of in enumerate(headers))))
    written = events(log_of(*((trade(number, **of), []) for number, of in enumerate(fields))))
    assert sent.rows.tolist() == written.rows.tolist()
    everything = np.arange(len(sent))
    assert event_table([(sent, everything)]).equals(event_table([(written, everything)]))
    assert late_rows(sent, "beyond_horizon").equals(late_rows(written, "beyond_horizon"))
    messages = [[MarketDataEvent.FromString(value) for value in batch.values.to_pylist()] for batch in (sent, written)]
    assert messages[0] == messages[1]


@pytest.mark.parametrize(
    ("trade_id", "expected"),
    [
        (b"9", 9),
        (b"0012", 12),
        (b"9" * 18, 10**18 - 1),
        (b"0" * 17 + b"1", 1),
        (b"9" * 19, -1),
        (b"0" * 18 + b"1", -1),
        (b"18446744073709551616", -1),
        (b"a1", -1),
        (b"-1", -1),
        (b"+1", -1),
        (b" 1", -1),
        (b"1.0", -1),
        ("٣".encode(), -1),
    ],
)
def test_a_numeric_trade_id_orders_as_the_field_does_and_an_event_id_does_not(trade_id: bytes, expected: int) -> None:
    log = log_of(
        (trade(), [("trade_id", trade_id)]),
        (trade(trade_id=trade_id.decode()), []),
        (trade(sequence=5), [("trade_id", trade_id)]),
        (trade(), [("ce_id", trade_id)]),
    )
    assert events(log).rows["sequence"].tolist() == [expected, expected, 5, -1]


def test_a_field_that_is_there_and_empty_is_none() -> None:
    empty = trade().SerializeToString() + b"\x3a\x00" + b"\x5a\x00"  # some encoders write it
    batch = events(log_of((empty, [("trade_id", b"7"), ("ce_id", b"c")]), (trade(trade_id="7", event_id="c"), [])))
    assert batch.rows["identity_lo"][0] == batch.rows["identity_lo"][1]
    table = event_table([(batch, np.arange(2))])
    assert [table[name].to_pylist() for name in IDS] == [["7"] * 2, ["c"] * 2]


@pytest.mark.parametrize("name", ["trade_id", "horizon-event-id", "ce_id"])
def test_an_id_that_is_no_text_is_refused_as_a_field_is_with_the_original_value(name: str) -> None:
    log = log_of((trade(), [(name, b"\xc3\x28")]), (trade(1), [(name, b"ok")]), (trade(2), []))
    good, bad, _ = decode(raw_batch(log.records), 65_536)
    assert good is not None
    assert good.raw.offset.tolist() == [1, 2]
    assert bad["value"].to_pylist() == [log.records[0].value]
    assert bad["reason"].to_pylist() == ["undecodable"]
    assert bad["detail"][0].as_py().startswith("with the id in its header: ")


@pytest.mark.parametrize("value", [b"\xc3\x28", b"i" * 70_000])
def test_a_header_that_does_not_count_harms_nothing(value: bytes) -> None:
    log = log_of(
        (trade(trade_id="5", event_id="f"), [("trade_id", value), ("ce_id", value)]),
        (trade(), [("trade_id", b"7"), ("trade_id", value), ("horizon-event-id", b"e"), ("ce_id", value)]),
        (trade(), [("trade-id", value), ("trace", value)]),
    )
    good = decoded(raw_batch(log.records))
    assert [good.fields[name].to_pylist() for name in IDS] == [["5", "7", ""], ["f", "e", ""]]
    assert good.raw.values.take([0, 2]).to_pylist() == [log.records[0].value, log.records[2].value]


def test_the_ids_count_for_the_size_together() -> None:
    log = log_of(*((trade(), [("trade_id", b"i" * length), ("ce_id", b"e" * 10)]) for length in (100, 101)))
    size = len(log.records[0].value or b"") + 2 + 100 + 2 + 10
    good, bad, _ = decode(raw_batch(log.records), size)
    assert good is not None
    assert good.raw.offset.tolist() == [0]
    assert bad["reason"].to_pylist() == ["value_too_large"]
    assert bad["value"].to_pylist() == [log.records[1].value]
    assert bad["detail"].to_pylist() == [f"with the id in its header: {size + 1} bytes, at most {size}"]


def test_values_without_ids_in_headers_are_not_copied() -> None:
    log = log_of((trade(), [("trace", b"1"), ("trade_id", b"")]), (trade(), []))
    raw = raw_batch(log.records)
    assert decoded(raw).raw is raw
    assert values_as_read(raw) is raw.values


def test_names_that_were_not_given_stand_for_nothing() -> None:
    log = log_of((trade(), [("trade_id", b"7"), ("ce_id", b"c")]))
    good, _, _ = decode(raw_batch(log.records), 65_536, IdHeaders(trade_id=("venue",), event_id=()))
    assert good is not None
    assert [good.fields[name].to_pylist() for name in IDS] == [[""], [""]]


ids = st.sampled_from([b"1", b"2", b"x" * 200])
rows = st.lists(
    st.lists(st.tuples(st.sampled_from(["trade_id", "ce_id", "trace"]), ids), max_size=3), min_size=1, max_size=8
)


@given(rows, st.data())
def test_records_come_back_as_read_from_any_part_of_any_batch(sent: list[list[Header]], data: st.DataObject) -> None:
    log = log_of(*((trade(number), headers) for number, headers in enumerate(sent)))
    whole = checked(raw_batch(log.records))
    start = data.draw(st.integers(0, len(sent) - 1))
    stop = data.draw(st.integers(start + 1, len(sent)))
    chosen = np.array(data.draw(st.permutations(range(len(sent)))))
    parts = [whole.slice(start, stop), whole.take(chosen), EventBatch.from_bytes(whole.to_bytes())]
    for batch in (*parts, EventBatch.concat(parts)):
        for part in (batch, EventBatch.from_bytes(batch.to_bytes())):
            raw = part.raw()
            offsets = part.rows["offset"].tolist()
            assert values_as_read(raw).to_pylist() == [log.records[offset].value for offset in offsets]
            assert [raw.headers.get(row, []) for row in range(len(raw))] == [sent[offset] for offset in offsets]
            ids_of = [MarketDataEvent.FromString(value) for value in part.values.to_pylist()]
            assert [event.trade_id for event in ids_of] == [
                next((value.decode() for key, value in sent[offset] if key == "trade_id" and value), "")
                for offset in offsets
            ]


@given(st.lists(st.sampled_from(["none", "trace", "id", "bad", "long", "garbage", "null"]), min_size=1, max_size=20))
def test_a_record_is_judged_alone(kinds: list[str]) -> None:
    """The same fields or reason with any others beside it, in one batch."""
    headers: dict[str, list[Header]] = {
        "trace": [("trace", b"\xff")],
        "id": [("trade_id", b"7")],
        "bad": [("trade_id", b"\xff")],
        "long": [("ce_id", b"i" * 500)],
        "garbage": [("trade_id", b"7")],
        "null": [("trade_id", b"7")],
    }
    values: dict[str, bytes | None] = {"garbage": b"\xff", "null": None}
    log = Log()
    for number, kind in enumerate(kinds):
        log.add(values.get(kind, trade(number).SerializeToString()), headers=headers.get(kind, []))
    good, bad, _ = decode(raw_batch(log.records), 400)
    reasons = {"bad": "undecodable", "long": "value_too_large", "garbage": "undecodable", "null": "empty_value"}
    assert (bad["reason"].to_pylist() if bad else []) == [reasons[kind] for kind in kinds if kind in reasons]
    kept = [kind for kind in kinds if kind not in reasons]
    assert (good.fields["trade_id"].to_pylist() if good else []) == ["7" if kind == "id" else "" for kind in kept]


def test_header_ids_are_looked_for_only_where_there_are_headers(monkeypatch: pytest.MonkeyPatch) -> None:
    from transforms import decode as module

    asked: list[int] = []
    fields = module.protobuf_fields
    monkeypatch.setattr(module, "protobuf_fields", lambda values: (asked.append(len(values)), fields(values))[1])
    monkeypatch.setattr(module, "ids_of_headers", lambda *_: pytest.fail("no record has a header"))
    log = log_of(*itertools.repeat((trade(), []), 50))
    decoded(raw_batch(log.records))
    assert asked == [50]
