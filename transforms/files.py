"""Parquet files whose names and bytes follow from their rows alone, at any parallelism, after any crash.

Rows wait in state until the log's clock has passed their window, then the file is written beside its name and renamed.
What comes later is united with what the file holds. A crash between the two repeats the write with the same rows; a
worker that was frozen meanwhile and wakes takes nothing away from what others wrote.
"""

import fcntl
import os
import struct
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.coders import BytesCoder, VarIntCoder
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import (
    BagRuntimeState,
    BagStateSpec,
    ReadModifyWriteRuntimeState,
    ReadModifyWriteStateSpec,
    RuntimeTimer,
    TimerSpec,
    on_timer,
)
from apache_beam.utils.timestamp import Timestamp

from schemas.units import US_PER_S
from transforms.batches import ipc_bytes
from transforms.datasets import Dataset
from transforms.fault_points import fault_point
from transforms.metrics import count
from transforms.windows import ShardRecords

FileKey = tuple[int, int]  # (window start in s since the epoch, part)
Piece = tuple[FileKey, bytes]  # 8 bytes: log time when it may be written, in us; then rows

_WRITERS: Final = 2  # files written at once: sorting and compressing run without Python's lock
FLUSH_US: Final = 10 * US_PER_S  # a file is written at most this often, by the log's clock


def write_file(root: str, dataset: Dataset, key: FileKey, table: pa.Table) -> None:
    """Unite `table` with what the file holds and put it in place, durably. OSError when the disk refuses."""
    path = Path(root, dataset.path(*key))
    path.parent.mkdir(parents=True, exist_ok=True)
    while not _united(path, dataset, table):
        pass
    for leftover in path.parent.glob(f".{path.name}.*"):  # of an attempt that was killed
        leftover.unlink(missing_ok=True)


def _united(path: Path, dataset: Dataset, table: pa.Table) -> bool:
    """Unite and replace; False, and nothing done, when the file is not the one any more that was read.

    A worker that was frozen and taken for dead may write on beside the one that has taken its place.
    """
    with ExitStack() as open_:
        known = open_.enter_context(path.open("rb")) if path.exists() else None  # held: its inode is not given away
        tables = [pq.read_table(path, partitioning=None), table] if known else [table]
        fault_point("read")
        handle, beside = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        fault_point("made")
        with os.fdopen(handle, "wb") as out:
            pq.write_table(dataset.merged(tables), out, compression="zstd", compression_level=1, version="2.6")
            out.flush()
            fault_point("written")
            os.fsync(out.fileno())
        fault_point("synced")
        with _only_one(path.parent):
            if (path.stat().st_ino if path.exists() else None) != (os.fstat(known.fileno()).st_ino if known else None):
                return False  # the file beside is cleared away by the next attempt
            Path(beside).replace(path)
        fault_point("renamed")
        return True


@contextmanager
def _only_one(directory: Path) -> Iterator[None]:
    """One process or thread at a time."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def write_pieces(root: str, dataset: Dataset, key: FileKey, pieces: Sequence[Any]) -> None:
    """write_file for rows as they were collected."""
    write_file(root, dataset, key, dataset.table(pieces))


def _piece(window_start_s: int, part: int, newest_us: int, rows: bytes) -> Piece:
    due_us = -(-newest_us // FLUSH_US) * FLUSH_US
    return (window_start_s, part), struct.pack("<q", due_us) + rows


def window_pieces(element: ShardRecords, dataset: Dataset) -> Iterator[Piece]:
    """Bars or stats of one window, for the file of their start."""
    shard, records = element
    start_s = records.column("window_start")[0].value // US_PER_S
    end_us = records.column("window_end")[0].value
    yield _piece(start_s // dataset.window_s * dataset.window_s, shard, end_us, ipc_bytes(records))


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


class Writers:
    """Threads that write files; what waits for them is held in memory, so few may wait."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(_WRITERS, "files")
        self._writing: deque[Future[None]] = deque()

    def write(self, root: str, dataset: Dataset, key: FileKey, pieces: Sequence[Any]) -> None:
        count("files_written", 1)
        self._writing.append(self._pool.submit(write_pieces, root, dataset, key, pieces))
        self._wait(2 * _WRITERS)

    def finish(self) -> None:
        self._wait(0)

    def shutdown(self) -> None:
        self._pool.shutdown()

    def _wait(self, left: int) -> None:
        while len(self._writing) > left:
            self._writing.popleft().result()


def _write_file(root: str, dataset: Dataset, grace_us: int) -> beam.DoFn:
    """The step. Its timer has a name of its own: the DirectRunner may mix up those of one name (docs/facts.md)."""
    rows_spec, due_spec = BagStateSpec("rows", BytesCoder()), ReadModifyWriteStateSpec("due", VarIntCoder())
    write_spec = TimerSpec(f"write_{dataset.name}", TimeDomain.WATERMARK)

    class WriteFile(beam.DoFn):
        def setup(self) -> None:
            self._writers = Writers()

        def process(
            self,
            element: Piece,
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
            key: FileKey = beam.DoFn.KeyParam,
            rows: BagRuntimeState = beam.DoFn.StateParam(rows_spec),
            due: ReadModifyWriteRuntimeState = beam.DoFn.StateParam(due_spec),
        ) -> None:
            pieces = list(rows.read())
            if pieces:
                self._writers.write(root, dataset, key, pieces)
            rows.clear()
            due.clear()

        def finish_bundle(self) -> None:
            self._writers.finish()

        def teardown(self) -> None:
            self._writers.shutdown()

    return WriteFile()


class WriteFiles(beam.PTransform):
    """Write a collection as the Parquet files of one dataset.

    In:     whatever `pieces` cuts into (FileKey, rows).
    Out:    nothing; files <root>/<dataset>/date=/hour=/<dataset>-<window>-<part>-v<schema>.parquet.
    Units:  grace in microseconds of the log's clock, after which a window's rows are taken to be there.
    Cost:   rows wait in state for up to 10 s of log time.
    Errors: OSError of the file system; the runner tries again.
    Source: docs/specs/market_data.md, step 8.
    """

    def __init__(self, root: str, dataset: Dataset, grace_us: int, pieces: Callable[..., Iterator[Piece]]) -> None:
        super().__init__()
        self._root, self._dataset, self._grace_us, self._pieces = root, dataset, grace_us, pieces

    def expand(self, rows: beam.PCollection[Any]) -> beam.PCollection[None]:
        return (
            rows
            | "CutPieces" >> beam.FlatMap(self._pieces, self._dataset).with_output_types(tuple[tuple[int, int], bytes])
            | "WriteFile" >> beam.ParDo(_write_file(self._root, self._dataset, self._grace_us))
        )
