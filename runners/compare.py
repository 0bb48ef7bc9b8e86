"""Does the replay equal the live run? Every unique event, final bar and stat, late event and reject, by value."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from schemas.units import US_PER_S
from transforms.datasets import BARS, EVENTS, LATE_EVENTS, REJECTS, STATS, Dataset
from transforms.read_offsets import Manifest
from transforms.roll_up import is_stat
from transforms.sessions import SessionTimes

_KEYS: Final = {
    EVENTS.name: ("identity", "event_time"),
    BARS.name: ("exchange", "symbol", "interval_s", "window_start"),
    STATS.name: ("kind", "exchange", "symbol", "interval_s", "window_start"),
    LATE_EVENTS.name: ("topic", "partition", "offset"),
    REJECTS.name: ("topic", "partition", "offset"),
}
_NOT_COMPARED: Final = {"code_version"}  # who refused it, not what was refused
_AHEAD_US: Final = 5 * US_PER_S


class CompareError(ValueError):
    """What cannot be compared; says why and what to do."""


@dataclass(frozen=True)
class Verdict:
    """Of one dataset: rows compared on each side, and the first difference, if any."""

    dataset: str
    live_rows: int
    replay_rows: int
    difference: str | None

    @property
    def equal(self) -> bool:
        return self.difference is None


def compare(
    live: Path, replay: Path, manifest: Manifest, grace_us: int, sessions: SessionTimes | None = None
) -> list[Verdict]:
    """Hold the files of a live run against those of a replay, for what the manifest covers.

    Bars and stats are compared when their window lies inside the manifest by the log's clock, with `grace_us`: what an
    open window holds is not final in either run. Sessions are compared when the silences around them lie in it too and
    the live run had the time to publish them. CompareError when there are any and `sessions` is None.
    """

    def covered(root: Path, dataset: Dataset) -> pa.Table:
        return _covered(dataset, read_dataset(root, dataset), manifest, grace_us, sessions)

    datasets = (EVENTS, BARS, STATS, LATE_EVENTS, REJECTS)
    return [_verdict(dataset, covered(live, dataset), covered(replay, dataset)) for dataset in datasets]


def read_dataset(root: Path, dataset: Dataset) -> pa.Table:
    """All rows of a dataset below `root`; none when it wrote no file."""
    files = sorted(path for path in (root / dataset.name).glob("**/*.parquet") if not path.name.startswith("."))
    if not files:
        return dataset.record.arrow.empty_table()
    return ds.dataset(files, schema=dataset.record.arrow, format="parquet").to_table()


def _covered(
    dataset: Dataset, table: pa.Table, manifest: Manifest, grace_us: int, sessions: SessionTimes | None
) -> pa.Table:
    if dataset in (BARS, STATS):
        start, end = _stretches(table, sessions, bool(manifest.oldest_log_time_us))
        oldest = manifest.oldest_log_time_us + (_AHEAD_US if manifest.oldest_log_time_us else 0)
        newest = manifest.newest_log_time_us - grace_us
        return table.filter(pc.and_(pc.greater_equal(start, oldest), pc.less_equal(end, newest)))
    partition, offset = table["partition"].to_numpy(), table["offset"].to_numpy()
    inside = np.zeros(len(table), np.bool_)
    for stretch in manifest.stretches:
        inside |= (partition == stretch.partition) & (offset >= stretch.start) & (offset < stretch.stop)
    return table.filter(pa.array(inside))


def _stretches(
    windows: pa.Table, sessions: SessionTimes | None, is_cut: bool
) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
    """From when to when in microseconds the log says what is in each window: in a session by the silences around it."""
    start, end = (windows[name].cast(pa.int64()) for name in ("window_start", "window_end"))
    if not is_stat(windows) or not pc.any(of_sessions := pc.equal(windows["kind"], "session")).as_py():
        return start, end
    if sessions is None:
        raise CompareError("the files hold sessions: name --session-gap-s as both runs had it")
    before_us = sessions.gap_s * US_PER_S if is_cut else 0  # what begins where the log does has nothing before it
    return (
        pc.subtract(start, pc.if_else(of_sessions, before_us, 0)),
        pc.add(end, pc.if_else(of_sessions, sessions.published_us, 0)),
    )


def _verdict(dataset: Dataset, live: pa.Table, replay: pa.Table) -> Verdict:
    keys = _KEYS[dataset.name]
    order = [(name, "ascending") for name in keys]
    left, right = (table.take(pc.sort_indices(table, order)).combine_chunks() for table in (live, replay))
    return Verdict(dataset.name, len(left), len(right), _difference(left, right, keys))


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
