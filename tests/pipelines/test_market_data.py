"""The whole graph on the FnApiRunner, from recorded batches to Parquet files, against the oracle."""

import json
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines.options import MarketDataConfig
from runners.capture import CapturedEvent, read_capture
from schemas.market_data_pb2 import MarketDataEvent
from tests.oracle import Expected, digest, expect, utc
from tests.testing import T0_US, Log, Written, config_with, place_of, places_written, run, trade

CAPTURE = Path(__file__).parents[2].parent / "shared" / "data" / "exchange_capture.jsonl.gz"
SECOND_US = 1_000_000


def expected_of(log: Log, config: MarketDataConfig, leave_out: list[tuple[int, int]] | None = None) -> Expected:
    cell = config.cell
    return expect(log.sent(leave_out or ()), horizon_us=cell.horizon_us, grace_us=cell.grace_us)


def assert_as_expected(written: Written, expected: Expected) -> None:
    """Events, late events and bars of a run, field for field."""
    identities = assert_events(written, expected)
    late = written.rows("late")
    assert sorted(map(place_of, late)) == sorted(expected.late)
    for row in late:
        sent = expected.sent[place_of(row)]
        assert row["reason"] == "beyond_horizon"
        assert row["lag_us"] == sent.lag_us
        assert row["missed_bar_start"] == utc(sent.second * SECOND_US)
    assert_bars(written, expected, identities)


def assert_events(written: Written, expected: Expected) -> dict[tuple[int, int], bytes]:
    """The unique events, each as it was sent; gives their identities by place."""
    rows = {place_of(row): row for row in written.rows("events")}
    assert rows.keys() == expected.unique.keys()
    for place, row in rows.items():
        sent = expected.sent[place]
        event = sent.event
        assert [(copy["partition"], copy["offset"]) for copy in row["copies"]] == expected.unique[place]
        assert {name: row[name] for name in row if name not in ("copies", "identity")} == {
            "exchange": event.exchange,
            "symbol": event.symbol,
            "event_type": event.event_type,
            "event_time": utc(event.timestamp),
            "price": event.price,
            "volume": event.volume,
            "trade_id": event.trade_id or None,
            "side": {1: "BUY", 2: "SELL"}.get(event.side),
            "sequence": event.sequence if event.HasField("sequence") else None,
            "received_at": utc(event.received_at) if event.HasField("received_at") else None,
            "event_id": sent.event_id or None,
            "source": event.source or None,
            "topic": sent.topic,
            "partition": sent.partition,
            "offset": sent.offset,
            "log_time": utc(sent.log_time_us),
        }
    return {place: row["identity"] for place, row in rows.items()}


def assert_bars(written: Written, expected: Expected, identities: dict[tuple[int, int], bytes]) -> None:
    rows = written.rows("bars")
    found = {(r["exchange"], r["symbol"], r["interval_s"], _us(r["window_start"])): r for r in rows}
    assert len(found) == len(rows), "a bar was written twice"
    assert found.keys() == expected.bars.keys()
    for key, row in found.items():
        assert row.pop("identity_digest") == digest(identities[place] for place in expected.trades_of[key])
        assert row.pop("status") == "complete"
        assert row == expected.bars[key]


def _us(time: Any) -> int:
    return int((time - utc(0)).total_seconds()) * SECOND_US


def assert_same_rows(left: Written, right: Written) -> None:
    for dataset in ("events", "bars", "late", "rejects"):
        assert left.sorted_rows(dataset) == right.sorted_rows(dataset)


# ---- the real capture -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def capture() -> Log:
    """The capture as a topic of 12 partitions, an instrument in each always the same, as publish does it."""
    if not CAPTURE.exists():
        pytest.skip(f"the real capture is not beside this checkout: put it at ../{CAPTURE.parent.name}/{CAPTURE.name}")
    log = Log()
    homes: dict[tuple[str, str], int] = {}
    for row in read_capture(CAPTURE):
        assert isinstance(row, CapturedEvent)
        home = homes.setdefault((row.event.exchange, row.event.symbol), len(homes) % 12)
        log.add(row.event, partition=home, log_time_us=row.log_us)
    return log


