"""LATE: a record that came too late to be folded. Parquet `late/`, topic md.late."""

from typing import Final, Literal, get_args

import pyarrow as pa

from schemas.event import EVENT_FIELDS
from schemas.records import TIMESTAMP, US_EPOCH, Field, Record

LateReason = Literal["beyond_horizon", "cell_closed"]
LATE_REASONS: Final[tuple[LateReason, ...]] = get_args(LateReason)

LATE: Final = Record(
    "Late",
    1,
    "A record that came too late to be folded. Copies are not looked for: its event may be in the bar all the same.",
    (
        *EVENT_FIELDS,
        Field(
            "reason",
            pa.utf8(),
            "beyond_horizon: log lag above the horizon; cell_closed: a straggler of a cell already cleared",
            "-",
            "late step; cell step: cell_closed",
        ),
        Field("missed_bar_start", TIMESTAMP, "start of the 1 s bar it would have been in", US_EPOCH, "event_time"),
        Field(
            "lag_us",
            pa.int64(),
            "newest log time of its partition until then, minus event time",
            "microseconds",
            "log times of the partition, and event_time",
        ),
    ),
    key=("topic", "partition", "offset"),
)
