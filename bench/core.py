"""What each step costs by itself: one process, one thread, no Kafka, no Flink, no Beam around it.

    python -m bench.core
    python -m bench.core --batch 200 --rate 20000

CPU microseconds an event, and pages that were touched for the first time (on a virtual machine these are dear), of each
step over a simulated market: records in batches as the source gives them, split by cell, each cell from its first
record to its file.
"""

import argparse
import resource
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
from apache_beam.utils.timestamp import Timestamp

from bench.load import conditions, market
from transforms.batches import EventBatch, RawBatch
from transforms.cell import _FoldCell
from transforms.cell_config import CellConfig, CellKey
from transforms.cell_fold import WINDOW_S
from transforms.check import check
from transforms.decode import decode
from transforms.faults import Limits
from transforms.log_clock import Carried, clocks
from transforms.split import split_by_cell

_START_US = 1_700_000_000_000_000


class Meter:
    """CPU time and first touches by step."""

    def __init__(self) -> None:
        self.us: dict[str, float] = defaultdict(float)
        self.pages: dict[str, int] = defaultdict(int)

    @contextmanager
    def of(self, step: str) -> Iterator[None]:
        """What is done meanwhile counts for this step."""
        pages, began = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, time.process_time()
        yield
        self.us[step] += (time.process_time() - began) * 1e6
        self.pages[step] += resource.getrusage(resource.RUSAGE_SELF).ru_minflt - pages

    def report(self, events: int) -> None:
        """A line a step."""
        for step, us in self.us.items():
            print(
                f"  {step:10} {us / events:6.2f} us an event  {self.pages[step] * 1000 / events:7.1f} pages a thousand"
            )
        print(f"  {'all':10} {sum(self.us.values()) / events:6.2f}")


class Bag:
    """A bag of state in memory."""

    def __init__(self) -> None:
        self.held: list[Any] = []

    def read(self) -> list[Any]:
        return self.held

    def add(self, value: Any) -> None:
        self.held.append(value)

    def clear(self) -> None:
        self.held = []


class Value:
    """A single value of state in memory."""

    def __init__(self) -> None:
        self.held: Any = None

    def read(self) -> Any:
        return self.held

    def write(self, value: Any) -> None:
        self.held = value

    def clear(self) -> None:
        self.held = None


class Timers:
    """Notes what is set; they are fired by hand."""

    def __init__(self) -> None:
        self.tags: set[str] = set()

    def set(self, _: Any, dynamic_timer_tag: str = "") -> None:
        self.tags.add(dynamic_timer_tag)


def raw_batches(events: int, rate: float, size: int) -> Iterator[RawBatch]:
    """The market as one partition's batches."""
    at, carried = 0, Carried()
    for batch in market(events, rate, _START_US).batches():
        for start in range(0, len(batch), size):
            values, keys = (pa.array(part[start : start + size], pa.binary()) for part in (batch.values, batch.keys))
            offset, log_time_us = np.arange(at, at + len(values)), batch.log_time_ms[start : start + size] * 1_000
            partition = np.zeros(len(values), np.int64)
            clock_us, carried = clocks(partition, offset, log_time_us, carried)
            yield RawBatch("raw", values, keys, partition, offset, log_time_us, {}, clock_us)
            at += len(values)


def run(events: int, rate: float, size: int, root: str) -> tuple[Meter, int]:
    """All steps over the market."""
    meter, config, count = Meter(), CellConfig(), 0
    cells: dict[CellKey, list[bytes]] = defaultdict(list)
    for raw in raw_batches(events, rate, size):
        count += len(raw)
        with meter.of("decode"):
            decoded, _, _ = decode(raw, 65_536)
        with meter.of("check"):
            checked, _ = check(decoded, Limits())
        with meter.of("split"):
            pieces = list(split_by_cell(checked, config.shards)) if checked else []
        with meter.of("encode"):
            for key, piece in pieces:
                cells[key].append(piece.to_bytes())
    for key, encoded in cells.items():
        cell(meter, key, encoded, config, root)
    return meter, count


def cell(meter: Meter, key: CellKey, encoded: list[bytes], config: CellConfig, root: str) -> None:
    """One cell from its first record to its file."""
    state = {name: Bag() for name in ("waiting", "kept", "folded", "out")}
    mark, publish, timer = Value(), Timers(), Timers()
    step = _FoldCell(config, root)
    step.setup()
    for data in encoded:
        with meter.of("arrive"):
            element = (key, EventBatch.from_bytes(data))
            list(step.process(element, mark=mark, **state, publish=publish, settle=timer, close=timer))
    for tag in sorted(publish.tags):
        at = _at((int(tag) + 1) * 1_000_000 + config.grace_us)
        with meter.of("publish"):
            list(step.publish(key=key, at=at, mark=mark, **state))
    at = _at((key[0] + WINDOW_S + 5) * 1_000_000)
    with meter.of("settle"):
        list(step.settle(key=key, at=at, mark=mark, **state, settle=timer))
    with meter.of("file"):  # which another thread has begun
        list(step.settle(key=key, at=at, mark=mark, **state, settle=timer))
        step.finish_bundle()
    step.teardown()


def _at(us: int) -> Timestamp:
    return Timestamp(micros=us)


def main() -> None:
    """Run it and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=2_000_000)
    parser.add_argument("--rate", type=float, default=100_000, help="events a second of event time")
    parser.add_argument("--batch", type=int, default=2_000, help="records that come in one batch")
    asked = parser.parse_args()
    print(conditions())
    with TemporaryDirectory() as root:
        meter, count = run(asked.events, asked.rate, asked.batch, str(Path(root)))
    meter.report(count)


if __name__ == "__main__":
    main()
