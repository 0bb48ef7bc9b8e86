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
    volumes = zip(books.sums["bid_update_volume"], books.sums["ask_update_volume"], strict=True)
    return {
        "kind": ["book"] * len(books.instruments),
        "update_price_gap": _gaps(books.values["max_bid_update_price"], books.values["min_ask_update_price"]),
        "update_imbalance": [quotient(bid - ask, bid + ask) for bid, ask in volumes],
    }


def _gaps(bid: Floats, ask: Floats) -> list[float | None]:
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
        "max_bid_update_price": ("bid", "highest"),
        "min_ask_update_price": ("ask", "lowest"),
        "unknown_side_count": ("sideless", "added"),
        "level_delete_count": ("zeros", "added"),
        **COMMON,
    },
    volumes={"bid_update_volume": "buy_volume", "ask_update_volume": "sell_volume"},
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
