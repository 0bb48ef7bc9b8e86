"""The log's clock beside each record: carried from block to block, looked up where they are not contiguous."""

from collections.abc import Mapping
from dataclasses import replace
from threading import Lock
from typing import Protocol

import apache_beam as beam
import numpy as np
from apache_beam.utils.shared import Shared

from transforms.batches import RawBatch
from transforms.log_clock import Carried, clocks
from transforms.named_failure import names_record


class Index(Protocol):
    """Who knows the newest log time before an offset."""

    def newest_before(
        self, topic: str, offsets: Mapping[int, int], carried: Mapping[int, tuple[int, int]]
    ) -> dict[int, int]:
        """Of each partition the newest log time before an offset, us."""


class LogClock:
    """The clocks of what one process reads, for all its threads.

    A carried clock is exact where the next block begins at the carried offset, whoever read the block before.
    """

    def __init__(self, index: Index) -> None:
        self._index, self._lock = index, Lock()
        self._carried: dict[str, Carried] = {}

    def keep(self, raw: RawBatch) -> RawBatch:
        """The batch with its clock."""
        with self._lock:
            carried = self._carried.get(raw.topic, {})
            homes, rows = np.unique(raw.partition, return_index=True)
            begins = dict(zip(homes.tolist(), raw.offset[rows].tolist(), strict=True))
            known = {p: carried.get(p, (-1, 0)) for p in begins}
            # the first record of a partition has none before it, also when a topic was made anew
            moved = {p: begin for p, begin in begins.items() if begin and known[p][0] != begin}
            found = self._index.newest_before(raw.topic, moved, carried) if moved else {}
            before = {p: known[p] for p, begin in begins.items() if begin and p not in moved}
            before |= {p: (begins[p], newest_us) for p, newest_us in found.items()}
            clock_us, carry = clocks(raw.partition, raw.offset, raw.log_time_us, before)
            self._carried[raw.topic] = carried | carry
        return replace(raw, clock_us=clock_us)


class _Keep(beam.DoFn):
    def __init__(self, index: Index) -> None:
        self._index = index
        self._shared = Shared()  # Flink runs the bundles of a stage in several instances of it

    def setup(self) -> None:
        self._clock: LogClock = self._shared.acquire(lambda: LogClock(self._index))

    @names_record
    def process(self, raw: RawBatch) -> list[RawBatch]:
        return [self._clock.keep(raw)] if len(raw) else []


class KeepClock(beam.PTransform):
    """Put the clock of its partition beside each record.

    In:     RawBatch as a source gives it: each partition's records in offset order.
    Out:    the same with clock_us.
    Errors: KafkaException when a look-up finds no broker: the bundle fails and is tried again.
    Cost:   nothing while blocks are contiguous; at a start some 50 look-ups for all partitions of a block at once.
    Source: docs/specs/market_data.md, step 1.
    """

    def __init__(self, index: Index) -> None:
        super().__init__()
        self._index = index

    def expand(self, raw: beam.PCollection[RawBatch]) -> beam.PCollection[RawBatch]:
        return raw | "Keep" >> beam.ParDo(_Keep(self._index)).with_output_types(RawBatch)
