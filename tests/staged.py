"""A log that is written while it is read, by producers whose clocks are behind or ahead, one that hangs and one that
wakes; a partition each.

Times are microseconds since the Unix epoch. Each record has the log time that its producer's clock shows.
"""

import itertools
import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import IntEnum
from types import TracebackType
from typing import Self

from confluent_kafka import Producer

from schemas.market_data_pb2 import MarketDataEvent
from schemas.units import US_PER_MS, US_PER_S
from tests import live
from tests.logs import bad_records
from tests.oracle import Place
from tests.testing import T0_US, Log, Recorded, trade


class Home(IntEnum):
    """The partitions."""

    BUSY = 0
    OTHER = 1
    BEHIND = 2  # its producer's clock is 5 minutes behind
    FAR_BEHIND = 3  # 2 hours
    AHEAD = 4  # one of its producers is 50 minutes ahead for a while
    DROWSY = 5  # falls silent, and wakes
    HELD = 6  # a transaction stays open


BEHIND_US = {Home.BEHIND: 300 * US_PER_S, Home.FAR_BEHIND: 7_200 * US_PER_S}
AHEAD_US = 3_000 * US_PER_S
HISTORY_US = 400 * US_PER_S
QUIET_US = 15 * US_PER_S  # the clock of who wakes is that far behind, half of the time
_SOBER_US = 100 * US_PER_S  # of history, before a clock goes wrong
_LAGS_US = (0, 2_000, 300_000, 900_000, 30 * US_PER_S, 110 * US_PER_S, 122 * US_PER_S)
_EXACT_US = (120 * US_PER_S, 120 * US_PER_S + 1_000)  # at the horizon, and behind it
_TICK_S = 0.1
_REASON = "reason"  # header of a bad record
# what depends on the log time, and what is large, is in test_live_logs.py
_BAD = [
    (reason, value)
    for reason, value in bad_records()
    if reason not in ("timestamp_in_future", "log_time_implausible", "value_too_large")
]


@dataclass(frozen=True)
class Entry:
    """A record to be written, at what time in truth, and what its producer's clock then says."""

    at_us: int
    home: Home
    log_us: int
    value: MarketDataEvent | None  # None: a bad one


@dataclass
class Market:
    """Events of several instruments and kinds, copies of them, and copies that contradict them."""

    dice: random.Random = field(default_factory=lambda: random.Random(17))
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def event(self, at_us: int) -> MarketDataEvent:
        number = next(self._numbers)
        event = trade(
            at_us - T0_US,
            price=self.dice.choice([1e-9, 0.1, 36_000.01]) if self.dice.random() < 0.05 else self.dice.uniform(90, 110),
            volume=self.dice.choice([0.0, 1e-9, 0.1, round(self.dice.random(), 9)]),  # finer ones may be refused
            symbol=self.dice.choice(["BTC-USDT", "ETH-USDT", "Ω-ユーロ"]),
            side=self.dice.choice([0, 1, 2]),
            event_type=self.dice.choice([0, 0, 0, 0, 1, 2]),
        )
        if (rung := self.dice.randrange(8)) < 6:
            event.trade_id = [f"{number}", f"an-id-of-more-than-15-bytes-{number}"][rung % 2]
        elif rung == 6:
            event.event_id = f"e{number}"
        return event

    def again(self, event: MarketDataEvent, share: float = 0.5) -> MarketDataEvent:
        """A copy, for that share of them with another price."""
        copy = MarketDataEvent()
        copy.CopyFrom(event)
        if self.dice.random() < share:
            copy.price += 1.0
        return copy


