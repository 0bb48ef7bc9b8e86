"""Bars: their columns, and those from what a cell has folded."""

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas.bar import BAR
from transforms.exact import half_even
from transforms.seconds import Seconds
from transforms.window_columns import COMMON, Big, Layout, WindowColumns, cell_columns


def vwaps(notional_e18: Big, volume_e9: Big) -> list[int | None]:
    """notional / volume in 1e-9, rounded half-even; None where the volume is 0."""
    return [half_even(*pair) for pair in zip(notional_e18, volume_e9, strict=True)]


def _derived(bars: WindowColumns) -> dict[str, Any]:
    vwap = vwaps(bars.sums["notional"], bars.sums["volume"])
    return {"vwap": vwap, "status": ["complete"] * len(vwap)}


BARS: Final = Layout(
    record=BAR,
    ints={
        "open": ("open", "first"),
        "high": ("high", "highest"),
        "low": ("low", "lowest"),
        "close": ("close", "last"),
        "trade_count": ("events", "added"),
        **COMMON,
    },
    volumes={"volume": "", "buy_volume": "buy_", "sell_volume": "sell_"},
    notional=("notional",),
    absent={},
    derived=_derived,
)


def bar_batch(start_s: int, folded: Seconds, chosen: npt.NDArray[np.int64], interval_s: int) -> pa.RecordBatch:
    """The chosen trades of a cell (indices into folded.rows) as BAR records; start in s since the epoch."""
    return cell_columns(start_s, folded, chosen, BARS).to_batch(BARS, interval_s)
