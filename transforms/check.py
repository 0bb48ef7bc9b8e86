"""Decoded records to events: a rule and a reason for each refusal, all rules on whole columns."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.typehints.decorators import no_annotations

from transforms import dedup
from transforms.batches import EventBatch, RawBatch
from transforms.decode import DecodedBatch
from transforms.exact import hash_columns
from transforms.fault_points import record_fault_point
from transforms.faults import Codes, Faults, Limits, find_faults
from transforms.identity import identities, order_sequence
from transforms.metrics import count
from transforms.named_failure import names_record_alone
from transforms.rejects import reject_rows
from transforms.rows import EVENT_ROW, Instrument


def check(decoded: DecodedBatch, limits: Limits) -> tuple[EventBatch | None, pa.RecordBatch | None]:
    """Checked events, and REJECT records for the others."""
    fields, raw = decoded.fields, decoded.raw
    record_fault_point("checked", raw)
    names, code = _names(fields)
    faults = find_faults(fields, raw, names, code, limits)
    if not faults:
        return _events(decoded, names, code), None
    bad = np.logical_or.reduce([mask for _, mask in faults])
    rejected = _rejects(raw, fields, np.flatnonzero(bad), faults)
    keep = np.flatnonzero(~bad)
    if not len(keep):
        return None, rejected
    kept = decoded.take(keep)
    # named anew: a table with the refused names in it could not be packed, for they may hold tabs and line ends
    return _events(kept, *_names(kept.fields)), rejected


def _names(fields: pa.RecordBatch) -> tuple[list[str], Codes]:
    """Exchange and symbol, parted by a tab, of each instrument, and which of them a row is of."""
    joined = pc.binary_join_element_wise(fields["exchange"], fields["symbol"], "\t").dictionary_encode()
    return joined.dictionary.to_pylist(), joined.indices.to_numpy()


def _events(decoded: DecodedBatch, names: Sequence[str], code: Codes) -> EventBatch:
    """Columns as EVENT_ROW rows."""
    fields, raw = decoded.fields, decoded.raw
    instruments: list[Instrument] = []
    for name in names:
        exchange, _, symbol = name.partition("\t")
        instruments.append((exchange, symbol))
    rows = np.empty(len(raw), EVENT_ROW)
    rows["instrument"] = code
    rows["event_type"] = fields["event_type"].to_numpy()
    rows["event_time_us"] = fields["timestamp"].to_numpy()
    rows["log_time_us"] = raw.log_time_us
    rows["clock_us"] = raw.clock_us
    rows["lag_us"] = rows["clock_us"] - rows["event_time_us"]
    rows["partition"] = raw.partition
    rows["offset"] = raw.offset
    for name in ("price", "volume"):
        rows[name] = fields[name].to_numpy() + 0.0  # which makes -0.0 0.0: two zeros would be told apart by their order
    rows["sequence"] = order_sequence(fields["sequence"], fields["trade_id"])
    rows["side"] = fields["side"].to_numpy()
    rows["identity_hi"], rows["identity_lo"] = identities(
        raw.topic,
        instruments,
        rows["instrument"],
        rows["event_type"],
        fields["trade_id"],
        fields["event_id"],
        rows["partition"],
        rows["offset"],
    )
    rows["key"] = dedup.keys(rows["identity_hi"], rows["identity_lo"], rows["event_time_us"])
    rows["content"] = hash_columns(rows["price"].view("<i8"), rows["volume"].view("<i8"), rows["side"])
    rows["verdict"] = 0
    return EventBatch(raw.topic, instruments, rows, raw.values, raw.keys, raw.headers, raw.added)


def _rejects(
    raw: RawBatch,
    fields: pa.RecordBatch,
    rows: npt.NDArray[np.int64],
    faults: Faults,
) -> pa.RecordBatch:
    reasons = [next(reason for reason, mask in faults if mask[row]) for row in rows.tolist()]
    shown = ("exchange", "symbol", "price", "volume", "timestamp")
    details = [" ".join(f"{name}={str(fields[name][row])[:30]!r}" for name in shown) for row in rows.tolist()]
    return reject_rows(raw, rows, "check", reasons, details)


class Checked(NamedTuple):
    """What CheckEvents gives."""

    good: beam.PCollection[EventBatch]
    bad: beam.PCollection[pa.RecordBatch]


class _Check(beam.DoFn):
    def __init__(self, limits: Limits) -> None:
        self._limits = limits

    @names_record_alone
    def process(self, decoded: DecodedBatch) -> Iterator[Any]:
        good, bad = check(decoded, self._limits)
        if bad is not None:
            count("records_rejected", bad.num_rows)
            yield beam.pvalue.TaggedOutput("bad", bad)
        if good is not None:
            yield good


class CheckEvents(beam.PTransform):
    """Refuse what is implausible, and numbers whose sums would not be exact.

    In:     DecodedBatch.
    Out:    .good EventBatch; .bad REJECT records (step check) with the original bytes.
    Errors: the reasons of schemas.reject from empty_exchange to timestamp_in_future; the first that holds counts.
    Units:  event time is judged against the record's log time, never against the wall clock.
    Source: docs/specs/market_data.md, step 3.
    """

    def __init__(self, limits: Limits) -> None:
        super().__init__()
        self._limits = limits

    @no_annotations  # Beam knows no output of several collections, and warns of each
    def expand(self, decoded: beam.PCollection[DecodedBatch]) -> Checked:
        checked = decoded | "Check" >> beam.ParDo(_Check(self._limits)).with_outputs("bad", main="good")
        return Checked(checked.good, checked.bad)
