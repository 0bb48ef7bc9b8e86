"""Refused records as one Arrow batch, with their original bytes."""

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas.reject import REJECT, RejectReason, RejectStep
from schemas.units import LOG_TIME_UNTIL_US
from transforms.batches import RawBatch
from transforms.header_ids import values_as_read


def _code_version() -> str:
    try:
        return version("horizon-market-data")
    except PackageNotFoundError:  # run from a source tree that was never installed
        return "unversioned"


CODE_VERSION: Final = _code_version()


def reject_rows(
    raw: RawBatch,
    rows: npt.NDArray[np.int64],
    step: RejectStep,
    reasons: Sequence[RejectReason],
    details: Sequence[str],
) -> pa.RecordBatch:
    """The given rows of `raw` as REJECT records; one reason and one short detail for each row."""
    refused, details = raw.take(rows), list(details)
    headers = [
        [{"key": key, "value": value} for key, value in refused.headers.get(row, [])] for row in range(len(refused))
    ]
    # what no calendar has stops whoever reads it
    dated = (refused.log_time_us >= 0) & (refused.log_time_us < LOG_TIME_UNTIL_US)
    for row in np.flatnonzero(~dated).tolist():
        details[row] = f"log_time_us={refused.log_time_us[row]} is kept as 0; {details[row]}"
    columns = {
        "topic": [raw.topic] * len(rows),
        "partition": refused.partition.astype(np.int32),
        "offset": refused.offset,
        "log_time": np.where(dated, refused.log_time_us, 0),
        "key": refused.keys,
        "value": values_as_read(refused),
        "headers": headers,
        "step": [step] * len(rows),
        "reason": list(reasons),
        "detail": [detail[:200] for detail in details],
        "code_version": [CODE_VERSION] * len(rows),
    }
    return REJECT.batch(columns)
