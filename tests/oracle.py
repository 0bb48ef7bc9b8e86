"""What the pipeline must give, in exact decimals and plain loops: nothing of transforms/ is used here.

The rules are those of docs/specs/market_data.md; the units are decimals and microseconds since the Unix epoch.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Context, Decimal
from fractions import Fraction
from functools import cache, cached_property
from typing import Any

from schemas.market_data_pb2 import MarketDataEvent

Instrument = tuple[str, str]
Place = tuple[int, int]  # (partition, offset)
BarKey = tuple[str, str, int, int]  # (exchange, symbol, interval in s, window start in us)

exact = Context(prec=120, rounding=ROUND_HALF_EVEN)
_TRADE, _TICKER, _BUY, _SELL = 0, 2, 1, 2
_WORD = 1 << 64


@dataclass(frozen=True)
class Sent:
    """One good record of the log and the event in it."""

    topic: str
    partition: int
    offset: int
    log_time_us: int
    clock_us: int  # clock_of
    event: MarketDataEvent
    header_ids: tuple[str, str] = ("", "")  # of header_ids: they stand for the trade id and the event id

    @property
    def place(self) -> Place:
        return self.partition, self.offset

    @property
    def lag_us(self) -> int:
        return self.clock_us - self.event.timestamp

    @property
    def second(self) -> int:
        return self.event.timestamp // 1_000_000

    @property
    def instrument(self) -> Instrument:
        return self.event.exchange, self.event.symbol

    @property
    def trade_id(self) -> str:
        return self.event.trade_id or self.header_ids[0]

    @property
    def event_id(self) -> str:
        return self.event.event_id or self.header_ids[1]

    @property
    def price(self) -> float:
        return self.event.price

    @cached_property
    def volume(self) -> Decimal:
        return meant(self.event.volume)

    @cached_property
    def notional(self) -> Decimal:
        return exact.multiply(meant(self.event.price), self.volume)

    @property
    def moves_price(self) -> bool:
        """Whether its price counts: not that of a trade of size zero, nor that of a level's deletion."""
        return self.event.event_type == _TICKER or self.event.volume != 0

    @property
    def sequence(self) -> int:
        """What orders events of one time: the venue's sequence, else a numeric trade id, else -1."""
        if self.event.HasField("sequence"):
            return self.event.sequence
        text = self.trade_id
        return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else -1

    @cached_property
    def order(self) -> tuple[int, int, int, int]:
        return self.event.timestamp, self.sequence, self.partition, self.offset

    @property
    def identity(self) -> tuple[Any, ...]:
        if self.trade_id:
            return "trade", *self.instrument, self.event.event_type, self.trade_id
        if self.event_id:
            return "event", *self.instrument, self.event.event_type, self.event_id
        return "place", self.topic, self.partition, self.offset

    @property
    def content(self) -> tuple[Any, ...]:
        return self.price, self.volume, self.event.side


def header_id(headers: Sequence[tuple[str, bytes | None]], names: Sequence[str]) -> str:
    """The id that headers of these names say: the first name counts first, and of one name the first that is there."""
    for name in names:
        for key, value in headers:
            if key == name and value:
                return value.decode()
    return ""


def clock_of(log_times_us: Mapping[Place, int]) -> dict[Place, int]:
    """The newest log time in the partition of each record up to and including it; of all records, also bad ones."""
    newest: dict[int, int] = {}
    clocks = {}
    for (partition, offset), time_us in sorted(log_times_us.items()):
        if datetime(2009, 1, 1, tzinfo=UTC).timestamp() <= time_us / 1_000_000 < 253_370_764_800:  # 9999
            newest[partition] = max(newest.get(partition, time_us), time_us)
        clocks[partition, offset] = newest.get(partition, time_us)
    return clocks


def meant(value: float) -> Decimal:
    """A double as the decimal a person would write; what lies below 1e-18 and within 1e-15 of it is noise."""
    written = Decimal(repr(value))
    cut = written.quantize(Decimal("1e-18"), context=exact)
    return cut if abs(exact.subtract(written, cut)) <= abs(written) * Decimal("1e-15") else written


@dataclass
class Group:
    """The records of one identity in one event second, in the order of the log, and how many conflict with them."""

    records: list[Sent] = field(default_factory=list)
    conflicts: int = 0


@dataclass
class Expected:
    """What the graph must give."""

    unique: dict[Place, list[Place]]  # first in the log of an identity -> the others, sorted
    late: set[Place]
    conflicts: set[Place]
    bars: dict[BarKey, dict[str, Any]]  # every field of BAR but identity_digest
    trades_of: dict[BarKey, list[Place]]  # the unique trades in a bar, for its digest
    sent: dict[Place, Sent]
    groups: list[Group]  # what was folded: the records of each identity in its second
    grace_us: int


