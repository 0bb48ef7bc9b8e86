"""run.json: whoever compares two directories need not know how they were made, and is told if they cannot be equal."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from pipelines.options import MarketDataConfig
from runners.__main__ import app
from runners.reach import Reach
from runners.replay import MANIFEST
from runners.run_note import (
    RUN,
    RunNoteError,
    config_of,
    differing,
    note_reach,
    note_rows,
    options_of,
    read_reach,
    read_rows,
    read_run,
    shape_of,
    write_run,
)
from transforms.cell_config import CellConfig
from transforms.faults import Limits
from transforms.header_ids import IdHeaders
from transforms.read_offsets import Manifest

PLAIN = MarketDataConfig()
HEADERS = st.lists(st.sampled_from(["trade_id", "ce_id", "X-Id", "Ω id", ","]), unique=True).map(tuple)
REACH = Reach("t", {0: 5, 11: 1 << 40}, 7, {0: 4, 11: 0})
CONFIGS = st.builds(
    MarketDataConfig,
    limits=st.builds(Limits, any_price_venues=st.frozensets(st.text(max_size=5), max_size=3)),
    id_headers=HEADERS.flatmap(
        lambda names: st.integers(0, len(names)).map(lambda n: IdHeaders(trade_id=names[:n], event_id=names[n:]))
    ),
    cell=st.builds(
        CellConfig,
        grace_us=st.integers(0, 5_000).map(lambda ms: ms * 1_000),
        horizon_us=st.integers(6, 100_000).map(lambda s: s * 1_000_000),
        shards=st.integers(1, 1024),
        slack_us=st.integers(0, 100).map(lambda s: s * 1_000_000),
    ),
    intervals_s=st.lists(st.sampled_from([10, 60, 300, 3600]), unique=True).map(tuple),
    session_gap_s=st.none() | st.integers(1, 86_400),
)


@given(CONFIGS)
def test_options_come_back_as_they_were(config: MarketDataConfig) -> None:
    assert config_of(json.loads(json.dumps(shape_of(config)))) == config
    assert differing(config, config) == {}


def test_what_is_no_note_is_told(tmp_path: Path) -> None:
    with pytest.raises(RunNoteError, match=rf"{tmp_path} has no run.json: .*horizon live"):
        read_run(tmp_path)
    for text in ("", "[]", "{}", '{"--horizon-s": "x"}'):
        (tmp_path / RUN).write_text(text)
        with pytest.raises(RunNoteError, match=r"run.json is damaged: .*write the files anew"):
            read_run(tmp_path)


def test_how_far_a_run_came_is_kept_until_the_next_start(tmp_path: Path) -> None:
    with pytest.raises(RunNoteError, match=r"has no run\.json"):
        note_reach(tmp_path, REACH)
    write_run(tmp_path, PLAIN)
    assert (read_reach(tmp_path), read_rows(tmp_path)) == (None, None)
    note_reach(tmp_path, REACH)
    note_rows(tmp_path, {"events": 5})
    assert (read_reach(tmp_path), read_rows(tmp_path), read_run(tmp_path)) == (REACH, {"events": 5}, PLAIN)
    write_run(tmp_path, PLAIN)
    assert (read_reach(tmp_path), read_rows(tmp_path)) == (None, None)


@pytest.mark.parametrize("note", [{"read": 5}, {"read": {}}, {"rows": []}, {"rows": {"events": "x"}}])
def test_a_damaged_note_of_how_far_a_run_came_is_told(tmp_path: Path, note: dict[str, object]) -> None:
    (tmp_path / RUN).write_text(json.dumps(shape_of(PLAIN) | note))
    with pytest.raises(RunNoteError, match="is damaged"):
        (read_reach if "read" in note else read_rows)(tmp_path)


def test_options_are_told_as_the_commands_take_them() -> None:
    assert options_of(PLAIN) == []
    limits = replace(PLAIN.limits, any_price_venues=frozenset({"b", "a x"}))
    words = options_of(replace(PLAIN, limits=limits, cell=CellConfig(horizon_us=20_500_000, shards=3), session_gap_s=9))
    assert words == [
        *("--horizon-s", "20.5", "--shards", "3", "--session-gap-s", "9"),
        *("--any-price", "a x", "--any-price", "b"),
    ]


def test_runs_with_other_options_are_not_compared(tmp_path: Path) -> None:
    live, again = tmp_path / "live", tmp_path / "again"
    for root, config in ((live, PLAIN), (again, replace(PLAIN, cell=CellConfig(shards=3), session_gap_s=30))):
        root.mkdir()
        write_run(root, config)
        assert read_run(root) == config
    (again / MANIFEST).write_text(Manifest((), 0, 0).to_json())
    told = CliRunner().invoke(app, ["compare", str(live), str(again)])
    assert told.exit_code == 2
    assert "--shards was 2 live and 3 in the replay, --session-gap-s was None live and 30 in the replay" in told.output
    write_run(again, PLAIN)
    told = CliRunner().invoke(app, ["compare", str(live), str(again)])
    assert (told.exit_code, "has not ended" in told.output) == (2, True)
    note_rows(again, dict.fromkeys(("events", "bars", "stats", "late", "rejects"), 0))
    told = CliRunner().invoke(app, ["compare", str(live), str(again)])
    assert (told.exit_code, "nothing to compare" in told.output) == (2, True)
