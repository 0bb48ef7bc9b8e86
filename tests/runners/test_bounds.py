"""The edges of a replay: what is none is one line, before anything is read; on a real broker."""

import re
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from typer.testing import CliRunner, Result

from pipelines.options import MarketDataConfig
from runners.__main__ import app
from runners.bounds import BoundError, as_text, check_offsets, check_order, in_ms, parse_bound
from runners.log import Log
from runners.reach import IN_FILES_US, Reach, reach_at
from runners.replay import manifest_of
from runners.run_note import RUN, note_reach, read_reach, write_run
from runners.stack import Endpoints
from tests.conftest import TopicFactory
from tests.testing import trade

NOW_MS = 1_700_000_000_000
FIRST, END = {0: 4, 1: 0}, {0: 40, 1: 20}


NO_EDGES = ["soon", "0:1,0:2", "0:1,1", "0:1:2", "0:", ":", "", "0:-1", "²:1", "0:" + "9" * 5_000]


@pytest.mark.parametrize("text", NO_EDGES)
def test_what_is_no_edge_is_told(text: str) -> None:
    with pytest.raises(BoundError, match=r"is neither a time like .* nor offsets like|names a partition twice"):
        parse_bound(text)


def test_offsets_and_times_are_edges() -> None:
    assert parse_bound(None) is None
    assert parse_bound(as_text({11: 3, 0: 1 << 62})) == {0: 1 << 62, 11: 3}
    assert parse_bound("2026-11-24T09:00") == datetime(2026, 11, 24, 9, tzinfo=UTC)
    assert parse_bound("2026-11-24T09:00+02:00") == datetime(2026, 11, 24, 7, tzinfo=UTC)


@pytest.mark.parametrize("ms", [1, 3, 5, 7, 999])
def test_a_time_is_that_millisecond(ms: int) -> None:
    at = datetime(2026, 11, 24, 9, tzinfo=UTC) + timedelta(milliseconds=ms)
    assert in_ms(at) % 1_000 == ms
    assert in_ms(at - timedelta(microseconds=1)) == in_ms(at)  # the first that is not before it


def test_a_time_before_the_epoch_is_its_beginning() -> None:
    for year in (1, 1969):  # -1 would be Kafka's word for the log's end
        assert in_ms(datetime(year, 12, 31, 23, 59, 59, 999_000, UTC)) == 0
    assert in_ms(datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14)))) == 0


@pytest.mark.parametrize(
    ("offsets", "said"),
    [
        ({0: 4}, "t has partitions 0, 1, named were 0; name the offset of each"),
        ({0: 4, 1: 0, 99: 0}, "t has partitions 0, 1, named were 0, 1, 99; name the offset of each"),
        ({0: 3, 1: 0}, "t[0] holds offsets 4 to 40, asked was 3; choose a stretch that retention has kept"),
        ({0: 4, 1: 21}, "t[1] holds offsets 0 to 20, asked was 21; choose a stretch that retention has kept"),
    ],
)
def test_offsets_that_the_log_does_not_have_are_told(offsets: dict[int, int], said: str) -> None:
    with pytest.raises(BoundError, match=f"^{re.escape(said)}$"):
        check_offsets("t", offsets, FIRST, END)


def test_all_offsets_that_the_log_has_are_taken() -> None:
    for offsets in (FIRST, END):
        check_offsets("t", offsets, FIRST, END)
        check_order(offsets, offsets)


def test_a_start_behind_its_end_is_told() -> None:
    with pytest.raises(BoundError, match="partition 1 would begin at 7 and end before, at 6"):
        check_order({0: 5, 1: 7}, {0: 5, 1: 6})
    with pytest.raises(BoundError, match=r"the start .* lies behind the end .*; turn them round"):
        check_order(parse_bound("2026-11-24T09:00:01"), parse_bound("2026-11-24T09:00"))


# ---- on a real broker -----------------------------------------------------------------------------------------


