"""Nothing goes out twice, and nothing is overwritten by less: only records of a higher version than the last pass."""

import json
from collections.abc import Iterator

import apache_beam as beam
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.coders import BytesCoder
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import (
    ReadModifyWriteRuntimeState,
    ReadModifyWriteStateSpec,
    RuntimeTimer,
    TimerSpec,
    on_timer,
)
from apache_beam.utils.timestamp import Timestamp

from schemas.units import US_PER_S
from transforms.metrics import Name, count
from transforms.roll_up import ShardRecords

WindowKey = tuple[int, int, int]  # (interval in s, window start in s since the epoch, shard)


def window_key(element: ShardRecords) -> tuple[WindowKey, pa.RecordBatch]:
    """Records, all of one window, keyed by it."""
    shard, records = element
    start_s = records.column("window_start")[0].value // US_PER_S
    return (records.column("interval_s")[0].as_py(), start_s, shard), records


def newer(records: pa.RecordBatch, published: dict[str, int]) -> tuple[pa.RecordBatch | None, dict[str, int]]:
    """Those of a higher version than is out of their kind and instrument, and the versions that are out now."""
    parts = [records[name] for name in ("kind", "exchange", "symbol") if name in records.schema.names]
    names = pc.binary_join_element_wise(*parts, "\t").to_pylist()
    versions = records["version"].to_pylist()
    grown = [row for row, name in enumerate(names) if versions[row] > published.get(name, 0)]
    if not grown:
        return None, published
    return records.take(pa.array(grown)), published | {names[row]: versions[row] for row in grown}


class _KeepNewer(beam.DoFn):
    PUBLISHED = ReadModifyWriteStateSpec("published", BytesCoder())
    FORGET = TimerSpec("forget", TimeDomain.WATERMARK)

    def __init__(self, counter: Name, kept_us: int) -> None:
        self._counter: Name = counter
        self._kept_us = kept_us

    def process(
        self,
        element: tuple[WindowKey, pa.RecordBatch],
        published: ReadModifyWriteRuntimeState = beam.DoFn.StateParam(PUBLISHED),
        forget: RuntimeTimer = beam.DoFn.TimerParam(FORGET),
    ) -> Iterator[ShardRecords]:
        (interval_s, start_s, shard), records = element
        before = published.read()
        if before is None:
            forget.set(Timestamp(micros=(start_s + interval_s) * US_PER_S + self._kept_us))
        grown, after = newer(records, json.loads(before) if before else {})
        if grown is not None:
            count(self._counter, grown.num_rows)
            published.write(json.dumps(after).encode())
            yield shard, grown

    @on_timer(FORGET)
    def forget(
        self, published: ReadModifyWriteRuntimeState = beam.DoFn.StateParam(PUBLISHED)
    ) -> Iterator[ShardRecords]:
        published.clear()
        return iter(())


class KeepNewer(beam.PTransform):
    """Pass a bar or stat on only when its version is higher than the one that passed before.

    In:     (shard, BAR or STAT records of one window), in the global window.
    Out:    the same, without those of equal or lower version.
    Units:  counter: of what passes; kept_us: how long after a window's end its versions are remembered, microseconds of
            the log's clock.
    Cost:   one number per instrument and open window.
    Source: docs/specs/market_data.md, rule 4.
    """

    def __init__(self, counter: Name, kept_us: int) -> None:
        super().__init__()
        self._counter: Name = counter
        self._kept_us = kept_us

    def expand(self, records: beam.PCollection[ShardRecords]) -> beam.PCollection[ShardRecords]:
        keep = _KeepNewer(self._counter, self._kept_us)
        return (
            records
            | "KeyByWindow" >> beam.Map(window_key).with_output_types(tuple[tuple[int, int, int], pa.RecordBatch])
            | "Newer" >> beam.ParDo(keep).with_output_types(tuple[int, pa.RecordBatch])
        )
