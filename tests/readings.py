"""Logs as a market may leave them, and the ways to read one: what the laws of test_laws.py draw from."""

import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from hypothesis import strategies as st

from schemas.market_data_pb2 import MarketDataEvent
from schemas.units import US_PER_MS, US_PER_S
from tests.oracle import Place, clock_of
from tests.testing import Log, Recorded, raw_batch, trade
from tests.transforms.build_blocks import Polled, chunk_of
from transforms.batches import RawBatch
from transforms.kafka_record import parse_chunk

PARTITIONS = 3
NAMES = ("trade_id", "trade_id", "event_id", "header trade_id", "header horizon-event-id", "header ce_id", "")
_SHIFTS_S = (
    0,
    0,
    0,
    0,
    -300,
    -7_200,
    3_000,
)  # of all times in a partition: 5 minutes or 2 hours behind, 50 minutes ahead


@dataclass(frozen=True)
class Row:
    """One record to be; few ids, seconds and contents, so that copies and conflicts are many."""

    partition: int
    second: int
    ms: int
    kind: int  # TRADE, ORDER_BOOK, TICKER, one that nobody knows
    symbol: str
    name: tuple[str, str]  # which id names it, if any, and its value; a field of the event, or a header
    content: tuple[float, float, int]  # price, volume, side
    lag_ms: int  # log time - event time
    is_garbage: bool
    twin: int | None  # the row whose event it repeats, in content of its own

    def event(self, shift_s: int) -> MarketDataEvent:
        price, volume, side = self.content
        at_us = (self.second + shift_s) * US_PER_S + self.ms * US_PER_MS
        event = trade(at_us, price, volume, symbol=self.symbol, event_type=self.kind, side=side)
        if self.name[0] in ("trade_id", "event_id"):
            setattr(event, *self.name)
        return event


rows = st.builds(
    Row,
    partition=st.integers(0, PARTITIONS - 1),
    second=st.sampled_from([0, 0, 1, 9, 10, 24, 61]),
    ms=st.sampled_from([0, 1, 500, 999]),
    kind=st.sampled_from([0, 0, 0, 0, 1, 2, 77]),
    symbol=st.sampled_from(["BTC-USDT", "BTC-USDT", "ETH-USDT"]),
    name=st.tuples(st.sampled_from(NAMES), st.sampled_from("123")),
    content=st.sampled_from([(100.0, 0.1, 0), (100.0, 0.1, 0), (101.0, 0.1, 0), (100.0, 0.0, 1), (100.0, 0.1, 2)]),
    # ahead of the log, in time, late, as late as can be, beyond the horizon, and a producer whose clock is wrong
    lag_ms=st.sampled_from([0, 0, 0, -4_000, 700, 700, 30_000, 119_999, 120_000, 120_001, 3_000_000]),
    is_garbage=st.sampled_from([False] * 9 + [True]),
    twin=st.sampled_from([0, 0, 1, 1, 2, None, None]),
)


def as_twin(row: Row, of: Row) -> Row:
    """The same identity in the same second."""
    return replace(row, second=of.second, kind=of.kind, symbol=of.symbol, name=of.name)


@st.composite
def logs(draw: st.DrawFn) -> Log:
    """A log of three partitions, each with its records in the order of log times or in disorder."""
    found = draw(st.lists(rows, min_size=6, max_size=30))
    found = [row if row.twin is None else as_twin(row, found[row.twin]) for row in found]
    no_shifts_s = st.just((0,) * PARTITIONS)
    shifts_s = draw(no_shifts_s | st.tuples(*[st.sampled_from(_SHIFTS_S)] * PARTITIONS))
    if draw(st.booleans()):
        found.sort(key=lambda row: row.second * 1_000 + row.ms + row.lag_ms)
    log = Log()
    for row in found:
        event = row.event(shifts_s[row.partition])
        name = row.name[0].removeprefix("header ")
        headers = [(name, row.name[1].encode())] if name != row.name[0] else []
        log.add(
            b"\xff" if row.is_garbage else event,
            partition=row.partition,
            log_time_us=event.timestamp + row.lag_ms * US_PER_MS,
            headers=headers,
        )
    return log


