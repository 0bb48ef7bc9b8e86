"""Files: the same rows give the same bytes, whatever was written before and whatever crashed."""

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.testing import Log, trade
from tests.transforms.build_events import events, whole
from transforms import parquet_file
from transforms.datasets import EVENTS, REJECTS
from transforms.fault_points import FILE_STEPS
from transforms.files import reject_pieces
from transforms.parquet_file import check_root, write_file
from transforms.rejects import reject_rows

ROOT = Path(__file__).parents[2]
KEY = (1_700_000_000, 0)


def table(count: int = 30) -> pa.Table:
    log = Log()
    for number in range(count):
        log.add(trade(number * 1_000, trade_id=str(number // 2)), partition=number % 3)
    return EVENTS.table([whole(events(log))])


def only_file(root: Path) -> Path:
    found = [path for path in root.rglob("*") if path.is_file()]
    assert len(found) == 1, found
    return found[0]


def test_same_rows_give_the_same_bytes_in_any_pieces(tmp_path: Path) -> None:
    rows = table()
    write_file(str(tmp_path / "once"), EVENTS, KEY, rows)
    once = only_file(tmp_path / "once").read_bytes()
    for start in range(0, 30, 7):
        write_file(str(tmp_path / "pieces"), EVENTS, KEY, rows.slice(start, 7))
    assert only_file(tmp_path / "pieces").read_bytes() == once
    write_file(str(tmp_path / "backwards"), EVENTS, KEY, rows.take(pa.array(np.arange(30)[::-1])))
    assert only_file(tmp_path / "backwards").read_bytes() == once


def test_rewrite_with_rows_that_are_there_changes_nothing(tmp_path: Path) -> None:
    write_file(str(tmp_path), EVENTS, KEY, table())
    before = only_file(tmp_path).read_bytes()
    write_file(str(tmp_path), EVENTS, KEY, table(12))
    assert only_file(tmp_path).read_bytes() == before


def test_file_lies_where_its_name_says_and_carries_the_schema(tmp_path: Path) -> None:
    write_file(str(tmp_path), EVENTS, KEY, table())
    assert only_file(tmp_path) == tmp_path / EVENTS.path(*KEY)
    assert pq.read_schema(only_file(tmp_path)).equals(EVENTS.record.arrow, check_metadata=True)


def test_attempt_that_fails_before_the_rename_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_file(str(tmp_path), EVENTS, KEY, table(10))
    before = only_file(tmp_path).read_bytes()

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            write_file(str(tmp_path), EVENTS, KEY, table())
    assert only_file(tmp_path).read_bytes() == before  # a reader sees the old file, whole
    write_file(str(tmp_path), EVENTS, KEY, table())
    write_file(str(tmp_path / "clean"), EVENTS, KEY, table())
    assert (tmp_path / EVENTS.path(*KEY)).read_bytes() == only_file(tmp_path / "clean").read_bytes()


def test_crash_during_the_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_file(str(tmp_path), EVENTS, KEY, table(10))
    before = only_file(tmp_path).read_bytes()

    def full(table: pa.Table, where: object, **_: object) -> None:
        where.write(b"PAR1")  # type: ignore[attr-defined]
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(parquet_file.pq, "write_table", full)
        with pytest.raises(OSError, match="No space"):
            write_file(str(tmp_path), EVENTS, KEY, table())
    assert only_file(tmp_path).read_bytes() == before  # what an attempt wrote would fill the disk with the next ones


def test_file_may_be_read_by_whom_the_umask_lets(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_file(str(tmp_path), EVENTS, KEY, table())
    finally:
        os.umask(before)
    assert only_file(tmp_path).stat().st_mode & 0o777 == 0o640


def test_directories_and_file_are_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(str(Path(f"/proc/self/fd/{handle}").readlink())))
    write_file(str(tmp_path), EVENTS, KEY, table())
    path = tmp_path / EVENTS.path(*KEY)
    above = [str(one) for one in path.parents if one.is_relative_to(tmp_path)]
    assert set(above) <= set(synced)  # each knows of what is new in it, the file's own after the renaming
    assert synced[-1] == str(path.parent)


def test_root_that_can_hold_files_is_left_empty(tmp_path: Path) -> None:
    check_root(str(tmp_path / "a" / "b"))
    assert list((tmp_path / "a" / "b").iterdir()) == []


@pytest.mark.parametrize("root", ["s3://bucket/md", "gs:/bucket", "/data/hdfs:/host/md"])
def test_store_is_no_root(root: str) -> None:
    with pytest.raises(OSError, match="the address of a store"):
        check_root(root)


def test_root_that_cannot_be_locked_or_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"file/md cannot hold files: .*Not a directory.*choose"):
        check_root(str(tmp_path / "file" / "md"))

    def no_locks(*_: object) -> None:
        raise OSError(9, "Bad file descriptor")  # what NFS says of a directory's lock

    monkeypatch.setattr(parquet_file.fcntl, "flock", no_locks)
    with pytest.raises(OSError, match=r"cannot hold files: .*Bad file descriptor"):
        check_root(str(tmp_path / "nfs"))
    assert [path for path in (tmp_path / "nfs").iterdir() if path.stat().st_size] == []


def writer(root: Path, count: int, fault: str) -> "subprocess.Popen[bytes]":
    """A process of its own that writes `table(count)`, with a fault point."""
    code = f"from tests.transforms.test_files import *; write_file({str(root)!r}, EVENTS, KEY, table({count}))"
    return subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "HORIZON_FAULT_AT": fault}, cwd=ROOT)