def history(market: Market, start_us: int) -> list[Entry]:
    """What was written from `start_us` on, in the order of writing; who is behind has written what is older."""
    dice, entries = market.dice, list[Entry]()
    for number in range(1_600):
        at_us = start_us + number * (HISTORY_US // 1_600)
        event = market.event(at_us - dice.choice([*_LAGS_US, *_EXACT_US]))
        entries.append(_entry(_home(dice, at_us - start_us), at_us, event))
        if dice.random() < 0.25:  # some of them beyond the horizon
            again_us = min(at_us + dice.choice([1_000, US_PER_S, 60 * US_PER_S]), start_us + HISTORY_US - 1)
            entries.append(_entry(_home(dice, again_us - start_us), again_us, market.again(event)))
        if number % 40 == 0:
            entries.append(_entry(_home(dice, at_us - start_us), at_us, None))
        if number % 8 == 0:
            for home in BEHIND_US:
                log_us = at_us - BEHIND_US[home]
                if home is Home.FAR_BEHIND or log_us < start_us:
                    entries.append(Entry(at_us, home, log_us, market.event(log_us - dice.choice(_LAGS_US))))
            if at_us - start_us >= _SOBER_US:
                wrong_us = at_us + AHEAD_US
                entries.append(Entry(at_us, Home.AHEAD, wrong_us, market.event(wrong_us - dice.choice(_LAGS_US))))
                entries.append(Entry(at_us, Home.AHEAD, at_us, market.event(at_us)))  # of a clock that is right
    return sorted(entries, key=lambda entry: entry.at_us)


def _home(dice: random.Random, since_us: int) -> Home:
    """A partition that records of that time lie in; who is behind has not come further than 100 s."""
    homes = [Home.BUSY, Home.OTHER, Home.HELD]
    homes += [Home.DROWSY] if since_us < 200 * US_PER_S else []
    return dice.choice([*homes, Home.BEHIND, Home.AHEAD] if since_us < _SOBER_US else homes)


def _entry(home: Home, log_us: int, event: MarketDataEvent | None) -> Entry:
    return Entry(log_us + BEHIND_US.get(home, 0), home, log_us, event)


class Producers:
    """Writes to the topic as long as it is entered, at the pace of the clock."""

    def __init__(self, servers: str, topic: str, market: Market) -> None:
        self._settings = {"bootstrap.servers": servers, "acks": "all", "linger.ms": 5}
        self._topic, self._market = topic, market
        self._producer = Producer(self._settings | {"enable.idempotence": True})
        self._hanging = Producer(self._settings | {"transactional.id": topic, "transaction.timeout.ms": 600_000})
        self._sent: list[tuple[int, MarketDataEvent]] = []  # when, and what
        self._held: list[MarketDataEvent] = []
        self._awake, self._ended = threading.Event(), threading.Event()
        self._pool = ThreadPoolExecutor(max_workers=1)
        self._written: Future[None] | None = None

    def __enter__(self) -> Self:
        self._written = self._pool.submit(self._run)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        assert self._written is not None
        self._written.result(60)
        self._pool.shutdown()

    def write(self, entries: list[Entry]) -> None:
        """At once."""
        for entry in entries:
            self._produce(self._producer, entry)
        assert self._producer.flush(60) == 0

    def hang(self) -> None:
        """Begin a transaction; what it holds the others contradict from then on."""
        now_us = time.time_ns() // 1_000
        self._hanging.init_transactions(30)
        self._hanging.begin_transaction()
        held = [self._market.event(now_us - number * 50 * US_PER_MS) for number in range(60)]
        for number, event in enumerate(held):
            event.trade_id = f"held-{number}"
            self._produce(self._hanging, Entry(now_us, Home.HELD, now_us, event))
        assert self._hanging.flush(60) == 0
        self._held = held

    def commit(self) -> None:
        """End the transaction."""
        self._hanging.commit_transaction(30)

    def wake(self) -> None:
        """The drowsy producer writes again."""
        self._awake.set()

    def _produce(self, producer: Producer, entry: Entry) -> None:
        reason, value = ("", entry.value.SerializeToString()) if entry.value else self._market.dice.choice(_BAD)
        headers = [(_REASON, reason.encode())] if reason else []
        producer.produce(self._topic, value, b"key", entry.home, timestamp=entry.log_us // US_PER_MS, headers=headers)

    def _run(self) -> None:
        number = 0
        while not self._ended.wait(_TICK_S):
            self.write(list(self._tick(time.time_ns() // 1_000, number)))
            number += 1

    def _tick(self, now_us: int, number: int) -> Iterator[Entry]:
        """What is written now."""
        dice = self._market.dice
        event = self._market.event(now_us - dice.choice(_LAGS_US))
        home = dice.choice([Home.BUSY, Home.OTHER, Home.AHEAD])
        yield Entry(now_us, home, now_us, event)
        known = [sent for at_us, sent in self._sent[-400:] if at_us < now_us - US_PER_S]
        if known and dice.random() < 0.4:
            yield Entry(now_us, dice.choice([Home.BUSY, Home.OTHER]), now_us, self._market.again(dice.choice(known)))
        if self._held and number % 3 == 0:  # the transaction's lies first: it began before
            yield Entry(now_us, Home.BUSY, now_us, self._market.again(self._held.pop()))
        if number % 5 == 0:
            for home, behind_us in BEHIND_US.items():
                yield Entry(now_us, home, now_us - behind_us, self._market.event(now_us - behind_us))
        if number % 20 == 0:
            yield Entry(now_us, Home.OTHER, now_us, None)
        if self._awake.is_set():
            yield from self._woken(now_us)
        self._sent.append((now_us, event))

    def _woken(self, now_us: int) -> Iterator[Entry]:
        """New events and copies of those that lie well before, as the partition's clock has it too."""
        dice = self._market.dice
        log_us = now_us - dice.choice([0, QUIET_US])
        yield Entry(now_us, Home.DROWSY, log_us, self._market.event(log_us - dice.choice(_LAGS_US[:-2])))
        known = [sent for at_us, sent in self._sent if now_us - 60 * US_PER_S < at_us < now_us - 2 * QUIET_US]
        if known:
            yield Entry(now_us, Home.DROWSY, log_us, self._market.again(dice.choice(known)))


def on_kafka(servers: str, topic: str) -> tuple[Log, dict[Place, str]]:
    """The topic as an in-memory log, beacons too, for they set clocks; and the reason of each bad record."""
    log, reasons = Log(topic), dict[Place, str]()
    for message in live.records(servers, topic):
        headers = tuple(message.headers() or ())
        place, log_us = (message.partition(), message.offset()), message.timestamp()[1] * US_PER_MS
        named = dict(headers)
        if _REASON in named:
            reasons[place] = named[_REASON].decode()
        is_event = _REASON not in named and not live.is_beacon(message)
        event = MarketDataEvent.FromString(message.value()) if is_event else None
        log.records.append(Recorded(*place, log_us, message.key(), message.value(), headers, event))
    return log, reasons
