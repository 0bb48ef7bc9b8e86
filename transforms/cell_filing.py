"""The event file of a cell, written beside the stream: its window of seconds would hold up what comes meanwhile.

What is written stays in the cell's state until the file is there, so a crash in between writes it again.
"""

from collections.abc import Sequence
from concurrent.futures import Future
from functools import partial
from typing import NamedTuple

import numpy as np

from transforms import cell_fold, dedup
from transforms.cell_fold import Judged
from transforms.cell_state import CellState
from transforms.datasets import EVENTS
from transforms.parquet_file import FileKey, Writers


class _Begun(NamedTuple):
    judged: Judged
    chunks: Sequence[bytes]  # of the cell's state, from which it was judged
    written: Future[None] | None


class Filing:
    """Of all cells of a worker; it lives in memory, and what is lost there follows from the state."""

    def __init__(self, root: str | None) -> None:
        self._root, self._writers = root, Writers()
        self._begun: dict[FileKey, _Begun] = {}

    def begin(self, key: FileKey, judged: Judged, chunks: Sequence[bytes]) -> None:
        """Write the final ones of these records, which the chunks hold, while the stream goes on."""
        self._begun[key] = _Begun(judged, chunks, self._write(key, judged))

    def end(self, key: FileKey, state: CellState, clock_us: int | None) -> tuple[Judged, list[bytes]]:
        """What was final by this clock, and will be in its file when `finish` returns; the chunks that came since."""
        begun, chunks = self._begun.pop(key, None), state.chunks()
        if begun is None or not _begin_with(chunks, begun.chunks):
            begun = self._again(key, state, chunks, clock_us)
        if begun.written is not None:
            self._writers.need(begun.written)
        return begun.judged, chunks[len(begun.chunks) :]

    def finish(self) -> None:
        """Wait for the files that are ended; OSError when one could not be written."""
        self._writers.finish()

    def shutdown(self) -> None:
        """End the threads."""
        self._writers.shutdown()

    def _again(self, key: FileKey, state: CellState, chunks: Sequence[bytes], clock_us: int | None) -> _Begun:
        waiting = state.waiting()
        assert waiting is not None, "a file was begun of a cell that holds nothing"
        judged = cell_fold.judge(waiting, state.kept(), clock_us)
        return _Begun(judged, chunks, self._write(key, judged))

    def _write(self, key: FileKey, judged: Judged) -> Future[None] | None:
        written = np.flatnonzero(judged.final & (judged.verdicts <= dedup.COPY))
        if self._root is None or not len(written):
            return None
        return self._writers.begin(self._root, EVENTS, key, partial(EVENTS.table, [(judged.batch, written)]))


def _begin_with(chunks: Sequence[bytes], first: Sequence[bytes]) -> bool:
    """Whether these are the first chunks, the very objects (see seen_index.py)."""
    return len(chunks) >= len(first) > 0 and chunks[len(first) - 1] is first[-1]