@pytest.mark.parametrize("step", FILE_STEPS)
def test_writer_that_is_killed_at_any_step_leaves_an_old_or_a_new_file_and_the_next_write_mends_it(
    step: str, tmp_path: Path
) -> None:
    root, whole, once = tmp_path / "root", tmp_path / "whole", tmp_path / "once"
    write_file(str(root), EVENTS, KEY, table(10))
    write_file(str(whole), EVENTS, KEY, table())
    old, new = only_file(root).read_bytes(), only_file(whole).read_bytes()
    once.touch()
    assert writer(root, 30, f"{step} SIGKILL {once}").wait(60) == -signal.SIGKILL
    assert (root / EVENTS.path(*KEY)).read_bytes() == (new if step == "renamed" else old)
    write_file(str(root), EVENTS, KEY, table())
    assert only_file(root).read_bytes() == new


@pytest.mark.parametrize("step", ["read", "synced"])
@pytest.mark.parametrize("before", [0, 10])
def test_writer_that_wakes_after_others_wrote_the_file_takes_no_row_from_it(
    step: str, before: int, tmp_path: Path
) -> None:
    root, whole, once = tmp_path / "root", tmp_path / "whole", tmp_path / "once"
    write_file(str(whole), EVENTS, KEY, table())
    if before:
        write_file(str(root), EVENTS, KEY, table(before))
    once.touch()
    late = writer(root, 20, f"{step} SIGSTOP {once}")
    assert os.waitid(os.P_PID, late.pid, os.WSTOPPED | os.WNOWAIT) is not None
    write_file(str(root), EVENTS, KEY, table())
    late.send_signal(signal.SIGCONT)
    late.wait(60)  # whether it succeeds or finds that its own file was cleared away
    assert only_file(root).read_bytes() == only_file(whole).read_bytes()


def test_writers_of_one_file_at_the_same_time_lose_no_row_and_do_not_fail(tmp_path: Path) -> None:
    rows = table(60)
    write_file(str(tmp_path / "once"), EVENTS, KEY, rows)
    with ThreadPoolExecutor(6) as pool:  # each takes its turn with an identity and its copy
        for written in [
            pool.submit(write_file, str(tmp_path / "root"), EVENTS, KEY, rows.slice(at, 3)) for at in range(60)
        ]:
            written.result()
    assert only_file(tmp_path / "root").read_bytes() == only_file(tmp_path / "once").read_bytes()


def test_clearing_up_spares_the_neighbours(tmp_path: Path) -> None:
    neighbour = tmp_path / EVENTS.path(KEY[0], 1)
    neighbour.parent.mkdir(parents=True)
    hidden = neighbour.parent / f".{neighbour.name}.abc"
    hidden.write_bytes(b"being written")
    write_file(str(tmp_path), EVENTS, KEY, table())
    assert hidden.exists()


def test_clearing_up_spares_what_another_writes_of_the_same_file(tmp_path: Path) -> None:
    path = tmp_path / EVENTS.path(*KEY)
    path.parent.mkdir(parents=True)
    left = path.with_name(f".{path.name}.left")
    left.touch()
    with parquet_file._beside(path) as (_, beside):
        write_file(str(tmp_path), EVENTS, KEY, table())
        assert beside.exists()
        beside.unlink()
    assert only_file(tmp_path) == path


def test_reject_pieces_belong_to_the_file_of_their_log_time_and_partition() -> None:
    log = Log()
    for number, at_s in enumerate((0, 50, 50, 150)):
        log.add(trade(), partition=number % 2, log_time_us=1_700_000_040_000_000 + at_s * 1_000_000)
    raw = events(log).raw()
    batch = reject_rows(raw, np.arange(4), "check", ["empty_symbol"] * 4, [""] * 4)
    pieces = list(reject_pieces(batch, REJECTS))
    assert [key for key, _ in pieces] == [(1_700_000_040, 0), (1_700_000_040, 1), (1_700_000_160, 1)]
    sizes = [REJECTS.table([rows[8:]]).num_rows for _, rows in pieces]
    assert sizes == [2, 1, 1]
