"""Events as the columns of EVENT and LATE records."""

from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.event import EVENT, EVENT_FIELDS, SIDES
from schemas.records import TIMESTAMP
from transforms.decode import protobuf_fields
from transforms.exact import Ints
from transforms.faults import Limits, is_plausible_time
from transforms.rows import Rows

_LIMITS: Final = Limits()


def event_columns(topics: pa.StringArray, rows: Rows, chosen: Ints, values: pa.BinaryArray) -> dict[str, Any]:
    """Columns of EVENT_FIELDS: what the messages (`values`) say, and where they lie and who they are (rows[chosen])."""
    fields = protobuf_fields(values)
    side = fields["side"].to_numpy()
    side = np.where((side == 1) | (side == 2), side, 0)
    identity = np.ascontiguousarray(np.stack([rows["identity_hi"][chosen], rows["identity_lo"][chosen]], axis=1))
    columns: dict[str, Any] = {
        "exchange": fields["exchange"],
        "symbol": fields["symbol"],
        "event_type": fields["event_type"],
        "event_time": fields["timestamp"].cast(TIMESTAMP),
        "price": fields["price"],
        "volume": fields["volume"],
        "side": pa.array(SIDES, pa.utf8()).take(pa.array(side)),
        "sequence": fields["sequence"],
        "received_at": _plausible(fields["received_at"], rows["log_time_us"][chosen]),
        "topic": topics,
        "partition": pa.array(rows["partition"][chosen]),
        "offset": pa.array(rows["offset"][chosen]),
        "log_time": pa.array(rows["log_time_us"][chosen]).cast(TIMESTAMP),
        "identity": pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(chosen), [None, pa.py_buffer(identity)]),
    }
    columns |= {name: _null_for_empty(fields[name]) for name in ("trade_id", "event_id", "source")}
    return {field.name: columns[field.name] for field in EVENT_FIELDS}


def no_copies(count: int) -> pa.ListArray:
    """The column `copies` of events that have none."""
    kind = EVENT.arrow.field("copies").type
    return pa.ListArray.from_arrays(np.zeros(count + 1, np.int32), pa.array([], kind.value_type), type=kind)


def _plausible(time_us: pa.Int64Array, log_time_us: Ints) -> pa.TimestampArray:
    """Times that nothing is made of, as the event time is judged; what is of another unit or date is unknown."""
    if time_us.null_count < len(time_us):
        wrong = ~is_plausible_time(time_us.fill_null(0).to_numpy(), log_time_us, _LIMITS)
        time_us = pc.if_else(pa.array(wrong), pa.scalar(None, pa.int64()), time_us)
    return time_us.cast(TIMESTAMP)


def _null_for_empty(text: pa.StringArray) -> pa.StringArray:
    return pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.utf8()), text)
