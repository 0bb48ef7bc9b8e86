"""Logs to run the graph on: the real capture, copies and late events, bad records between good ones."""

import json
import random
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runners.capture import CapturedEvent, read_capture
from schemas.market_data_pb2 import MarketDataEvent
from schemas.units import US_PER_S
from tests.oracle import Place
from tests.testing import T0_US, Log, trade
from transforms.faults import Limits

MIDNIGHT_US = -(-T0_US // 86_400_000_000) * 86_400_000_000 - T0_US  # the first after T0_US, from there
CAPTURE = Path(__file__).parents[1].parent / "shared" / "data" / "exchange_capture.jsonl.gz"


def capture_log() -> Log:
    """The capture as a topic of 12 partitions, an instrument in each always the same, in the order of its log times.

    It was recorded venue by venue: a partition of two venues' instruments would have times that go back by years.
    """
    if not CAPTURE.exists():
        pytest.skip(f"the real capture is not beside this checkout: put it at ../{CAPTURE.parent.name}/{CAPTURE.name}")
    log = Log()
    homes: dict[tuple[str, str], int] = {}
    rows = [row for row in read_capture(CAPTURE) if isinstance(row, CapturedEvent)]
    assert len(rows) == 17_206
    for row in sorted(rows, key=lambda row: row.log_us):
        home = homes.setdefault((row.event.exchange, row.event.symbol), len(homes) % 12)
        log.add(row.event, partition=home, log_time_us=row.log_us)
    return log


def seeded_log(seed: int = 7, events: int = 1_500) -> Log:
    """Trades, tickers and book changes of four instruments over 25 s with 10 % copies, some late, some very late."""
    dice = random.Random(seed)
    log = Log()
    sent: list[tuple[MarketDataEvent, int, tuple[tuple[str, bytes], ...]]] = []
    records: list[tuple[int, MarketDataEvent, int, tuple[tuple[str, bytes], ...]]] = []
    for number in range(events):
        if sent and dice.random() < 0.1:
            event, partition, headers = dice.choice(sent[-200:])
            partition = partition if dice.random() < 0.5 else dice.randrange(3)
        else:
            event, headers = _seeded_event(dice, number)
            partition = dice.randrange(3)
            sent.append((event, partition, headers))
        lag_us = dice.choice([0, 2_000, 2_000, 300_000, 900_000, 30 * US_PER_S, 120 * US_PER_S, 121 * US_PER_S])
        records.append((event.timestamp + lag_us, event, partition, headers))
    # as they would have come, some after newer ones
    for time_us, event, partition, headers in sorted(records, key=lambda r: r[0] + dice.choice([0, 0, 0, 400_000])):
        log.add(event, partition=partition, log_time_us=time_us, headers=headers)
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


def silent_log(gap_s: int, seed: int = 11, half_us: int = 120 * US_PER_S) -> Log:
    """Trades of instruments that fall silent for about `gap_s` again and again, around a midnight.

    One of them trades every second or two, one only once; 15 % copies, some late, some very late; the tickers between
    them prolong nothing.
    """
    dice = random.Random(seed)
    steps = {name: [1, 1, 1, 2, 3, gap_s - 1, gap_s, gap_s + 1, gap_s + 2, 3 * gap_s] for name in ("A", "B", "C")}
    seconds = [("ONCE", MIDNIGHT_US // US_PER_S - 5)]
    for name, choices in (steps | {"BUSY": [1, 1, 2]}).items():
        second = (MIDNIGHT_US - half_us) // US_PER_S
        while second < (MIDNIGHT_US + half_us) // US_PER_S:
            seconds.append((name, second))
            second += dice.choice(choices)
    log, records = Log(), list[tuple[int, MarketDataEvent, int]]()
    for number, (name, second) in enumerate(sorted(seconds, key=lambda pair: pair[1])):
        for part in range(1 if name == "ONCE" else dice.randrange(1, 4)):
            event = trade(
                second * US_PER_S + dice.choice([0, 999_999, dice.randrange(US_PER_S)]),
                dice.choice([0.1, 36_000.01, 9e9, dice.uniform(90, 110)]),
                dice.choice([0.0, 1e-9, 10_000.25, dice.random()]),
                symbol=name,
                trade_id=f"{number}-{part}",
                event_type=2 if dice.random() < 0.1 and name != "ONCE" else 0,
            )
            for _ in range(2 if dice.random() < 0.15 else 1):
                lags_us = [2_000, 2_000, 300_000, 900_000, 30 * US_PER_S, 120 * US_PER_S, 122 * US_PER_S]
                lag_us = 0 if name == "ONCE" else dice.choice(lags_us)
                records.append((event.timestamp + lag_us, event, dice.randrange(3)))
    for time_us, event, partition in sorted(records, key=lambda record: record[0]):  # as they would have come
        log.add(event, partition=partition, log_time_us=time_us)
    return log


def bad_records() -> Iterator[tuple[str, bytes | None]]:
    """(reason, value) of everything that decode and check must refuse."""
    whole = trade(0, symbol="BAD-USDT", trade_id="77").SerializeToString()
    yield "undecodable", b"\xff\xff\xff\xff garbage"
    yield "undecodable", b"\x00\x01\x02"
    yield "undecodable", json.dumps({"price": 1}).encode()
    yield from (("undecodable", whole[:cut]) for cut in (1, 5, 25, len(whole) - 1))
    yield from (("undecodable", whole + bytes([15 << 3 | wire_type])) for wire_type in (6, 7))  # there are no such
    yield "undecodable", whole + b"\x48" + b"\xff" * 11  # a varint without end
    yield "undecodable", b"\x0a\x02\xc3\x28" + whole[9:]  # a name that is not UTF-8
    yield "undecodable", whole + b"\x3a\x03\xed\xa0\x80"  # nor a trade id: half a surrogate pair
    # a known field of another wire type is an unknown field, so the message has none of its number
    yield "empty_exchange", b"\x08\x05" + whole[9:]
    yield "price_not_positive", _without(whole, "price") + b"\x1d" + struct.pack("<f", 100.0)
    yield "timestamp_too_old", _without(whole, "timestamp") + b"\x29" + struct.pack("<q", T0_US)
    yield "empty_value", b""
    yield "empty_value", None
    yield "value_too_large", trade(0, source="x" * 1_000_000).SerializeToString()
    yield "value_too_large", b"\xff" * 1_000_000
    yield "log_time_implausible", whole
    yield "value_too_large", random.Random(1).randbytes(1_048_000)  # as large as a broker takes it by default
    yield "value_too_large", _of_size(Limits().max_value_bytes + 1).SerializeToString()
    faults: list[tuple[str, dict[str, Any]]] = [
        ("empty_exchange", {"exchange": ""}),
        ("empty_symbol", {"symbol": ""}),
        ("name_too_long", {"symbol": "S" * 10_000}),
        ("name_too_long", {"exchange": "Ω" * 5_000}),
        ("name_malformed", {"symbol": "BTC\nUSDT"}),
        ("name_malformed", {"symbol": "BTC\tUSDT"}),
        ("name_malformed", {"exchange": "\t"}),
        ("name_malformed", {"exchange": "bin\x00ance"}),
        ("name_malformed", {"exchange": "bin\x1b[31mance"}),
        ("name_malformed", {"symbol": "BTC\u202eUSDT"}),
        ("name_malformed", {"symbol": "BTC|USDT"}),
        ("price_not_finite", {"price": float("nan")}),
        ("price_not_finite", {"price": float("inf")}),
        ("price_not_finite", {"price": -float("inf")}),
        ("price_not_positive", {"price": -1.0}),
        ("price_not_positive", {"price": -1e308}),
        ("price_not_positive", {"price": 0.0}),
        ("price_not_positive", {"price": -0.0}),
        ("price_too_fine", {"price": 5e-324}),
        ("price_too_fine", {"price": 1.23e-17}),
        ("price_out_of_range", {"price": 1.1e15}),
        ("price_out_of_range", {"price": 1e308}),
        ("volume_not_finite", {"volume": float("nan")}),
        ("volume_not_finite", {"volume": float("inf")}),
        ("volume_negative", {"volume": -1e-9}),
        ("volume_negative", {"volume": -5e-324}),
        ("volume_out_of_range", {"volume": 2e15}),
        ("volume_out_of_range", {"volume": 1e308}),
        ("volume_too_fine", {"volume": 5e-324}),
        ("timestamp_in_seconds", {"timestamp": T0_US // 1_000_000}),
        ("timestamp_in_milliseconds", {"timestamp": T0_US // 1_000}),
        ("timestamp_in_nanoseconds", {"timestamp": T0_US * 1_000}),
        ("timestamp_too_old", {"timestamp": 0}),  # the year 1970
        ("timestamp_too_old", {"timestamp": 1}),
        ("timestamp_too_old", {"timestamp": -(2**63)}),
        ("timestamp_in_future", {"timestamp": T0_US + 6_000_000}),
        ("timestamp_in_future", {"timestamp": 9_223_372_036_854_775}),  # 2262, where int64 nanoseconds end
        ("timestamp_in_future", {"timestamp": 2**63 - 1}),
    ]
    yield from ((reason, trade(0, **fields).SerializeToString()) for reason, fields in faults)


def _without(data: bytes, name: str) -> bytes:
    event = MarketDataEvent.FromString(data)
    event.ClearField(name)
    return event.SerializeToString()


def _of_size(size: int, at_us: int = 0, **fields: Any) -> MarketDataEvent:
    """A trade whose message is of that many bytes."""
    event = trade(at_us, **fields)
    event.source = "x" * (size - len(event.SerializeToString()) - 4)
    assert len(event.SerializeToString()) == size
    return event


def odd_events(at_us: int, trade_id: str) -> list[tuple[MarketDataEvent, bytes | None]]:
    """Events that look odd and are good, some with the bytes that stand for them."""

    def odd(**fields: Any) -> MarketDataEvent:
        return trade(at_us, trade_id=trade_id, **fields)

    later_producers = odd().SerializeToString() + b"\xfa\x3f\x03abc" + b"\x73\x74"  # field 1023, an empty group
    return [
        (odd(event_type=1_234), None),
        (odd(event_type=-1, side=17), None),
        (odd(volume=1e-18), None),
        (odd(price=6e-10, volume=0.0), None),
        (odd(price=1e15, volume=1e15), None),
        (odd(symbol="S" * 255, exchange="Ω" * 127), None),
        (odd(received_at=2**63 - 1), None),
        (odd(received_at=(T0_US + at_us) // 1_000), None),
        (trade(at_us - 125 * US_PER_S, trade_id=trade_id, received_at=2**63 - 1), None),  # late
        (odd(source="\x00\n\t"), None),
        (odd(), later_producers),
        (odd(), b"\x12\x05WRONG" + odd().SerializeToString()),  # of a repeated field the last one counts
        (_of_size(Limits().max_value_bytes, at_us, trade_id=trade_id), None),
    ]


def mixed_log(percent: int = 1, rounds: int = 1) -> tuple[Log, dict[Place, str]]:
    """Good events, every tenth an odd one, with `percent` of bad records between them, and the reason of each bad one.

    The last of each round is a copy of a good event with another content.
    """
    log, reasons = Log(), {}
    bad = [*bad_records(), ("identity_conflict", None)] * rounds
    for number in range(100 // percent * len(bad) - len(bad)):
        at_us, partition, trade_id = number * 1_000, number % 3, str(number)
        if number % 10 == 3:
            odd = odd_events(at_us, trade_id)
            event, wire = odd[number // 10 % len(odd)]
            log.add(event, partition=partition, wire=wire, key=b"\xff\x00", log_time_us=T0_US + at_us)
        else:
            plain = trade(at_us, 100 + number % 7, trade_id=trade_id)
            log.add(plain, partition=partition, headers=[("trace", b"\xff\x00"), ("none", None)][: number % 3])
            twin, home = trade(at_us, 200, trade_id=trade_id), partition
        slot, rest = divmod(number, 100 // percent - 1)
        if rest == (100 // percent - 1) // 2:
            reason, value = bad[slot]
            headers = [("horizon-event-id", f"b{number}".encode()), ("trace", b"\xff\x00"), ("none", None)]
            key = None if slot % 2 else b"\x80key"
            if reason == "identity_conflict":
                place = log.add(twin, partition=home, key=key, headers=headers, log_time_us=twin.timestamp)
            else:
                in_us = T0_US * 1_000 if reason == "log_time_implausible" else None  # where Kafka takes milliseconds
                place = log.add(value, partition=partition, key=key, headers=headers, log_time_us=in_us)
            reasons[place] = reason
    return log, reasons
