"""What a cell does when its time has come, and what it then gives: the step (cell.py) holds the timers."""

from collections.abc import Iterator, Sequence
from typing import Any

import apache_beam as beam
import numpy as np

from schemas.reject import RejectReason
from transforms import cell_fold, dedup, seconds
from transforms.batches import EventBatch
from transforms.cell_config import CellKey
from transforms.cell_filing import Filing
from transforms.cell_fold import NOTHING, WHOLE, WINDOW_S, Judged, Known
from transforms.cell_state import CellState
from transforms.metrics import count
from transforms.rejects import reject_rows
from transforms.rows import Instrument, Rows
from transforms.seconds import Seconds
from transforms.seen_index import SeenIndex


class CellWork:
    """Of all cells of a worker. Generators give what goes out: events untagged, all else tagged."""

    def __init__(self, grace_us: int, files_root: str | None) -> None:
        self._grace_us, self._filing, self._seen = grace_us, Filing(files_root), SeenIndex()

    def take(self, key: CellKey, state: CellState, batch: EventBatch) -> EventBatch | None:
        """Hold the records that were not read before, with their verdicts; None without any."""
        clock_us = state.mark.clock_us
        count("records_behind_clock", int((batch.rows["clock_us"] < clock_us).sum()))
        batch = batch.read_at(clock_us, self._seen.verdicts(key, state.chunks(), state.kept(), batch.rows))
        taken = np.flatnonzero(batch.rows["verdict"] != dedup.AGAIN)
        count("records_read_again", len(batch) - len(taken))
        if not len(taken):
            return None
        batch = batch if len(taken) == len(batch) else batch.take(taken)
        self._seen.add(key, state.add(batch))
        return batch

    def unique(self, key: CellKey, batch: EventBatch) -> Iterator[tuple[CellKey, EventBatch]]:
        """The first of each identity that was read; of a conflict the first in the log goes out again later."""
        new = np.flatnonzero(batch.rows["verdict"] == dedup.NEW)
        count("events_unique", len(new))
        count("events_duplicate", int((batch.rows["verdict"] == dedup.COPY).sum()))
        if len(new):
            yield key, batch if len(new) == len(batch) else batch.take(new)

    def published(self, key: CellKey, state: CellState, second: int, clock_us: int) -> Iterator[Any]:
        """Fold what is held of a second, for good what is final by this clock; what grew goes out."""
        instruments, rows = self._seen.rows_of(key, state.chunks(), second)
        if len(rows):
            rows["verdict"] = dedup.verdicts(rows, state.kept(), by_log=True)
            known, found = self._folded(state.folded().get(second, NOTHING), instruments, rows, clock_us)
            state.keep({second: known})
            yield from self._grown(key, state, second, found)

    def settled(self, key: CellKey, state: CellState, clock_us: int | None) -> Iterator[Any]:
        """Fold what no second holds yet, for good what is final by this clock (None: all); what grew goes out."""
        chunks, known = state.chunks(), state.folded()
        if not chunks:
            return
        whole = {second: kept.folded for second, kept in known.items()}
        if known:
            until_us = cell_fold.folded_until(known, key[0])
            instruments, fresh = self._seen.unfolded(key, chunks, state.kept(), until_us)
        else:  # a whole window at once, as in a replay: all of it is judged for the file anyway
            instruments, fresh = self._filing.judged(key, chunks, state.kept(), clock_us).by_log()
        touched = cell_fold.by_second(fresh)
        for second, found in touched.items():
            before = known.get(second, NOTHING)
            known[second], whole[second] = self._folded(before, instruments, fresh[found], clock_us)
        state.keep({second: known[second] for second in touched})
        for second in touched:
            yield from self._grown(key, state, second, whole[second])
        yield from self._grown(key, state, None, seconds.united(list(whole.values())))

    def filed(self, key: CellKey, state: CellState, clock_us: int | None) -> Iterator[Any]:
        """Let go of what was final by this clock (None: all): its file is there when this bundle has ended."""
        chunks = state.chunks()
        if not chunks:
            return
        judged, later = self._filing.end(key, chunks, state.kept(), clock_us)
        state.settle(judged.seen, judged.rest, later)
        self._seen.forget(key)
        yield from self._final(key, judged)

    def _folded(
        self, known: Known, instruments: Sequence[Instrument], rows: Rows, clock_us: int | None
    ) -> tuple[Known, Seconds]:
        return cell_fold.fold_second(known, instruments, rows, clock_us, self._grace_us)

    def _grown(self, key: CellKey, state: CellState, second: int | None, folded: Seconds) -> Iterator[Any]:
        """Records of a second, or of the whole window, that grew since they went out last."""
        slot, start_s, length_s = (WHOLE, key[0], WINDOW_S) if second is None else (second - key[0], second, 1)
        chosen = cell_fold.grown(folded, cell_fold.versions_out(list(state.out.read()), slot))
        if not len(chosen):
            return
        state.out.add(cell_fold.pack_versions(folded, chosen, slot))
        for tag, batch in cell_fold.records(start_s, folded, chosen, length_s):
            count("bars_published" if tag == "bars" else "stats_published", batch.num_rows)
            yield beam.pvalue.TaggedOutput(tag, (key[1], batch))

    def _final(self, key: CellKey, judged: Judged) -> Iterator[Any]:
        """What is said of records once they are final: conflicts, and the event that stays of each."""
        conflicts = judged.conflicts
        if conflicts is not None:
            count("identity_conflicts", len(conflicts))
            details = ["an event with this identity and other content lies before it"] * len(conflicts)
            reasons: list[RejectReason] = ["identity_conflict" for _ in details]
            refused = reject_rows(conflicts.raw(), np.arange(len(conflicts)), "cell", reasons, details)
            yield beam.pvalue.TaggedOutput("bad", refused)
        if judged.decided is not None:
            yield key, judged.decided

    def clocks(self, key: CellKey, state: CellState) -> tuple[int, int] | None:
        """The oldest and the newest clock of what a cell holds; None when it holds nothing."""
        chunks = state.chunks()
        return self._seen.clocks(key, chunks) if chunks else None

    def begin_file(self, key: CellKey, state: CellState, clock_us: int) -> None:
        """Begin the file of what is final by this clock; `filed` relies on it."""
        self._filing.begin(key, state.chunks(), state.kept(), clock_us)

    def finish(self) -> None:
        """Wait for the files that are relied on; OSError when one could not be written."""
        self._filing.finish()

    def shutdown(self) -> None:
        """End the threads."""
        self._filing.shutdown()
