"""What a group goes on from: the newest whole snapshot, and the offsets that lie in it."""

import os
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.market_data import STATE_LAYOUT
from runners.resume import (
    GroupNote,
    ResumeError,
    Snapshot,
    check_layout,
    newest_snapshot,
    next_offsets,
    read_note,
    write_note,
)

NOTE = GroupNote("job1", None, 0, 12, 1)


def snapshot(root: Path, name: str, taken_s: float, metadata: bytes | None = b"") -> str:
    place = root / name
    place.mkdir(parents=True)
    if metadata is not None:
        (place / "_metadata").write_bytes(metadata)
        os.utime(place / "_metadata", (taken_s, taken_s))
    return place.as_uri()


def zigzag(number: int) -> bytes:
    rest, out = number << 1 ^ number >> 63, bytearray()
    while rest > 0x7F:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    return bytes([*out, rest])


def mark(topic: str, partition: int, offset: int) -> bytes:
    name = topic.encode()
    return zigzag(offset) + zigzag(partition) + zigzag(len(name)) + name + zigzag(1_700_000_000_000)


@pytest.mark.parametrize("layout", [1, STATE_LAYOUT + 1])
def test_snapshot_of_another_layout_is_refused_with_what_to_do(layout: int) -> None:
    snapshot = Snapshot("file:///savepoints/savepoint-1", 0.0)
    check_layout(snapshot, replace(NOTE, layout=STATE_LAYOUT), STATE_LAYOUT)
    with pytest.raises(ResumeError, match=f"savepoint-1 holds state of layout {layout}.*--fresh"):
        check_layout(snapshot, replace(NOTE, layout=layout), STATE_LAYOUT)


def test_a_note_comes_back_as_it_was_kept(tmp_path: Path) -> None:
    assert read_note(tmp_path, "live") is None
    note = GroupNote("a" * 32, "file:///savepoints/savepoint-1", 3, 24, 2)
    write_note(tmp_path, "live", note)
    assert read_note(tmp_path, "live") == note
    assert read_note(tmp_path, "other") is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"savepoint": "x"}'])
def test_what_is_no_note_raises_and_names_the_way_out(tmp_path: Path, text: str) -> None:
    (tmp_path / "groups").mkdir()
    (tmp_path / "groups" / "live.json").write_text(text)
    with pytest.raises(ResumeError, match="--fresh"):
        read_note(tmp_path, "live")


def test_the_newest_whole_snapshot_counts(tmp_path: Path) -> None:
    assert newest_snapshot(tmp_path, NOTE) is None
    origin = snapshot(tmp_path, "savepoint-1", 100)
    snapshot(tmp_path, "job1/chk-9", 300)
    snapshot(tmp_path, "job1/chk-10", 200)
    snapshot(tmp_path, "job1/chk-11", 0, metadata=None)  # Flink was killed while it wrote this one
    snapshot(tmp_path, "job2/chk-1", 900)  # of another group
    found = newest_snapshot(tmp_path, GroupNote("job1", origin, 0, 12, 1))
    assert found is not None
    assert (found.uri, found.kind) == ((tmp_path / "job1" / "chk-9").as_uri(), "checkpoint")
    stopped_with = snapshot(tmp_path, "savepoint-2", 400)
    found = newest_snapshot(tmp_path, GroupNote("job1", stopped_with, 0, 12, 1))
    assert found is not None
    assert (found.uri, found.kind, found.taken_s) == (stopped_with, "savepoint", 400)
    assert newest_snapshot(tmp_path, GroupNote("job9", (tmp_path / "gone").as_uri(), 0, 12, 1)) is None


@given(
    st.dictionaries(st.integers(0, 30), st.integers(-1, 2**62), min_size=1), st.text("abc.-", min_size=1, max_size=90)
)
def test_offsets_are_found_between_other_bytes_or_refused(offsets: dict[int, int], topic: str) -> None:
    data = b"\0java" + topic.encode() + b"".join(b"\1\x02" + mark(topic, *place) for place in offsets.items()) + b"end"
    with tempfile.TemporaryDirectory() as root:
        uri = snapshot(Path(root), "savepoint-1", 1, data)
        if sorted(offsets) == list(range(len(offsets))):
            assert next_offsets(uri, topic, len(offsets)) == offsets
            with pytest.raises(ResumeError):
                next_offsets(uri, topic, len(offsets) + 1)
        else:
            with pytest.raises(ResumeError, match="not one for each"):
                next_offsets(uri, topic, len(offsets))


def test_an_offset_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    uri = snapshot(tmp_path, "savepoint-1", 1, mark("raw", 0, 7) + mark("raw", 0, 7))
    with pytest.raises(ResumeError):
        next_offsets(uri, "raw", 1)
