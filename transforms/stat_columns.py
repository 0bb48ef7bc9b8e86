"""Stats of tickers and order books: their columns, and those from what a cell has folded."""

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas.event import ORDER_BOOK, TICKER
from schemas.stat import STAT
from transforms.exact import E18, Floats, integers_e18, quotient
from transforms.seconds import Seconds
from transforms.window_columns import COMMON, Layout, WindowColumns, cell_columns, known, one_batch


def _of_tickers(tickers: WindowColumns) -> dict[str, Any]:
    return {"kind": ["ticker"] * len(tickers.instruments)}


def _of_books(books: WindowColumns) -> dict[str, Any]:
    depths = zip(books.sums["bid_volume"], books.sums["ask_volume"], strict=True)
    return {
        "kind": ["book"] * len(books.instruments),
        "spread": _spreads(books.values["best_bid"], books.values["best_ask"]),
        "depth_imbalance": [quotient(bid - ask, bid + ask) for bid, ask in depths],
    }


def _spreads(bid: Floats, ask: Floats) -> list[float | None]:
    """ask - bid of the decimals that were meant, rounded once; None where one is missing."""
    both = known(bid) & known(ask)
    edges = (integers_e18(np.where(both, edge, 0.0)) for edge in (bid, ask))
    return [(high - low) / E18 if there else None for there, low, high in zip(both, *edges, strict=True)]


TICKERS: Final = Layout(
    record=STAT,
    values={
        "event_count": ("events", "added"),
        "first_price": ("open", "first"),
        "last_price": ("close", "last"),
        "min_price": ("low", "lowest"),
        "max_price": ("high", "highest"),
        **COMMON,
    },
    volumes={},
    derived=_of_tickers,
)
BOOKS: Final = Layout(
    record=STAT,
    values={
        "event_count": ("events", "added"),
        "best_bid": ("bid", "highest"),
        "best_ask": ("ask", "lowest"),
        "unknown_side_count": ("sideless", "added"),
        **COMMON,
    },
    volumes={"bid_volume": "buy_volume", "ask_volume": "sell_volume"},
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
