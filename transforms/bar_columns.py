"""Bars: their columns, and those from what a cell has folded."""

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas.bar import BAR
from transforms.exact import E18, quotient
from transforms.seconds import Seconds
from transforms.window_columns import COMMON, Big, Layout, WindowColumns, cell_columns


def vwaps(notional_e36: Big, volume_e18: Big) -> list[float | None]:
    """notional / volume, rounded once; None where the volume is 0."""
    return [quotient(notional, volume * E18) for notional, volume in zip(notional_e36, volume_e18, strict=True)]


def _derived(bars: WindowColumns) -> dict[str, Any]:
    return {"vwap": vwaps(bars.sums["notional"], bars.sums["volume"])}


BARS: Final = Layout(
    record=BAR,
    values={
        "open": ("open", "first"),
        "high": ("high", "highest"),
        "low": ("low", "lowest"),
        "close": ("close", "last"),
        "trade_count": ("events", "added"),
        "zero_volume_count": ("zeros", "added"),
        **COMMON,
    },
    volumes={name: name for name in ("volume", "buy_volume", "sell_volume")},
    notional=("notional",),
    derived=_derived,
)


def bar_batch(start_s: int, folded: Seconds, chosen: npt.NDArray[np.int64], interval_s: int) -> pa.RecordBatch:
    """The chosen trades of a cell (indices into folded.rows) as BAR records; start in s since the epoch."""
    return cell_columns(start_s, folded, chosen, BARS).to_batch(BARS, interval_s)
