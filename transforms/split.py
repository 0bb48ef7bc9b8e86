"""Batches of many instruments and windows to batches of one cell each."""

from collections.abc import Iterator

import apache_beam as beam
import numpy as np

from schemas.units import US_PER_S
from transforms.batches import EventBatch
from transforms.cell_config import CellKey
from transforms.cell_fold import WINDOW_S
from transforms.identity import shards_of
from transforms.named_failure import names_record_alone


def split_by_cell(batch: EventBatch, shards: int) -> Iterator[tuple[CellKey, EventBatch]]:
    """The batch in pieces of one (window, shard) each, rows in reading order."""
    shard = shards_of(batch.instruments, shards)[batch.rows["instrument"]]
    cell = batch.rows["event_time_us"] // (WINDOW_S * US_PER_S) * shards + shard
    order = np.argsort(cell, kind="stable")
    cell = cell[order]
    batch = batch.take(order)
    starts = np.flatnonzero(np.diff(cell, prepend=cell[0] - 1)).tolist()
    for start, stop in zip(starts, [*starts[1:], len(batch)], strict=True):
        window, piece = divmod(int(cell[start]), shards)
        yield (window * WINDOW_S, piece), batch.slice(start, stop)


class _Split(beam.DoFn):
    def __init__(self, shards: int) -> None:
        self._shards = shards

    @names_record_alone
    def process(self, batch: EventBatch) -> Iterator[tuple[CellKey, EventBatch]]:
        return split_by_cell(batch, self._shards)


class SplitByCell(beam.PTransform):
    """Key events by their cell.

    In:     EventBatch.
    Out:    (CellKey, EventBatch), one piece per shard and window of a batch.
    Cost:   a crossing follows; few shards keep the pieces large.
    """

    def __init__(self, shards: int) -> None:
        super().__init__()
        self._shards = shards

    def expand(self, events: beam.PCollection[EventBatch]) -> beam.PCollection[tuple[CellKey, EventBatch]]:
        return events | "Split" >> beam.ParDo(_Split(self._shards)).with_output_types(
            tuple[tuple[int, int], EventBatch]
        )
