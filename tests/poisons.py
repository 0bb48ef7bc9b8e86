"""Good events with poison between them: records that a broker takes and that stopped a job, or vanished, at some time.

Each poison says what must become of it. Every record is written as bytes on the wire, for clients refuse most of them.
"""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from tests.oracle import Place
from tests.testing import T0_US, trade
from tests.wire import WireRecord, send
from transforms.decode import BEACON_HEADER

PARTITIONS: Final = 12
TOPIC_CONFIG: Final = {"retention.ms": "-1", "message.timestamp.after.max.ms": str(2**63 - 1)}
UNIQUE, COPY, LATE = "unique", "copy", "late"  # what becomes of a record that is not refused
_T0_MS: Final = T0_US // 1_000
_LARGE: Final = 4_100_000  # bytes; more than md.rejects takes
_GARBAGE: Final = b"\xff garbage"
_BATCH: Final = 400

Poison = tuple[str, WireRecord]  # what must become of it: `unique`, or the reason that it is refused for


def _good(number: int, at_ms: int) -> bytes:
    return trade(at_ms * 1_000, 100 + number % 7, trade_id=f"p{number}", symbol="POISON").SerializeToString()


def _names(number: int, at_ms: int) -> Poison:
    names = [
        b"\xff\xfe",
        b"\xed\xa0\x80",
        b"trace\0id",
        b"\0",
        b"horizon-event-id\0\xff",
        "a\ufffd".encode(),
    ]
    headers = [(names[number % len(names)], b"x"), (b"trace", None), (names[(number + 1) % len(names)], b"y")]
    if number % 2:
        return "undecodable", WireRecord(_GARBAGE, b"k", headers, _T0_MS + at_ms)
    return UNIQUE, WireRecord(_good(number, at_ms), b"k", headers, _T0_MS + at_ms)


def _times(number: int, at_ms: int) -> Poison:
    now = _T0_MS + at_ms
    times = [-1, -5, -(2**63), 0, now // 1_000, now * 1_000, now * 10**6, 2**63 - 1, 1_230_767_999_999]
    times += [253_370_764_800_000, 253_402_300_799_999, 253_402_300_800_000]
    return "log_time_implausible", WireRecord(_good(number, at_ms), b"k", (), times[number % len(times)])


def _beacons(number: int, at_ms: int) -> Poison:
    headers = [(BEACON_HEADER.encode(), [b"1", b"9" * 5_000, None][number % 3])]
    if number % 2:
        return "undecodable", WireRecord(_GARBAGE, None, headers, _T0_MS + at_ms)
    return UNIQUE, WireRecord(_good(number, at_ms), None, headers, _T0_MS + at_ms)


def _keys(number: int, at_ms: int) -> Poison:
    key = bytes([number % 256]) * _LARGE
    if number % 2:
        return "undecodable", WireRecord(_GARBAGE, key, (), _T0_MS + at_ms)
    return UNIQUE, WireRecord(_good(number, at_ms), key, (), _T0_MS + at_ms)


def _headers(number: int, at_ms: int) -> Poison:
    many = [[(b"stack", b"x" * _LARGE)], [(b"n" * _LARGE, None)], [(b"", None)] * 100_000, [(b"", b"1")] * 100_001]
    headers = many[number // 2 % len(many)]
    if number % 2:
        return "undecodable", WireRecord(_GARBAGE, b"k", headers, _T0_MS + at_ms)
    return UNIQUE, WireRecord(_good(number, at_ms), b"k", headers, _T0_MS + at_ms)


def _values(number: int, at_ms: int) -> Poison:
    reason, value = [("value_too_large", b"v" * _LARGE), ("empty_value", None), ("empty_value", b"")][number % 3]
    return reason, WireRecord(value, b"k", (), _T0_MS + at_ms)


POISONS: Final[Mapping[str, Callable[[int, int], Poison]]] = {
    "header names": _names,
    "log times": _times,
    "beacons with a value": _beacons,
    "large keys": _keys,
    "large headers": _headers,
    "values": _values,
}
LARGE: Final = ("large keys", "large headers", "values")  # few of them: they are 4 MB each


@dataclass
class Sent:
    """What was written, by what must become of it."""

    places: dict[Place, str] = field(default_factory=dict)
    newest_us: int = 0  # log time that counts

    def those(self, *fates: str) -> list[Place]:
        """The places of records of these fates, sorted."""
        return sorted(place for place, fate in self.places.items() if fate in fates)

    def refused(self) -> dict[Place, str]:
        """The reason of each record that must be refused."""
        return {place: fate for place, fate in self.places.items() if fate not in (UNIQUE, COPY, LATE)}


def publish(servers: str, topic: str, count: int, kinds: Sequence[str], percent: float, large: int = 8) -> Sent:
    """So many good events at 1 ms each, copies and late ones among them, and as many poisons as percent says.

    large: how many of each kind that takes megabytes.
    """
    sent, dice = Sent(newest_us=T0_US + count * 1_000), random.Random(5)
    batches: dict[int, list[tuple[str, WireRecord]]] = {}
    poisons = iter(_poisons(count, kinds, percent, large, dice))
    due = next(poisons, None)
    for number in range(count):
        for fate, record in _events(number, dice):
            batches.setdefault(number % PARTITIONS, []).append((fate, record))
        while due is not None and due[0] <= number:
            home, (fate, record) = dice.randrange(PARTITIONS), due[1]
            _flush(servers, topic, home, batches.pop(home, []), sent)
            _flush(servers, topic, home, [(fate, record)], sent)
            due = next(poisons, None)
        if len(batches.get(number % PARTITIONS, ())) >= _BATCH:
            _flush(servers, topic, number % PARTITIONS, batches.pop(number % PARTITIONS), sent)
    for home, batch in batches.items():
        _flush(servers, topic, home, batch, sent)
    return sent


def _events(number: int, dice: random.Random) -> Iterator[tuple[str, WireRecord]]:
    symbol = f"S{number % PARTITIONS}-{number % 24}"  # of one partition
    late_ms = 125_000 if number > 130_000 and number % 500 == 0 else 0
    event = trade(
        (number - late_ms) * 1_000,
        100 + dice.randrange(9),
        round(dice.random(), 9),
        symbol=symbol,
        trade_id=str(number),
    )
    record = WireRecord(event.SerializeToString(), symbol.encode(), (), _T0_MS + number)
    yield LATE if late_ms else UNIQUE, record
    if number % 100 == 99:
        yield COPY, record


def _poisons(
    count: int, kinds: Sequence[str], percent: float, large: int, dice: random.Random
) -> list[tuple[int, Poison]]:
    """Poisons, each with the good event that it comes after."""
    small = [kind for kind in kinds if kind not in LARGE]
    chosen = [kind for kind in kinds if kind in LARGE for _ in range(large)]
    chosen += [small[number % len(small)] for number in range(round(count * percent / 100))] if small else []
    dice.shuffle(chosen)
    spots = sorted(
        dice.randrange(count // 2, count) if kind == "log times" else dice.randrange(count) for kind in chosen
    )
    return [
        (at_ms, POISONS[kind](number, at_ms)) for number, (at_ms, kind) in enumerate(zip(spots, chosen, strict=True))
    ]


def _flush(servers: str, topic: str, home: int, batch: Sequence[tuple[str, WireRecord]], sent: Sent) -> None:
    if batch:
        is_large = len(batch) == 1  # on the wire it must be within the broker's limit
        first = send(servers, topic, home, [record for _, record in batch], packed=is_large)
        sent.places |= {(home, first + at): fate for at, (fate, _) in enumerate(batch)}
