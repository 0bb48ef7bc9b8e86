"""Stats of tickers and order books: their columns, and those from what a cell has folded."""

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas.event import ORDER_BOOK, TICKER
from schemas.stat import STAT
from schemas.units import E9
from transforms.exact import half_even
from transforms.seconds import NO_ASK, NO_BID, Seconds
from transforms.window_columns import COMMON, Layout, WindowColumns, cell_columns, one_batch


def _of_tickers(tickers: WindowColumns) -> dict[str, Any]:
    return {"kind": ["ticker"] * len(tickers.instruments)}


def _of_books(books: WindowColumns) -> dict[str, Any]:
    edges = zip(books.ints["best_bid"].tolist(), books.ints["best_ask"].tolist(), strict=True)
    depths = zip(books.sums["bid_volume"], books.sums["ask_volume"], strict=True)
    return {
        "kind": ["book"] * len(books.instruments),
        "spread": [None if bid == NO_BID or ask == NO_ASK else ask - bid for bid, ask in edges],
        "depth_imbalance": [half_even((bid - ask) * E9, bid + ask) for bid, ask in depths],
    }


TICKERS: Final = Layout(
    record=STAT,
    ints={
        "event_count": ("events", "added"),
        "first_price": ("open", "first"),
        "last_price": ("close", "last"),
        "min_price": ("low", "lowest"),
        "max_price": ("high", "highest"),
        **COMMON,
    },
    volumes={},
    absent={},
    derived=_of_tickers,
)
BOOKS: Final = Layout(
    record=STAT,
    ints={
        "event_count": ("events", "added"),
        "best_bid": ("bid", "highest"),
        "best_ask": ("ask", "lowest"),
        "unknown_side_count": ("sideless", "added"),
        **COMMON,
    },
    volumes={"bid_volume": "buy_", "ask_volume": "sell_"},
    absent={"best_bid": NO_BID, "best_ask": NO_ASK},
    derived=_of_books,
)
_KINDS: Final = ((TICKER, TICKERS), (ORDER_BOOK, BOOKS))


def stat_batch(start_s: int, folded: Seconds, chosen: npt.NDArray[np.int64], interval_s: int) -> pa.RecordBatch:
    """The chosen tickers and books of a cell (indices into folded.rows) as STAT records; start in s since the epoch."""
    kinds = folded.rows["kind"][chosen]
    return one_batch(
        [
            cell_columns(start_s, folded, chosen[kinds == kind], layout).to_batch(layout, interval_s)
            for kind, layout in _KINDS
            if (kinds == kind).any()
        ]
    )
