"""Decoding: the bad messages are found among the good ones, and nothing else is touched."""

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.testing import Log, raw_batch, trade
from transforms.decode import decode

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
