"""What a group goes on from: the newest whole snapshot, and the offsets that lie in it."""

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.market_data import STATE_LAYOUT
from pipelines.options import MarketDataConfig
from pipelines.outputs import Outputs
from runners import group, next_job
from runners.gaps import Gap, gaps_of, note_gaps, read_gaps
from runners.group import LOST, LiveGroup
from runners.live import LiveError, LiveJob, LiveOptions
from runners.resume import (
    GroupNote,
    ResumeError,
    Snapshot,
    check_layout,
    check_shape,
    check_topic,
    newest_snapshot,
    next_offsets,
    noted_path,
    offsets_in,
    read_note,
    write_note,
)
from runners.stack import Endpoints
from transforms.faults import Limits
from transforms.header_ids import IdHeaders

STARTS = {str(partition): 0 for partition in range(12)}
NOTE = GroupNote("horizon-live-1700000000000", "job1", None, STARTS, "id1", 1, STATE_LAYOUT, {})


def snapshot(root: Path, name: str, taken_s: float, metadata: bytes | None = b"") -> str:
    place = root / name
    place.mkdir(parents=True)
    if metadata is not None:
        (place / "_metadata").write_bytes(metadata)
        os.utime(place / "_metadata", (taken_s, taken_s))
    return str(place)


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
    snapshot = Snapshot(Path("/savepoints/savepoint-1"), 0.0)
    check_layout(snapshot, NOTE, STATE_LAYOUT)
    with pytest.raises(ResumeError, match=f"savepoint-1 holds state of layout {layout}.*--fresh"):
        check_layout(snapshot, replace(NOTE, layout=layout), STATE_LAYOUT)


CELL = MarketDataConfig().cell


def options(out: str = "/", session_gap_s: int | None = None, venues: Sequence[str] = (), **cell: int) -> LiveOptions:
    limits = Limits(any_price_venues=frozenset(venues))
    config = MarketDataConfig(limits=limits, cell=replace(CELL, **cell), session_gap_s=session_gap_s)
    return LiveOptions(outputs=Outputs(files_root=out), config=config)


def with_headers(**names: tuple[str, ...]) -> LiveOptions:
    return replace(options(), config=MarketDataConfig(id_headers=IdHeaders(**names)))


@pytest.mark.parametrize(
    ("was", "now", "said"),
    [
        (options(), options(), None),
        (options(shards=2), options(shards=3), "--shards was 2, now 3"),
        (options(), options(horizon_us=60_000_000), "--horizon-s was 120.0, now 60.0"),
        (options(), options(grace_us=250_000), "--grace-ms was 500.0, now 250.0"),
        (options(session_gap_s=30), options(session_gap_s=40), "--session-gap-s was 30, now 40"),
        (options(), with_headers(trade_id=("x",)), r"--trade-id-header was \['trade_id'\], now \['x'\]"),
        (with_headers(event_id=("a", "b")), with_headers(event_id=("b", "a")), "--event-id-header was .*, now .*"),
        (options(), options("/tmp"), "--out was /, now /tmp"),
        (options(), replace(options(), topic="other"), "--topic was md.events.raw, now other"),
        (options(), replace(options(), outputs=Outputs(files_root="/", topic_prefix="x")), "--prefix was md, now x"),
        (options(), options(session_gap_s=30), None),
        (options(session_gap_s=30), options(), None),
        (options(), options(venues=["nymex", "epex"]), None),
        (options("/it-has-moved"), options("/tmp"), None),
        (options(), replace(options(), has_beacons=False), None),
        (options(), replace(options(), parallelism=3, bundle_ms=5, checkpoint_ms=7, savepoint=Path("x")), None),
    ],
)
def test_options_that_shape_what_comes_out_are_the_noted_jobs(
    was: LiveOptions, now: LiveOptions, said: str | None
) -> None:
    note = replace(NOTE, shape=json.loads(json.dumps(was.shape)))
    if said is None:
        check_shape(note, now.shape, runs=False)
    else:
        with pytest.raises(ResumeError, match=f"{NOTE.name} ran with other options: {said};.* --fresh"):
            check_shape(note, now.shape, runs=False)
    if was.shape == now.shape:
        check_shape(note, now.shape, runs=True)
    else:  # a job that runs takes none of them
        with pytest.raises(ResumeError, match=r"runs with other options: .*stop it first"):
            check_shape(note, now.shape, runs=True)


class NoBroker:
    def __init__(self, *_: object) -> None: ...

    def earliest(self) -> dict[int, int]:
        return dict.fromkeys(range(12), 0)

    def latest(self) -> dict[int, int]:
        return dict.fromkeys(range(12), 100)

    def topic_id(self) -> str:
        return "id1"


