"""A log to record events into, the graph run on it, and what it wrote read back."""

import itertools
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.options.pipeline_options import PipelineOptions

from pipelines.market_data import build
from pipelines.options import MarketDataConfig
from pipelines.outputs import Outputs, write
from runners.direct import FLAGS
from schemas.market_data_pb2 import MarketDataEvent
from tests.oracle import Place, Sent, clock_of, header_id
from transforms import beam_worker  # noqa: F401  (as the workers on Flink do: most of a small run would be measuring)
from transforms.batches import RawBatch
from transforms.header_bytes import Header
from transforms.keep_clock import KeepClock
from transforms.log_clock import NOTHING, clocks, plausible

IdNames = tuple[Sequence[str], Sequence[str]]

TOPIC = "md.events.raw"
ID_HEADERS = (("trade_id",), ("horizon-event-id", "ce_id"))  # that stand for the trade id and for the event id
T0_US = 1_700_000_000_000_000  # a whole second, the start of a 10 s window, not of a minute


def trade(at_us: int = 0, price: float = 100.0, volume: float = 1.0, **fields: Any) -> MarketDataEvent:
    """A trade of one instrument, `at_us` microseconds after T0_US."""
    named = {"exchange": "binance", "symbol": "BTC-USDT"} | fields
    event = MarketDataEvent(price=price, volume=volume, timestamp=T0_US + at_us)
    for name, value in named.items():
        setattr(event, name, value)
    return event


@dataclass(frozen=True)
class Recorded:
    """One record of the log."""

    partition: int
    offset: int
    log_time_us: int
    key: bytes | None
    value: bytes | None
    headers: tuple[Header, ...]
    event: MarketDataEvent | None  # None where the value is no event

    @property
    def place(self) -> Place:
        return self.partition, self.offset

    def sent(self, topic: str, clock_us: int, id_headers: IdNames = ID_HEADERS) -> Sent:
        """As the oracle takes it."""
        assert self.event is not None
        ids = header_id(self.headers, id_headers[0]), header_id(self.headers, id_headers[1])
        return Sent(topic, self.partition, self.offset, self.log_time_us, clock_us, self.event, ids)