def garbage(log: Log) -> dict[Place, str]:
    """What decode refuses, with the reason."""
    return {record.place: "undecodable" for record in log.records if record.event is None}


def parts_of(log: Log, offsets: Mapping[int, int] | None = None) -> dict[int, list[Recorded]]:
    """The records of each partition from its offset on, in the order of the log."""
    found: dict[int, list[Recorded]] = defaultdict(list)
    for record in sorted(log.records, key=lambda record: record.place):
        if record.offset >= (offsets or {}).get(record.partition, 0):
            found[record.partition].append(record)
    return found


def interleaved(parts: Mapping[int, Sequence[Recorded]], dice: random.Random) -> list[Recorded]:
    """The records of all partitions, each in its own order, and in any between them."""
    homes = [partition for partition, records in parts.items() for _ in records]
    dice.shuffle(homes)
    left = {partition: iter(records) for partition, records in parts.items()}
    return [next(left[partition]) for partition in homes]


def in_step(log: Log, dice: random.Random) -> list[Recorded]:
    """All records as a live run may read them: mostly the partition that is furthest behind comes next."""
    left, known, read = parts_of(log), clocks(log), list[Recorded]()
    while left := {partition: records for partition, records in left.items() if records}:
        behind = min(left, key=lambda partition: known[left[partition][0].place])
        home = dice.choice([*left, *[behind] * 6])
        read.append(left[home].pop(0))
    return read


def attempts(
    log: Log, dice: random.Random, offsets: Mapping[int, int] | None = None, crashes: int = 0
) -> list[list[Recorded]]:
    """All records from the offsets on; after each crash some are read again, from any place that was read before."""
    parts, found = parts_of(log, offsets), list[list[Recorded]]()
    starts = dict.fromkeys(parts, 0)
    for _ in range(crashes):
        read = interleaved({p: records[starts[p] :] for p, records in parts.items()}, dice)
        found.append(read[: dice.randint(0, len(read))])
        for partition, start in starts.items():
            stop = start + sum(record.partition == partition for record in found[-1])
            starts[partition] = dice.randint(0, stop)
    return [*found, interleaved({p: records[starts[p] :] for p, records in parts.items()}, dice)]


def cut(records: Sequence[Recorded], dice: random.Random, largest: int = 9) -> Iterator[Sequence[Recorded]]:
    """Pieces of any sizes."""
    while records:
        size = dice.randint(1, largest)
        yield records[:size]
        records = records[size:]


def as_blocks(records: Sequence[Recorded], dice: random.Random) -> RawBatch:
    """Records as KafkaIO hands them over: a chunk of blocks, each of one partition."""
    of_partition = [list(group) for _, group in groupby(records, key=lambda record: record.partition)]
    blocks = [[polled(record) for record in block] for run in of_partition for block in cut(run, dice, 4)]
    return parse_chunk(chunk_of(blocks))


def polled(record: Recorded) -> Polled:
    time_ms = record.log_time_us // US_PER_MS
    return Polled(record.partition, record.offset, time_ms, record.key, record.value, record.headers)


def batches_of(records: Sequence[Recorded], dice: random.Random) -> list[RawBatch]:
    """The records in this order, as a live source or a replay gives them, in batches of any sizes."""
    return [as_blocks(part, dice) if dice.random() < 0.7 else raw_batch(part) for part in cut(records, dice)]


def reading(
    log: Log, dice: random.Random, offsets: Mapping[int, int] | None = None, crashes: int = 0
) -> list[RawBatch]:
    """Any way to read the log from these offsets on, in batches."""
    return [batch for read in attempts(log, dice, offsets, crashes) for batch in batches_of(read, dice)]


def clocks(log: Log) -> dict[Place, int]:
    """The clock at each record."""
    return clock_of({record.place: record.log_time_us for record in log.records})
