"""The flow and nothing else: records of any source in, unique events, bars, stats, late events and rejects out."""

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
from transforms.roll_up import RollUp, ShardRecords, fixed, roll_up_bars, roll_up_stats
from transforms.sessions import FoldSessions
from transforms.slide import SLIDING, slide_bars
from transforms.split import SplitByCell


class MarketData(NamedTuple):
    """What the graph gives."""

    events: beam.PCollection[tuple[CellKey, EventBatch]]  # unique ones at once; later copies marked `copy`
    second_bars: beam.PCollection[ShardRecords]
    bars: beam.PCollection[ShardRecords]  # of the larger intervals
    second_stats: beam.PCollection[ShardRecords]
    stats: beam.PCollection[ShardRecords]  # of the larger intervals and of sliding windows
    sessions: list[beam.PCollection[ShardRecords]]  # stats too, each final; none unless they are asked for
    late: beam.PCollection[pa.RecordBatch]
    rejects: beam.PCollection[pa.RecordBatch]


def build(raw: beam.PCollection[RawBatch], config: MarketDataConfig) -> MarketData:
    """Records in; unique events, bars, stats and every late or refused record out (docs/specs/market_data.md)."""
    cell, times = config.cell, config.windows
    decoded = raw | "DecodeEvents" >> DecodeEvents(config.limits.max_value_bytes)  # .good DecodedBatch, .bad REJECT
    checked = decoded.good | "CheckEvents" >> CheckEvents(config.limits)  # .good EventBatch, .bad REJECT
    judged = checked.good | "JudgeLateness" >> JudgeLateness(cell.horizon_us)  # .on_time EventBatch, .late LATE
    pieces = judged.on_time | "SplitByCell" >> SplitByCell(cell.shards)  # (CellKey, EventBatch)
    folded = pieces | "FoldCells" >> FoldCells(cell)  # .events, .bars and .stats of 1 s, .late, .bad
    rolled = [folded.bars | f"RollUpBars{s}s" >> RollUp(roll_up_bars, fixed(s), times) for s in config.intervals_s]
    bars = rolled | "GatherBars" >> beam.Flatten() | "KeepNewer" >> KeepNewer("bars_published", times.lateness_us)
    sliding = folded.bars | "SlideBars" >> RollUp(slide_bars, SLIDING, times)  # (shard, STAT)
    counted = [folded.stats | f"RollUpStats{s}s" >> RollUp(roll_up_stats, fixed(s), times) for s in config.intervals_s]
    stats = (*counted, sliding) | "GatherStats" >> beam.Flatten()
    newer_stats = stats | "KeepNewerStats" >> KeepNewer("stats_published", times.lateness_us)
    sessions = [folded.bars | "FoldSessions" >> FoldSessions(session) for session in config.sessions]  # (shard, STAT)
    late = (judged.late, folded.late) | "GatherLate" >> beam.Flatten()
    rejects = (decoded.bad, checked.bad, folded.bad) | "GatherRejects" >> beam.Flatten()
    return MarketData(folded.events, folded.bars, bars, folded.stats, newer_stats, sessions, late, rejects)
