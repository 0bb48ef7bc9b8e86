"""One Parquet file: united with what it holds, written beside its name and renamed, durably.

A crash between the two repeats the write with the same rows; a worker that was frozen meanwhile and wakes takes
nothing away from what others wrote, and neither do two that write one file at the same time.
"""

import fcntl
import os
import re
import secrets
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Final

import pyarrow as pa
import pyarrow.parquet as pq

from transforms.datasets import Dataset
from transforms.fault_points import fault_point
from transforms.metrics import count

FileKey = tuple[int, int]  # (window start in s since the epoch, part)

_SCHEME: Final = re.compile("[a-z][a-z0-9]+:")
_WRITERS: Final = 2  # files written at once: sorting and compressing run without Python's lock


def write_file(root: str, dataset: Dataset, key: FileKey, table: pa.Table) -> None:
    """Unite `table` with what the file holds and put it in place, durably. OSError when the disk refuses.

    Without a row there is nothing to unite, and no file is made.
    """
    if not len(table):
        return
    path = Path(root, dataset.path(*key))
    _make(path.parent)
    while not _united(path, dataset, table):
        pass
    with _only_one(path.parent):  # else one could be taken between another's last look at it and its renaming
        for leftover in path.parent.glob(f".{path.name}.*"):
            _clear(leftover)


def check_root(root: str) -> None:
    """Try what writing a file takes, below an output directory, which is made. OSError says what it cannot do."""
    place = Path(root)
    if any(_SCHEME.fullmatch(part) for part in place.parts):  # Path makes one slash of s3://bucket's two
        raise OSError(f"{root} is the address of a store; files go to a directory (docs/facts.md says what else takes)")
    try:
        _make(place)
        with _beside(place / "probe") as (out, beside):
            os.fsync(out.fileno())
            with _only_one(place) as directory:
                beside.replace(place / ".probe")
                os.fsync(directory)
                (place / ".probe").unlink()
    except OSError as error:
        raise OSError(f"{root} cannot hold files: {error}; choose a local directory that may be written") from error


def _make(directory: Path) -> None:
    """Make a directory, durably: those above it must know of it."""
    new = [one for one in (directory, *directory.parents) if not one.exists()]
    directory.mkdir(parents=True, exist_ok=True)
    for one in new:
        handle = os.open(one.parent, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextmanager
def _beside(path: Path) -> Iterator[tuple[IO[bytes], Path]]:
    """A new file that will be `path`, locked for as long as it is written; it goes when that fails."""
    beside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    with beside.open("xb") as out:
        fcntl.flock(out, fcntl.LOCK_EX)
        try:
            yield out, beside
        except BaseException:
            beside.unlink(missing_ok=True)
            raise


def _clear(leftover: Path) -> None:
    """Remove what an attempt that was killed left beside a file, and nothing that somebody still writes."""
    with suppress(FileNotFoundError, BlockingIOError), leftover.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        leftover.unlink()


def _united(path: Path, dataset: Dataset, table: pa.Table) -> bool:
    """Unite and replace; False, and nothing done, when the file is not the one any more that was read.

    A worker that was frozen and taken for dead may write on beside the one that has taken its place, and the windows
    of one file may lie with two workers. What another cleared away is made again.
    """
    with ExitStack() as open_:
        known = open_.enter_context(path.open("rb")) if path.exists() else None  # held: its inode is not given away
        tables = [pq.read_table(path, partitioning=None), table] if known else [table]
        fault_point("read")
        out, beside = open_.enter_context(_beside(path))
        fault_point("made")
        merged = dataset.merged(tables)
        pq.write_table(merged, out, compression="zstd", compression_level=3, version="2.6", **dataset.encoding)
        out.flush()
        fault_point("written")
        os.fsync(out.fileno())
        fault_point("synced")
        with _only_one(path.parent) as directory:
            if (path.stat().st_ino if path.exists() else None) != (os.fstat(known.fileno()).st_ino if known else None):
                beside.unlink(missing_ok=True)
                return False
            if not beside.exists():  # cleared away before it was locked
                return False
            beside.replace(path)
            fault_point("renamed")
            os.fsync(directory)
        return True


@contextmanager
def _only_one(directory: Path) -> Iterator[int]:
    """One process or thread at a time; the directory's descriptor."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield handle
    finally:
        os.close(handle)


class Writers:
    """Threads that write files; what waits for them is held in memory, so few may wait."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(_WRITERS, "files")
        self._writing: deque[Future[None]] = deque()
        self._needed: list[Future[None]] = []

    def write(self, root: str, dataset: Dataset, key: FileKey, rows: Callable[[], pa.Table]) -> None:
        """Write before `finish` returns; the rows are made by the thread that writes them."""
        self.need(self.begin(root, dataset, key, rows))

    def begin(self, root: str, dataset: Dataset, key: FileKey, rows: Callable[[], pa.Table]) -> Future[None]:
        """Write soon; whoever relies on it says so by `need`."""
        count("files_written", 1)
        self._writing.append(self._pool.submit(lambda: write_file(root, dataset, key, rows())))
        while len(self._writing) > 2 * _WRITERS:
            wait([self._writing.popleft()])
        return self._writing[-1]

    def need(self, written: Future[None]) -> None:
        """`finish` waits for it."""
        self._needed.append(written)

    def finish(self) -> None:
        """Wait for all that are needed; raises what one of them raised."""
        needed, self._needed = self._needed, []
        for written in needed:
            written.result()

    def shutdown(self) -> None:
        """End the threads."""
        self._pool.shutdown()
