"""Records to events: the whole batch at once, with a fall-back that finds the bad message in it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import apache_beam as beam
import numpy as np
import numpy.typing as npt
import ptars
import pyarrow as pa
from apache_beam.typehints.decorators import no_annotations

from schemas import market_data_pb2
from schemas.reject import RejectReason
from transforms.batches import RawBatch
from transforms.binary import binary_ends
from transforms.header_ids import IdHeaders, ids_of_headers, with_ids
from transforms.metrics import count
from transforms.named_failure import names_record_alone
from transforms.rejects import reject_rows

BEACON_HEADER: Final = "horizon-beacon"
_Reasons = dict[int, tuple[RejectReason, str]]  # row -> why it is refused, and a short detail

_POOL = ptars.HandlerPool([market_data_pb2.DESCRIPTOR])
_HANDLER = _POOL.get_for_message(market_data_pb2.MarketDataEvent.DESCRIPTOR)


@dataclass(frozen=True)
class DecodedBatch:
    """Records, ids of headers in their messages, and row for row their fields as Arrow columns (of MarketDataEvent)."""

    raw: RawBatch
    fields: pa.RecordBatch

    def __len__(self) -> int:
        return len(self.raw)

    def take(self, rows: npt.NDArray[np.int64]) -> "DecodedBatch":
        """The same batch with only these rows, in this order."""
        return DecodedBatch(self.raw.take(rows), self.fields.take(pa.array(rows)))


def protobuf_fields(values: pa.BinaryArray) -> pa.RecordBatch:
    """MarketDataEvent messages as columns; ValueError when any of them is not one."""
    return _HANDLER.array_to_record_batch(values)


def decode(
    raw: RawBatch, max_value_bytes: int, id_headers: IdHeaders | None = None
) -> tuple[DecodedBatch | None, pa.RecordBatch | None, int]:
    """Decode a batch: (events or None, REJECT records or None, number of beacons left out)."""
    if len(raw) == 0:
        return None, None, 0
    beacons = [
        row
        for row, headers in raw.headers.items()
        # one with a value is data, whoever copied the header onto it
        if any(key == BEACON_HEADER for key, _ in headers) and not raw.values[row].is_valid
    ]
    reasons = _of_bad_size(raw.values, max_value_bytes)
    for row in beacons:
        reasons.pop(row, None)
    rows = np.setdiff1d(np.arange(len(raw)), [*beacons, *reasons]) if beacons or reasons else np.arange(len(raw))
    good, fields = _decode_rows(raw.values, rows, reasons)
    whole = raw
    if raw.headers and (ids := ids_of_headers(raw.headers, good, fields, id_headers or IdHeaders())):
        whole = with_ids(raw, ids)  # and so it goes on, also where it is decoded for topics and files
        refused = {row: why for row, why in _of_bad_size(whole.values, max_value_bytes).items() if row in ids}
        good, fields = _decode_rows(whole.values, np.setdiff1d(good, [*refused]), refused)
        reasons |= {row: (reason, f"with the id in its header: {detail}") for row, (reason, detail) in refused.items()}
    bad = _rejects(raw, reasons)
    if not len(good):
        return None, bad, len(beacons)
    return DecodedBatch(whole if len(good) == len(raw) else whole.take(good), fields), bad, len(beacons)


def _of_bad_size(values: pa.BinaryArray, max_value_bytes: int) -> _Reasons:
    """The values that are none, empty or too large."""
    sizes = np.diff(binary_ends(values))  # 0 of a null
    if sizes.min() > 0 and sizes.max() <= max_value_bytes:
        return {}
    reasons: _Reasons = {}
    for row in np.flatnonzero((sizes == 0) | (sizes > max_value_bytes)).tolist():
        size = int(sizes[row])
        reasons[row] = ("value_too_large" if size else "empty_value", f"{size} bytes, at most {max_value_bytes}")
    return reasons


def _decode_rows(
    values: pa.BinaryArray, rows: npt.NDArray[np.int64], reasons: _Reasons
) -> tuple[npt.NDArray[np.int64], pa.RecordBatch]:
    """Rows that decode, and their fields; the others get a reason. Halves the batch until the bad ones are alone."""
    try:
        return rows, protobuf_fields(values if len(rows) == len(values) else values.take(pa.array(rows)))
    except ValueError as error:
        if len(rows) == 1:
            reasons[int(rows[0])] = ("undecodable", str(error))
            return rows[:0], _HANDLER.list_to_record_batch([])
    left, right = (_decode_rows(values, half, reasons) for half in np.array_split(rows, 2))
    fields = pa.Table.from_batches([left[1], right[1]]).combine_chunks().to_batches()
    return np.concatenate([left[0], right[0]]), fields[0] if fields else left[1]


def _rejects(raw: RawBatch, reasons: _Reasons) -> pa.RecordBatch | None:
    if not reasons:
        return None
    rows = sorted(reasons)
    names, details = zip(*(reasons[row] for row in rows), strict=True)
    return reject_rows(raw, np.array(rows), "decode", names, details)


class Decoded(NamedTuple):
    """What DecodeEvents gives."""

    good: beam.PCollection[DecodedBatch]
    bad: beam.PCollection[pa.RecordBatch]


class _Decode(beam.DoFn):
    def __init__(self, max_value_bytes: int, id_headers: IdHeaders) -> None:
        self._max_value_bytes, self._id_headers = max_value_bytes, id_headers

    @names_record_alone
    def process(self, raw: RawBatch) -> Iterator[Any]:
        good, bad, beacons = decode(raw, self._max_value_bytes, self._id_headers)
        count("records_read", len(raw))
        count("beacons_read", beacons)
        if bad is not None:
            count("records_rejected", bad.num_rows)
            yield beam.pvalue.TaggedOutput("bad", bad)
        if good is not None:
            yield good


class DecodeEvents(beam.PTransform):
    """Decode MarketDataEvent protobufs; what they leave empty may stand in a header.

    In:     RawBatch.
    Out:    .good DecodedBatch, in the order read; .bad REJECT records (step decode).
    Errors: undecodable, empty_value, value_too_large; beacons are left out and counted.
    Cost:   0.2 us an event in batches of 2,000; a batch with bad messages is decoded about log2(n) times, one with
            ids in headers twice.
    Source: docs/specs/market_data.md, step 2.
    """

    def __init__(self, max_value_bytes: int, id_headers: IdHeaders) -> None:
        super().__init__()
        self._max_value_bytes, self._id_headers = max_value_bytes, id_headers

    @no_annotations  # Beam knows no output of several collections, and warns of each
    def expand(self, raw: beam.PCollection[RawBatch]) -> Decoded:
        decoded = raw | "Decode" >> beam.ParDo(_Decode(self._max_value_bytes, self._id_headers)).with_outputs(
            "bad", main="good"
        )
        return Decoded(decoded.good, decoded.bad)
