"""Bars as integer columns and as BAR records (Arrow, decimals): the one place where one becomes the other."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas.bar import BAR
from schemas.units import E9, US_PER_S
from transforms.batches import Instrument, Rows
from transforms.exact import Ints, from_limbs
from transforms.second_bars import LINEAGE, SecondBars

Big = npt.NDArray[np.object_]  # Python integers, exact at any size

PRICES = ("open", "high", "low", "close")
VOLUMES = ("volume", "buy_volume", "sell_volume")
TIMES = ("first_event_time", "last_event_time")
COUNTS = ("trade_count", "late_count", "duplicate_count", "version")


@dataclass(frozen=True)
class BarColumns:
    """Bars of one interval, row for row: times in microseconds, prices and volumes in 1e-9, notional in 1e-18."""

    instruments: Sequence[Instrument]
    start_us: Ints
    ints: dict[str, Ints]  # PRICES, TIMES, COUNTS
    sums: dict[str, Big]  # VOLUMES, notional
    digest: npt.NDArray[np.uint64]  # (n, 2)
    lineage: Rows  # LINEAGE, `instrument` is the row, sorted by it

    def to_batch(self, interval_s: int) -> pa.RecordBatch:
        """As BAR records."""
        count = len(self.start_us)
        columns: dict[str, object] = {
            "exchange": [pair[0] for pair in self.instruments],
            "symbol": [pair[1] for pair in self.instruments],
            "interval_s": np.full(count, interval_s, np.int32),
            "window_start": self.start_us,
            "window_end": self.start_us + interval_s * US_PER_S,
            "vwap": _decimals(
                [_vwap_e9(*pair) for pair in zip(self.sums["notional"], self.sums["volume"], strict=True)], "vwap"
            ),
            "status": ["complete"] * count,
            "lineage": _lineage_lists(self.lineage, count),
            "identity_digest": [row.tobytes() for row in self.digest],
        }
        columns |= {name: _decimals(self.ints[name].tolist(), name) for name in PRICES}
        columns |= {name: self.ints[name] for name in (*TIMES, *COUNTS)}
        columns |= {name: _decimals(values.tolist(), name) for name, values in self.sums.items()}
        return BAR.batch(columns)

    @staticmethod
    def from_batch(batch: pa.RecordBatch | pa.Table) -> "BarColumns":
        """From BAR records."""
        columns = {name: batch.column(name) for name in batch.schema.names}
        columns = {k: c.combine_chunks() if isinstance(c, pa.ChunkedArray) else c for k, c in columns.items()}
        sums = {name: _big(columns[name]) for name in (*VOLUMES, "notional")}
        ints = {name: _big(columns[name]).astype(np.int64) for name in PRICES}
        ints |= {name: columns[name].cast(pa.int64()).to_numpy() for name in (*TIMES, *COUNTS)}
        digest = np.frombuffer(b"".join(columns["identity_digest"].to_pylist()), "<u8").reshape(-1, 2)
        return BarColumns(
            list(zip(columns["exchange"].to_pylist(), columns["symbol"].to_pylist(), strict=True)),
            columns["window_start"].cast(pa.int64()).to_numpy(),
            ints,
            sums,
            digest,
            _lineage_rows(columns["lineage"]),
        )


def second_bar_batch(second: int, folded: SecondBars, chosen: npt.NDArray[np.int64]) -> pa.RecordBatch:
    """The chosen bars of a cell (indices into folded.bars) as BAR records of 1 s; `second` counts from the epoch."""
    bars = folded.bars[chosen]
    lineage = folded.lineage[np.isin(folded.lineage["instrument"], chosen)].copy()
    lineage["instrument"] = np.searchsorted(chosen, lineage["instrument"])
    sums = {
        f"{prefix}volume": bars[f"{prefix}units"].astype(object) * E9 + bars[f"{prefix}nanos"].astype(object)
        for prefix in ("", "buy_", "sell_")
    }
    sums["notional"] = np.array([from_limbs(limbs) for limbs in bars["notional"]], object)
    ints = {name: bars[name] for name in PRICES}
    ints |= {"first_event_time": bars["open_time"], "last_event_time": bars["close_time"]}
    ints |= {"trade_count": bars["trades"], "late_count": bars["late"], "duplicate_count": bars["copies"]}
    ints["version"] = version(bars)
    columns = BarColumns(
        [folded.instruments[code] for code in chosen.tolist()],
        np.full(len(chosen), second * US_PER_S, np.int64),
        ints,
        sums,
        bars["digest"],
        lineage,
    )
    return columns.to_batch(1)


def version(bars: Rows) -> Ints:
    """Version of accumulators: the number of records folded, which only grows."""
    folded: Ints = bars["trades"] + bars["copies"]
    return folded


def _vwap_e9(notional_e18: int, volume_e9: int) -> int | None:
    """notional / volume in 1e-9, rounded half-even.

    >>> _vwap_e9(3 * 10**18, 2 * 10**9), _vwap_e9(5, 2), _vwap_e9(7, 2), _vwap_e9(0, 0)
    (1500000000, 2, 4, None)
    """
    if not volume_e9:
        return None
    quotient, rest = divmod(notional_e18, volume_e9)
    return quotient + (2 * rest > volume_e9 or (2 * rest == volume_e9 and quotient % 2))


def _decimals(values: Sequence[int | None], name: str) -> pa.Decimal128Array:
    """Integers as the decimals of a BAR field, whose scale says what one of them is worth."""
    data = b"".join((value or 0).to_bytes(16, "little", signed=True) for value in values)
    known = np.array([value is not None for value in values], np.bool_)
    validity = None if known.all() else pa.py_buffer(np.packbits(known, bitorder="little"))
    return pa.Decimal128Array.from_buffers(BAR.arrow.field(name).type, len(values), [validity, pa.py_buffer(data)])


def _big(column: pa.Decimal128Array) -> Big:
    words = np.frombuffer(column.buffers()[1], "<i8", 2 * len(column), 16 * column.offset).reshape(-1, 2)
    low = words[:, 0].view("<u8").astype(object)
    joined: Big = (words[:, 1].astype(object) << 64) + low
    return joined


def _lineage_lists(lineage: Rows, count: int) -> pa.ListArray:
    kind = BAR.arrow.field("lineage").type
    offsets = np.searchsorted(lineage["instrument"], np.arange(count + 1)).astype(np.int32)
    children = [pa.array(np.ascontiguousarray(lineage[name])) for name in ("partition", "first", "last")]
    structs = pa.StructArray.from_arrays(children, fields=list(kind.value_type))
    return pa.ListArray.from_arrays(pa.array(offsets), structs, type=kind)


def _lineage_rows(lists: pa.ListArray) -> Rows:
    structs = lists.flatten()
    rows = np.empty(len(structs), LINEAGE)
    rows["instrument"] = np.repeat(np.arange(len(lists)), lists.value_lengths().to_numpy())
    for name, field in (("partition", "partition"), ("first", "first_offset"), ("last", "last_offset")):
        rows[name] = structs.field(field).to_numpy()
    return rows
