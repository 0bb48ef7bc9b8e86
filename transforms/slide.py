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
from transforms.exact import Floats, integers_e18
from transforms.roll_up import BAR_KIND, Parts, Span, instrument_codes, rolled
from transforms.window_columns import COMMON, WindowColumns, known

SLIDING: Final = Span(60, 10)


def volatility(closes: Sequence[int]) -> float | None:
    """Sample standard deviation of the simple returns between closes (integers of one unit, of any size).

    None with fewer than 2 returns, and where a close is not above 0: then a return says nothing.

    The same bits everywhere: integer and IEEE division, product and root are rounded correctly, fsum's sum is exact
    before it is rounded; `**` would be the C library's pow, which promises neither.

    >>> volatility([100, 110, 99]), volatility([7, 7, 7]), volatility([100, 110])
    (0.14142135623730953, 0.0, None)
    """
    if len(closes) < 3 or min(closes) <= 0:
        return None
    returns = [(after - before) / before for before, after in itertools.pairwise(closes)]
    mean = math.fsum(returns) / len(returns)
    deviations = [value - mean for value in returns]
    return math.sqrt(math.fsum(value * value for value in deviations) / (len(returns) - 1))


def _closes(close: Floats, code: npt.NDArray[np.int32]) -> list[list[int]]:
    """The closes of each code in 1e-18; seconds of prints of size zero have none."""
    parts = np.split(close, np.flatnonzero(np.diff(code)) + 1)
    return [integers_e18(part[known(part)]) for part in parts]


def slide_bars(parts: Parts, span: Span, start_us: int) -> list[pa.RecordBatch]:
    """One sliding stat per instrument of the 1 s bars, for the window at `start_us`."""
    bars = parts[BAR_KIND]
    seconds, code = WindowColumns.from_batch(BARS, bars), instrument_codes(bars)
    window = rolled(seconds, code, start_us, BARS)
    closes = _closes(seconds.values["close"], code)
    values = {name: window.values[name] for name in (*COMMON, "version")}
    values |= {"event_count": window.values["trade_count"]}
    sums = {name: window.sums[name] for name in ("volume", "notional")}
    derived = {
        "kind": ["sliding"] * len(closes),
        "vwap": vwaps(sums["notional"], sums["volume"]),
        "return_count": [max(len(found) - 1, 0) for found in closes],
        "return_volatility": [volatility(found) for found in closes],
    }
    return [replace(window, values=values, sums=sums).to_records(STAT, span.length_s, derived)]
