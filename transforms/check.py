"""Decoded records to events: a rule and a reason for each refusal, all rules on whole columns."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import apache_beam as beam
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.typehints.decorators import no_annotations

from schemas.reject import RejectReason
from schemas.units import E9, US_PER_S
from transforms.batches import EVENT_ROW, EventBatch, Instrument, RawBatch
from transforms.decode import DecodedBatch
from transforms.exact import hash_columns, split_e9
from transforms.identity import identities, order_sequence
from transforms.log_clock import plausible
from transforms.metrics import count
from transforms.rejects import reject_rows

Mask = npt.NDArray[np.bool_]
_YEAR_US: Final = 365 * 86_400 * US_PER_S


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What is plausible. The exact sums of the bars hold for everything inside these limits."""

    max_value_bytes: int = 65_536
    max_name_bytes: int = 255  # the token id of a prediction market has 77 digits, a pool's two addresses 85
    max_price: float = 9e9  # quote per base; 1e-9 of it must fit an int64
    max_volume: float = 1e15  # units of base
    max_notional: float = 1e14  # quote; a million such events fit a bar
    max_age_us: int = 20 * _YEAR_US  # event time before log time: the age of the oldest archive
    max_ahead_us: int = 5 * US_PER_S  # event time after log time: venues' clocks run ahead


def check(decoded: DecodedBatch, limits: Limits) -> tuple[EventBatch | None, pa.RecordBatch | None]:
    """Checked events, and REJECT records for the others."""
    fields, raw = decoded.fields, decoded.raw
    names = pc.dictionary_encode(pc.binary_join_element_wise(fields["exchange"], fields["symbol"], "\t"))
    faults = _faults(fields, raw, names, limits)
    bad = np.logical_or.reduce([mask for _, mask in faults]) if faults else np.zeros(len(raw), np.bool_)
    if not bad.any():
        return _events(decoded, names), None
    rejected = _rejects(raw, fields, np.flatnonzero(bad), faults)
    keep = np.flatnonzero(~bad)
    if not len(keep):
        return None, rejected
    index = pa.array(keep)
    kept = DecodedBatch(raw.take(keep), fields.take(index))
    # encoded anew: a table with the refused names in it could not be packed, for they may hold tabs and line ends
    return _events(kept, names.take(index).dictionary_decode().dictionary_encode()), rejected


def _faults(
    fields: pa.RecordBatch, raw: RawBatch, names: pa.DictionaryArray, limits: Limits
) -> list[tuple[RejectReason, Mask]]:
    """Rules that some row breaks, most telling first: a row's reason is the first that holds."""
    price, volume = fields["price"].to_numpy(), fields["volume"].to_numpy()
    with np.errstate(invalid="ignore", over="ignore"):
        rules: list[tuple[RejectReason, Mask]] = [
            *_name_faults(names, limits.max_name_bytes),
            ("price_not_finite", ~np.isfinite(price)),
            ("price_not_positive", np.rint(price * E9) < 1),  # also what would be rounded to 0
            ("price_out_of_range", price > limits.max_price),
            ("volume_not_finite", ~np.isfinite(volume)),
            ("volume_negative", volume < 0),
            ("volume_out_of_range", (volume > limits.max_volume) | (price * volume > limits.max_notional)),
            ("log_time_implausible", ~plausible(raw.log_time_us)),
            *_time_faults(fields["timestamp"].to_numpy(), raw.log_time_us, limits),
        ]
    return [(reason, mask) for reason, mask in rules if mask.any()]


def _name_faults(names: pa.DictionaryArray, max_bytes: int) -> list[tuple[RejectReason, Mask]]:
    """Faults of the few distinct instruments, spread over the rows."""
    verdicts = [_name_fault(name, max_bytes) for name in names.dictionary.to_pylist()]
    if not any(verdicts):
        return []
    codes = names.indices.to_numpy()
    return [(reason, np.array([v == reason for v in verdicts])[codes]) for reason in {v for v in verdicts if v}]


def _name_fault(joined: str, max_bytes: int) -> RejectReason | None:
    exchange, _, symbol = joined.partition("\t")
    if "\t" in symbol:  # one of the names holds it, and so the parting may have been elsewhere
        return "name_malformed"
    if not exchange:
        return "empty_exchange"
    if not symbol:
        return "empty_symbol"
    if max(len(exchange.encode()), len(symbol.encode())) > max_bytes:
        return "name_too_long"
    if not (exchange.isprintable() and symbol.isprintable()) or "|" in joined:  # | parts the fields of a topic's keys
        return "name_malformed"
    return None


def _time_faults(
    time: npt.NDArray[np.int64], log_time_us: npt.NDArray[np.int64], limits: Limits
) -> list[tuple[RejectReason, Mask]]:
    """Implausible event times, told apart by the unit in which they would be plausible."""
    oldest, newest = log_time_us - limits.max_age_us, log_time_us + limits.max_ahead_us
    wrong = (time < oldest) | (time > newest)
    if not wrong.any():
        return []

    def plausible(scaled: npt.NDArray[np.float64]) -> Mask:
        return wrong & (scaled >= oldest) & (scaled <= newest)

    as_float = time.astype(np.float64)
    return [
        ("timestamp_in_seconds", plausible(as_float * 1e6)),
        ("timestamp_in_milliseconds", plausible(as_float * 1e3)),
        ("timestamp_in_nanoseconds", plausible(as_float / 1e3)),
        ("timestamp_too_old", wrong & (time < oldest)),
        ("timestamp_in_future", wrong & (time > newest)),
    ]


def _events(decoded: DecodedBatch, names: pa.DictionaryArray) -> EventBatch:
    """Columns as EVENT_ROW rows."""
    fields, raw = decoded.fields, decoded.raw
    instruments: list[Instrument] = []
    for name in names.dictionary.to_pylist():
        exchange, _, symbol = name.partition("\t")
        instruments.append((exchange, symbol))
    rows = np.empty(len(raw), EVENT_ROW)
    rows["instrument"] = names.indices.to_numpy()
    rows["event_type"] = fields["event_type"].to_numpy()
    rows["event_time_us"] = fields["timestamp"].to_numpy()
    rows["log_time_us"] = raw.log_time_us
    rows["clock_us"] = raw.clock_us
    rows["partition"] = raw.partition
    rows["offset"] = raw.offset
    units, nanos = split_e9(fields["price"].to_numpy())
    rows["price_e9"] = units * E9 + nanos
    rows["volume_units"], rows["volume_nanos"] = split_e9(fields["volume"].to_numpy())
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
    content = ("event_time_us", "price_e9", "volume_units", "volume_nanos", "side", "sequence")
    rows["content"] = hash_columns(*(rows[name] for name in content))
    rows["verdict"] = 0
    return EventBatch(raw.topic, instruments, rows, raw.values, raw.keys, raw.headers)


def _rejects(
    raw: RawBatch,
    fields: pa.RecordBatch,
    rows: npt.NDArray[np.int64],
    faults: list[tuple[RejectReason, Mask]],
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

    def process(self, decoded: DecodedBatch) -> Iterator[Any]:
        good, bad = check(decoded, self._limits)
        if bad is not None:
            count("records_rejected", bad.num_rows)
            yield beam.pvalue.TaggedOutput("bad", bad)
        if good is not None:
            yield good


class CheckEvents(beam.PTransform):
    """Refuse what is implausible; turn prices and volumes into integers of 1e-9.

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
