"""Why a row of one run is not in another: what became of the records behind it."""

from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from runners.dataset_files import read_dataset
from schemas.units import US_PER_S
from transforms.datasets import EVENTS, LATE_EVENTS, REJECTS

Row = dict[str, Any]  # column -> Arrow scalar

_EVENT_PLACES: Final = ("partition", "offset", "copies")


def cause_of(row: Row, names: tuple[str, str], roots: tuple[Path, Path]) -> str:
    """Of a row that is in the first run only, or has other values there; `names` are what the runs are called."""
    if "offset" in row:
        return f"in {names[1]} that record is {_became(roots[1], row['partition'].as_py(), row['offset'].as_py())}"
    places = [_events_of(root, row) for root in roots]
    if not (other := min(places[0] ^ places[1], default=None)):
        return "both have the same events there, so these were folded differently"
    has, lacks = (0, 1) if other in places[0] else (1, 0)
    partition, offset = other
    return (
        f"the event at partition={partition} offset={offset} is in {names[has]}; in {names[lacks]} that record is "
        f"{_became(roots[lacks], partition, offset)}"
    )


def _events_of(root: Path, row: Row) -> set[tuple[int, int]]:
    """Places of the records in a window's events."""
    where = (
        (pc.field("exchange") == row["exchange"])
        & (pc.field("symbol") == row["symbol"])
        & (pc.field("event_time") >= row["window_start"])
        & (pc.field("event_time") < row["window_end"])
    )
    events = read_dataset(root, EVENTS, _EVENT_PLACES, where)
    return {*_pairs(events), *_pairs(pa.Table.from_struct_array(_copies(events)))}


def _became(root: Path, partition: int, offset: int) -> str:
    """What a run made of a record."""
    here = (pc.field("partition") == partition) & (pc.field("offset") == offset)
    for late in read_dataset(root, LATE_EVENTS, ("reason", "lag_us"), here).to_pylist():
        if late["reason"] == "cell_closed":
            return "late: cell_closed, for that run's clock ran ahead of the log, as it may with --no-beacons"
        return f"late: {late['reason']}, {late['lag_us'] / US_PER_S:,.3f} s behind the clock of its partition"
    for reject in read_dataset(root, REJECTS, ("reason", "detail"), here).to_pylist():
        return f"refused: {reject['reason']}, {reject['detail']}"
    if len(read_dataset(root, EVENTS, ("offset",), here)):
        return "a unique event"
    events = read_dataset(root, EVENTS, _EVENT_PLACES)
    copies = _copies(events)
    homes, offsets = (copies.field(name).to_numpy() for name in ("partition", "offset"))
    found = np.flatnonzero((homes == partition) & (offsets == offset))
    if not len(found):
        return "nowhere"
    owner = np.repeat(np.arange(len(events)), pc.list_value_length(events["copies"]).to_numpy())[found[0]]
    first = events.slice(int(owner), 1)
    return f"a copy of the event at partition={first['partition'][0]} offset={first['offset'][0]}"


def _copies(events: pa.Table) -> pa.StructArray:
    return events["copies"].combine_chunks().flatten()


def _pairs(table: pa.Table) -> set[tuple[int, int]]:
    return set(zip(table["partition"].to_pylist(), table["offset"].to_pylist(), strict=True))
