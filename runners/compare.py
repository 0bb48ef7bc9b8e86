"""Does the replay equal the live run? Every unique event, final bar and stat, late event and reject, by value."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from runners.causes import cause_of
from runners.compare_span import CONFLICT_PLACES, EVENT_PLACES, LOG_PLACES, Span, covered, span_of
from runners.dataset_files import DATASETS, read_dataset
from runners.differences import RUNS, difference_of
from runners.reach import Reach
from transforms.cell_config import CellConfig
from transforms.datasets import BARS, EVENTS, LATE_EVENTS, REJECTS, STATS, Dataset
from transforms.read_offsets import Manifest
from transforms.sessions import SessionTimes

__all__ = ["CompareError", "Verdict", "compare", "read_dataset"]

_KEYS: Final = {
    EVENTS.name: ("identity", "event_time"),
    BARS.name: ("exchange", "symbol", "interval_s", "window_start"),
    STATS.name: ("kind", "exchange", "symbol", "interval_s", "window_start"),
    LATE_EVENTS.name: ("topic", "partition", "offset"),
    REJECTS.name: ("topic", "partition", "offset"),
}


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
    live_left_out: int = 0  # rows that lie outside of what can be compared
    replay_left_out: int = 0
    cause: str | None = None  # of the difference, where it is known

    @property
    def equal(self) -> bool:
        """Whether there is no difference; see `is_empty`."""
        return self.difference is None

    @property
    def is_empty(self) -> bool:
        """Whether there are rows and none of them could be compared: then nothing is known."""
        return not (self.live_rows or self.replay_rows) and bool(self.live_left_out or self.replay_left_out)


def compare(
    live: Path,
    replay: Path,
    manifest: Manifest,
    grace_us: int,
    sessions: SessionTimes | None = None,
    *,
    horizon_us: int = CellConfig.horizon_us,
    reach: Reach | None = None,
) -> list[Verdict]:
    """Hold the files of a live run against those of a replay, for what both cover (compare_span.py).

    `reach` says how far the live run has come; None where it is known to have read and filed all that the manifest has.
    CompareError when there are sessions and `sessions` is None, or records of another topic; FilesError when files
    cannot be read.
    """
    roots = live, replay
    events, rejects = (
        [read_dataset(root, dataset, places) for root in roots]
        for dataset, places in ((EVENTS, EVENT_PLACES), (REJECTS, CONFLICT_PLACES))
    )
    before = [read_dataset(live, dataset, LOG_PLACES) for dataset in (EVENTS, LATE_EVENTS, REJECTS)]
    span = span_of(events, rejects, before, manifest, grace_us, horizon_us, reach)
    del events, rejects, before
    topics = {stretch.topic for stretch in manifest.stretches}

    def verdict(dataset: Dataset) -> Verdict:
        tables = [read_dataset(root, dataset) for root in roots]
        for root, table in zip(roots, tables, strict=True):
            _check(root, table, topics, sessions)
        return _verdict(dataset, tables, [covered(table, span, sessions) for table in tables], span, roots)

    return [verdict(dataset) for dataset in DATASETS]


def _check(root: Path, table: pa.Table, topics: set[str], sessions: SessionTimes | None) -> None:
    if "kind" in table.column_names and sessions is None and pc.any(pc.equal(table["kind"], "session")).as_py():
        raise CompareError("the files hold sessions, which the options of the run do not make: was it resumed without?")
    if "topic" in table.column_names and (others := {*pc.unique(table["topic"]).to_pylist()} - topics):
        raise CompareError(
            f"{root} holds records of {', '.join(sorted(others))}, and the replay read {', '.join(sorted(topics))}: "
            "rows of several runs lie in it; compare a directory of one run"
        )


def _verdict(
    dataset: Dataset, tables: Sequence[pa.Table], masks: Sequence[Any], span: Span, roots: tuple[Path, Path]
) -> Verdict:
    keys = _KEYS[dataset.name]
    order = [(name, "ascending") for name in keys]
    inside = [table.filter(pa.array(mask)) for table, mask in zip(tables, masks, strict=True)]
    left, right = (table.take(pc.sort_indices(table, order)).combine_chunks() for table in inside)
    is_bounded = dataset in (EVENTS, BARS, STATS)
    found, cause = difference_of(left, right, keys), None
    if found is not None and (found.is_missing or "window_start" in found.row):
        one, other = found.runs
        cause = cause_of(found.row, (RUNS[one], RUNS[other]), (roots[one], roots[other]))
    return Verdict(
        dataset.name,
        len(left),
        len(right),
        None if found is None else found.said,
        span.after_us if is_bounded else None,
        span.until_us if is_bounded else None,
        live_left_out=len(tables[0]) - len(left),
        replay_left_out=len(tables[1]) - len(right),
        cause=cause,
    )
