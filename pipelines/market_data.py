"""The flow and nothing else: records of any source in, unique events, bars, stats, late events and rejects out."""

from typing import Final, NamedTuple

import apache_beam as beam
import pyarrow as pa

from pipelines.options import MarketDataConfig
from transforms.batches import EventBatch, RawBatch
from transforms.cell import FoldCells
from transforms.cell_config import CellKey
from transforms.check import CheckEvents
from transforms.decode import DecodeEvents
from transforms.late import JudgeLateness
from transforms.split import SplitByCell
from transforms.windows import FoldWindows, ShardRecords

STATE_LAYOUT: Final = 7
"""Of what the steps keep in Flink; raised with every change to labels, states or their bytes. 1: up to version 0.1."""


class MarketData(NamedTuple):
    """What the graph gives."""

    events: beam.PCollection[tuple[CellKey, EventBatch]]  # unique ones, at once; their files are the cells' own
    bars: beam.PCollection[ShardRecords]  # of 1 s and of the larger intervals
    stats: beam.PCollection[ShardRecords]  # likewise, and of sliding windows and sessions
    late: beam.PCollection[pa.RecordBatch]
    rejects: beam.PCollection[pa.RecordBatch]


def build(raw: beam.PCollection[RawBatch], config: MarketDataConfig, files_root: str | None = None) -> MarketData:
    """Records in; unique events, bars, stats and every late or refused record out (docs/specs/market_data.md).

    files_root: where the steps that make events, bars and stats write their files; None: nowhere.
    """
    cell = config.cell
    decode = DecodeEvents(config.limits.max_value_bytes, config.id_headers)
    decoded = raw | "DecodeEvents" >> decode  # .good DecodedBatch, .bad REJECT
    checked = decoded.good | "CheckEvents" >> CheckEvents(config.limits)  # .good EventBatch, .bad REJECT
    judged = checked.good | "JudgeLateness" >> JudgeLateness(cell.horizon_us)  # .on_time EventBatch, .late LATE
    pieces = judged.on_time | "SplitByCell" >> SplitByCell(cell.shards)  # (CellKey, EventBatch)
    folded = pieces | "FoldCells" >> FoldCells(cell, files_root)  # .events, .bars and .stats, .late, .bad
    parts = (folded.bars, folded.stats) | "GatherParts" >> beam.Flatten()
    windows = parts | "FoldWindows" >> FoldWindows(config.kinds, config.windows, files_root)  # .bars, .stats: larger
    bars = (folded.bars, windows.bars) | "GatherBars" >> beam.Flatten()
    stats = (folded.stats, windows.stats) | "GatherStats" >> beam.Flatten()
    late = (judged.late, folded.late) | "GatherLate" >> beam.Flatten()
    rejects = (decoded.bad, checked.bad, folded.bad) | "GatherRejects" >> beam.Flatten()
    return MarketData(folded.events, bars, stats, late, rejects)
