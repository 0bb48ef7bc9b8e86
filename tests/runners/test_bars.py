"""Bars from files and topics, the table, and the charts."""

import itertools
import json
import time
import xml.etree.ElementTree as ET
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from runners.__main__ import app
from runners.bar_series import BarQuery, BarsError, bars_in_files, bars_on_topic, last_of_each, plain
from runners.charts import html_page, svg, write_chart
from runners.newest_bars import NewestBars
from runners.publish import PublishBatch, publish_batches
from runners.stack import Endpoints
from runners.topics import read_specs
from schemas.avro import encode
from schemas.bar import BAR
from schemas.newest import newest
from tests.conftest import TopicFactory

START = datetime(2021, 4, 17, 16, 43, tzinfo=UTC)


def bar(number: int = 0, version: int = 1, symbol: str = "A-B", interval_s: int = 60, **fields: Any) -> dict[str, Any]:
    start = START + timedelta(seconds=interval_s * number)
    price = 100.0 + number % 7
    return {
        "exchange": "x",
        "symbol": symbol,
        "interval_s": interval_s,
        "window_start": start,
        "window_end": start + timedelta(seconds=interval_s),
        "open": price,
        "high": price + 2,
        "low": price - 1,
        "close": price + (1 if number % 2 else -1),
        "volume": Decimal(10 * version),
        "notional": Decimal(1),
        "vwap": None,
        "trade_count": version,
        "zero_volume_count": 0,
        "buy_volume": Decimal(0),
        "sell_volume": Decimal(0),
        "first_event_time": start,
        "last_event_time": start,
        "delayed_count": 0,
        "duplicate_count": 0,
        "version": version,
        "lineage": [],
        "identity_digest": bytes(16),
        **fields,
    }


