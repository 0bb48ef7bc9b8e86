"""What is refused, at the borders of each rule."""

from typing import Any

import numpy as np
import pytest

from tests.testing import T0_US, Log, raw_batch, trade
from tests.transforms.build_events import decoded
from transforms import topics
from transforms.check import check
from transforms.datasets import REJECTS
from transforms.faults import Limits

LIMITS = Limits()
AGE_US, AHEAD_US = LIMITS.max_age_us, LIMITS.max_ahead_us
NAN, INF = float("nan"), float("inf")

BORDERS: list[tuple[dict[str, Any], str | None]] = [
    ({}, None),
    ({"exchange": "", "symbol": ""}, "empty_exchange"),
    ({"symbol": ""}, "empty_symbol"),
    ({"symbol": "71321045863084981365469005770620412523470745398083994982746259498689308907982"}, None),
    ({"symbol": "0xc02aaa39b223fe8d0a0e5c4f27ead9083c756cc2-0xa0b86991c6218b36c1d19d4a2e9eb0ce3606eb48"}, None),
    ({"symbol": "0x" + "5" * 64 + "-" + "7" * 77}, None),  # a prediction market's condition and token
    ({"symbol": "S" * 255}, None),
    ({"symbol": "S" * 256}, "name_too_long"),
    ({"symbol": "Ω" * 127}, None),
    ({"symbol": "Ω" * 128}, "name_too_long"),
    ({"exchange": "E" * 256}, "name_too_long"),
    ({"symbol": "A\tB"}, "name_malformed"),
    ({"exchange": "A\tB"}, "name_malformed"),
    ({"exchange": "\t"}, "name_malformed"),
    ({"symbol": "A\nB"}, "name_malformed"),
    ({"symbol": "A\u200bB"}, "name_malformed"),
    ({"symbol": "A|B"}, "name_malformed"),
    ({"exchange": "A|B"}, "name_malformed"),
    ({"symbol": "BTC/USDT:perp-24.06"}, None),
    ({"price": NAN}, "price_not_finite"),
    ({"price": -INF}, "price_not_finite"),
    ({"price": 0.0}, "price_not_positive"),
    ({"price": -0.0}, "price_not_positive"),
    ({"price": -1e-300}, "price_not_positive"),
    ({"price": 1e-18}, None),
    ({"price": 4.98e-10}, None),
    ({"price": 1.234e-9}, None),
    ({"price": 1.05e11}, None),  # BTC in rial
    ({"price": 1.07e6, "volume": 2e8, "event_type": 2}, None),  # and a day's USDT
    ({"price": 1e15}, None),
    ({"price": 5e-19}, "price_too_fine"),
    ({"price": 1.5e-18}, "price_too_fine"),
    ({"price": 0.014596000000000001}, None),
    ({"price": 0.0014596000000000001}, None),  # noise of arithmetic
    ({"price": 0.00000145960012345678}, "price_too_fine"),
    ({"price": 1e15 + 0.125}, "price_out_of_range"),
    ({"price": 1e300}, "price_out_of_range"),
    ({"volume": NAN}, "volume_not_finite"),
    ({"volume": INF}, "volume_not_finite"),
    ({"volume": 0.0}, None),
    ({"volume": -0.0}, None),
    ({"volume": -1e-300}, "volume_negative"),
    ({"volume": 1e15, "price": 0.1}, None),
    ({"volume": 1.1e15, "price": 0.01}, "volume_out_of_range"),
    ({"volume": 1e15, "price": 1e15}, None),
    ({"volume": 1e-18}, None),
    ({"volume": 1.5e-18}, "volume_too_fine"),
    ({"volume": 5e-324, "event_type": 1}, "volume_too_fine"),
    ({"volume": 5e-324, "event_type": 2}, None),  # not added up
    ({"volume": 1e15 + 1, "event_type": 1}, "volume_out_of_range"),
    ({"volume": 1e21, "event_type": 2}, None),
    ({"volume": 1.1e21, "event_type": 2}, "volume_out_of_range"),
    ({"volume": 1e308, "price": 9e9}, "volume_out_of_range"),
    ({"timestamp": T0_US + AHEAD_US}, None),
    ({"timestamp": T0_US + AHEAD_US + 1}, "timestamp_in_future"),
    ({"timestamp": T0_US - AGE_US}, None),
    ({"timestamp": T0_US - AGE_US - 1}, "timestamp_too_old"),
    ({"timestamp": T0_US // 1_000_000}, "timestamp_in_seconds"),
    ({"timestamp": T0_US // 1_000}, "timestamp_in_milliseconds"),
    ({"timestamp": T0_US * 1_000}, "timestamp_in_nanoseconds"),
    ({"timestamp": 0}, "timestamp_too_old"),
    ({"timestamp": -1}, "timestamp_too_old"),
    ({"timestamp": 2**63 - 1}, "timestamp_in_future"),
    ({"event_type": 2**31 - 1}, None),
    ({"event_type": -1, "side": -5}, None),
    ({"price": NAN, "volume": NAN, "timestamp": 0, "symbol": ""}, "empty_symbol"),  # the most telling comes first
    ({"price": NAN, "volume": NAN, "timestamp": 0}, "price_not_finite"),
]


@pytest.mark.parametrize(("fields", "reason"), BORDERS)
def test_borders_of_each_rule(fields: dict[str, Any], reason: str | None) -> None:
    log = Log()
    log.add(trade(**fields), log_time_us=T0_US, key=b"k", headers=[("h", b"1")])
    good, bad = check(decoded(raw_batch(log.records)), LIMITS)
    assert (bad["reason"].to_pylist() if bad else [None]) == [reason]
    assert (good is None) == (reason is not None)
    if bad is not None:
        assert bad.to_pylist()[0] | {"log_time": None} == {
            "topic": "md.events.raw",
            "partition": 0,
            "offset": 0,
            "log_time": None,
            "key": b"k",
            "value": log.records[0].value,
            "headers": [{"key": "h", "value": b"1"}],
            "step": "check",
            "reason": reason,
            "detail": bad["detail"][0].as_py(),
            "code_version": bad["code_version"][0].as_py(),
        }
        assert 0 < len(bad["detail"][0].as_py()) <= 200


def test_all_borders_in_one_batch_are_judged_row_by_row() -> None:
    log = Log()
    for fields, _ in BORDERS:
        log.add(trade(**fields), log_time_us=T0_US)
    good, bad = check(decoded(raw_batch(log.records)), LIMITS)
    assert good is not None
    assert bad is not None
    reasons = dict(zip(bad["offset"].to_pylist(), bad["reason"].to_pylist(), strict=True))
    assert reasons == {row: reason for row, (_, reason) in enumerate(BORDERS) if reason}
    assert good.rows["offset"].tolist() == [row for row, (_, reason) in enumerate(BORDERS) if not reason]
    symbols = [good.instruments[code][1] for code in good.rows["instrument"]]
    assert symbols == [trade(**fields).symbol for fields, reason in BORDERS if not reason]


def test_the_wall_clock_plays_no_part() -> None:
    log = Log()
    for year_us in (0, 10 * 31_536_000_000_000, -10 * 31_536_000_000_000):
        log.add(trade(at_us=year_us))
    assert check(decoded(raw_batch(log.records)), LIMITS)[1] is None


def test_rows_hold_the_doubles_that_were_sent() -> None:
    log = Log()
    log.add(trade(123, 36_000.01, 1e9, side=2, sequence=5, event_type=9), partition=4)
    log.add(trade(0, 0.1 + 0.2, 0.014596000000000001))
    good, _ = check(decoded(raw_batch(log.records)), LIMITS)
    assert good is not None
    row = good.rows[0]
    assert (row["price"], row["volume"]) == (36_000.01, 1e9)
    assert (row["side"], row["sequence"], row["event_type"], row["partition"], row["verdict"]) == (2, 5, 9, 4, 0)
    row = good.rows[1]
    assert (row["price"], row["volume"]) == (0.1 + 0.2, 0.014596000000000001)
    assert row["event_time_us"] == np.int64(T0_US)


@pytest.mark.parametrize("log_time_us", [T0_US * 1_000, T0_US // 1_000_000 * 1_000, -(2**62), 2**63 - 1_000, 0])
def test_a_log_time_that_is_none_is_refused_as_that_and_every_output_takes_it(log_time_us: int) -> None:
    log = Log()
    log.add(trade(), log_time_us=log_time_us)
    good, bad = check(decoded(raw_batch(log.records)), LIMITS)
    assert good is None
    assert bad is not None
    assert bad["reason"].to_pylist() == ["log_time_implausible"]
    topic, messages = topics.rejects(bad, topics.TopicNames(), lambda name: 1)
    assert (topic, len(messages)) == ("md.rejects", 1)
    second = bad["log_time"][0].as_py().timestamp()
    assert REJECTS.path(int(second), 0).startswith("rejects/date=1970-01-")


def test_any_price_is_good_at_the_venues_that_are_named() -> None:
    log = Log()
    for price in (-37.63, 0.0, -0.0, -1e15, -1.1e15, -1.5e-18):
        log.add(trade(price=price, exchange="nymex", symbol="CLK0"))
    log.add(trade(price=-37.63, exchange="binance"))
    good, bad = check(decoded(raw_batch(log.records)), Limits(any_price_venues=frozenset({"nymex"})))
    assert good is not None
    assert bad is not None
    assert good.rows["price"].tolist() == [-37.63, 0.0, 0.0, -1e15]
    assert bad["reason"].to_pylist() == ["price_out_of_range", "price_too_fine", "price_not_positive"]


def test_only_price_volume_and_side_are_content() -> None:
    log = Log()
    for at_us, fields in [
        (0, {}),
        (123, {}),  # more digits of the same time
        (0, {"sequence": 7}),
        (0, {"price": 100.00000000000001}),
        (0, {"volume": 2.0}),
        (0, {"side": 2}),
    ]:
        log.add(trade(at_us, **fields))
    good, _ = check(decoded(raw_batch(log.records)), LIMITS)
    assert good is not None
    content = good.rows["content"].tolist()
    assert content[0] == content[1] == content[2]
    assert len(set(content)) == 4
