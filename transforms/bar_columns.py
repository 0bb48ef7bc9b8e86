"""Bars: their columns, and those of 1 s from what a cell has folded."""

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas.bar import BAR
from transforms.exact import E18, quotient
from transforms.seconds import Seconds
from transforms.window_columns import COMMON, Big, Layout, WindowColumns, second_columns


def vwaps(notional_e36: Big, volume_e18: Big) -> list[float | None]:
    """notional / volume, rounded once; None where the volume is 0."""
    return [quotient(notional, volume * E18) for notional, volume in zip(notional_e36, volume_e18, strict=True)]


def _derived(bars: WindowColumns) -> dict[str, Any]:
    vwap = vwaps(bars.sums["notional"], bars.sums["volume"])
    return {"vwap": vwap, "status": ["complete"] * len(vwap)}


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


def second_bar_batch(second: int, folded: Seconds, chosen: npt.NDArray[np.int64]) -> pa.RecordBatch:
    """The chosen trades of a cell (indices into folded.rows) as BAR records of 1 s; `second` counts from the epoch."""
    return second_columns(second, folded, chosen, BARS).to_batch(BARS, 1)
