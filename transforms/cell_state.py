"""The state of one cell: what Beam keeps for it between bundles. What is made of it is in cell_fold.py."""

import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
from apache_beam.coders import BytesCoder
from apache_beam.transforms.userstate import (
    BagRuntimeState,
    BagStateSpec,
    ReadModifyWriteRuntimeState,
    ReadModifyWriteStateSpec,
)

from schemas.units import US_PER_S
from transforms import dedup
from transforms.batches import EventBatch
from transforms.cell_fold import WINDOW_S, Known, known_of
from transforms.exact import Words
from transforms.rows import Rows

WAITING = BagStateSpec("waiting", BytesCoder())  # records that are not final, with their messages
KEPT = BagStateSpec("kept", BytesCoder())  # seen_rows of the final ones, until the cell closes
FOLDED = BagStateSpec("folded", BytesCoder())  # accumulators of the final ones; of a second the newest counts
OUT = BagStateSpec("out", BytesCoder())  # versions that went out
MARK = ReadModifyWriteStateSpec("mark", BytesCoder())

_MAX_CHUNKS: Final = 12  # of seen_rows in a bag, before they are merged
_MAX_FOLDED: Final = 3 * WINDOW_S  # chunks of accumulators, before old ones are dropped
_CLOSED: Final = b"closed"
_BITS: Final = struct.Struct("<H")
_MARK: Final = struct.Struct("<Hqqq")


class Mark(NamedTuple):
    """Which timers of a cell are set, and how far the log's clock had come when the last one fired."""

    seconds: int = 0  # that have their timer, a bit each
    settle_us: int = 0  # when the cell settles next; 0: when something comes
    clock_us: int = 0
    filed_us: int = 0  # its file was begun with what was final by this clock, and is not known to be there; 0: none


class CellState:
    """The state of one cell as rows; writes only what changed."""

    def __init__(
        self,
        start_s: int,
        mark: ReadModifyWriteRuntimeState,
        waiting: BagRuntimeState,
        kept: BagRuntimeState,
        folded: BagRuntimeState,
        out: BagRuntimeState,
    ) -> None:
        self._start_s = start_s
        self._mark, self._waiting, self._kept, self._folded, self.out = mark, waiting, kept, folded, out
        self._marked: bytes | None = mark.read()
        self._chunks: list[bytes] | None = None

    @property
    def is_new(self) -> bool:
        return self._marked is None

    @property
    def is_closed(self) -> bool:
        return self._marked == _CLOSED

    @property
    def mark(self) -> Mark:
        return Mark(*_MARK.unpack(self._marked)) if self._marked and not self.is_closed else Mark()

    @mark.setter
    def mark(self, mark: Mark) -> None:
        self._marked = _MARK.pack(*mark)
        self._mark.write(self._marked)

    def begin(self) -> None:
        """Say that nothing is known yet: the worker then keeps what it adds and never asks the runner for it."""
        for bag in (self._waiting, self._kept):
            bag.clear()

    def kept(self) -> list[Words]:
        """seen_rows of the final records."""
        return [dedup.seen_from_bytes(chunk) for chunk in self._kept.read()]

    def add(self, batch: EventBatch) -> bytes:
        """Hold records until they are final; the chunk that holds them."""
        chunk = _BITS.pack(self.bits(batch.rows)) + batch.to_bytes()
        self._waiting.add(chunk)
        self._chunks = None
        return chunk

    def chunks(self) -> list[bytes]:
        """The chunks that hold records, as they came; each the same object for as long as the worker has it."""
        if self._chunks is None:  # a large bag may not stay in the worker: each reading is then of new objects
            self._chunks = list(self._waiting.read())
        return self._chunks

    def bits(self, rows: Rows) -> int:
        """The seconds of the cell that rows are of, a bit each."""
        bits = np.left_shift(1, rows["event_time_us"] // US_PER_S - self._start_s)
        return int(np.bitwise_or.reduce(bits))

    def folded(self) -> dict[int, Known]:
        """Accumulators of the final records by second."""
        return known_of(list(self._folded.read()))

    def keep(self, folded: Mapping[int, Known]) -> None:
        """Note accumulators of these seconds, in place of older ones."""
        chunks = list(self._folded.read())
        if len(chunks) > _MAX_FOLDED:
            folded = {**known_of(chunks), **folded}
            self._folded.clear()
        for second, known in folded.items():
            self._folded.add(known.to_bytes(second))

    def settle(self, final: Words, rest: EventBatch | None, later: Sequence[bytes]) -> None:
        """Keep seen_rows of the final records; hold the rest on, and the chunks that came later."""
        self._waiting.clear()
        self._chunks = None
        if rest is not None:
            self.add(rest)
        for chunk in later:
            self._waiting.add(chunk)
        if final.size:
            self._kept.add(final.tobytes())
            chunks = self.kept()
            if len(chunks) > _MAX_CHUNKS:
                self._kept.clear()
                self._kept.add(dedup.merged_seen(chunks).tobytes())

    def close(self) -> None:
        """Keep one mark, so that a straggler does not start a second, poorer cell."""
        for state in (self._waiting, self._kept, self._folded, self.out):
            state.clear()
        self._chunks = None
        self._mark.write(_CLOSED)
        self._marked = _CLOSED


def are_the_same(chunks: Sequence[bytes], others: Sequence[bytes]) -> bool:
    """Whether these are the very chunks: as many, and the last is the same object.

    An equal one may be of another attempt. What the worker fetches anew is all new, so the last tells of them all.
    """
    return len(chunks) == len(others) and (not chunks or chunks[-1] is others[-1])


def held_seconds(chunk: bytes) -> int:
    """CellState.bits of what a chunk of CellState.chunks holds."""
    bits: int = _BITS.unpack_from(chunk)[0]
    return bits


def held_rows(chunk: bytes) -> memoryview:
    """EventBatch.to_bytes() of what a chunk of CellState.chunks holds."""
    return memoryview(chunk)[_BITS.size :]


def window_seconds(bits: int, start_s: int) -> Iterable[int]:
    """The seconds (since the epoch) that these bits stand for."""
    return [start_s + number for number in range(WINDOW_S) if bits >> number & 1]