def expect(
    records: Sequence[Sent],
    *,
    horizon_us: int,
    grace_us: int,
    intervals_s: Iterable[int] = (1, 10, 60, 300, 3600),
) -> Expected:
    """The results for good records, in whatever order they were read."""
    late = {record.place for record in records if record.lag_us > horizon_us}
    groups: dict[tuple[Any, ...], Group] = defaultdict(Group)
    conflicts = set()
    for record in sorted(records, key=lambda record: (record.clock_us, record.place)):
        if record.place in late:
            continue
        known = groups[(record.instrument, record.second, record.identity)].records
        if record.place in conflicts or any(other.place == record.place for other in known):
            continue
        if known and known[0].content != record.content:
            conflicts.add(record.place)
            groups[(record.instrument, record.second, record.identity)].conflicts += 1
        else:
            known.append(record)
    unique = {}
    for group in groups.values():
        places = sorted(record.place for record in group.records)
        unique[places[0]] = places[1:]
    trades = [group for group in groups.values() if group.records and group.records[0].event.event_type == _TRADE]
    bars, trades_of = {}, {}
    for interval_s in intervals_s:
        windows: dict[BarKey, list[Group]] = defaultdict(list)
        for group in trades:
            record = group.records[0]
            start_us = record.second // interval_s * interval_s * 1_000_000
            windows[(*record.instrument, interval_s, start_us)].append(group)
        bars |= {key: _bar(key, members, grace_us) for key, members in windows.items()}
        trades_of |= {key: [min(r.place for r in g.records) for g in members] for key, members in windows.items()}
    sent = {record.place: record for record in records}
    return Expected(unique, late, conflicts, bars, trades_of, sent, list(groups.values()), grace_us)


def _bar(key: BarKey, groups: list[Group], grace_us: int) -> dict[str, Any]:
    exchange, symbol, interval_s, start_us = key
    folded = sorted((record for group in groups for record in group.records), key=lambda record: record.order)
    firsts = [group.records[0] for group in groups]
    volume = add_up(record.volume for record in firsts)
    notional = add_up(record.notional for record in firsts)
    moves = [record for record in folded if record.moves_price]
    prices = [record.price for record in moves] or [None]
    return {
        "exchange": exchange,
        "symbol": symbol,
        "interval_s": interval_s,
        "window_start": utc(start_us),
        "window_end": utc(start_us + interval_s * 1_000_000),
        "open": prices[0],
        "high": max(prices),
        "low": min(prices),
        "close": prices[-1],
        "volume": volume,
        "notional": notional,
        "vwap": rounded_quotient(notional, volume),
        "trade_count": sum(record.moves_price for record in firsts),
        "zero_volume_count": sum(not record.moves_price for record in firsts),
        "buy_volume": add_up(record.volume for record in firsts if record.event.side == _BUY),
        "sell_volume": add_up(record.volume for record in firsts if record.event.side == _SELL),
        "first_event_time": utc(moves[0].event.timestamp) if moves else None,
        "last_event_time": utc(moves[-1].event.timestamp) if moves else None,
        "delayed_count": sum(record.lag_us > grace_us for record in folded),
        "duplicate_count": len(folded) - len(firsts),
        "version": len(folded) + sum(group.conflicts for group in groups),
        "lineage": lineage_of(folded),
    }


def add_up(values: Iterable[Decimal]) -> Decimal:
    total = Decimal(0)
    for value in values:
        total = exact.add(total, value)
    return total


def rounded_quotient(numerator: Decimal, denominator: Decimal) -> float | None:
    """To the nearest double; None for a denominator of 0."""
    return float(Fraction(numerator) / Fraction(denominator)) if denominator else None


def lineage_of(records: Iterable[Sent]) -> list[dict[str, int]]:
    offsets: dict[int, list[int]] = defaultdict(list)
    for record in records:
        offsets[record.partition].append(record.offset)
    return [
        {"partition": partition, "first_offset": min(found), "last_offset": max(found)}
        for partition, found in sorted(offsets.items())
    ]


def utc(time_us: int) -> datetime:
    """A time in microseconds since the Unix epoch as a datetime, without a float between."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time_us)


def digest(identities: Iterable[bytes]) -> bytes:
    """The order-free digest of the identities of a bar's trades: two sums modulo 2**64."""
    lanes = [0, 0]
    for identity in identities:
        lanes = [lane + mixed for lane, mixed in zip(lanes, _lanes(identity), strict=True)]
    return b"".join((lane % _WORD).to_bytes(8, "little") for lane in lanes)


@cache
def _lanes(identity: bytes) -> list[int]:
    words = int.from_bytes(identity[:8], "little"), int.from_bytes(identity[8:], "little")
    return [_mix(words[lane] ^ _mix((words[1 - lane] + lane + 1) % _WORD)) for lane in (0, 1)]


def _mix(word: int) -> int:
    word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9 % _WORD
    word = (word ^ (word >> 27)) * 0x94D049BB133111EB % _WORD
    return word ^ (word >> 31)
