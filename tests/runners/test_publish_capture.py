"""Captures: what a row becomes, what is reported, when it is sent and what is added to its times."""

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runners.capture import BadRow, CapturedEvent, CaptureError, captured, read_capture
from runners.publish_capture import capture_batches
from runners.rebase import SHIFT_HEADER, Schedule, schedule
from schemas.market_data_pb2 import MarketDataEvent

NOW_US = 1_800_000_000_000_000
T0 = 1_618_677_810_244_075
ROW: dict[str, Any] = {
    "exchange": "coinbase",
    "symbol": "BAND-GBP",
    "event_type": "TRADE",
    "price": 14.7775,
    "volume": 0.04,
    "timestamp_us": T0,
}
FULL = {**ROW, "received_us": T0 + 7, "event_id": "881613", "side": "BUY", "sequence": 333, "source": "ws"}


def test_six_fields_are_enough_and_the_log_time_is_the_event_time() -> None:
    row = captured(ROW)
    expected = MarketDataEvent(exchange="coinbase", symbol="BAND-GBP", price=14.7775, volume=0.04, timestamp=T0)
    assert row == CapturedEvent(expected, T0)
    assert not row.event.HasField("sequence")
    assert not row.event.HasField("received_at")


def test_full_row_keeps_everything() -> None:
    row = captured(FULL, "ignored")
    assert row.log_us == T0 + 7
    assert (row.event.trade_id, row.event.event_id, row.event.side) == ("881613", "", 1)
    assert (row.event.sequence, row.event.received_at, row.event.source) == (333, T0 + 7, "ws")


def test_event_id_of_another_type_is_no_trade_id() -> None:
    row = captured({**FULL, "event_type": "TICKER"})
    assert (row.event.trade_id, row.event.event_id) == ("", "881613")


def test_log_time_column_wins_over_receipt() -> None:
    assert captured({**FULL, "log_time_us": T0 + 900_000}).log_us == T0 + 900_000


def test_what_the_pipeline_refuses_can_still_be_published() -> None:
    odd = {**FULL, "exchange": "", "price": "NaN", "volume": -1, "timestamp_us": 1_618_677_810, "event_type": 77}
    event = captured(odd).event
    assert np.isnan(event.price)
    assert (event.exchange, event.volume, event.timestamp, event.event_type) == ("", -1.0, 1_618_677_810, 77)
    assert MarketDataEvent.FromString(event.SerializeToString()).event_type == 77


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("price", None, "column price is missing"),
        ("price", "dear", "price 'dear' is not a number"),
        ("price", [1], r"price \[1\] is not a number"),
        ("volume", True, "volume True is not a number"),
        ("symbol", 1.5, "symbol 1.5 is not a text"),
        ("event_type", "TRADES", "event_type 'TRADES' is neither one of TRADE, ORDER_BOOK, TICKER nor"),
        ("event_type", 2**31, "nor a 32-bit number"),
        ("side", "buy", "side 'buy' is neither BUY nor SELL"),
        ("sequence", "x", "sequence 'x' is not a whole number"),
        ("timestamp_us", 1.5, "timestamp_us 1.5 is not a whole number"),
        ("timestamp_us", 2**63, "does not fit into 63 bits"),
        ("received_us", 1_618_677_810, "received_us 1618677810 gives no log time"),
    ],
)
def test_row_that_cannot_be_encoded_says_why(column: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        captured({**FULL, column: value})


def test_files_give_rows_and_bad_rows_with_their_lines(tmp_path: Path) -> None:
    lines = ['{"exchange": "x"}', "", "not json", "[1]"]
    file = tmp_path / "capture.jsonl"
    file.write_text("\n".join(lines))
    bad = list(read_capture(file))
    assert [str(row).partition(": ")[0] for row in bad] == [f"{file}:{line}" for line in (1, 3, 4)]
    assert all(isinstance(row, BadRow) for row in bad)


def test_csv_and_gzip_give_the_same_events(tmp_path: Path) -> None:
    names = [*FULL]
    text = ",".join(names) + "\n" + ",".join(str(FULL[name]) for name in names) + "\n"
    text += ",".join("" if name in ("side", "sequence") else str(FULL[name]) for name in names) + "\n"
    (tmp_path / "a.csv").write_text(text)
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(text.encode()))
    expected = [captured(FULL), captured({k: v for k, v in FULL.items() if k not in ("side", "sequence")})]
    assert list(read_capture(tmp_path / "a.csv")) == expected
    assert list(read_capture(tmp_path / "a.csv.gz")) == expected


def test_file_that_is_no_capture_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(b"{}\n" * 10_000)[:-12])
    (tmp_path / "headless.csv").write_text("coinbase,BAND-GBP\n")
    (tmp_path / "latin.jsonl").write_bytes(b"\xff\xfe")
    for name in ("cut.jsonl.gz", "headless.csv", "latin.jsonl", "absent.jsonl"):
        with pytest.raises(CaptureError, match=name):
            list(read_capture(tmp_path / name))


