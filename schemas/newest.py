"""The rule for whoever reads a topic: of a key the highest version counts, wherever it lies among the others.

Never the last written: a worker that was taken for dead writes what it still holds after the one in its place has
written more, and a job that goes on from a snapshot writes again what it wrote before. So the topics are not compacted
(runners/topics.toml): compaction keeps the last written.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

Row = TypeVar("Row", bound=Mapping[str, Any])


def newest(rows: Iterable[Row], key: Sequence[str]) -> dict[tuple[Any, ...], Row]:
    """By key the row of the highest `version`, the first of equal ones; key: the names of the fields that make it.

    >>> rows = [{"id": 1, "version": 2}, {"id": 1, "version": 1}, {"id": 2, "version": 1}]
    >>> newest(rows, ["id"])
    {(1,): {'id': 1, 'version': 2}, (2,): {'id': 2, 'version': 1}}
    """
    found: dict[tuple[Any, ...], Row] = {}
    for row in rows:
        name = tuple(row[field] for field in key)
        if name not in found or row["version"] > found[name]["version"]:
            found[name] = row
    return found
