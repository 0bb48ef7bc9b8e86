"""Volume-weighted price and volatility of the returns in a window that slides over the 1 s bars."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas.stat import STAT
from transforms.bar_columns import BARS, vwaps
from transforms.exact import Ints
from transforms.roll_up import BAR_KIND, Parts, Span, instrument_codes, rolled
from transforms.window_columns import COMMON, WindowColumns

SLIDING: Final = Span(60, 10)


def volatility(closes: Sequence[int]) -> float | None:
    """Sample standard deviation of the simple returns between closes (integers > 0); None with fewer than 2 returns.

    The same bits everywhere: integer and IEEE division, product and root are rounded correctly, fsum's sum is exact
    before it is rounded; `**` would be the C library's pow, which promises neither.

    >>> volatility([100, 110, 99]), volatility([7, 7, 7]), volatility([100, 110])
    (0.14142135623730953, 0.0, None)
    """
    returns = [(after - before) / before for before, after in itertools.pairwise(closes)]
    if len(returns) < 2:
        return None
    mean = math.fsum(returns) / len(returns)
    deviations = [value - mean for value in returns]
    return math.sqrt(math.fsum(value * value for value in deviations) / (len(returns) - 1))


def _closes(close: Ints, code: npt.NDArray[np.int32]) -> list[list[int]]:
    return [part.tolist() for part in np.split(close, np.flatnonzero(np.diff(code)) + 1)]


def slide_bars(parts: Parts, span: Span, start_us: int) -> list[pa.RecordBatch]:
    """One sliding stat per instrument of the 1 s bars, for the window at `start_us`."""
    bars = parts[BAR_KIND]
    seconds, code = WindowColumns.from_batch(BARS, bars), instrument_codes(bars)
    window = rolled(seconds, code, start_us, BARS)
    closes = _closes(seconds.ints["close"], code)
    ints = {name: window.ints[name] for name in (*COMMON, "version")} | {"event_count": window.ints["trade_count"]}
    sums = {name: window.sums[name] for name in ("volume", "notional")}
    derived = {
        "kind": ["sliding"] * len(closes),
        "vwap": vwaps(sums["notional"], sums["volume"]),
        "return_count": [len(found) - 1 for found in closes],
        "return_volatility": [volatility(found) for found in closes],
    }
    return [replace(window, ints=ints, sums=sums).to_records(STAT, span.length_s, derived, {})]
