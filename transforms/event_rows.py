"""Unique events as the rows of a file."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from schemas.event import EVENT
from transforms.batches import EventBatch
from transforms.dedup import places
from transforms.event_columns import event_columns, no_copies
from transforms.exact import Ints


def event_table(parts: Sequence[tuple[EventBatch, Ints]]) -> pa.Table:
    """The chosen rows of batches as EVENT rows, each part by instrument, event time, partition and offset."""
    return pa.concat_tables([_table(*part) for part in parts])


def _table(batch: EventBatch, chosen: Ints) -> pa.Table:
    rows = batch.rows
    by_name = sorted(range(len(batch.instruments)), key=batch.instruments.__getitem__)
    rank = np.argsort(by_name)[rows["instrument"][chosen]]
    order = chosen[np.lexsort((places(rows)[chosen], rows["event_time_us"][chosen], rank))]
    values = batch.values.take(pa.array(order))
    columns = event_columns(pa.repeat(batch.topic, len(order)), rows, order, values) | {"copies": no_copies(len(order))}
    return pa.table([columns[name] for name in EVENT.arrow.names], schema=EVENT.arrow)
