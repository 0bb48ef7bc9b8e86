"""Does the replay equal the live run? Every unique event, final bar and stat, late event and reject, by value."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from runners.compare_span import PLACES, Span, covered, span_of
from transforms.cell_config import CellConfig
from transforms.datasets import BARS, EVENTS, LATE_EVENTS, REJECTS, STATS, Dataset
from transforms.read_offsets import Manifest
from transforms.sessions import SessionTimes

_KEYS: Final = {
    EVENTS.name: ("identity", "event_time"),
    BARS.name: ("exchange", "symbol", "interval_s", "window_start"),
    STATS.name: ("kind", "exchange", "symbol", "interval_s", "window_start"),
    LATE_EVENTS.name: ("topic", "partition", "offset"),
    REJECTS.name: ("topic", "partition", "offset"),
}
_NOT_COMPARED: Final = {"code_version"}  # who refused it, not what was refused


class CompareError(ValueError):
    """What cannot be compared; says why and what to do."""


@dataclass(frozen=True)
class Verdict:
    """Of one dataset: rows compared on each side, and the first difference, if any.

    Where event times bound what was compared, they are in microseconds since the Unix epoch.
    """

    dataset: str
    live_rows: int
    replay_rows: int
    difference: str | None
    after_us: int | None = None  # what begins after this
    until_us: int | None = None  # and ends by this; sessions by a longer time before the replay's end

    @property
    def equal(self) -> bool:
        return self.difference is None


def compare(
    live: Path,
    replay: Path,
    manifest: Manifest,
    grace_us: int,
    sessions: SessionTimes | None = None,
    *,
    settled_us: int = CellConfig.horizon_us + CellConfig.slack_us,
) -> list[Verdict]:
    """Hold the files of a live run against those of a replay, for what the manifest covers (compare_span.py).

    `settled_us` after its end a window is final, by the log's clock: horizon + slack. CompareError when there are
    sessions and `sessions` is None.
    """
    datasets = (EVENTS, BARS, STATS, LATE_EVENTS, REJECTS)
    span = span_of((read_dataset(live, dataset, PLACES) for dataset in datasets), manifest, grace_us, settled_us)

    def rows(root: Path, dataset: Dataset) -> pa.Table:
        table = read_dataset(root, dataset)
        if dataset == STATS and sessions is None and pc.any(pc.equal(table["kind"], "session")).as_py():
            raise CompareError(
                "the files hold sessions, which the options of the run do not make: was it resumed without?"
            )
        return table.filter(pa.array(covered(table, span, manifest, sessions)))

    return [_verdict(dataset, rows(live, dataset), rows(replay, dataset), span) for dataset in datasets]


def read_dataset(root: Path, dataset: Dataset, columns: Sequence[str] | None = None) -> pa.Table:
    """All rows of a dataset below `root`; none when it wrote no file. Of `columns` those that it has."""
    schema = dataset.record.arrow
    names = [name for name in schema.names if columns is None or name in columns]
    files = sorted(path for path in (root / dataset.name).glob("**/*.parquet") if not path.name.startswith("."))
    if not files:
        return schema.empty_table().select(names)
    return ds.dataset(files, schema=schema, format="parquet").to_table(names)


def _verdict(dataset: Dataset, live: pa.Table, replay: pa.Table, span: Span) -> Verdict:
    keys = _KEYS[dataset.name]
    order = [(name, "ascending") for name in keys]
    left, right = (table.take(pc.sort_indices(table, order)).combine_chunks() for table in (live, replay))
    until_us = {BARS.name: span.until_us, STATS.name: span.until_us, EVENTS.name: span.settled_us}.get(dataset.name)
    bounds = span.after_us if dataset in (EVENTS, BARS, STATS) else None, until_us
    return Verdict(dataset.name, len(left), len(right), _difference(left, right, keys), *bounds)


def _difference(live: pa.Table, replay: pa.Table, keys: Sequence[str]) -> str | None:
    """The first row in which the sorted tables differ, in words."""
    rows = min(len(live), len(replay))
    first, field = rows, ""
    for name in (name for name in live.schema.names if name not in _NOT_COMPARED):
        left, right = live[name].slice(0, first), replay[name].slice(0, first)
        if not left.equals(right):
            first = _first_unequal(left, right)
            field = name
    if first == rows and len(live) == len(replay):
        return None
    if first == rows:
        side, longer = ("live", live) if len(live) > rows else ("replay", replay)
        return f"only in {side}: {_named(longer, rows, keys)}"
    if any(live[key][first] != replay[key][first] for key in keys):
        return f"live has {_named(live, first, keys)} where replay has {_named(replay, first, keys)}"
    return f"{_named(live, first, keys)}: {field} is {live[field][first]} live, {replay[field][first]} in replay"


def _first_unequal(left: pa.ChunkedArray, right: pa.ChunkedArray) -> int:
    low, high = 0, len(left)  # the first difference lies in [low, high)
    while high - low > 1:
        middle = (low + high) // 2
        if left.slice(low, middle - low).equals(right.slice(low, middle - low)):
            low = middle
        else:
            high = middle
    return low


def _named(table: pa.Table, row: int, keys: Sequence[str]) -> str:
    shown = [*keys, "partition", "offset"] if "identity" in keys else keys
    values = ((key, table[key][row].as_py()) for key in shown)
    return " ".join(f"{key}={value.hex() if isinstance(value, bytes) else value}" for key, value in values)