@pytest.fixture
def raw(stack: Endpoints, topic: TopicFactory) -> str:
    """Two partitions with offsets 4 to 40 and 0 to 20, a record each 5 s of log time in both."""
    name = topic(partitions=2, config={"retention.ms": "-1"})
    producer = Producer({"bootstrap.servers": stack.bootstrap_servers})
    for partition, end in END.items():
        for number in range(end):
            at_ms = NOW_MS + 5_000 * number
            value = trade(trade_id=f"{partition}-{number}")
            value.timestamp = at_ms * 1_000
            producer.produce(name, value.SerializeToString(), partition=partition, timestamp=at_ms)
    assert producer.flush(30) == 0
    admin = AdminClient({"bootstrap.servers": stack.bootstrap_servers})
    for done in admin.delete_records([TopicPartition(name, p, offset) for p, offset in FIRST.items()]).values():
        done.result()
    return name


def replay(stack: Endpoints, topic: str, *words: str) -> Result:
    arguments = ["replay", "--bootstrap-servers", stack.bootstrap_servers, "--topic", topic, *words]
    return CliRunner().invoke(app, arguments, prog_name="horizon")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--from 99:0", r"\S+ has partitions 0, 1, named were 99; .*"),
        ("--to 0:5", r"\S+ has partitions 0, 1, named were 0; .*"),
        ("--from 0:0,1:0", r"\S+\[0\] holds offsets 4 to 40, asked was 0; .*"),
        ("--to 0:40,1:21", r"\S+\[1\] holds offsets 0 to 20, asked was 21; .*"),
        ("--from 0:9,1:9 --to 0:9,1:8", r"partition 1 would begin at 9 and end before, at 8; .*"),
        ("--from 2023-11-15 --to 2023-11-14", r"the start .* lies behind the end .*"),
        ("--from 2030-01-01", r"\S+ holds nothing from 2030-01-01 to its end; ask for more"),
        ("--to 1969-12-31T23:59:59.999", r"\S+ holds nothing from its start to 1969-.*"),
        ("--from 0:9,1:9 --to 0:9,1:9", r"\S+ holds nothing from 0:9,1:9 to 0:9,1:9; .*"),
        ("--from now", r"'now' is neither a time like .*"),
        ("--to running", r"running does not say where its run stopped: end that with Ctrl-C; or name .*"),
        ("--to other", r"other read another.topic; or name offsets, or a time"),
        ("--to damaged", r"damaged/run.json is damaged: .*; write the files anew"),
    ],
)
def test_an_edge_that_the_log_does_not_have_is_one_line(
    stack: Endpoints, raw: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("running", "other", "damaged"):
        write_run(Path(name), MarketDataConfig())
    note_reach(Path("other"), Reach("another.topic", {0: 9, 1: 9}, 0, {}))
    Path("damaged", RUN).write_text("{")
    result = replay(stack, raw, "--out", "new", *words.split())
    assert re.fullmatch(f"error: {said}\n", result.stderr), result.stderr
    assert (result.exit_code, result.stdout, Path("new").exists()) == (2, "", False)


def test_where_a_live_run_stopped_is_an_end(stack: Endpoints, raw: str, tmp_path: Path) -> None:
    log = Log(stack.bootstrap_servers, raw)
    write_run(tmp_path / "live", MarketDataConfig())
    reach = reach_at(log, {0: 30, 1: 18})
    note_reach(tmp_path / "live", reach)
    assert read_reach(tmp_path / "live") == reach
    assert reach.due_us == (NOW_MS + 17 * 5_000) * 1_000 - IN_FILES_US  # partition 1 is the slower
    assert reach.filed == {0: 12, 1: 12}  # 11 x 5 s are due by then
    result = replay(stack, raw, "--to", str(tmp_path / "live"), "--out", str(tmp_path / "again"))
    assert result.exit_code == 0, result.stderr
    stretches = manifest_of(tmp_path / "again").stretches
    assert [(one.partition, one.start, one.stop) for one in stretches] == [(0, 4, 30), (1, 0, 18)]


def test_a_job_whose_steps_are_behind_has_filed_less(stack: Endpoints, raw: str) -> None:
    log = Log(stack.bootstrap_servers, raw)
    at_us = (NOW_MS + 50_000) * 1_000
    assert reach_at(log, {0: 30, 1: 18}, at_us).due_us == at_us + 10_000_000 - IN_FILES_US
    assert reach_at(log, {0: 30, 1: 18}, at_us * 2) == reach_at(log, {0: 30, 1: 18})
    assert reach_at(log, {0: 30, 1: 0}) == Reach(raw, {0: 30, 1: 0}, 0, {0: 4, 1: 0})  # its clock has not begun