LOG = np.array([T0 + 5_000_123, T0, T0 + 2_000_000, T0 + 2_000_000], np.int64)


def test_rows_go_in_order_of_log_time_and_equal_ones_stay() -> None:
    assert schedule(LOG, NOW_US).row.tolist() == [1, 2, 3, 0]


def test_unpaced_newest_log_time_becomes_now() -> None:
    plan = schedule(LOG, NOW_US)
    assert plan.due_s is None
    assert len(set(plan.shift_us.tolist())) == 1
    assert 0 <= NOW_US - int((LOG[plan.row] + plan.shift_us).max()) < 1_000


def test_at_speed_one_log_times_run_with_the_clock() -> None:
    plan = schedule(LOG, NOW_US, speed=1)
    assert plan.due_s is not None
    assert plan.due_s.tolist() == [0, 2, 2, 5.000123]
    behind_us = NOW_US + plan.due_s * 1e6 - (LOG[plan.row] + plan.shift_us)
    assert behind_us.min() >= 0
    assert behind_us.max() < 1_000


def test_closed_gaps_shorten_silence_and_shift_each_stretch_by_one_constant() -> None:
    year_us = 365 * 86_400_000_000
    log_us = np.array([T0, T0 + 400_000, T0 + year_us, T0 + year_us + 1], np.int64)
    plan = schedule(log_us, NOW_US, speed=2, close_gaps_s=1)
    assert plan.due_s is not None
    assert plan.due_s.tolist() == [0, 0.2, 0.7, 0.7000005]
    shifts = plan.shift_us.tolist()
    assert shifts[0] == shifts[1]
    assert shifts[2] == shifts[3] == shifts[0] - (year_us - 1_400_000)


@given(
    st.lists(st.integers(T0, T0 + 10**12), min_size=1, max_size=30),
    st.one_of(
        st.fixed_dictionaries({"speed": st.floats(0.1, 100)}),
        st.fixed_dictionaries({"rate": st.floats(0.1, 1e6)}),
        st.just({}),
    ),
    st.one_of(st.none(), st.floats(0, 100)),
)
def test_no_record_is_dated_ahead_of_its_sending(log: list[int], pace: dict[str, float], gaps: float | None) -> None:
    log_us = np.array(log, np.int64)
    plan = schedule(log_us, NOW_US, close_gaps_s=gaps, **pace)  # type: ignore[arg-type]
    due_us = np.zeros(len(log)) if plan.due_s is None else plan.due_s * 1e6
    moved = log_us[plan.row] + plan.shift_us
    assert (moved <= NOW_US + due_us).all()
    assert (moved - NOW_US - due_us).max() > -1_002
    assert (plan.shift_us % 1_000 == 0).all()
    assert (moved % 1_000 == log_us[plan.row] % 1_000).all()


def test_own_times_are_not_shifted() -> None:
    plan = schedule(LOG, NOW_US, own_times=True, rate=2)
    assert plan.shift_us.tolist() == [0, 0, 0, 0]
    assert plan.due_s is not None
    assert plan.due_s.tolist() == [0, 0.5, 1, 1.5]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"speed": 0.0}, "speed must be > 0, was 0.0"),
        ({"rate": -1.0}, "rate must be > 0, was -1.0"),
        ({"speed": 1.0, "rate": 1.0}, "both set the pace"),
        ({"close_gaps_s": -1.0}, "close-gaps must be >= 0"),
    ],
)
def test_impossible_pace_is_refused(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        schedule(LOG, NOW_US, **wrong)  # type: ignore[arg-type]


def test_batches_shift_every_time_and_say_so() -> None:
    events = [captured(FULL), captured({**ROW, "timestamp_us": T0 + 3_000})]
    plan = schedule(np.array([event.log_us for event in events], np.int64), NOW_US)
    (batch,) = capture_batches(events, plan)
    shift = int(plan.shift_us[0])
    assert batch.headers == [[(SHIFT_HEADER, str(shift).encode())]] * 2
    assert batch.keys == [b"coinbase|BAND-GBP"] * 2
    first, second = (MarketDataEvent.FromString(value or b"") for value in batch.values)
    assert (first.timestamp, first.received_at) == (T0 + shift, T0 + 7 + shift)
    assert second.timestamp == T0 + 3_000 + shift
    assert not second.HasField("received_at")
    assert list(batch.log_time_ms) == [(T0 + 7 + shift) // 1_000, (T0 + 3_000 + shift) // 1_000]
    assert events[0].event.timestamp == T0  # the capture itself stays


def test_batches_of_own_times_have_no_header() -> None:
    events = [captured(FULL)]
    none = np.zeros(1, np.int64)
    (batch,) = capture_batches(events, Schedule(none, None, none))
    assert batch.headers is None
    assert batch.values == [events[0].event.SerializeToString(deterministic=True)]
