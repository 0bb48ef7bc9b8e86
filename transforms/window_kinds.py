"""What the step of the larger windows keeps: each kind of window says which records it takes, and when it speaks.

A kind works on the state of one key, which is a window of one shard (window_state.py); windows.py is the step.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

import pyarrow as pa
import pyarrow.compute as pc

from schemas.units import US_PER_S
from transforms.metrics import count
from transforms.roll_up import Parts, Span, fixed, is_stat, newest, part_of, roll_up
from transforms.slide import SLIDING, slide_bars
from transforms.window_state import Window, due_us

FoldParts = Callable[[Parts, Span, int], list[pa.RecordBatch]]

FILE_S: Final = 60  # a file of bars or stats holds those that begin in a minute
_MAX_BATCHES: Final = 16  # of parts that a window which is out keeps, before they are merged


@dataclass(frozen=True)
class Windowing:
    """Times of larger windows, in microseconds of the log's clock."""

    grace_us: int  # a window goes out this long after its end
    lateness_us: int  # and may grow for this long


def start_s_of(records: pa.RecordBatch) -> int:
    """Start of the window of records of one window, in seconds since the epoch."""
    return int(records.column("window_start")[0].value // US_PER_S)


def newer(records: pa.RecordBatch, published: dict[str, int]) -> tuple[pa.RecordBatch | None, dict[str, int]]:
    """Those of a higher version than is out of their kind, instrument and start, and the versions that are out now."""
    starts = records["window_start"].cast(pa.int64()).cast(pa.string())
    parts = [starts, *(records[name] for name in ("kind", "exchange", "symbol") if name in records.schema.names)]
    names = pc.binary_join_element_wise(*parts, "\t").to_pylist()
    versions = records["version"].to_pylist()
    grown = [row for row, name in enumerate(names) if versions[row] > published.get(name, 0)]
    if not grown:
        return None, published
    return records.take(pa.array(grown)), published | {names[row]: versions[row] for row in grown}


class Kind(ABC):
    """One kind of window; its name is part of the key, so it must be unique in a step."""

    name: str
    is_published: ClassVar[bool] = True  # else what it gives goes to the files only

    @abstractmethod
    def starts(self, records: pa.RecordBatch) -> Sequence[int]:
        """The starts, in s, of the windows that these records belong to; none when it does not take them."""

    @abstractmethod
    def add(self, window: Window, start_s: int, records: pa.RecordBatch, at_us: int) -> None:
        """Keep records that came at `at_us` of the log's clock, and say when the window is due."""

    @abstractmethod
    def due(self, window: Window, start_s: int, at_us: int) -> Iterator[pa.RecordBatch]:
        """The records that go out now, a batch a window."""

    def over(self, window: Window, start_s: int) -> Iterator[pa.RecordBatch]:
        """The last ones, when it asked to be forgotten."""
        yield from ()


@dataclass(frozen=True)
class Fold(Kind):
    """Windows of one span: out at end + grace, again when they grew, until end + lateness."""

    name: str
    fold: FoldParts
    span: Span
    part_s: int  # the interval of the records it is made from
    windowing: Windowing
    takes_stats: bool = True

    def starts(self, records: pa.RecordBatch) -> Sequence[int]:
        """Those of its span."""
        if records["interval_s"][0].as_py() != self.part_s or (is_stat(records) and not self.takes_stats):
            return ()
        return self.span.windows_of(start_s_of(records))

    def add(self, window: Window, start_s: int, records: pa.RecordBatch, at_us: int) -> None:
        """Due at the end, or with the next revisions."""
        end_us = (start_s + self.span.length_s) * US_PER_S
        if window.is_new:
            window.forget_at(end_us + self.windowing.lateness_us)
        window.publish_at(due_us(end_us + self.windowing.grace_us, at_us))
        window.add(records)

    def due(self, window: Window, start_s: int, at_us: int) -> Iterator[pa.RecordBatch]:
        """What grew since it went out last."""
        batches = window.parts()
        if not batches:
            return
        known, versions = newest(batches), window.versions()
        for records in self.fold(known, self.span, start_s * US_PER_S):
            grown, versions = newer(records, versions)
            if grown is not None:
                yield grown
        window.set_versions(versions)
        if len(batches) > _MAX_BATCHES:
            window.keep([table.combine_chunks().to_batches()[0] for table in known.values()])

    def over(self, window: Window, start_s: int) -> Iterator[pa.RecordBatch]:
        """The same: a bounded run fires its timers in any order."""
        yield from self.due(window, start_s, 0)
        window.clear()


@dataclass(frozen=True)
class Minutes(Kind):
    """The records that others gave, for the files of their minute: at most every 10 s of the log's clock."""

    name: str = "file"
    is_published: ClassVar[bool] = False

    def starts(self, records: pa.RecordBatch) -> Sequence[int]:
        """The minute they begin in."""
        return (start_s_of(records) // FILE_S * FILE_S,)

    def add(self, window: Window, start_s: int, records: pa.RecordBatch, at_us: int) -> None:
        """Due soon after it came, so that who stops a job finds what was published in its files."""
        window.publish_at(due_us(0, at_us))
        window.add(records)

    def due(self, window: Window, start_s: int, at_us: int) -> Iterator[pa.RecordBatch]:
        """All of it; what was there before lies in the file."""
        yield from window.parts()
        window.clear()


@dataclass(frozen=True)
class Gone(Kind):
    """Windows of a kind that the run before had and this one has not: they are forgotten."""

    name: str = "gone"

    def starts(self, records: pa.RecordBatch) -> Sequence[int]:
        """None."""
        return ()

    def add(self, window: Window, start_s: int, records: pa.RecordBatch, at_us: int) -> None:
        """Keep nothing."""

    def due(self, window: Window, start_s: int, at_us: int) -> Iterator[pa.RecordBatch]:
        """Nothing, and it is over."""
        window.clear()
        yield from ()

    def over(self, window: Window, start_s: int) -> Iterator[pa.RecordBatch]:
        """The same."""
        return self.due(window, start_s, 0)


def larger(intervals_s: Sequence[int], windowing: Windowing) -> list[Kind]:
    """Bars and stats of the larger intervals, but those that the cells give themselves."""
    parts = {interval_s: part_of(interval_s) for interval_s in sorted(intervals_s)}
    return [
        Fold(f"{interval_s}s", roll_up, fixed(interval_s), part_s, windowing)
        for interval_s, part_s in parts.items()
        if part_s < interval_s
    ]


def sliding(windowing: Windowing) -> Kind:
    """Sliding minutes of the 1 s bars."""
    return Fold("slide", slide_bars, SLIDING, 1, windowing, takes_stats=False)


def counted(records: pa.RecordBatch) -> pa.RecordBatch:
    """The same, counted as published."""
    count("stats_published" if is_stat(records) else "bars_published", records.num_rows)
    return records
