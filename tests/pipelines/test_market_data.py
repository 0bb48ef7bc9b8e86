"""The whole graph on the FnApiRunner, from recorded batches to Parquet files, against the oracle."""

from collections import Counter
from pathlib import Path

import pytest

from pipelines.options import MarketDataConfig
from schemas.reject import REASONS
from tests.expectations import assert_as_expected, assert_rejects, assert_same_rows, expected_of, harmless
from tests.logs import capture_log, mixed_log, seeded_log
from tests.oracle import Place
from tests.testing import T0_US, Log, Written, config_with, place_of, places_written, run, trade

CAPTURE = Path(__file__).parents[2].parent / "shared" / "data" / "exchange_capture.jsonl.gz"
SECOND_US = 1_000_000


# ---- the real capture -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def capture() -> Log:
    return capture_log()


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


def test_beacons_leave_nothing_behind_and_data_with_their_header_is_data(tmp_path: Path) -> None:
    log = Log()
    log.add(trade(0))
    log.add(None, partition=1, headers=[("horizon-beacon", b"")])
    log.add(None, partition=1, headers=[("horizon-beacon", None)])
    log.add(b"", partition=2, headers=[("horizon-beacon", None)])
    log.add(trade(5), partition=2, headers=[("horizon-beacon", b"1")])
    written = run(log.batches(), tmp_path)
    assert places_written(written) == [(0, 0), (2, 0), (2, 1)]
    assert [row["reason"] for row in written.rows("rejects")] == ["empty_value"]
    assert [bar["trade_count"] for bar in written.rows("bars")] == [2] * 5


def test_only_beacons_write_no_file(tmp_path: Path) -> None:
    log = Log()
    log.add(None, headers=[("horizon-beacon", b"")])
    assert run(log.batches(), tmp_path).files() == {}


def test_lag_equal_to_the_horizon_is_folded_and_one_millisecond_more_is_late(tmp_path: Path) -> None:
    log = Log()
    log.add(trade(0), log_time_us=T0_US + 500_000)  # lag equal to grace is not late
    log.add(trade(0), log_time_us=T0_US + 120 * SECOND_US)
    log.add(trade(0), log_time_us=T0_US + 120 * SECOND_US + 1_000)
    log.add(trade(0), log_time_us=T0_US)  # behind newer records: the partition's clock counts, not its own log time
    written = run(log.batches(), tmp_path)
    assert [place_of(row) for row in written.rows("late")] == [(0, 2), (0, 3)]
    assert {(bar["trade_count"], bar["delayed_count"]) for bar in written.rows("bars")} == {(2, 1)}


def test_volumes_that_doubles_cannot_add_are_summed_exactly(tmp_path: Path) -> None:
    log = Log()
    for number, volume in enumerate([1e12, 1e-9, 1e12, 123_456_789.1, 0.3, 1_234_567_890_123.45]):
        log.add(trade(number * 1_000, 12.345678901, volume))
    written = run(log.batches(2), tmp_path)
    assert_as_expected(written, expected_of(log, MarketDataConfig()))


# ---- bad input ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=[(1, 1), (50, 3)], ids=["1 percent", "50 percent"])
def mixed(request: pytest.FixtureRequest) -> tuple[Log, dict[Place, str]]:
    return mixed_log(*request.param)


@pytest.fixture(scope="module")
def mixed_run(mixed: tuple[Log, dict[Place, str]], tmp_path_factory: pytest.TempPathFactory) -> Written:
    return run(mixed[0].batches(500), tmp_path_factory.mktemp("mixed"))


def test_bad_records_are_rejected_with_reason_and_original_record(
    mixed: tuple[Log, dict[Place, str]], mixed_run: Written
) -> None:
    assert_rejects(mixed_run, *mixed)


def test_bad_records_harm_no_good_event(mixed: tuple[Log, dict[Place, str]], mixed_run: Written) -> None:
    log, reasons = mixed
    assert_as_expected(mixed_run, expected_of(log, MarketDataConfig(), harmless(reasons)))
    assert places_written(mixed_run) == sorted(record.place for record in log.records)


def test_mixed_logs_hold_every_reason_at_their_share() -> None:
    for percent, rounds in ((1, 1), (50, 3)):
        log, reasons = mixed_log(percent, rounds)
        assert len(reasons) / len(log.records) == percent / 100
        assert set(reasons.values()) == set(REASONS)


def test_old_producer_with_six_fields_and_unknown_enums_are_taken(tmp_path: Path) -> None:
    log = Log()
    log.add(trade(0))
    log.add(trade(0, event_type=1_234, side=17))
    unknown_field = trade(0, symbol="NEW").SerializeToString() + b"\xfa\x3f\x03abc"  # field 1023, of a later producer
    log.add(unknown_field)
    written = run(log.batches(), tmp_path)
    assert written.rows("rejects") == []
    assert [(row["event_type"], row["side"]) for row in written.rows("events")] == [(0, None), (1_234, None), (0, None)]
