"""REJECT: a record that was refused, with its original bytes. Parquet `rejects/`, topic md.rejects."""

from typing import Final, Literal, get_args

import pyarrow as pa

from schemas.event import LOG_FIELDS
from schemas.records import Field, Record, struct_list

RejectStep = Literal["decode", "check", "cell"]
STEPS: Final[tuple[RejectStep, ...]] = get_args(RejectStep)

RejectReason = Literal[
    "undecodable",
    "empty_value",
    "empty_exchange",
    "empty_symbol",
    "name_too_long",
    "name_malformed",
    "value_too_large",
    "price_not_finite",
    "price_not_positive",
    "price_out_of_range",
    "price_too_fine",
    "volume_not_finite",
    "volume_negative",
    "volume_out_of_range",
    "volume_too_fine",
    "log_time_implausible",
    "timestamp_in_seconds",
    "timestamp_in_milliseconds",
    "timestamp_in_nanoseconds",
    "timestamp_too_old",
    "timestamp_in_future",
    "identity_conflict",
]
REASONS: Final[tuple[RejectReason, ...]] = get_args(RejectReason)

_AS_READ = "producer, untouched"

REJECT: Final = Record(
    "Reject",
    1,
    "A refused record with its original bytes; on the topic without those that would not fit, which the detail names.",
    (
        *LOG_FIELDS,
        Field(
            "key", pa.binary(), "record key", "bytes", _AS_READ, null="record had none; on the topic also: too large"
        ),
        Field(
            "value", pa.binary(), "record value", "bytes", _AS_READ, null="a tombstone; on the topic also: too large"
        ),
        Field(
            "headers",
            struct_list([("key", pa.utf8(), False), ("value", pa.binary(), True)]),
            "record headers in their order; a header's value may be null",
            "bytes",
            _AS_READ,
        ),
        Field("step", pa.utf8(), "step that refused it: decode, check or cell", "-", "decode, check or cell step"),
        Field("reason", pa.utf8(), "why, one of schemas.reject.REASONS", "-", "decode, check or cell step"),
        Field("detail", pa.utf8(), "the value that was refused, short", "-", "decode, check or cell step"),
        Field("code_version", pa.utf8(), "version of the code that refused it", "-", "the package's version"),
    ),
    key=("topic", "partition", "offset"),
)
