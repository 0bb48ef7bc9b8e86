"""What a group goes on from: the newest whole snapshot, and the offsets that lie in it."""

import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.market_data import STATE_LAYOUT
from pipelines.options import MarketDataConfig
from pipelines.outputs import Outputs
from runners import group
from runners.group import LOST, LiveGroup
from runners.live import LiveJob, LiveOptions
from runners.resume import (
    GroupNote,
    ResumeError,
    Snapshot,
    check_layout,
    check_shape,
    newest_snapshot,
    next_offsets,
    read_note,
    write_note,
)
from runners.stack import Endpoints
from transforms.faults import Limits

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


CELL = MarketDataConfig().cell


def options(out: str = "/", session_gap_s: int | None = None, venues: Sequence[str] = (), **cell: int) -> LiveOptions:
    limits = Limits(any_price_venues=frozenset(venues))
    config = MarketDataConfig(limits=limits, cell=replace(CELL, **cell), session_gap_s=session_gap_s)
    return LiveOptions(outputs=Outputs(files_root=out), config=config)


@pytest.mark.parametrize(
    ("was", "now", "said"),
    [
        (options(), options(), None),
        (options(shards=2), options(shards=3), "--shards was 2, now 3"),
        (options(), options(horizon_us=60_000_000), "--horizon-s was 120.0, now 60.0"),
        (options(), options(grace_us=250_000), "--grace-ms was 500.0, now 250.0"),
        (options(session_gap_s=30), options(session_gap_s=40), "--session-gap-s was 30, now 40"),
        (options(), options("/tmp"), "--out was /, now /tmp"),
        (options(), replace(options(), topic="other"), "--topic was md.events.raw, now other"),
        (options(), replace(options(), outputs=Outputs(files_root="/", topic_prefix="x")), "--prefix was md, now x"),
        (options(), replace(options(), has_beacons=False), "--beacons was True, now False"),
        (options(), options(session_gap_s=30), None),
        (options(session_gap_s=30), options(), None),
        (options(), options(venues=["nymex", "epex"]), None),
        (options("/it-has-moved"), options("/tmp"), None),
        (options(), replace(options(), parallelism=3, bundle_ms=5, checkpoint_ms=7, savepoint="x", generation=9), None),
    ],
)
def test_options_that_shape_what_comes_out_are_the_noted_jobs(
    was: LiveOptions, now: LiveOptions, said: str | None
) -> None:
    note = replace(NOTE, shape=json.loads(json.dumps(was.shape)))
    if said is None:
        check_shape(note, now.shape, runs=False)
    else:
        with pytest.raises(ResumeError, match=f"job1 ran with other options: {said};.* --fresh"):
            check_shape(note, now.shape, runs=False)
    if was.shape == now.shape:
        check_shape(note, now.shape, runs=True)
    else:  # a job that runs takes none of them
        with pytest.raises(ResumeError, match=r"job1 runs with other options: .*stop it first"):
            check_shape(note, now.shape, runs=True)
    check_shape(replace(NOTE, shape=None), now.shape, runs=True)  # of an earlier version


class NoBroker:
    def __init__(self, *_: object) -> None: ...

    def partitions(self) -> list[int]:
        return list(range(12))


@pytest.mark.parametrize(("state", "said"), [("RUNNING", "stop it first"), (LOST, "--fresh")])
def test_a_group_is_not_gone_on_with_by_other_options_and_nothing_is_submitted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str, said: str
) -> None:
    uri = snapshot(tmp_path, "savepoint-1", 100)
    write_note(tmp_path, "horizon", GroupNote("job1", uri, 0, 12, 1, STATE_LAYOUT, options(shards=2).shape))
    submitted: list[LiveOptions] = []

    def start(_: Endpoints, asked: LiveOptions) -> LiveJob:
        submitted.append(asked)
        return LiveJob("", "job2")

    monkeypatch.setattr(group, "Log", NoBroker)
    monkeypatch.setattr(group, "start", start)
    monkeypatch.setattr(LiveGroup, "_state", lambda *_: state)
    places = Endpoints("", "", "", "", "", "", "", tmp_path, tmp_path, tmp_path)
    with pytest.raises(ResumeError, match=f"--shards was 2, now 3.*{said}"):
        LiveGroup(places, options(shards=3), print, None).start()
    assert submitted == []
    LiveGroup(places, options(shards=2), print, None).start()
    assert len(submitted) == (state == LOST)
    if submitted:
        note = read_note(tmp_path, "horizon")
        assert note is not None
        assert (note.job, note.shape) == ("job2", options(shards=2).shape)


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
