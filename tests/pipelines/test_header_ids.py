"""Trades as a six-field producer sends them: no id and no sequence in the message, ids in headers, no keys."""

import itertools
import random
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from pipelines.options import MarketDataConfig
from runners.__main__ import app
from runners.publish import PublishBatch, publish_batches
from schemas.market_data_pb2 import MarketDataEvent
from tests.expectations import assert_as_expected, assert_rejects, expected_of
from tests.logs import capture_log
from tests.readings import reading
from tests.testing import T0_US, Log, Written, run, trade
from transforms.header_ids import IdHeaders

SIX = ("exchange", "symbol", "price", "volume", "timestamp", "event_type")
SECOND_US = 1_000_000
PLAIN = MarketDataConfig()
AS_EVENT_IDS = replace(PLAIN, id_headers=IdHeaders(trade_id=(), event_id=("trade_id",)))  # which identify only

# ten trades of two milliseconds in the venue's order, and the partition of each; ids pass from three digits to four
PRICES = (101.5, 99.0, 103.25, 98.5, 100.0, 100.5, 104.0, 97.25, 100.25, 102.75)
HOMES = (2, 0, 1, 0, 2, 1, 0, 2, 1, 0)
FIRST_ID = 996


def six_field(event: MarketDataEvent) -> MarketDataEvent:
    return MarketDataEvent(**{name: getattr(event, name) for name in SIX})