class Log:
    """A topic in memory: records get offsets as Kafka would give them."""

    def __init__(self, topic: str = TOPIC) -> None:
        self.topic = topic
        self.records: list[Recorded] = []
        self._next: dict[int, int] = defaultdict(int)

    def add(
        self,
        value: MarketDataEvent | bytes | None,
        *,
        partition: int = 0,
        log_time_us: int | None = None,
        key: bytes | None = None,
        headers: Iterable[Header] = (),
        wire: bytes | None = None,
    ) -> Place:
        """Append a record; its log time is the event's time, cut to ms as Kafka does, where none is given.

        `wire`: the bytes that stand for the event, where they are not those that our own encoder writes.
        """
        event = value if isinstance(value, MarketDataEvent) else None
        if log_time_us is None:
            log_time_us = event.timestamp if event is not None else T0_US
        data = (wire or value.SerializeToString()) if isinstance(value, MarketDataEvent) else value
        offset = self._next[partition]
        self._next[partition] += 1
        self.records.append(Recorded(partition, offset, log_time_us // 1_000 * 1_000, key, data, tuple(headers), event))
        return partition, offset

    def sent(self, leave_out: Iterable[Place] = (), id_headers: IdNames = ID_HEADERS) -> list[Sent]:
        """The events of the log but those at the given places, as the oracle takes them."""
        without, clocks = set(leave_out), clock_of({r.place: r.log_time_us for r in self.records})
        good = [record for record in self.records if record.event is not None and record.place not in without]
        return [record.sent(self.topic, clocks[record.place], id_headers) for record in good]

    def batches(self, size: int = 500) -> list[RawBatch]:
        """The records in the order of recording, `size` at a time."""
        return [raw_batch(chunk) for chunk in _chunks(self.records, size)]

    def by_partition(self, size: int = 500, backwards: bool = False) -> list[RawBatch]:
        """One partition after the other, as a replay may read them."""
        ordered = sorted(self.records, key=lambda record: record.place)
        parts = [list(group) for _, group in itertools.groupby(ordered, key=lambda record: record.partition)]
        return [raw_batch(chunk) for part in (parts[::-1] if backwards else parts) for chunk in _chunks(part, size)]


def _chunks(records: Sequence[Recorded], size: int) -> Iterator[Sequence[Recorded]]:
    for start in range(0, len(records), size):
        yield records[start : start + size]


def raw_batch(records: Sequence[Recorded]) -> RawBatch:
    """Records as a source gives them, with the clock of their partitions in these alone."""
    partition = np.array([record.partition for record in records], np.int64)
    offset = np.array([record.offset for record in records], np.int64)
    log_time_us = np.array([record.log_time_us for record in records], np.int64)
    return RawBatch(
        topic=TOPIC,
        values=pa.array([record.value for record in records], pa.binary()),
        keys=pa.array([record.key for record in records], pa.binary()),
        partition=partition,
        offset=offset,
        log_time_us=log_time_us,
        headers={row: list(record.headers) for row, record in enumerate(records) if record.headers},
        clock_us=clocks(partition, offset, log_time_us, {})[0],
    )


_FEEDS: dict[str, list[RawBatch]] = {}  # the worker of FnApiRunner is this process: nothing is pickled into the graph
_LOGS: dict[str, list[RawBatch]] = {}  # what the broker of a feed holds
_names = itertools.count()


@dataclass(frozen=True)
class Fed:
    """The time index of a feed: what a broker says, by brute force."""

    name: str

    def newest_before(self, topic: str, offsets: Mapping[int, int], carried: object = None) -> dict[int, int]:
        """As TimeIndex has it."""
        return {p: max([NOTHING, *self._times(p, offset)]) for p, offset in offsets.items()}

    def _times(self, partition: int, stop: int) -> Iterator[int]:
        for batch in _LOGS[self.name]:
            times_us = batch.log_time_us[(batch.partition == partition) & (batch.offset < stop)]
            yield from times_us[plausible(times_us)].tolist()


def _feed(name: str) -> list[RawBatch]:
    return _FEEDS[name]


def run(
    batches: Sequence[RawBatch], root: Path, config: MarketDataConfig | None = None, log: Log | None = None
) -> "Written":
    """build + write on the FnApiRunner; the files go below `root`.

    log: what the broker holds, where the batches are a part of it.
    """
    config = config or MarketDataConfig()
    name = f"feed-{next(_names)}"
    _FEEDS[name] = list(batches)
    _LOGS[name] = _FEEDS[name] if log is None else log.batches()
    try:
        with beam.Pipeline(options=PipelineOptions(FLAGS)) as pipeline:
            read = pipeline | beam.Create([name]) | beam.FlatMap(_feed).with_output_types(RawBatch)
            raw = read | KeepClock(Fed(name))
            write(build(raw, config, str(root)), Outputs(files_root=str(root)), config.cell.grace_us)
    finally:
        del _FEEDS[name], _LOGS[name]
    return Written(root)


@dataclass(frozen=True)
class Written:
    """The files of one run."""

    root: Path

    def files(self) -> dict[str, bytes]:
        """Every visible file by its path below the root."""
        found = sorted(self.root.rglob("*.parquet"))
        return {str(p.relative_to(self.root)): p.read_bytes() for p in found if not p.name.startswith(".")}

    def rows(self, dataset: str) -> list[dict[str, Any]]:
        """The rows of a dataset, files in the order of their names."""
        found = sorted((self.root / dataset).rglob("*.parquet"))
        tables = [pq.read_table(path, partitioning=None) for path in found if not path.name.startswith(".")]
        return [row for table in tables for row in table.to_pylist()]

    def sorted_rows(self, dataset: str) -> list[str]:
        """The rows of a dataset as texts in a fixed order, whatever files they lie in."""
        return sorted(json.dumps(row, default=repr, sort_keys=True) for row in self.rows(dataset))


def place_of(row: dict[str, Any]) -> Place:
    """Where a row of events, late or rejects lies in the log."""
    return row["partition"], row["offset"]


def places_written(written: Written) -> list[Place]:
    """Every place that any dataset accounts for, once for each time it does."""
    events = written.rows("events")
    copies = [(copy["partition"], copy["offset"]) for row in events for copy in row["copies"]]
    rest = [*events, *written.rows("late"), *written.rows("rejects")]
    return sorted([*copies, *map(place_of, rest)])


def config_with(**cell: Any) -> MarketDataConfig:
    """The default options with other times or shards of the cell."""
    config = MarketDataConfig()
    return replace(config, cell=replace(config.cell, **cell))


def varint(number: int) -> bytes:
    """An unsigned number as protobuf and Java's coders write it."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])
