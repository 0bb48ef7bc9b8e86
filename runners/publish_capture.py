"""A capture's rows, scheduled and shifted, as batches to publish."""

from collections.abc import Iterator, Sequence

import numpy as np

from runners.capture import CapturedEvent
from runners.publish import PublishBatch
from runners.rebase import SHIFT_HEADER, Schedule
from schemas.market_data_pb2 import MarketDataEvent
from schemas.units import US_PER_MS

_BATCH = 2_000


def capture_batches(events: Sequence[CapturedEvent], plan: Schedule) -> Iterator[PublishBatch]:
    """Batches in sending order; the shift is in a header of each record, unless nothing was shifted."""
    shifted = bool(plan.shift_us.any())
    for at in range(0, len(plan.row), _BATCH):
        part = slice(at, at + _BATCH)
        rows = [events[number] for number in plan.row[part].tolist()]
        shifts = plan.shift_us[part].tolist()
        log_us = np.array([row.log_us for row in rows], np.int64) + plan.shift_us[part]
        yield PublishBatch(
            keys=[f"{row.event.exchange}|{row.event.symbol}".encode() for row in rows],
            values=[_shifted(row.event, shift) for row, shift in zip(rows, shifts, strict=True)],
            log_time_ms=log_us // US_PER_MS,
            headers=[[(SHIFT_HEADER, b"%d" % shift)] for shift in shifts] if shifted else None,
            due_s=None if plan.due_s is None else plan.due_s[part],
        )


def _shifted(event: MarketDataEvent, shift_us: int) -> bytes:
    if shift_us:
        moved = MarketDataEvent()
        moved.CopyFrom(event)
        moved.timestamp += shift_us
        if event.HasField("received_at"):
            moved.received_at += shift_us
        event = moved
    return event.SerializeToString(deterministic=True)