@pytest.fixture(scope="module")
def captured(capture: Log, tmp_path_factory: pytest.TempPathFactory) -> Written:
    return run(capture.batches(1_000), tmp_path_factory.mktemp("capture"))


def test_real_capture_gives_what_the_oracle_gives(capture: Log, captured: Written) -> None:
    expected = expected_of(capture, MarketDataConfig())
    assert_as_expected(captured, expected)
    assert captured.rows("rejects") == []


def test_real_capture_accounts_for_every_trade_and_every_offset(capture: Log, captured: Written) -> None:
    assert places_written(captured) == sorted(record.place for record in capture.records)
    rows = captured.rows("events") + captured.rows("late")
    assert sum(row["event_type"] == 0 for row in rows) == 3_108
    trades: Counter[int] = Counter()
    for bar in captured.rows("bars"):
        trades[bar["interval_s"]] += bar["trade_count"]
    assert trades == dict.fromkeys((1, 10, 60, 300, 3600), 3_108)


def test_real_capture_keeps_content_twins_apart(captured: Written) -> None:
    names = ("exchange", "symbol", "event_time", "price", "volume")
    trades = [row for row in captured.rows("events") if row["event_type"] == 0]
    twins = Counter(tuple(row[name] for name in names) for row in trades)
    assert sum(number - 1 for number in twins.values()) == 27
    assert all(row["copies"] == [] for row in trades)


def test_real_last_matches_beyond_a_short_horizon_are_late(capture: Log, tmp_path: Path) -> None:
    config = config_with(horizon_us=60 * SECOND_US)
    coinbase = Log()
    for record in capture.records:
        if record.event is not None and record.event.exchange == "coinbase" and record.event.event_type == 0:
            coinbase.add(record.event, partition=record.partition, log_time_us=record.log_time_us)
    expected = expected_of(coinbase, config)
    written = run(coinbase.batches(2_000), tmp_path, config)
    assert_as_expected(written, expected)
    assert len(expected.late) > 0
    assert places_written(written) == sorted(record.place for record in coinbase.records)


@pytest.mark.slow
def test_partitions_read_backwards_in_other_batches_do_not_change_a_byte(
    capture: Log, captured: Written, tmp_path: Path
) -> None:
    files = run(capture.by_partition(701, backwards=True), tmp_path).files()
    assert files.keys() == captured.files().keys()
    assert [name for name, data in captured.files().items() if files[name] != data] == []


@pytest.mark.slow
@pytest.mark.parametrize("size", [333, 17_206])
def test_batching_does_not_change_a_byte(capture: Log, captured: Written, size: int, tmp_path: Path) -> None:
    assert run(capture.batches(size), tmp_path).files() == captured.files()


@pytest.mark.slow
@pytest.mark.parametrize("shards", [1, 7])
def test_number_of_shards_changes_file_names_only_on_the_real_capture(
    capture: Log, captured: Written, shards: int, tmp_path: Path
) -> None:
    assert_same_rows(run(capture.batches(2_000), tmp_path, config_with(shards=shards)), captured)


# ---- duplicates, conflicts, late events, ids in headers, beacons ------------------------------------------------


def seeded_log(seed: int = 7, events: int = 1_500) -> Log:
    """Trades, tickers and book changes of four instruments over 25 s with 10 % copies, some late, some very late."""
    dice = random.Random(seed)
    log = Log()
    sent: list[tuple[MarketDataEvent, int, tuple[tuple[str, bytes], ...]]] = []
    for number in range(events):
        if sent and dice.random() < 0.1:
            event, partition, headers = dice.choice(sent[-200:])
            partition = partition if dice.random() < 0.5 else dice.randrange(3)
        else:
            event, headers = _seeded_event(dice, number)
            partition = dice.randrange(3)
            sent.append((event, partition, headers))
        lag_us = dice.choice([0, 2_000, 2_000, 300_000, 900_000, 30 * SECOND_US, 120 * SECOND_US, 121 * SECOND_US])
        log.add(event, partition=partition, log_time_us=event.timestamp + lag_us, headers=headers)
    return log


