"""LATE: an event that came too late to be folded into its bar. Parquet `late/`, topic md.late."""

from typing import Final, Literal, get_args

import pyarrow as pa

from schemas.event import EVENT_FIELDS
from schemas.records import TIMESTAMP, US_EPOCH, Field, Record

LateReason = Literal["beyond_horizon", "cell_closed"]
LATE_REASONS: Final[tuple[LateReason, ...]] = get_args(LateReason)

LATE: Final = Record(
    "Late",
    1,
    "An event that came too late to be folded into its bar.",
    (
        *EVENT_FIELDS,
        Field(
            "reason",
            pa.utf8(),
            "beyond_horizon: log lag above the horizon; cell_closed: a straggler of a cell already cleared",
            "-",
            "cell step",
        ),
        Field("missed_bar_start", TIMESTAMP, "start of the 1 s bar it would have been in", US_EPOCH, "cell step"),
        Field(
            "lag_us",
            pa.int64(),
            "newest log time of its partition until then, minus event time",
            "microseconds",
            "cell step",
        ),
    ),
)
