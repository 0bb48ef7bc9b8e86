"""Nothing goes out twice, and nothing is overwritten by less: only bars of a higher version than the last pass."""

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
from transforms.metrics import count
from transforms.roll_up import ShardBars

WindowKey = tuple[int, int, int]  # (interval in s, window start in s since the epoch, shard)


def window_key(shard_bars: ShardBars) -> tuple[WindowKey, pa.RecordBatch]:
    """Bars, all of one window, keyed by it."""
    shard, bars = shard_bars
    start_s = bars.column("window_start")[0].value // US_PER_S
    return (bars.column("interval_s")[0].as_py(), start_s, shard), bars


def newer(bars: pa.RecordBatch, published: dict[str, int]) -> tuple[pa.RecordBatch | None, dict[str, int]]:
    """The bars whose version is higher than the published one of their instrument, and the versions now out."""
    names = pc.binary_join_element_wise(bars["exchange"], bars["symbol"], "\t").to_pylist()
    versions = bars["version"].to_pylist()
    grown = [row for row, name in enumerate(names) if versions[row] > published.get(name, 0)]
    if not grown:
        return None, published
    return bars.take(pa.array(grown)), published | {names[row]: versions[row] for row in grown}


class _KeepNewer(beam.DoFn):
    PUBLISHED = ReadModifyWriteStateSpec("published", BytesCoder())
    FORGET = TimerSpec("forget", TimeDomain.WATERMARK)

    def __init__(self, kept_us: int) -> None:
        self._kept_us = kept_us

    def process(
        self,
        element: tuple[WindowKey, pa.RecordBatch],
        published: ReadModifyWriteRuntimeState = beam.DoFn.StateParam(PUBLISHED),
        forget: RuntimeTimer = beam.DoFn.TimerParam(FORGET),
    ) -> Iterator[ShardBars]:
        (interval_s, start_s, shard), bars = element
        before = published.read()
        if before is None:
            forget.set(Timestamp(micros=(start_s + interval_s) * US_PER_S + self._kept_us))
        grown, after = newer(bars, json.loads(before) if before else {})
        if grown is not None:
            count("bars_published", grown.num_rows)
            published.write(json.dumps(after).encode())
            yield shard, grown

    @on_timer(FORGET)
    def forget(self, published: ReadModifyWriteRuntimeState = beam.DoFn.StateParam(PUBLISHED)) -> Iterator[ShardBars]:
        published.clear()
        return iter(())


class KeepNewer(beam.PTransform):
    """Pass a bar on only when its version is higher than the one that passed before.

    In:     (shard, BAR records of one window), in the global window.
    Out:    the same, without bars of equal or lower version.
    Units:  kept_us: how long after a window's end its versions are remembered, microseconds of the log's clock.
    Cost:   one number per instrument and open window.
    Source: docs/specs/market_data.md, rule 4.
    """

    def __init__(self, kept_us: int) -> None:
        super().__init__()
        self._kept_us = kept_us

    def expand(self, bars: beam.PCollection[ShardBars]) -> beam.PCollection[ShardBars]:
        return (
            bars
            | "KeyByWindow" >> beam.Map(window_key).with_output_types(tuple[tuple[int, int, int], pa.RecordBatch])
            | "Newer" >> beam.ParDo(_KeepNewer(self._kept_us)).with_output_types(tuple[int, pa.RecordBatch])
        )