def write(root: Path, rows: list[dict[str, Any]], name: str = "bars-1") -> None:
    directory = root / "bars" / "date=2021-04-17" / "hour=16"
    directory.mkdir(parents=True, exist_ok=True)
    pq.write_table(BAR.table_from_rows(rows), directory / f"{name}.parquet")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two instruments, two intervals, an older version of one bar in a file of its own, and a half-written file."""
    write(tmp_path, [bar(n, version=3) for n in range(5)] + [bar(n, symbol="C-D") for n in range(3)])
    write(tmp_path, [bar(4, version=2), bar(0, interval_s=1)], "bars-2")
    (tmp_path / "bars" / "date=2021-04-17" / "hour=16" / ".bars-3.parquet.tmp").write_bytes(b"PAR1")
    return tmp_path


def test_highest_version_counts_whatever_the_order() -> None:
    rows = [bar(0, 2), bar(0, 3), bar(0, 1), bar(1, 1)]
    found = [newest(read, BAR.key) for read in (rows, rows[::-1])]
    assert [list(bars.values()) for bars in found] == [[bar(0, 3), bar(1, 1)], [bar(1, 1), bar(0, 3)]]


def test_files_give_what_is_asked_for(root: Path) -> None:
    found = bars_in_files(root, BarQuery(60, "A-B"))
    assert [(row["window_start"], row["version"]) for row in found] == [
        (START + timedelta(minutes=n), 3) for n in range(5)
    ]
    assert len(bars_in_files(root, BarQuery(60))) == 8
    assert len(bars_in_files(root, BarQuery(1))) == 1
    assert bars_in_files(root, BarQuery(60, "A-B", "y")) == []


def test_no_files_say_where_was_looked(tmp_path: Path) -> None:
    with pytest.raises(BarsError, match=r"no bars in .*/bars; run `horizon live`"):
        bars_in_files(tmp_path, BarQuery(60))


def test_last_is_per_instrument(root: Path) -> None:
    rows = last_of_each(bars_in_files(root, BarQuery(60)), 2)
    assert [(row["symbol"], row["window_start"].minute) for row in rows] == [
        ("A-B", 46),
        ("A-B", 47),
        ("C-D", 44),
        ("C-D", 45),
    ]


@pytest.mark.parametrize(
    ("number", "text"), [("1200.500000000", "1200.5"), ("0E-9", "0"), ("100", "100"), ("1E+3", "1000")]
)
def test_plain_number_has_no_trailing_zeros(number: str, text: str) -> None:
    assert plain(Decimal(number)) == text


def test_topic_gives_the_same_bars(stack: Endpoints, topic: Any) -> None:
    name, rows = topic(partitions=2), [bar(0), bar(1, 2), bar(1, 1), bar(0, symbol="C-D")]
    messages = encode(BAR, rows)
    keys = [f"{row['exchange']}|{row['symbol']}".encode() for row in rows]
    batch = PublishBatch(keys, messages, [time.time_ns() // 1_000_000] * len(rows))
    publish_batches(stack.bootstrap_servers, name, [batch])
    found = bars_on_topic(stack.bootstrap_servers, name, BarQuery(60, "A-B"))
    assert [(row["window_start"], row["version"]) for row in found] == [(START, 1), (START + timedelta(minutes=1), 2)]


def test_a_lower_version_that_a_worker_taken_for_dead_wrote_last_is_not_read(
    stack: Endpoints, topic: TopicFactory
) -> None:
    (bars_1m,) = (one for one in read_specs() if one.name == "md.bars.1m")
    name = topic(1, bars_1m.fitted(1).config, "bars")
    following = NewestBars(stack.bootstrap_servers, name)
    for version in (1, 3, 2):  # the third by a producer whose place another had taken
        key = b"x|A-B|60"
        batch = PublishBatch([key], encode(BAR, [bar(0, version)]), [time.time_ns() // 1_000_000])
        publish_batches(stack.bootstrap_servers, name, [batch])
    assert [row["version"] for row in bars_on_topic(stack.bootstrap_servers, name, BarQuery(60))] == [3]
    versions, until = list[int](), time.monotonic() + 20
    while versions != [3] and time.monotonic() < until:
        versions = [row["version"] for row in following.poll()]
    versions_later = [[row["version"] for row in following.poll()] for _ in range(3)]  # also when the third is read
    following.close()
    assert (versions, versions_later) == ([3], [[3]] * 3)


def test_svg_has_a_candle_and_a_volume_for_each_bar_and_none_for_a_gap() -> None:
    bars = [bar(n) for n in (0, 1, 5, 6)]
    picture = ET.fromstring(svg(bars))
    candles = picture.findall("g")
    assert len(candles) == 4
    lefts = [float(candle.findall("rect")[0].attrib["x"]) for candle in candles]
    widths = [right - left for left, right in itertools.pairwise(lefts)]
    assert widths[1] == pytest.approx(4 * widths[0], rel=1e-3)
    for candle in candles:
        for rectangle in candle.findall("rect"):
            assert float(rectangle.attrib["height"]) > 0
            assert 0 <= float(rectangle.attrib["x"]) <= 1_200


@pytest.mark.parametrize(
    "fields",
    [
        dict.fromkeys(("open", "high", "low", "close"), 5.0),
        {"volume": Decimal(0)},
        dict.fromkeys(("open", "high", "low", "close"), 1e-18),
        dict.fromkeys(("open", "high", "low", "close"), 1e15),
    ],
)
def test_flat_empty_tiny_and_huge_bars_can_be_drawn(fields: dict[str, Any], tmp_path: Path) -> None:
    for suffix in ("png", "html"):
        write_chart(tmp_path / f"c.{suffix}", [bar(**fields)])


def test_bars_without_a_price_are_left_out_of_a_chart(tmp_path: Path) -> None:
    silent = bar(1, zero_volume_count=1, trade_count=0, **dict.fromkeys(("open", "high", "low", "close")))
    write_chart(tmp_path / "with.html", [bar(0), silent])
    write_chart(tmp_path / "without.html", [bar(0)])
    assert (tmp_path / "with.html").read_text() == (tmp_path / "without.html").read_text()
    with pytest.raises(ValueError, match="no bars to draw"):
        write_chart(tmp_path / "none.html", [silent])


def test_html_needs_nothing_else() -> None:
    page = html_page([bar(symbol="<B>&")])
    assert "<script" not in page
    assert "http" not in page
    assert "x &lt;B&gt;&amp;, bars of 60 s, 2021-04-17 16:43:00" in page


def test_png_is_a_picture(tmp_path: Path) -> None:
    write_chart(tmp_path / "c.png", [bar(n) for n in range(30)])
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("name", "bars", "message"),
    [
        ("c.gif", [bar()], r"charts are \.png or \.html, not \.gif"),
        ("c.png", [], "no bars to draw"),
        ("c.png", [bar(), bar(symbol="C-D")], "a chart shows one instrument, but these are 2"),
    ],
)
def test_chart_that_cannot_be_is_refused(name: str, bars: list[dict[str, Any]], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        write_chart(tmp_path / name, bars)


def test_command_prints_a_table_and_draws_a_chart(root: Path) -> None:
    chart = root / "c.html"
    result = CliRunner().invoke(
        app, ["bars", "--dir", str(root), "--symbol", "A-B", "--last", "2", "--chart", str(chart)]
    )
    assert result.exit_code == 0, result.output
    assert "x A-B, bars of 1m, 2021-04-17 (UTC)" in result.stdout
    rows = [line.split() for line in result.stdout.splitlines() if line.strip().startswith("16:")]
    assert rows == [
        ["16:46:00", "103", "105", "102", "104", "30", "-", "3", "3"],
        ["16:47:00", "104", "106", "103", "103", "30", "-", "3", "3"],
    ]
    assert f"chart: {chart}" in result.stdout.replace("\n", "")
    assert chart.read_text().startswith("<!doctype html>")


def test_command_shows_a_bar_without_a_price(tmp_path: Path) -> None:
    silent = bar(zero_volume_count=1, trade_count=0, **dict.fromkeys(("open", "high", "low", "close")))
    write(tmp_path, [silent])
    result = CliRunner().invoke(app, ["bars", "--dir", str(tmp_path)])
    assert result.exit_code == 0, result.output
    (row,) = (line.split() for line in result.stdout.splitlines() if line.strip().startswith("16:"))
    assert row == ["16:43:00", "-", "-", "-", "-", "10", "-", "0", "1"]


def test_command_prints_json(root: Path) -> None:
    result = CliRunner().invoke(app, ["bars", "--dir", str(root), "--interval", "1s", "--json"])
    row = json.loads(result.stdout)
    assert (row["window_start"], row["open"], row["interval_s"]) == ("2021-04-17T16:43:00+00:00", 100.0, 1)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--interval", "2m"], 2, "must be one of 1s, 10s, 1m, 5m, 1h"),
        (["--symbol", "E-F"], 1, "no bars of 1m for any venue E-F"),
        (["--chart", "c.png"], 1, "choose with --exchange and --symbol among x A-B, x C-D"),
        (["--symbol", "A-B", "--chart", "c.gif"], 1, "not .gif"),
    ],
)
def test_command_says_what_is_wrong(root: Path, arguments: list[str], code: int, message: str) -> None:
    result = CliRunner().invoke(app, ["bars", "--dir", str(root), *arguments])
    assert result.exit_code == code
    assert message in " ".join(result.output.replace("│", " ").split())