@pytest.mark.parametrize(("state", "said"), [("RUNNING", "stop it first"), (LOST, "--fresh")])
def test_a_group_is_not_gone_on_with_by_other_options_and_nothing_is_submitted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str, said: str
) -> None:
    origin = snapshot(tmp_path, "savepoint-1", 100)
    write_note(tmp_path, "horizon", replace(NOTE, origin=origin, shape=options(shards=2).shape))
    submitted: list[LiveOptions] = []

    def start(_: Endpoints, asked: LiveOptions, name: str) -> LiveJob:
        submitted.append(asked)
        return LiveJob("", "job2")

    monkeypatch.setattr(group, "Log", NoBroker)
    monkeypatch.setattr(next_job, "start", start)
    monkeypatch.setattr(next_job, "next_offsets", lambda *_: dict.fromkeys(range(12), 7))
    monkeypatch.setattr(LiveGroup, "_asked", lambda *_: state)
    places = Endpoints("", "", "", "", "", "", "", tmp_path, tmp_path, tmp_path)
    with pytest.raises(ResumeError, match=f"--shards was 2, now 3.*{said}"):
        LiveGroup(places, options(shards=3), print).start()
    assert submitted == []
    LiveGroup(places, options(shards=2), print).start()
    assert len(submitted) == (state == LOST)
    if submitted:
        note = read_note(tmp_path, "horizon")
        assert note is not None
        assert (note.job, note.shape) == ("job2", options(shards=2).shape)
        assert submitted[0].starts == dict.fromkeys(range(12), 7)


def test_a_note_comes_back_as_it_was_kept(tmp_path: Path) -> None:
    assert read_note(tmp_path, "live") is None
    note = replace(NOTE, job="a" * 32, origin="flink/savepoints/savepoint-1", parallelism=2)
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
    origin, checkpoints = snapshot(tmp_path, "savepoint-1", 100), tmp_path / "flink" / "checkpoints"
    snapshot(checkpoints, "job1/chk-9", 300)
    snapshot(checkpoints, "job1/chk-10", 200)
    snapshot(checkpoints, "job1/chk-11", 0, metadata=None)  # Flink was killed while it wrote this one
    snapshot(checkpoints, "job2/chk-1", 900)  # of another group
    found = newest_snapshot(tmp_path, replace(NOTE, origin=origin))
    assert found is not None
    assert (found.path, found.kind) == (checkpoints / "job1" / "chk-9", "checkpoint")
    stopped_with = noted_path(Path(snapshot(tmp_path, "savepoint-2", 400)), tmp_path)
    assert stopped_with == "savepoint-2"
    found = newest_snapshot(tmp_path, replace(NOTE, origin=stopped_with))
    assert found is not None
    assert (found.path, found.kind, found.taken_s) == (tmp_path / "savepoint-2", "savepoint", 400)
    assert newest_snapshot(tmp_path, replace(NOTE, job="job9", origin="gone")) is None


@given(
    st.dictionaries(st.integers(0, 30), st.integers(-1, 2**62), min_size=1), st.text("abc.-", min_size=1, max_size=90)
)
def test_offsets_are_found_between_other_bytes_or_refused(offsets: dict[int, int], topic: str) -> None:
    marks = [b"\1\x02" + mark(topic, *place) for place in offsets.items()]
    tasks = [b"\0java" + topic.encode() + b"".join(marks[task::2]) + b"end" for task in (0, 1)]
    if sorted(offsets) == list(range(len(offsets))):
        assert offsets_in(tasks, topic) == offsets_in(tasks, topic, len(offsets)) == offsets
        with pytest.raises(ResumeError):
            offsets_in(tasks, topic, len(offsets) + 1)
    else:
        with pytest.raises(ResumeError, match="not one for each"):
            offsets_in(tasks, topic)


def test_an_offset_that_is_there_twice_is_refused() -> None:
    with pytest.raises(ResumeError):
        offsets_in([mark("raw", 0, 7), mark("raw", 0, 7)], "raw")


def test_what_is_no_snapshot_is_refused_by_its_name(tmp_path: Path) -> None:
    place = snapshot(tmp_path, "savepoint-1", 1, b"\0" * 40)
    with pytest.raises(ResumeError, match="savepoint-1 cannot be read"):
        next_offsets(Path(place), "raw")


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({0: 5, 1: 9}, []),
        ({0: 4, 1: 9}, [Gap(0, 4, 5, "retention")]),
        ({0: 1, 1: 3}, [Gap(0, 1, 5, "retention"), Gap(1, 3, 6, "retention")]),
    ],
)
def test_what_retention_took_before_it_was_read_is_a_gap(
    tmp_path: Path, wanted: dict[int, int], found: list[Gap]
) -> None:
    gaps = gaps_of("raw", wanted, {0: 5, 1: 6}, {0: 8, 1: 9})
    assert gaps == found
    note_gaps(tmp_path, "live", gaps)
    note_gaps(tmp_path, "live", gaps)
    assert read_gaps(tmp_path, "live") == [*found, *found]


def test_offsets_beyond_the_logs_end_are_no_gap_but_another_log() -> None:
    with pytest.raises(ResumeError, match=r"partition 1 ends at 9, read were 10.*--fresh"):
        gaps_of("raw", {0: 8, 1: 10}, {0: 5, 1: 6}, {0: 8, 1: 9})


def test_a_topic_that_was_made_anew_is_refused() -> None:
    check_topic(NOTE, "raw", "id1")
    with pytest.raises(ResumeError, match=r"raw was made anew .*id1 then, id2 now.*--fresh"):
        check_topic(NOTE, "raw", "id2")


def test_a_group_is_followed_by_one_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group, "Log", NoBroker)
    places = Endpoints("", "", "", "", "", "", "", tmp_path, tmp_path, tmp_path)
    with LiveGroup(places, options(), print):
        with pytest.raises(LiveError, match=f"followed by another `horizon live`, pid {os.getpid()}"):
            LiveGroup(places, options(), print).__enter__()
        with LiveGroup(places, replace(options(), group="other"), print):
            pass
    with LiveGroup(places, options(), print):
        pass