def _seeded_event(dice: random.Random, number: int) -> tuple[MarketDataEvent, tuple[tuple[str, bytes], ...]]:
    event = trade(
        at_us=number * 16_667 // 1_000 * 1_000,  # whole milliseconds: many events share a time, and the lag is exact
        price=dice.choice([1e-9, 0.1, 100.05, 36_000.01, 9e9]) if dice.random() < 0.1 else dice.uniform(90, 110),
        volume=dice.choice([0.0, 1e-9, 0.014596000000000001, 10_000.25]) if dice.random() < 0.3 else dice.random(),
        symbol=dice.choice(["BTC-USDT", "ETH-USDT", "XBT-USDT", "Ω-ユーロ"]),
        side=dice.choice([0, 1, 2, 9]),
        event_type=dice.choice([0, 0, 0, 0, 1, 2, 77]),
    )
    if dice.random() < 0.5:
        event.sequence = number // 3
    rung = dice.randrange(6)
    if rung < 3:
        event.trade_id = [f"{number}", f"id-{number}", f"a-trade-id-of-more-than-15-bytes-{number}"][rung]
    elif rung == 3:
        event.event_id = f"e{number}"
    headers = (("horizon-event-id", f"h{number}".encode()),) if rung == 4 else ()
    return event, (("trace", b"\x00\xff"), *headers) if number % 5 == 0 else headers


@pytest.fixture(scope="module")
def seeded() -> Log:
    return seeded_log()


@pytest.fixture(scope="module")
def seeded_run(seeded: Log, tmp_path_factory: pytest.TempPathFactory) -> Written:
    return run(seeded.batches(400), tmp_path_factory.mktemp("seeded"))


def test_copies_late_events_and_ids_in_headers_give_what_the_oracle_gives(seeded: Log, seeded_run: Written) -> None:
    expected = expected_of(seeded, MarketDataConfig())
    assert min(len(expected.late), sum(map(len, expected.unique.values()))) > 50
    assert_as_expected(seeded_run, expected)
    assert places_written(seeded_run) == sorted(record.place for record in seeded.records)


@pytest.mark.parametrize("size", [1, 37])
def test_copies_read_in_another_order_do_not_change_a_byte(
    seeded: Log, seeded_run: Written, size: int, tmp_path: Path
) -> None:
    batches = seeded.batches(size) if size == 1 else seeded.by_partition(size, backwards=True)
    assert run(batches, tmp_path).files() == seeded_run.files()


@pytest.mark.parametrize("shards", [1, 7])
def test_number_of_shards_changes_file_names_only(
    seeded: Log, seeded_run: Written, shards: int, tmp_path: Path
) -> None:
    assert_same_rows(run(seeded.batches(400), tmp_path, config_with(shards=shards)), seeded_run)


def test_records_read_again_change_nothing(seeded: Log, seeded_run: Written, tmp_path: Path) -> None:
    again = [*seeded.batches(250), *seeded.by_partition(400), *seeded.batches(99)[:5]]
    assert run(again, tmp_path).files() == seeded_run.files()


def test_replaying_over_the_files_of_a_run_changes_nothing(seeded: Log, seeded_run: Written, tmp_path: Path) -> None:
    run(seeded.batches(100)[:9], tmp_path)  # the part that was read before a crash
    run(seeded.batches(400), tmp_path)
    again = run(seeded.by_partition(300), tmp_path)
    assert again.files() == seeded_run.files()


def test_conflicting_copies_keep_the_first_and_refuse_the_others(tmp_path: Path) -> None:
    log = Log()
    log.add(trade(1_000, 100.0, trade_id="1"))
    conflict = log.add(trade(1_000, 101.0, trade_id="1"), key=b"k", headers=[("h", None)])
    log.add(trade(1_000, 100.0, trade_id="1"))
    log.add(trade(2_000, 102.0, trade_id="1"), partition=1)  # another time is another content
    written = run(log.batches(), tmp_path)
    expected = expected_of(log, MarketDataConfig())
    assert expected.conflicts == {conflict, (1, 0)}
    assert_as_expected(written, expected)
    refused = {place_of(row): row for row in written.rows("rejects")}
    assert refused.keys() == expected.conflicts
    row = refused[conflict]
    assert (row["step"], row["reason"], row["key"]) == ("cell", "identity_conflict", b"k")
    assert row["headers"] == [{"key": "h", "value": None}]
    assert row["value"] == log.records[1].value


