"""Event batches as the columns of EVENT and LATE records."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.event import EVENT_FIELDS, SIDES
from schemas.records import TIMESTAMP
from transforms.batches import EventBatch
from transforms.decode import protobuf_fields, with_header_ids


def event_columns(batch: EventBatch) -> dict[str, Any]:
    """Columns of EVENT_FIELDS: what the record says, where it lies and who it is."""
    rows = batch.rows
    fields = protobuf_fields(with_header_ids(batch.values, batch.headers))
    side = np.where(np.isin(fields["side"].to_numpy(), (1, 2)), fields["side"].to_numpy(), 0)
    identity = np.ascontiguousarray(np.stack([rows["identity_hi"], rows["identity_lo"]], axis=1))
    columns: dict[str, Any] = {
        "exchange": fields["exchange"],
        "symbol": fields["symbol"],
        "event_type": fields["event_type"],
        "event_time": fields["timestamp"].cast(TIMESTAMP),
        "price": fields["price"],
        "volume": fields["volume"],
        "side": pa.array(SIDES, pa.utf8()).take(pa.array(side)),
        "sequence": fields["sequence"],
        "received_at": fields["received_at"].cast(TIMESTAMP),
        "topic": pa.array([batch.topic] * len(rows), pa.utf8()),
        "partition": pa.array(np.ascontiguousarray(rows["partition"])),
        "offset": pa.array(np.ascontiguousarray(rows["offset"])),
        "log_time": pa.array(np.ascontiguousarray(rows["log_time_us"])).cast(TIMESTAMP),
        "identity": pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(rows), [None, pa.py_buffer(identity)]),
    }
    columns |= {name: _null_for_empty(fields[name]) for name in ("trade_id", "event_id", "source")}
    return {field.name: columns[field.name] for field in EVENT_FIELDS}


def _null_for_empty(text: pa.StringArray) -> pa.StringArray:
    return pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.utf8()), text)
