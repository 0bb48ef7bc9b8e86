"""Logs to run the graph on: the real capture, copies and late events, bad records between good ones."""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runners.capture import CapturedEvent, read_capture
from schemas.market_data_pb2 import MarketDataEvent
from schemas.units import US_PER_S
from tests.oracle import Place
from tests.testing import T0_US, Log, trade

CAPTURE = Path(__file__).parents[1].parent / "shared" / "data" / "exchange_capture.jsonl.gz"


def capture_log() -> Log:
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
        lag_us = dice.choice([0, 2_000, 2_000, 300_000, 900_000, 30 * US_PER_S, 120 * US_PER_S, 121 * US_PER_S])
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


def mixed_log() -> tuple[Log, dict[Place, str]]:
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
