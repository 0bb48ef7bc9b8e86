"""Decoding: the bad messages are found among the good ones, and nothing else is touched."""

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.testing import Log, raw_batch, trade
from transforms.decode import decode, with_header_ids

BAD = b"\xff\xff\xff\xff"


@settings(max_examples=60)
@given(st.lists(st.sampled_from(["good", "good", "good", "bad", "empty", "null", "beacon", "large"]), max_size=40))
def test_each_record_is_decoded_or_refused_or_a_beacon(kinds: list[str]) -> None:
    log = Log()
    for number, kind in enumerate(kinds):
        value = {"bad": BAD, "empty": b"", "null": None, "beacon": None, "large": b"x" * 200}.get(
            kind, trade(trade_id=str(number)).SerializeToString()
        )
        log.add(value, headers=[("horizon-beacon", b"")] if kind == "beacon" else [])
    good, bad, beacons = decode(raw_batch(log.records), 150)
    reasons = {"bad": "undecodable", "empty": "empty_value", "null": "empty_value", "large": "value_too_large"}
    wanted = [number for number, kind in enumerate(kinds) if kind == "good"]
    assert beacons == kinds.count("beacon")
    assert (good.fields["trade_id"].to_pylist() if good else []) == [str(number) for number in wanted]
    assert (good.raw.offset.tolist() if good else []) == wanted
    found = list(zip(bad["offset"].to_pylist(), bad["reason"].to_pylist(), strict=True)) if bad else []
    assert found == [(number, reasons[kind]) for number, kind in enumerate(kinds) if kind in reasons]


def test_a_batch_of_only_bad_messages_is_refused_as_a_whole() -> None:
    log = Log()
    for _ in range(9):
        log.add(BAD, key=b"k")
    good, bad, _ = decode(raw_batch(log.records), 150)
    assert good is None
    assert bad["value"].to_pylist() == [BAD] * 9


def test_a_sliced_column_of_values_is_decoded_where_it_lies() -> None:
    log = Log()
    for number in range(6):
        log.add(trade(trade_id=str(number)))
    whole = raw_batch(log.records)
    part = whole.take(whole.offset[2:5])
    sliced = type(whole)(
        whole.topic, whole.values.slice(2, 3), whole.keys.slice(2, 3), part.partition, part.offset, part.log_time_us, {}
    )
    good, bad, _ = decode(sliced, 150)
    assert bad is None
    assert good is not None
    assert good.fields["trade_id"].to_pylist() == ["2", "3", "4"]


def test_id_in_the_header_counts_where_the_message_has_none() -> None:
    log = Log()
    long = "i" * 300
    log.add(trade(), headers=[("horizon-event-id", b"h1")])
    log.add(trade(event_id="field"), headers=[("horizon-event-id", b"h2")])
    log.add(trade(), headers=[("horizon-event-id", long.encode())])
    log.add(trade(), headers=[("horizon-event-id", None), ("x", b"y")])
    log.add(trade(), headers=[("horizon-event-id", b"")])
    good, bad, _ = decode(raw_batch(log.records), 65_536)
    assert bad is None
    assert good is not None
    assert good.fields["event_id"].to_pylist() == ["h1", "field", long, "", ""]
    assert good.raw.values.to_pylist() == [record.value for record in log.records]


def test_id_in_the_header_that_is_no_text_is_refused_with_the_original_value() -> None:
    log = Log()
    log.add(trade(), headers=[("horizon-event-id", b"\xc3\x28")])
    log.add(trade(1), headers=[("horizon-event-id", b"ok")])
    good, bad, _ = decode(raw_batch(log.records), 65_536)
    assert good is not None
    assert len(good.raw) == 1
    assert bad["value"].to_pylist() == [log.records[0].value]
    assert bad["reason"].to_pylist() == ["undecodable"]


def test_id_in_the_header_counts_for_the_size() -> None:
    log = Log()
    for length in (100, 101):
        log.add(trade(), headers=[("horizon-event-id", b"i" * length)])
    size = len(log.records[0].value or b"") + 2 + 100
    good, bad, _ = decode(raw_batch(log.records), size)
    assert good is not None
    assert good.raw.offset.tolist() == [0]
    assert bad["reason"].to_pylist() == ["value_too_large"]
    assert bad["value"].to_pylist() == [log.records[1].value]


def test_values_without_ids_in_headers_are_not_copied() -> None:
    log = Log()
    log.add(trade(), headers=[("trace", b"1")])
    values = raw_batch(log.records).values
    assert with_header_ids(values, {0: [("trace", b"1")]}) is values
