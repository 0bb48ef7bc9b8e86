"""The graph on the FnApiRunner over real events: nothing lost, nothing twice, the same in any batching."""

import gzip
import hashlib
import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from pipelines.market_data import build
from pipelines.options import MarketDataConfig
from pipelines.outputs import Outputs, write
from runners import direct
from runners.compare import read_dataset
from schemas.market_data_pb2 import MarketDataEvent, Side
from transforms.batches import RawBatch
from transforms.datasets import BARS, EVENTS, LATE_EVENTS, REJECTS

CAPTURE = Path(__file__).resolve().parents[3] / "shared" / "data" / "exchange_capture.jsonl.gz"
E9 = Decimal("1e-9")


def captured() -> list[dict[str, Any]]:
    with gzip.open(CAPTURE, "rt") as lines:
        return [json.loads(line) for line in lines]


def encoded(row: dict[str, Any]) -> bytes:
    event = MarketDataEvent(
        exchange=row["exchange"],
        symbol=row["symbol"],
        price=float(row["price"]),
        volume=float(row["volume"]),
        timestamp=row["timestamp_us"],
        event_type=row["event_type"],
        received_at=row["received_us"],
    )
    if row.get("event_id") is not None:
        event.trade_id = str(row["event_id"])
    if row.get("side"):
        event.side = Side.Value(row["side"])
    if row.get("sequence") is not None:
        event.sequence = row["sequence"]
    return event.SerializeToString()


def cut(size: int) -> Iterator[RawBatch]:
    rows = captured()
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        count = len(part)
        log_us = np.array([row["received_us"] // 1_000 * 1_000 for row in part], np.int64)
        values = pa.array([encoded(row) for row in part], pa.binary())
        offsets = np.arange(start, start + count)
        keys = pa.array([None] * count, pa.binary())
        yield RawBatch("capture", values, keys, np.zeros(count, np.int64), offsets, log_us, {})


def run(root: Path, size: int) -> None:
    config = MarketDataConfig()
    with beam.Pipeline(options=PipelineOptions(direct.FLAGS)) as pipeline:
        raw = pipeline | beam.Create([size]) | beam.FlatMap(cut).with_output_types(RawBatch)
        write(build(raw, config), Outputs(files_root=str(root)), config.cell.grace_us)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not CAPTURE.exists():
        pytest.skip(f"no capture at {CAPTURE}")
    root = tmp_path_factory.mktemp("capture")
    run(root, 5_000)
    return root


def test_every_offset_is_found_exactly_once(out: Path) -> None:
    events, late, rejects = (read_dataset(out, dataset) for dataset in (EVENTS, LATE_EVENTS, REJECTS))
    found = [*events["offset"].to_pylist(), *late["offset"].to_pylist(), *rejects["offset"].to_pylist()]
    found += [copy["offset"] for copies in events["copies"].to_pylist() for copy in copies]
    assert sorted(found) == list(range(17_206))


def test_second_bars_equal_an_oracle_with_exact_decimals(out: Path) -> None:
    oracle: dict[tuple[str, str, int], list[tuple[Decimal, Decimal]]] = {}
    for row in captured():
        if row["event_type"] == "TRADE":
            price, volume = (Decimal(repr(float(row[name]))).quantize(E9) for name in ("price", "volume"))
            key = (row["exchange"], row["symbol"], row["timestamp_us"] // 1_000_000)
            oracle.setdefault(key, []).append((price, volume))
    bars = [bar for bar in read_dataset(out, BARS).to_pylist() if bar["interval_s"] == 1]
    assert sum(bar["trade_count"] for bar in bars) == 3_108
    assert len(bars) == len(oracle)
    for bar in bars:
        trades = oracle[bar["exchange"], bar["symbol"], int(bar["window_start"].timestamp())]
        prices = [price for price, _ in trades]
        expected = (max(prices), min(prices), sum(v for _, v in trades), sum(p * v for p, v in trades), len(trades))
        assert (bar["high"], bar["low"], bar["volume"], bar["notional"], bar["trade_count"]) == expected


def test_files_are_the_same_bytes_however_the_batches_are_cut(out: Path, tmp_path: Path) -> None:
    run(tmp_path, 777)

    def sums(root: Path) -> dict[str, str]:
        files = root.glob("**/*.parquet")
        return {str(file.relative_to(root)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}

    assert sums(tmp_path) == sums(out)