def test_an_id_seen_in_two_event_seconds_stays_two_events_in_files_and_bars(tmp_path: Path) -> None:
    log = Log()
    log.add(trade(0, 100.0, trade_id="1"))
    log.add(trade(1_500_000, 101.0, trade_id="1"))
    written = run(log.batches(), tmp_path)
    assert_as_expected(written, expected_of(log, MarketDataConfig()))
    assert len(written.rows("events")) == 2


def test_beacons_leave_nothing_behind(tmp_path: Path) -> None:
    log = Log()
    log.add(trade(0))
    log.add(None, partition=1, headers=[("horizon-beacon", b"")])
    log.add(b"", partition=2, headers=[("horizon-beacon", None)])
    log.add(trade(5), partition=2, headers=[("horizon-beacon", b"1")])
    written = run(log.batches(), tmp_path)
    assert places_written(written) == [(0, 0)]
    assert [bar["trade_count"] for bar in written.rows("bars")] == [1] * 5


def test_only_beacons_write_no_file(tmp_path: Path) -> None:
    log = Log()
    log.add(None, headers=[("horizon-beacon", b"")])
    assert run(log.batches(), tmp_path).files() == {}


def test_lag_equal_to_the_horizon_is_folded_and_one_millisecond_more_is_late(tmp_path: Path) -> None:
    log = Log()
    log.add(trade(0), log_time_us=T0_US + 120 * SECOND_US)
    log.add(trade(0), log_time_us=T0_US + 120 * SECOND_US + 1_000)
    log.add(trade(0), log_time_us=T0_US + 500_000)  # lag equal to grace is not late
    written = run(log.batches(), tmp_path)
    assert [place_of(row) for row in written.rows("late")] == [(0, 1)]
    assert {(bar["trade_count"], bar["late_count"]) for bar in written.rows("bars")} == {(2, 1)}


def test_volumes_that_doubles_cannot_add_are_summed_exactly(tmp_path: Path) -> None:
    log = Log()
    for number, volume in enumerate([1e12, 1e-9, 1e12, 123_456_789.1, 0.3, 1_234_567_890_123.45]):
        log.add(trade(number * 1_000, 12.345678901, volume))
    written = run(log.batches(2), tmp_path)
    assert_as_expected(written, expected_of(log, MarketDataConfig()))


# ---- bad input ------------------------------------------------------------------------------------------------