def ten_trades(name: str = "trade_id") -> Log:
    log = Log()
    sent = list(enumerate(zip(PRICES, HOMES, strict=True)))
    random.Random(1).shuffle(sent)  # within a partition too the log has another order than the venue
    for number, (price, home) in sent:
        event = trade(500_000 + number // 5 * 1_000, price, 0.1 * (number + 1))
        headers = [("trace", b"\xff"), (name, b"%d" % (FIRST_ID + number))]
        log.add(event, partition=home, log_time_us=T0_US + 700_000, headers=headers)
    return log


def bar_of(written: Written, interval_s: int = 1) -> dict[str, Any]:
    (bar,) = [row for row in written.rows("bars") if row["interval_s"] == interval_s]
    return bar


def prices_of(bar: dict[str, Any]) -> tuple[float, ...]:
    return tuple(bar[name] for name in ("open", "high", "low", "close"))


@pytest.mark.parametrize("seed", range(4))
def test_a_numeric_trade_id_in_a_header_orders_what_the_venue_stamped_with_one_time(seed: int, tmp_path: Path) -> None:
    log = ten_trades()
    written = run(reading(log, random.Random(seed), crashes=seed % 2), tmp_path)
    for interval_s in (1, 10, 60, 300, 3600):
        bar = bar_of(written, interval_s)
        assert prices_of(bar) == (101.5, 104.0, 97.25, 102.75)
        assert (bar["trade_count"], float(bar["volume"]), bar["duplicate_count"]) == (10, 5.5, 0)
    assert_as_expected(written, expected_of(log, PLAIN))
    assert {row["trade_id"] for row in written.rows("events")} == {str(FIRST_ID + number) for number in range(10)}


def test_an_event_id_in_a_header_identifies_and_does_not_order(tmp_path: Path) -> None:
    log = ten_trades("ce_id")
    for record in list(log.records):  # a copy of each in another partition
        log.add(record.event, partition=record.partition + 3, log_time_us=T0_US + 800_000, headers=record.headers)
    written = run(log.batches(), tmp_path)
    assert_as_expected(written, expected_of(log, PLAIN))
    bar = bar_of(written)
    assert (bar["trade_count"], bar["duplicate_count"], bar["version"]) == (10, 10, 20)
    assert (bar["high"], bar["low"]) == (104.0, 97.25)
    assert (bar["open"], bar["close"]) != (101.5, 102.75)  # by place: nothing says more


def test_copies_by_the_id_in_a_header_are_dropped_and_another_content_is_a_conflict(tmp_path: Path) -> None:
    log = Log()
    seven = [("trade_id", b"7")]
    log.add(trade(0, 100.0, 1.0), partition=0, headers=seven)
    log.add(trade(0, 100.0, 1.0), partition=1, headers=[("ce_id", b"other"), *seven])
    log.add(trade(0, 100.0, 1.0, trade_id="7"), partition=2)  # a producer that was mended meanwhile
    log.add(trade(0, 100.0, 1.0, trade_id="7"), partition=0, headers=[("trade_id", b"8")])  # the field wins
    log.add(trade(0, 100.0, 1.0), partition=1, headers=[("trade_id", b"8")])
    log.add(trade(0, 100.0, 1.0), partition=2)  # has no id
    conflict = log.add(trade(0, 101.0, 1.0), partition=3, key=b"k", log_time_us=T0_US + 5_000, headers=seven)
    written = run(log.batches(2), tmp_path)
    assert_as_expected(written, expected_of(log, PLAIN))
    assert_rejects(written, log, {conflict: "identity_conflict"})
    bar = bar_of(written)
    assert (bar["trade_count"], bar["duplicate_count"], bar["version"], bar["high"]) == (3, 3, 7, 100.0)
    assert sorted(str(row["trade_id"]) for row in written.rows("events")) == ["7", "8", "None"]


def test_an_order_by_header_goes_with_that_by_field_and_by_sequence(tmp_path: Path) -> None:
    log = Log()
    log.add(trade(0, 102.0), headers=[("trade_id", b"12")])
    log.add(trade(0, 101.0, trade_id="11"))
    log.add(trade(0, 103.0, sequence=13), headers=[("trade_id", b"1")])
    log.add(trade(0, 104.0), headers=[("trade_id", b"a")])  # no number: before all that have one
    written = run(log.batches(), tmp_path)
    assert_as_expected(written, expected_of(log, PLAIN))
    assert prices_of(bar_of(written)) == (104.0, 104.0, 101.0, 103.0)


# ---- the real capture, without what a six-field producer leaves out -------------------------------------------------


@pytest.fixture(scope="module")
def six_fields() -> Log:
    """Its trades over twelve partitions by turns, ids in a header; those of 50 ms in any order, as threads send."""
    dice, log, sparse = random.Random(5), Log(), itertools.count()
    sent = [(record, record.event) for record in capture_log().records if record.event and record.event.trade_id]
    # Kraken's are an hour's: the others make the same bars in a tenth of the time
    sent = [pair for pair in sent if pair[1].exchange != "kraken" or next(sparse) < 200]
    sent.sort(key=lambda pair: pair[0].log_time_us + dice.randrange(50_000))
    for number, (record, event) in enumerate(sent):
        headers = [("trade_id", event.trade_id.encode())]
        log.add(six_field(event), partition=number % 12, log_time_us=record.log_time_us, headers=headers)
    return log


def test_real_trades_of_six_fields_open_and_close_in_the_venues_own_order(six_fields: Log, tmp_path: Path) -> None:
    written = run(six_fields.by_partition(701, backwards=True), tmp_path)
    expected = expected_of(six_fields, PLAIN)
    assert_as_expected(written, expected)
    assert written.rows("late") == []
    by_second: dict[tuple[str, str, int], list[tuple[int, int, float]]] = defaultdict(list)
    for record in six_fields.records:
        event, (_, trade_id) = record.event, record.headers[0]
        assert event is not None
        second = event.exchange, event.symbol, event.timestamp // SECOND_US
        by_second[second].append((event.timestamp, int(trade_id or b""), event.price))
    bars = {
        (row["exchange"], row["symbol"], int(row["window_start"].timestamp())): (row["open"], row["close"])
        for row in written.rows("bars")
        if row["interval_s"] == 1
    }
    assert bars == {second: (min(trades)[2], max(trades)[2]) for second, trades in by_second.items()}
    # without the order of the ids it would not be so
    as_event_ids = expected_of(six_fields, AS_EVENT_IDS).bars
    for name in ("open", "close"):
        assert sum(as_event_ids[key][name] != bar[name] for key, bar in expected.bars.items() if key[2] == 1) > 10
    for name in ("high", "low", "volume", "trade_count"):
        assert all(as_event_ids[key][name] == bar[name] for key, bar in expected.bars.items())


# ---- the commands on a real broker ----------------------------------------------------------------------------------

Horizon = Callable[[str], Result]


@pytest.fixture
def horizon(stack: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Horizon]:
    monkeypatch.chdir(tmp_path)
    servers = ["--bootstrap-servers", stack.bootstrap_servers]

    def invoke(line: str) -> Result:
        command = line.split()
        return CliRunner().invoke(app, [*command, *(servers if command[0] == "replay" else [])])

    return invoke


def test_replay_and_compare_take_the_names_of_headers_and_keep_them(
    stack: Any, topic: Any, horizon: Horizon, tmp_path: Path
) -> None:
    raw = topic(partitions=3, config={"retention.ms": "-1"})
    log = ten_trades("x-trade")
    for home in range(3):
        sent = [record for record in [*log.records, *log.records[:4]] if record.partition == home]  # and four copies
        headers = [[(key, value or b"") for key, value in record.headers] for record in sent]
        times_ms = [record.log_time_us // 1_000 for record in sent]
        batch = PublishBatch([None] * len(sent), [record.value for record in sent], times_ms, headers)
        publish_batches(stack.bootstrap_servers, raw, [batch], partition=home)
    names = "--trade-id-header venue --trade-id-header x-trade"
    for out, options in (("one", names), ("two", names), ("other", "")):
        told = horizon(f"replay --topic {raw} --out {out} {options}")
        assert told.exit_code == 0, told.output
    for out in ("one", "two"):
        bar = bar_of(Written(tmp_path / out))
        assert prices_of(bar) == (101.5, 104.0, 97.25, 102.75)
        assert (bar["trade_count"], bar["duplicate_count"]) == (10, 4)
    told = horizon("compare one two")
    assert told.exit_code == 0, told.output
    told = horizon("compare one other")
    assert told.exit_code == 2
    assert "--trade-id-header was ['venue', 'x-trade'] live and ['trade_id'] in the replay" in told.output


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--trade-id-header", ""], "a header of ids must have a name of printable UTF-8, was ''"),
        (["--event-id-header", "a\n"], r"a header of ids must have a name of printable UTF-8, was 'a\n'"),
        (["--event-id-header", "\udcff"], r"a header of ids must have a name of printable UTF-8, was '\udcff'"),
        (["--trade-id-header", "ce_id"], "header 'ce_id' is named twice"),
        (["--event-id-header", "x", "--event-id-header", "x"], "header 'x' is named twice"),
    ],
)
@pytest.mark.parametrize("command", ["replay", "live"])
def test_names_that_cannot_be_are_one_line(
    options: list[str], said: str, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    told = CliRunner().invoke(app, [command, *options, *(["--out", "x"] if command == "replay" else [])])
    assert told.exit_code == 1
    assert said in told.output
    assert told.output.count("\n") == 1
