"""Parquet files of what goes there without being folded: events, late events, rejects.

Rows wait in state until the log's clock has passed their window, then the file is written (parquet_file.py); what comes
later is united with what it holds. The files of bars and stats are written where their windows are (windows.py).
"""

import struct
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Final

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.coders import BytesCoder, VarIntCoder
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import (
    BagRuntimeState,
    BagStateSpec,
    ReadModifyWriteRuntimeState,
    ReadModifyWriteStateSpec,
    RuntimeTimer,
    TimerSpec,
)
from apache_beam.typehints.decorators import no_annotations
from apache_beam.utils.timestamp import Timestamp

from schemas.units import US_PER_S
from transforms.binary import ipc_bytes
from transforms.datasets import Dataset
from transforms.named_failure import on_timer
from transforms.parquet_file import FileKey, Writers

Piece = tuple[FileKey, bytes]  # 8 bytes: log time when it may be written, in us; then rows
CutPieces = Callable[[Any, Dataset], Iterator[Piece]]

FLUSH_US: Final = 10 * US_PER_S  # a file is written at most this often, by the log's clock
_AT_US: Final = 7 * US_PER_S  # of every 10 s: cells and windows have their work at the beginning


def _piece(window_start_s: int, part: int, newest_us: int, rows: bytes) -> Piece:
    due_us = -(-(newest_us - _AT_US) // FLUSH_US) * FLUSH_US + _AT_US
    return (window_start_s, part), struct.pack("<q", due_us) + rows


def _by_time(batch: pa.RecordBatch, dataset: Dataset, column: str) -> Iterator[Piece]:
    time_us = batch.column(column).cast(pa.int64()).to_numpy()
    log_us = batch.column("log_time").cast(pa.int64()).to_numpy()
    windows = time_us // (dataset.window_s * US_PER_S) * dataset.window_s
    parts = batch.column("partition").to_numpy()
    for window, part in sorted({*zip(windows.tolist(), parts.tolist(), strict=True)}):
        rows = np.flatnonzero((windows == window) & (parts == part))
        yield _piece(window, part, int(log_us[rows].max()), ipc_bytes(batch.take(pa.array(rows))))


def late_pieces(late: pa.RecordBatch, dataset: Dataset) -> Iterator[Piece]:
    """Late events, for the file of their event time and partition."""
    return _by_time(late, dataset, "event_time")


def reject_pieces(rejects: pa.RecordBatch, dataset: Dataset) -> Iterator[Piece]:
    """Rejects, for the file of their log time (their event time may be nonsense) and partition."""
    return _by_time(rejects, dataset, "log_time")


def _write_file(name: str, root: str, datasets: Sequence[Dataset], grace_us: int) -> beam.DoFn:
    """The step. Its timer has a name of its own: the DirectRunner may mix up those of one name (docs/facts.md)."""
    rows_spec, due_spec = BagStateSpec("rows", BytesCoder()), ReadModifyWriteStateSpec("due", VarIntCoder())
    write_spec = TimerSpec(f"write_{name}", TimeDomain.WATERMARK)

    class WriteFile(beam.DoFn):
        def setup(self) -> None:
            self._writers = Writers()

        def process(
            self,
            element: tuple[tuple[int, int, int], bytes],
            rows: BagRuntimeState = beam.DoFn.StateParam(rows_spec),
            due: ReadModifyWriteRuntimeState = beam.DoFn.StateParam(due_spec),
            write: RuntimeTimer = beam.DoFn.TimerParam(write_spec),
        ) -> None:
            piece = element[1]
            due_us = struct.unpack_from("<q", piece)[0] + grace_us
            waiting_us = due.read()
            if waiting_us is None or due_us < waiting_us:
                due.write(due_us)
                write.set(Timestamp(micros=due_us))
            rows.add(piece[8:])

        @on_timer(write_spec)
        def write(
            self,
            key: tuple[int, int, int] = beam.DoFn.KeyParam,
            rows: BagRuntimeState = beam.DoFn.StateParam(rows_spec),
            due: ReadModifyWriteRuntimeState = beam.DoFn.StateParam(due_spec),
        ) -> None:
            dataset, pieces = datasets[key[0]], list(rows.read())
            if pieces:
                self._writers.write(root, dataset, key[1:], partial(dataset.table, pieces))
            rows.clear()
            due.clear()

        def finish_bundle(self) -> None:
            self._writers.finish()

        def teardown(self) -> None:
            self._writers.shutdown()

    return WriteFile()


def _cut(element: Any, number: int, dataset: Dataset, cut: CutPieces) -> Iterator[tuple[tuple[int, int, int], bytes]]:
    return (((number, *key), piece) for key, piece in cut(element, dataset))


class WriteFiles(beam.PTransform):
    """Write collections as the Parquet files of their datasets, all of them in one step.

    In:     a collection a dataset, of whatever its function cuts into (FileKey, rows).
    Out:    nothing; files <root>/<dataset>/date=/hour=/<dataset>-<window>-<part>-v<schema>.parquet.
    Units:  name: of the timer, unique in the graph; grace in microseconds of the log's clock, after which a window's
            rows are taken to be there.
    Cost:   rows wait in state for up to 10 s of log time: one crossing.
    Errors: OSError of the file system; the runner tries again.
    Source: docs/specs/market_data.md, step 8.
    """

    def __init__(self, name: str, root: str, grace_us: int, datasets: Sequence[tuple[Dataset, CutPieces]]) -> None:
        super().__init__()
        self._name, self._root, self._grace_us, self._datasets = name, root, grace_us, datasets

    @no_annotations  # Beam knows no input of several collections, and warns of each
    def expand(self, collections: tuple[beam.PCollection[Any], ...]) -> beam.PCollection[None]:
        keyed = [
            rows
            | f"Cut{dataset.name.title()}"
            >> beam.FlatMap(_cut, number, dataset, cut).with_output_types(tuple[tuple[int, int, int], bytes])
            for number, (rows, (dataset, cut)) in enumerate(zip(collections, self._datasets, strict=True))
        ]
        datasets = [dataset for dataset, _ in self._datasets]
        write = beam.ParDo(_write_file(self._name, self._root, datasets, self._grace_us))
        return keyed | beam.Flatten() | "WriteFile" >> write
