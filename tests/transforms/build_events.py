"""Records to checked batches for the tests of single steps."""

import numpy as np

from tests.testing import Log, raw_batch
from transforms.batches import EventBatch, RawBatch
from transforms.cell_fold import by_second
from transforms.check import check
from transforms.decode import DecodedBatch, decode
from transforms.exact import Ints
from transforms.faults import Limits


def decoded(raw: RawBatch) -> DecodedBatch:
    """A batch in which everything decodes."""
    good, bad, beacons = decode(raw, 65_536)
    assert good is not None
    assert bad is None
    assert beacons == 0
    return good


def checked(raw: RawBatch) -> EventBatch:
    """A batch in which everything is good."""
    good, bad = check(decoded(raw), Limits())
    assert good is not None
    assert bad is None
    return good


def events(log: Log) -> EventBatch:
    """All events of a log as one batch."""
    return checked(raw_batch(log.records))


def whole(batch: EventBatch) -> tuple[EventBatch, Ints]:
    """All rows of a batch, as the files take them."""
    return batch, np.arange(len(batch))


def seconds(batch: EventBatch) -> list[tuple[int, EventBatch]]:
    """The events of each second (since the epoch) by themselves."""
    return [(second, batch.take(rows)) for second, rows in by_second(batch.rows).items()]
