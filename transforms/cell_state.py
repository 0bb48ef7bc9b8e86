"""The state of one cell: what Beam keeps for it between bundles. What is made of it is in cell_fold.py."""

import struct
from collections.abc import Iterable
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
from transforms.batches import EventBatch, Instrument, Rows, packed_rows
from transforms.cell_fold import WINDOW_S, pack_seconds, unpack_seconds
from transforms.exact import Words
from transforms.seconds import Seconds

WAITING = BagStateSpec("waiting", BytesCoder())  # records that are not final, with their messages
FRESH = BagStateSpec("fresh", BytesCoder())  # seen_rows of those, a chunk a batch
MET = BagStateSpec("met", BytesCoder())  # seen_rows of those, merged chunks
KEPT = BagStateSpec("kept", BytesCoder())  # seen_rows of the final ones, until the cell closes
FOLDED = ReadModifyWriteStateSpec("folded", BytesCoder())  # accumulators of the final ones
OUT = BagStateSpec("out", BytesCoder())  # versions that went out
MARK = ReadModifyWriteStateSpec("mark", BytesCoder())

_MAX_CHUNKS: Final = 12  # of seen_rows in a bag, before they are merged
_CLOSED: Final = b"closed"
_MARK: Final = struct.Struct("<Hq")  # seconds that have their timer, a bit each; when the cell settles next, 0: never


class Mark(NamedTuple):
    """Which timers of a cell are set."""

    seconds: int = 0
    settle_us: int = 0


class CellState:
    """The state of one cell as rows; writes only what changed."""

    def __init__(
        self,
        start_s: int,
        mark: ReadModifyWriteRuntimeState,
        waiting: BagRuntimeState,
        fresh: BagRuntimeState,
        met: BagRuntimeState,
        kept: BagRuntimeState,
        folded: ReadModifyWriteRuntimeState,
        out: BagRuntimeState,
    ) -> None:
        self._start_s = start_s
        self._mark, self._waiting, self._fresh, self._met = mark, waiting, fresh, met
        self._kept, self._folded, self.out = kept, folded, out
        self._marked: bytes | None = mark.read()

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
        for bag in (self._waiting, self._fresh, self._met, self._kept):
            bag.clear()

    def known(self) -> list[Words]:
        """seen_rows of all records, the final ones first."""
        return [dedup.seen_from_bytes(chunk) for bag in (self._kept, self._met, self._fresh) for chunk in bag.read()]

    def kept(self) -> list[Words]:
        """seen_rows of the final records."""
        return [dedup.seen_from_bytes(chunk) for chunk in self._kept.read()]

    def add(self, batch: EventBatch) -> None:
        """Hold records until they are final."""
        self._waiting.add(struct.pack("<H", self.bits(batch.rows)) + batch.to_bytes())
        self._fresh.add(dedup.seen_rows(batch.rows).tobytes())
        _merge_into(self._met, self._fresh)

    def bits(self, rows: Rows) -> int:
        """The seconds of the cell that rows are of, a bit each."""
        bits = np.left_shift(1, rows["event_time_us"] // US_PER_S - self._start_s)
        return int(np.bitwise_or.reduce(bits))

    def waiting_rows(self, second: int) -> list[tuple[list[Instrument], Rows]]:
        """Rows that are not final, of all batches that hold some of this second (s since the epoch)."""
        bit = 1 << second - self._start_s
        return [packed_rows(piece[2:]) for piece in self._waiting.read() if struct.unpack_from("<H", piece)[0] & bit]

    def waiting(self) -> EventBatch | None:
        """The records that are not final; None without any."""
        pieces = [EventBatch.from_bytes(piece[2:]) for piece in self._waiting.read()]
        return EventBatch.concat(pieces) if pieces else None

    def folded(self) -> dict[int, Seconds]:
        """Accumulators of the final records by second."""
        return unpack_seconds(self._folded.read() or b"")

    def settle(self, final: EventBatch | None, rest: EventBatch | None, folded: dict[int, Seconds]) -> None:
        """Keep of final records what tells their copies; hold the rest on."""
        for bag in (self._waiting, self._fresh, self._met):
            bag.clear()
        if rest is not None:
            self.add(rest)
        if final is not None:
            self._kept.add(dedup.seen_rows(final.rows).tobytes())
            _merge(self._kept)
        self._folded.write(pack_seconds(folded))

    def close(self) -> None:
        """Keep one mark, so that a straggler does not start a second, poorer cell."""
        for state in (self._waiting, self._fresh, self._met, self._kept, self._folded, self.out):
            state.clear()
        self._mark.write(_CLOSED)
        self._marked = _CLOSED

    def forget(self) -> None:
        """Drop the mark, too."""
        self._mark.clear()


def window_seconds(bits: int, start_s: int) -> Iterable[int]:
    """The seconds (since the epoch) that these bits stand for."""
    return [start_s + number for number in range(WINDOW_S) if bits >> number & 1]


def _merge_into(merged: BagRuntimeState, fresh: BagRuntimeState) -> None:
    chunks = [dedup.seen_from_bytes(chunk) for chunk in fresh.read()]
    if len(chunks) > _MAX_CHUNKS:
        fresh.clear()
        merged.add(dedup.merged_seen(chunks).tobytes())
        _merge(merged)


def _merge(bag: BagRuntimeState) -> None:
    chunks = [dedup.seen_from_bytes(chunk) for chunk in bag.read()]
    if len(chunks) > _MAX_CHUNKS:
        bag.clear()
        bag.add(dedup.merged_seen(chunks).tobytes())
