"""The event file of a cell, written beside the stream: its window of seconds would hold up what comes meanwhile.

What is written stays in the cell's state until the file is there, so a crash in between writes it again.
"""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from transforms import cell_fold, dedup
from transforms.batches import EventBatch
from transforms.cell_fold import Judged
from transforms.cell_state import are_the_same, held_rows
from transforms.datasets import EVENTS
from transforms.exact import Words
from transforms.parquet_file import FileKey, Writers


class _Begun(NamedTuple):
    chunks: Sequence[bytes]  # of the cell's state
    clock_us: int | None
    judged: Future[Judged]
    written: Future[None] | None


class Filing:
    """Of all cells of a worker; it lives in memory, and what is lost there follows from the state."""

    def __init__(self, root: str | None) -> None:
        self._root, self._writers = root, Writers()
        self._judges = ThreadPoolExecutor(1, "judge")  # of its own: a verdict never waits for a file
        self._begun: dict[FileKey, _Begun] = {}

    def begin(self, key: FileKey, chunks: Sequence[bytes], kept: Sequence[Words], clock_us: int | None) -> None:
        """Judge what a cell holds by this clock (None: all is final), and write what is final, in another thread.

        What is begun already goes on.
        """
        begun = self._begun.get(key)
        if begun is not None and begun.clock_us == clock_us and are_the_same(chunks, begun.chunks):
            return
        judged = self._judges.submit(lambda: cell_fold.judge(_held(chunks), kept, clock_us))
        written = None
        if self._root is not None:
            written = self._writers.begin(self._root, EVENTS, key, lambda: _table(judged.result()))
        self._begun[key] = _Begun(chunks, clock_us, judged, written)

    def judged(self, key: FileKey, chunks: Sequence[bytes], kept: Sequence[Words], clock_us: int | None) -> Judged:
        """What comes of `begin`, waited for."""
        self.begin(key, chunks, kept, clock_us)
        return self._begun[key].judged.result()

    def end(
        self, key: FileKey, chunks: Sequence[bytes], kept: Sequence[Words], clock_us: int | None
    ) -> tuple[Judged, Sequence[bytes]]:
        """What was judged, its file there when `finish` returns; and the chunks that came since it was begun.

        All arguments as they are now. What is not known to be begun from these is begun and waited for.
        """
        begun = self._begun.get(key)
        if begun is None or not are_the_same(chunks[: len(begun.chunks)], begun.chunks):
            self.begin(key, chunks, kept, clock_us)
        begun = self._begun.pop(key)
        if begun.written is not None:
            self._writers.need(begun.written)
        return begun.judged.result(), chunks[len(begun.chunks) :]

    def finish(self) -> None:
        """Wait for the files that are ended; OSError when one could not be written."""
        self._writers.finish()

    def shutdown(self) -> None:
        """End the threads."""
        self._writers.shutdown()
        self._judges.shutdown()


def _held(chunks: Sequence[bytes]) -> EventBatch:
    return EventBatch.concat([EventBatch.from_bytes(held_rows(chunk)) for chunk in chunks])


def _table(judged: Judged) -> pa.Table:
    written = np.flatnonzero(judged.final & (judged.verdicts <= dedup.COPY))
    return EVENTS.table([(judged.batch, written)])
