"""The graph as a live run has it: batches one by one, and between them the log's clock as far as they have told it.

The files are looked at at any moment, as one who kills the job finds them, and what goes out is noted.
"""

import itertools
import random
import shutil
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing.test_stream import TestStream
from apache_beam.utils.timestamp import Timestamp

from pipelines.market_data import build
from pipelines.options import MarketDataConfig
from pipelines.outputs import Outputs, write
from schemas.units import US_PER_S
from tests.readings import as_blocks, clocks, cut
from tests.testing import Log, Recorded, Written
from transforms.batches import RawBatch
from transforms.cell_config import SETTLED_US
from transforms.keep_clock import KeepClock
from transforms.log_clock import NOTHING

_BATCHES: dict[str, RawBatch] = {}  # by the element that stands for it
_SAID: dict[str, dict[str, list[Any]]] = {}  # of each run what went out, by collection
_LOOK: Final = "look"  # the element that stands for no batch: look at the files
_names = itertools.count()


@dataclass(frozen=True)
class Known:
    """The time index of a log, by brute force."""

    log: Log

    def newest_before(self, topic: str, offsets: Mapping[int, int], carried: object = None) -> dict[int, int]:
        """As TimeIndex has it."""
        known = clocks(self.log)
        return {partition: known.get((partition, offset - 1), NOTHING) for partition, offset in offsets.items()}


class Told:
    """How far the log's clock has come for who has read so much of each partition: no record to come lies before it."""

    def __init__(self, log: Log) -> None:
        self._clocks = clocks(log)
        self._ends = {partition: offset + 1 for partition, offset in sorted(self._clocks)}
        self._next = dict.fromkeys(self._ends, 0)

    def read(self, records: Sequence[Recorded]) -> None:
        self._next |= {record.partition: record.offset + 1 for record in records}

    @property
    def clock_us(self) -> int | None:
        """None when nothing is to come."""
        open_ = [(p, offset - 1) for p, offset in self._next.items() if offset < self._ends[p]]
        return min((self._clocks.get(place, NOTHING) for place in open_), default=None)


def moments(log: Log, config: MarketDataConfig) -> list[int]:
    """Clocks at which something is due. Where the clock leaps over several, they come one after the other.

    The runner that plays a TestStream holds no clock back for what a timer gives (docs/facts.md), so a larger window
    would be over before the cells in it said their last. Flink and FnApiRunner do hold it back.
    """
    cell, found = config.cell, set[int]()
    for record in log.records:
        if record.event is not None:
            start_s = record.event.timestamp // (10 * US_PER_S) * 10
            found |= {cell.settle_us((start_s, shard)) for shard in range(cell.shards)}
            found |= {(start_s + 10) * US_PER_S + cell.grace_us + SETTLED_US, cell.close_us((start_s, 0))}
    return sorted(found)


@dataclass(frozen=True)
class Played:
    """What a run wrote, what lay there when it was killed, and what went out of each collection, in order."""

    written: Written
    killed: Written
    said: Mapping[str, Sequence[Any]]  # events as (key, batch), all others as rows


def script(log: Log, read: Sequence[Recorded], name: str, config: MarketDataConfig, dice: random.Random) -> TestStream:
    """These records, all of the log, with the clock behind them, and one look at the files."""
    stream, told, due = TestStream(coder=beam.coders.BytesCoder()), Told(log), moments(log, config)
    clock_us = 0
    pieces = list(cut(read, dice))
    look = dice.randrange(len(pieces))
    for number, piece in enumerate(pieces):
        _BATCHES[f"{name} {number}"] = as_blocks(piece, dice)
        elements = [f"{name} {number}", *[f"{name} {_LOOK}"] * (number == look)]
        stream.add_elements([beam.window.TimestampedValue(key.encode(), Timestamp(micros=0)) for key in elements])
        told.read(piece)
        is_over = told.clock_us is None
        until_us = max(due, default=0) + 1_000 if told.clock_us is None else told.clock_us
        if until_us > clock_us and (dice.random() < 0.8 or is_over):
            for at_us in [*(us for us in due if clock_us < us < until_us), until_us]:
                stream.advance_watermark_to(Timestamp(micros=at_us))
            clock_us = until_us
    return stream.advance_watermark_to_infinity()


class _Give(beam.DoFn):  # type: ignore[misc]
    def __init__(self, root: Path) -> None:
        self._root = root

    def process(self, element: bytes) -> Iterator[RawBatch]:
        if element.decode().endswith(_LOOK):
            shutil.copytree(self._root / "live", self._root / "killed", ignore=shutil.ignore_patterns(".*"))
        else:
            yield _BATCHES[element.decode()]


def _note(element: Any, name: str, collection: str) -> None:
    _SAID[name][collection].append(element)


def play(log: Log, read: Sequence[Recorded], dice: random.Random, root: Path, config: MarketDataConfig) -> Played:
    """build + write with a clock; the files go below `root`."""
    name = f"live-{next(_names)}"
    said = _SAID[name] = defaultdict(list)
    live = str(root / "live")
    (root / "live").mkdir()
    with beam.Pipeline(options=PipelineOptions(["--runner=BundleBasedDirectRunner", "--streaming"])) as pipeline:
        given = pipeline | script(log, read, name, config, dice) | beam.ParDo(_Give(root)).with_output_types(RawBatch)
        market = build(given | KeepClock(Known(log)), config, live)
        write(market, Outputs(files_root=live), config.cell.grace_us)
        for collection, found in market._asdict().items():
            _ = found | f"Note{collection}" >> beam.Map(_note, name, collection)
    return Played(Written(root / "live"), Written(root / "killed"), said)
