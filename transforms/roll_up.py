"""Larger windows from the records of their parts, as pure functions; windows.py keeps the state.

A window's parts are records of 1 s or of PART_S, both given by the cells. Of a part the highest version counts. A
record is a function of the set of log records in it, and folding is associative, so it does not matter through which
parts a record came.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from transforms.bar_columns import BARS
from transforms.exact import Ints
from transforms.seconds import united_lineage
from transforms.stat_columns import BOOKS, TICKERS
from transforms.window_columns import Column, Fold, Layout, WindowColumns, known

Parts = Mapping[str, pa.Table]  # records by kind of record, that of bars is BAR_KIND

BAR_KIND: Final = ""  # a bar has no field `kind`
PART_S: Final = 10  # the larger of the two intervals that the cells give
_LAYOUTS: Final = {BAR_KIND: BARS, "ticker": TICKERS, "book": BOOKS}
_FOLDS: dict[Fold, np.ufunc] = {"highest": np.maximum, "lowest": np.minimum, "added": np.add}


@dataclass(frozen=True)
class Span:
    """Windows of `length_s` seconds, one every `every_s` seconds, aligned to the epoch."""

    length_s: int
    every_s: int

    def windows_of(self, start_s: int) -> range:
        """The starts of the windows that hold a part, which is no longer than `every_s`; all in seconds."""
        last = start_s // self.every_s * self.every_s
        return range(last, start_s - self.length_s, -self.every_s)


def fixed(length_s: int) -> Span:
    """Windows one after the other."""
    return Span(length_s, length_s)


def part_of(length_s: int, part_s: int = PART_S) -> int:
    """The interval of the records that a window of `length_s` is made from; its own when the cells give it.

    >>> part_of(60, 10), part_of(10, 10), part_of(15, 10)
    (10, 10, 1)
    """
    return part_s if length_s % part_s == 0 else 1


def is_stat(records: pa.RecordBatch | pa.Table) -> bool:
    """Whether these are STAT records; else they are BAR records."""
    return "kind" in records.schema.names


def newest(batches: Sequence[pa.RecordBatch]) -> Parts:
    """Of each kind, instrument and start the highest version, sorted by instrument and start; no kind without rows."""
    bars, stats = ([batch for batch in batches if is_stat(batch) == wanted] for wanted in (False, True))
    tables = {BAR_KIND: pa.Table.from_batches(bars)} if bars else {}
    if stats:
        table = pa.Table.from_batches(stats)
        kinds = table["kind"].unique().to_pylist()
        tables |= {kind: table.filter(pc.equal(table["kind"], kind)) for kind in kinds}
    return {kind: _newest(table) for kind, table in tables.items()}


def _newest(records: pa.Table) -> pa.Table:
    code, start = instrument_codes(records), records["window_start"].cast(pa.int64()).to_numpy()
    order = np.lexsort((-records["version"].to_numpy(), start, code))
    first = np.concatenate([[True], (np.diff(code[order]) != 0) | (np.diff(start[order]) != 0)])
    return records.take(pa.array(order[first]))


def instrument_codes(records: pa.Table) -> npt.NDArray[np.int32]:
    """A number for each instrument, from 0 on as they appear."""
    names = pc.binary_join_element_wise(records["exchange"], records["symbol"], "\t").combine_chunks()
    codes: npt.NDArray[np.int32] = names.dictionary_encode().indices.to_numpy()
    return codes


def rolled(parts: WindowColumns, code: npt.NDArray[np.int32], start_us: int | Ints, layout: Layout) -> WindowColumns:
    """Columns of parts, sorted by (code, start), as one row a code; start_us: of all or of each."""
    starts = np.flatnonzero(np.diff(code, prepend=-1))
    ends = np.append(starts[1:], len(code)) - 1

    def folded(values: Column, fold: Fold) -> Column:
        if fold in _FOLDS:
            return np.asarray(_FOLDS[fold].reduceat(values, starts))
        there, row = known(values), np.arange(len(values))  # prints of size zero alone have no first price
        if fold == "first":
            at = np.minimum(np.minimum.reduceat(np.where(there, row, len(row)), starts), ends)
        else:
            at = np.maximum(np.maximum.reduceat(np.where(there, row, -1), starts), starts)
        return np.asarray(values[at])

    lineage = parts.lineage.copy()
    lineage["row"] = np.repeat(np.arange(len(starts)), ends - starts + 1)[lineage["row"]]
    return WindowColumns(
        [parts.instruments[row] for row in starts.tolist()],
        np.full(len(starts), start_us, np.int64),
        {name: folded(parts.values[name], fold) for name, (_, fold) in layout.values.items()}
        | {"version": folded(parts.values["version"], "added")},
        {name: np.add.reduceat(values, starts) for name, values in parts.sums.items()},
        np.add.reduceat(parts.digest, starts, axis=0),
        united_lineage(lineage),
    )


def roll_up(parts: Parts, span: Span, start_us: int) -> list[pa.RecordBatch]:
    """One record per kind and instrument for the window at `start_us`; a batch a kind."""
    return [
        rolled(
            WindowColumns.from_batch(_LAYOUTS[kind], table), instrument_codes(table), start_us, _LAYOUTS[kind]
        ).to_batch(_LAYOUTS[kind], span.length_s)
        for kind, table in parts.items()
    ]
