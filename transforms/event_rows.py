"""Unique events as the rows of a file."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from schemas.event import EVENT
from transforms.batches import EventBatch
from transforms.decode import with_header_ids
from transforms.dedup import places
from transforms.event_columns import event_columns, no_copies


def event_table(batches: Sequence[EventBatch]) -> pa.Table:
    """Events as EVENT rows in the order of (event time, partition, offset), copies among them."""
    batch = EventBatch.concat(batches)
    batch = batch.take(np.lexsort((places(batch.rows), batch.rows["event_time_us"])))
    values = with_header_ids(batch.values, batch.headers)
    columns = event_columns(pa.repeat(batch.topic, len(batch)), batch.rows, values) | {"copies": no_copies(len(batch))}
    return pa.table([columns[name] for name in EVENT.arrow.names], schema=EVENT.arrow)
