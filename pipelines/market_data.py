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
from transforms.roll_up import is_stat
from transforms.sessions import FoldSessions
from transforms.slide import SLIDING, slide_bars
from transforms.split import SplitByCell
from transforms.windows import FoldWindows, RollUp, ShardRecords


class MarketData(NamedTuple):
    """What the graph gives."""

    events: beam.PCollection[tuple[CellKey, EventBatch]]  # unique ones, at once; their files are the cells' own
    bars: beam.PCollection[ShardRecords]  # of 1 s and of the larger intervals
    stats: beam.PCollection[ShardRecords]  # likewise, and of sliding windows and sessions
    late: beam.PCollection[pa.RecordBatch]
    rejects: beam.PCollection[pa.RecordBatch]


def build(raw: beam.PCollection[RawBatch], config: MarketDataConfig, files_root: str | None = None) -> MarketData:
    """Records in; unique events, bars, stats and every late or refused record out (docs/specs/market_data.md)."""
    cell, times = config.cell, config.windows
    decoded = raw | "DecodeEvents" >> DecodeEvents(config.limits.max_value_bytes)  # .good DecodedBatch, .bad REJECT
    checked = decoded.good | "CheckEvents" >> CheckEvents(config.limits)  # .good EventBatch, .bad REJECT
    judged = checked.good | "JudgeLateness" >> JudgeLateness(cell.horizon_us)  # .on_time EventBatch, .late LATE
    pieces = judged.on_time | "SplitByCell" >> SplitByCell(cell.shards)  # (CellKey, EventBatch)
    folded = pieces | "FoldCells" >> FoldCells(cell, files_root)  # .events, .bars and .stats of 1 s, .late, .bad
    folded = folded._replace(  # HACK until windows
        bars=folded.bars | "H1" >> beam.Filter(lambda e: e[1].column("interval_s")[0].as_py() == 1),
        stats=folded.stats | "H2" >> beam.Filter(lambda e: e[1].column("interval_s")[0].as_py() == 1),
    )
    seconds = (folded.bars, folded.stats) | "GatherSeconds" >> beam.Flatten()
    windows = seconds | "RollUp" >> RollUp(config.intervals_s, times)  # (shard, BAR or STAT), those of 1 s too
    sliding = folded.bars | "Slide" >> FoldWindows("slide", slide_bars, SLIDING, times)  # (shard, STAT)
    sessions = [folded.bars | "FoldSessions" >> FoldSessions(session) for session in config.sessions]  # (shard, STAT)
    records = (windows, sliding, *sessions) | "GatherWindows" >> beam.Flatten()
    bars, stats = records | "ByRecord" >> beam.Partition(lambda element, _: int(is_stat(element[1])), 2)
    late = (judged.late, folded.late) | "GatherLate" >> beam.Flatten()
    rejects = (decoded.bad, checked.bad, folded.bad) | "GatherRejects" >> beam.Flatten()
    return MarketData(folded.events, bars, stats, late, rejects)
