"""The flow and nothing else: records of any source in, unique events, bars, late events and rejects out."""

from typing import NamedTuple

import apache_beam as beam
import pyarrow as pa

from pipelines.options import MarketDataConfig
from transforms.batches import EventBatch, RawBatch
from transforms.cell import CellKey, FoldCells
from transforms.check import CheckEvents
from transforms.decode import DecodeEvents
from transforms.late import JudgeLateness
from transforms.newer import KeepNewer
from transforms.roll_up import RollUpBars, ShardBars
from transforms.split import SplitByCell


class MarketData(NamedTuple):
    """What the graph gives."""

    events: beam.PCollection[tuple[CellKey, EventBatch]]  # unique ones at once; later copies marked `copy`
    second_bars: beam.PCollection[ShardBars]
    bars: beam.PCollection[ShardBars]  # of the larger intervals
    late: beam.PCollection[pa.RecordBatch]
    rejects: beam.PCollection[pa.RecordBatch]


def build(raw: beam.PCollection[RawBatch], config: MarketDataConfig) -> MarketData:
    """Records in; unique events, bars and every late or refused record out (docs/specs/market_data.md)."""
    cell = config.cell
    decoded = raw | "DecodeEvents" >> DecodeEvents(config.limits.max_value_bytes)  # .good DecodedBatch, .bad REJECT
    checked = decoded.good | "CheckEvents" >> CheckEvents(config.limits)  # .good EventBatch, .bad REJECT
    judged = checked.good | "JudgeLateness" >> JudgeLateness(cell.horizon_us)  # .on_time EventBatch, .late LATE
    pieces = judged.on_time | "SplitByCell" >> SplitByCell(cell.shards)  # (CellKey, EventBatch)
    folded = pieces | "FoldCells" >> FoldCells(cell)  # .events, .bars BAR of 1 s, .late, .bad
    rolled = [
        folded.bars | f"RollUpBars{interval_s}s" >> RollUpBars(interval_s, cell.grace_us, config.lateness_us)
        for interval_s in config.intervals_s
    ]  # (shard, BAR) each
    bars = rolled | "GatherBars" >> beam.Flatten() | "KeepNewer" >> KeepNewer(config.lateness_us)
    late = (judged.late, folded.late) | "GatherLate" >> beam.Flatten()
    rejects = (decoded.bad, checked.bad, folded.bad) | "GatherRejects" >> beam.Flatten()
    return MarketData(folded.events, folded.bars, bars, late, rejects)
