"""What the simulator knows about the records that a test publishes: the counts, the unique events and their bars."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from runners.simulate import SimulatedBatch, Truth
from schemas.event import TRADE
from schemas.units import US_PER_MS, US_PER_S


@dataclass
class Simulated:
    """The truth of all batches that were added."""

    truth: Truth = field(default_factory=Truth)
    newest_us: int = 0  # log time
    _texts: list[pa.Array] = field(default_factory=list)
    _trades: list[pa.RecordBatch] = field(default_factory=list)

    def add(self, batch: SimulatedBatch) -> None:
        """Take in what is published for the first time."""
        self.truth += batch.truth
        self.newest_us = max(self.newest_us, int(batch.log_time_ms.max()) * US_PER_MS)
        unique = batch.columns.filter(pa.array(batch.unique))
        self._texts.append(identity_texts(unique))
        trades = unique.filter(pc.equal(unique["event_type"], TRADE))
        columns = {name: trades[name] for name in ("exchange", "symbol", "timestamp", "sequence")}
        columns |= {name: pa.array(_e9(trades[name].to_numpy())) for name in ("price", "volume")}
        self._trades.append(pa.record_batch(columns))

    def add_again(self, batch: SimulatedBatch) -> None:
        """The records of a batch are published once more: copies, but for what is late or dated ahead."""
        once = batch.truth
        copies = once.records - once.late - once.future
        self.truth += Truth(records=once.records, duplicates=copies, late=once.late, future=once.future)

    @property
    def identities(self) -> pa.Array:
        """Sorted texts of the unique events."""
        return sorted_texts(self._texts)

    def bars(self, interval_s: int) -> pa.Table:
        """The bars of that interval, sorted by instrument and window: times in us, prices and volumes in 1e-9."""
        order = ("exchange", "symbol", "timestamp", "sequence")
        trades = pa.Table.from_batches(self._trades).sort_by([(name, "ascending") for name in order])
        length_us = interval_s * US_PER_S
        starts = trades["timestamp"].to_numpy() // length_us * length_us
        grouped = trades.append_column("window_start", pa.array(starts)).group_by(
            ["exchange", "symbol", "window_start"],
            use_threads=False,  # else first and last are any
        )
        folds = {"open": ("price", "first"), "high": ("price", "max"), "low": ("price", "min")}
        folds |= {"close": ("price", "last"), "volume": ("volume", "sum"), "trade_count": ("volume", "count")}
        bars = grouped.aggregate(list(folds.values()))
        names = {f"{column}_{how}": name for name, (column, how) in folds.items()}
        bars = bars.rename_columns([names.get(name, name) for name in bars.column_names])
        return bars.sort_by([(name, "ascending") for name in ("exchange", "symbol", "window_start")])


def identity_texts(columns: pa.RecordBatch | pa.Table) -> pa.Array:
    """Exchange, symbol, type and trade id or event id of each row."""
    number = pc.cast(columns["event_type"], pa.int32()).cast(pa.utf8())
    name = pc.coalesce(columns["trade_id"], columns["event_id"])
    return pc.binary_join_element_wise(columns["exchange"], columns["symbol"], number, name, "|")


def sorted_texts(texts: list[pa.Array]) -> pa.Array:
    """All of them in one sorted array."""
    whole = pa.chunked_array(texts).combine_chunks()
    return whole.take(pc.sort_indices(whole))


def _e9(values: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    return np.rint(values * 1e9).astype(np.int64)
