"""What a cell holds, as the worker knows it by heart: where each identity lies, so that a batch is not compared with
all that came before, and the rows of each chunk, so that they are not unpacked for each second anew.

It lives in the worker's memory and follows from the cell's state alone: it is made anew whenever the state is not the
one that it was made of.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from schemas.units import US_PER_S
from transforms import dedup
from transforms.batches import packed_rows
from transforms.cell_state import are_the_same, held_rows, held_seconds, window_seconds
from transforms.dedup import Verdicts
from transforms.exact import Ints, Words
from transforms.rows import EVENT_ROW, Instrument, Rows, joined, rows_where, stacked

_ROW_BITS = 24  # of a reference: the chunk's number, then the row in it


class _Cell:
    """Of one cell: the chunks of state that hold its records, and key -> where the record lies."""

    def __init__(self) -> None:
        self.chunks: list[bytes] = []
        self._parts: list[tuple[list[Instrument], Rows]] = []
        self._clocks: list[tuple[int, int]] = []  # the oldest and the newest of each chunk
        self._first: dict[int, int] = {}
        self._more: dict[int, list[int]] = {}  # of a key that was met again

    def add(self, chunk: bytes) -> None:
        """Note the records of a chunk."""
        self._parts.append(packed_rows(held_rows(chunk)))
        rows = self._parts[-1][1]
        self._clocks.append((int(rows["clock_us"].min()), int(rows["clock_us"].max())))
        at, keys = len(self.chunks) << _ROW_BITS, rows["key"].tolist()
        self.chunks.append(chunk)
        repeated = self.repeated(keys)
        known = {key: self._first[key] for key in repeated if key in self._first}
        self._first.update(zip(keys, range(at, at + len(keys)), strict=True))
        for index in indices(keys, repeated):
            if known.setdefault(keys[index], at + index) != at + index:
                self._more.setdefault(keys[index], []).append(at + index)
        self._first.update(known)

    def rows_of(self, seconds: int) -> tuple[list[Instrument], Rows]:
        """Rows of the chunks that hold one of these seconds (bits as of CellState.bits), as they came."""
        held = zip(self.chunks, self._parts, strict=True)
        return joined([part for chunk, part in held if held_seconds(chunk) & seconds])

    def rows_since(self, until_us: Ints, start_s: int) -> tuple[list[Instrument], Rows]:
        """Rows that lie at or behind the clock of their second of the cell, as they came."""
        parts = []
        for chunk, (_, newest_us), (instruments, rows) in zip(self.chunks, self._clocks, self._parts, strict=True):
            seconds = np.array(window_seconds(held_seconds(chunk), 0))
            if newest_us < until_us[seconds].min():  # most chunks: what is looked for came late
                continue
            since = rows["clock_us"] >= until_us[rows["event_time_us"] // US_PER_S - start_s]
            if since.any():
                parts.append((instruments, rows_where(rows, since)))
        return joined(parts)

    def clocks(self) -> tuple[int, int]:
        """The oldest and the newest clock of the records; there must be one."""
        return min(oldest for oldest, _ in self._clocks), max(newest for _, newest in self._clocks)

    def met_again(self, keys: list[int]) -> Rows:
        """Rows whose key is one of these and was met more than once."""
        found: list[Rows] = []
        for key in dict.fromkeys(key for key in keys if key in self._more):
            for reference in (self._first[key], *self._more[key]):
                row = reference & (1 << _ROW_BITS) - 1
                found.append(self._parts[reference >> _ROW_BITS][1][row : row + 1])
        return stacked(found, EVENT_ROW)

    def repeated(self, keys: list[int]) -> set[int]:
        """Those of the keys that are known, or come twice."""
        distinct = set(keys)
        found = self._first.keys() & distinct
        return found if len(distinct) == len(keys) else found | {key for key, n in Counter(keys).items() if n > 1}

    def read(self, keys: Iterable[int]) -> Iterator[tuple[int, int, int, int]]:
        """(key, identity_lo, content, place) of the records that have one of the keys; of one key as they came."""
        for key in keys:
            for reference in (self._first[key], *self._more.get(key, ())) if key in self._first else ():
                rows, row = self._parts[reference >> _ROW_BITS][1], reference & (1 << _ROW_BITS) - 1
                place = int(dedup.places(rows[row : row + 1])[0])
                yield key, int(rows["identity_lo"][row]), int(rows["content"][row]), place


def indices(keys: list[int], wanted: set[int]) -> list[int]:
    """Where the wanted keys are."""
    return [index for index, key in enumerate(keys) if key in wanted] if wanted else []


class SeenIndex:
    """Of each cell that holds records."""

    def __init__(self) -> None:
        self._cells: dict[tuple[int, int], _Cell] = {}

    def verdicts(self, cell: tuple[int, int], chunks: Sequence[bytes], kept: Sequence[Words], rows: Rows) -> Verdicts:
        """Verdicts of rows that come now; `chunks` and `kept` are the state of the cell."""
        known, key = self._of(cell, chunks), rows["key"]
        keys = key.tolist()
        suspects = indices(keys, known.repeated(keys))
        if kept:
            suspects = np.union1d(suspects, np.flatnonzero(dedup.meets(kept, key))).astype(np.intp).tolist()
        if not suspects:
            return np.full(len(rows), dedup.NEW, np.uint8)
        wanted = np.unique(key[suspects])
        read = dedup.read_before(kept, wanted)
        for word, low, content, place in known.read(wanted.tolist()):
            read.setdefault((word, low), (content, set()))[1].add(place)
        return dedup.verdicts_of(rows, key, np.array(suspects, np.intp), read)

    def rows_of(self, cell: tuple[int, int], chunks: Sequence[bytes], second: int) -> tuple[list[Instrument], Rows]:
        """Rows that the cell holds of an event second (s since the epoch)."""
        instruments, rows = self._of(cell, chunks).rows_of(1 << second - cell[0])
        return instruments, rows_where(rows, rows["event_time_us"] // US_PER_S == second)

    def unfolded(
        self, cell: tuple[int, int], chunks: Sequence[bytes], kept: Sequence[Words], until_us: Ints
    ) -> tuple[list[Instrument], Rows]:
        """Rows that the cell holds and no accumulator of their second does, with their verdicts by the log.

        until_us: of each second of the cell the clock before which its accumulators hold everything.
        """
        known = self._of(cell, chunks)
        instruments, rows = known.rows_since(until_us, cell[0])
        others = known.met_again(rows["key"].tolist())  # also these themselves: read again, which changes nothing
        rows["verdict"] = dedup.verdicts(stacked([rows, others], EVENT_ROW), kept, by_log=True)[: len(rows)]
        return instruments, rows

    def clocks(self, cell: tuple[int, int], chunks: Sequence[bytes]) -> tuple[int, int]:
        """The oldest and the newest clock of the records that the cell holds; there must be one."""
        return self._of(cell, chunks).clocks()

    def add(self, cell: tuple[int, int], chunk: bytes) -> None:
        """Note a chunk that the state holds from now on."""
        self._cells[cell].add(chunk)

    def forget(self, cell: tuple[int, int]) -> None:
        """The cell holds nothing any more, or other chunks."""
        self._cells.pop(cell, None)

    def _of(self, cell: tuple[int, int], chunks: Sequence[bytes]) -> _Cell:
        known = self._cells.get(cell)
        if known is None or not are_the_same(known.chunks, chunks):
            known = self._cells[cell] = _Cell()
            for chunk in chunks:
                known.add(chunk)
        return known
