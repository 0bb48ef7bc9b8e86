"""Lateness is judged by the log, not by the runner: log lag = the clock of the record's partition - its event time."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.typehints.decorators import no_annotations

from schemas.late import LATE, LateReason
from schemas.units import US_PER_S
from transforms.batches import EventBatch
from transforms.event_columns import event_columns
from transforms.metrics import count
from transforms.named_failure import names_record_alone


def late_rows(batch: EventBatch, reason: LateReason) -> pa.RecordBatch:
    """The events as LATE records."""
    time = batch.rows["event_time_us"]
    columns = event_columns(pa.repeat(batch.topic, len(batch)), batch.rows, np.arange(len(batch)), batch.values) | {
        "reason": [reason] * len(batch),
        "missed_bar_start": time // US_PER_S * US_PER_S,
        "lag_us": batch.rows["clock_us"] - time,
    }
    return LATE.batch(columns)


class Judged(NamedTuple):
    """What JudgeLateness gives."""

    on_time: beam.PCollection[EventBatch]
    late: beam.PCollection[pa.RecordBatch]


class _Judge(beam.DoFn):
    def __init__(self, horizon_us: int) -> None:
        self._horizon_us = horizon_us

    @names_record_alone
    def process(self, batch: EventBatch) -> Iterator[Any]:
        late = batch.rows["clock_us"] - batch.rows["event_time_us"] > self._horizon_us
        if late.any():
            count("events_late", int(late.sum()))
            yield beam.pvalue.TaggedOutput("late", late_rows(batch.take(np.flatnonzero(late)), "beyond_horizon"))
            batch = batch.take(np.flatnonzero(~late))
        if len(batch):
            yield batch


class JudgeLateness(beam.PTransform):
    """Part the events whose log lag exceeds the horizon from the others; the verdict is the same in every run.

    In:     EventBatch.
    Out:    .on_time EventBatch; .late LATE records with the bar they missed (reason beyond_horizon).
    Units:  horizon in microseconds.
    Source: docs/specs/market_data.md, step 4.
    """

    def __init__(self, horizon_us: int) -> None:
        super().__init__()
        self._horizon_us = horizon_us

    @no_annotations  # Beam knows no output of several collections, and warns of each
    def expand(self, events: beam.PCollection[EventBatch]) -> Judged:
        judged = events | "Judge" >> beam.ParDo(_Judge(self._horizon_us)).with_outputs("late", main="on_time")
        return Judged(judged.on_time, judged.late)
