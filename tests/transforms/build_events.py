"""Records to checked batches for the tests of single steps."""

from collections.abc import Sequence

import numpy as np

from tests.testing import Log, raw_batch
from transforms.batches import EventBatch, RawBatch
from transforms.check import Limits, check
from transforms.decode import DecodedBatch, decode


def decoded(raw: RawBatch) -> DecodedBatch:
    """A batch in which everything decodes."""
    good, bad, beacons = decode(raw, 65_536)
    assert good is not None and bad is None and beacons == 0
    return good


def checked(raw: RawBatch) -> EventBatch:
    """A batch in which everything is good."""
    good, bad = check(decoded(raw), Limits())
    assert good is not None and bad is None
    return good


def events(log: Log) -> EventBatch:
    """All events of a log as one batch."""
    return checked(raw_batch(log.records))


def cut(batch: EventBatch, at: Sequence[int]) -> list[EventBatch]:
    """The batch cut at these rows."""
    edges = [0, *sorted(set(at)), len(batch)]
    return [batch.take(np.arange(a, b)) for a, b in zip(edges, edges[1:], strict=False) if a < b]
