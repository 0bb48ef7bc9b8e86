"""What must come out of a simulated market, kept beside it: the counts, and trades and volumes by instrument."""

from dataclasses import asdict
from decimal import Decimal
from typing import Any, Final

import numpy as np
import pyarrow as pa

from runners.simulate import MarketConfig, SimulatedBatch, Truth
from schemas.event import TRADE

_LOTS: Final = 5  # decimal places of a simulated volume


class Tally:
    """Adds batches up; `as_dict` is what `horizon simulate --truth` writes."""

    def __init__(self, config: MarketConfig, start_us: int) -> None:
        self._config, self._start_us = config, start_us
        self._truth = Truth()
        self._parts: list[pa.Table] = []

    def add(self, batch: SimulatedBatch) -> None:
        """Take in the next batch of the market."""
        self._truth += batch.truth
        columns = batch.columns
        trade = columns["event_type"].to_numpy() == TRADE
        lots = np.rint(columns["volume"].to_numpy() * 10**_LOTS).astype(np.int64)
        first = ~batch.duplicate
        rows = pa.table(
            {
                "exchange": columns["exchange"],
                "symbol": columns["symbol"],
                "unique": batch.unique.astype(np.int64),
                "trades": (batch.unique & trade).astype(np.int64),
                "lots": np.where(batch.unique & trade, lots, 0),
                "events": first.astype(np.int64),
                "first": columns["sequence"],
                "last": columns["sequence"],
            }
        )
        self._parts.append(_by_instrument(rows))
        if len(self._parts) > 64:
            self._parts = [_by_instrument(pa.concat_tables(self._parts))]

    def as_dict(self) -> dict[str, Any]:
        """All in JSON's types; volumes are exact decimals as text."""
        truth = asdict(self._truth)
        rejects = {"timestamp_in_future": truth.pop("future")}
        found = {}
        for row in _by_instrument(pa.concat_tables(self._parts)).to_pylist() if self._parts else []:
            found[f"{row['exchange']}|{row['symbol']}"] = {
                "unique": row["unique"],
                "trades": row["trades"],
                "volume": str(Decimal(row["lots"]).scaleb(-_LOTS)),
                # sequence numbers between the first and the last that no record on the log has
                "missing": row["last"] - row["first"] + 1 - row["events"],
            }
        names = [f"{exchange}|{symbol}" for exchange, symbol in self._config.names()]
        return {
            "config": asdict(self._config),
            "start_us": self._start_us,
            **truth,
            "rejects": {reason: count for reason, count in rejects.items() if count},
            "silent": [name for name in names if name not in found],
            "instruments": dict(sorted(found.items())),
        }


def _by_instrument(rows: pa.Table) -> pa.Table:
    sums = ("unique", "trades", "lots", "events")
    wanted = [*((name, "sum") for name in sums), ("first", "min"), ("last", "max")]
    grouped = rows.group_by(["exchange", "symbol"]).aggregate(wanted)
    names = {f"{name}_{how}": name for name, how in wanted}
    return grouped.rename_columns([names.get(name, name) for name in grouped.column_names])