def bad_records() -> Iterator[tuple[str, bytes | None]]:
    """(reason, value) of everything that must be refused."""
    whole = trade(0, symbol="BAD-USDT", trade_id="77").SerializeToString()
    yield "undecodable", b"\xff\xff\xff\xff garbage"
    yield "undecodable", b"\x00\x01\x02"
    yield "undecodable", json.dumps({"price": 1}).encode()
    yield from (("undecodable", whole[:cut]) for cut in (1, 5, 25, len(whole) - 1))
    yield "undecodable", b"\x0a\x02\xc3\x28" + whole[9:]  # a name that is not UTF-8
    yield "empty_value", b""
    yield "empty_value", None
    yield "value_too_large", trade(0, source="x" * 1_000_000).SerializeToString()
    faults: list[tuple[str, dict[str, Any]]] = [
        ("empty_exchange", {"exchange": ""}),
        ("empty_symbol", {"symbol": ""}),
        ("name_too_long", {"symbol": "S" * 10_000}),
        ("name_malformed", {"symbol": "BTC\nUSDT"}),
        ("name_malformed", {"symbol": "BTC\tUSDT"}),
        ("name_malformed", {"exchange": "bin\x00ance"}),
        ("name_malformed", {"symbol": "BTC|USDT"}),
        ("price_not_finite", {"price": float("nan")}),
        ("price_not_finite", {"price": float("inf")}),
        ("price_not_positive", {"price": -1.0}),
        ("price_not_positive", {"price": 0.0}),
        ("price_not_positive", {"price": 5e-10}),  # rounds to 0
        ("price_out_of_range", {"price": 1e10}),
        ("volume_not_finite", {"volume": float("nan")}),
        ("volume_not_finite", {"volume": float("inf")}),
        ("volume_negative", {"volume": -1e-9}),
        ("volume_out_of_range", {"volume": 2e15}),
        ("volume_out_of_range", {"price": 8e9, "volume": 1e12}),
        ("timestamp_in_seconds", {"timestamp": T0_US // 1_000_000}),
        ("timestamp_in_milliseconds", {"timestamp": T0_US // 1_000}),
        ("timestamp_in_nanoseconds", {"timestamp": T0_US * 1_000}),
        ("timestamp_too_old", {"timestamp": 0}),
        ("timestamp_too_old", {"timestamp": -(2**63)}),
        ("timestamp_in_future", {"timestamp": T0_US + 6_000_000}),
        ("timestamp_in_future", {"timestamp": 2**63 - 1}),
    ]
    yield from ((reason, trade(0, **fields).SerializeToString()) for reason, fields in faults)


@pytest.fixture(scope="module")
def mixed() -> tuple[Log, dict[tuple[int, int], str]]:
    """Good events with 1 % of bad records between them, and the reason of each bad one."""
    log, reasons = Log(), {}
    bad = list(bad_records())
    for number in range(100 * len(bad)):
        log.add(trade(number * 1_000, 100 + number % 7, trade_id=str(number)), partition=number % 3)
        if number % 100 == 50:
            reason, value = bad[number // 100]
            headers = [("horizon-event-id", f"b{number}".encode()), ("trace", b"\xff\x00"), ("none", None)]
            key = None if number % 200 == 50 else b"\x80key"
            reasons[log.add(value, partition=number % 3, key=key, headers=headers)] = reason
    return log, reasons


@pytest.fixture(scope="module")
def mixed_run(mixed: tuple[Log, dict[tuple[int, int], str]], tmp_path_factory: pytest.TempPathFactory) -> Written:
    return run(mixed[0].batches(500), tmp_path_factory.mktemp("mixed"))


def test_bad_records_are_rejected_with_reason_and_original_record(
    mixed: tuple[Log, dict[tuple[int, int], str]], mixed_run: Written
) -> None:
    log, reasons = mixed
    rows = {place_of(row): row for row in mixed_run.rows("rejects")}
    assert {place: row["reason"] for place, row in rows.items()} == reasons
    records = {record.place: record for record in log.records}
    for place, row in rows.items():
        record = records[place]
        assert (row["key"], row["value"]) == (record.key, record.value)
        assert [(header["key"], header["value"]) for header in row["headers"]] == list(record.headers)
        assert row["log_time"] == utc(record.log_time_us)
        by_decode = row["reason"] in ("undecodable", "empty_value", "value_too_large")
        assert row["step"] == ("decode" if by_decode else "check")
        assert len(row["detail"]) <= 200


def test_bad_records_harm_no_good_event(mixed: tuple[Log, dict[tuple[int, int], str]], mixed_run: Written) -> None:
    log, reasons = mixed
    assert_as_expected(mixed_run, expected_of(log, MarketDataConfig(), list(reasons)))
    assert places_written(mixed_run) == sorted(record.place for record in log.records)


def test_old_producer_with_six_fields_and_unknown_enums_are_taken(tmp_path: Path) -> None:
    log = Log()
    log.add(trade(0))
    log.add(trade(0, event_type=1_234, side=17))
    unknown_field = trade(0, symbol="NEW").SerializeToString() + b"\xfa\x3f\x03abc"  # field 1023, of a later producer
    log.add(unknown_field)
    written = run(log.batches(), tmp_path)
    assert written.rows("rejects") == []
    assert [(row["event_type"], row["side"]) for row in written.rows("events")] == [(0, None), (1_234, None), (0, None)]
