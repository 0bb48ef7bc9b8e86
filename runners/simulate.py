"""A seeded market: events as a producer would put them on Kafka, with the faults of real life built in and counted.

The same configuration and start give the same bytes. Event times follow the configured rate; an event's log time is
its event time and a small lag; the log's order is that of arrival, which is only nearly that of the log times.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from ptars import HandlerPool

from runners.publish import PublishBatch
from runners.simulate_faults import DUPLICATE, RECORDER_B, TWIN, FaultConfig
from runners.simulate_flow import ROW, Flow, MarketConfig
from schemas.event import SIDES
from schemas.market_data_pb2 import EventType, MarketDataEvent
from schemas.units import US_PER_MS, US_PER_S
from transforms.faults import Limits

__all__ = ["FaultConfig", "Market", "MarketConfig", "SimulatedBatch", "Truth"]

SOURCE: Final = "sim"
SECOND_SOURCE: Final = "sim-b"  # the other recorder's name


@dataclass(frozen=True)
class Truth:
    """What a pipeline must find, in log records: records = unique + duplicates + late + future."""

    records: int = 0
    unique: int = 0  # neither a copy nor late; content twins are among them
    duplicates: int = 0  # copies of an event that is not late
    late: int = 0  # log lag above the horizon, copies included
    twins: int = 0  # unique events that equal another in all but the trade id
    trades: int = 0  # unique events of type TRADE
    future: int = 0  # rejects: dated too far ahead of their log time, copies included

    def __add__(self, other: "Truth") -> "Truth":
        return Truth(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))


@dataclass(frozen=True)
class SimulatedBatch:
    """Records in the log's order, ready for Kafka, and what is known about each."""

    keys: list[bytes]  # exchange|symbol
    values: list[bytes]  # MarketDataEvent
    log_time_ms: npt.NDArray[np.int64]
    columns: pa.RecordBatch  # what the values hold, by the names of MarketDataEvent
    serial: npt.NDArray[np.int64]  # the event's number; a copy has its original's
    duplicate: npt.NDArray[np.bool_]
    twin: npt.NDArray[np.bool_]
    late: npt.NDArray[np.bool_]
    future: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.values)

    @property
    def unique(self) -> npt.NDArray[np.bool_]:
        """Whether a record is the first of an event that must come out."""
        return ~self.duplicate & ~self.late & ~self.future

    @property
    def truth(self) -> Truth:
        """The counts of this batch."""
        unique = self.unique
        trades = self.columns["event_type"].to_numpy() == EventType.TRADE
        copies = self.duplicate & ~self.late & ~self.future
        counts = (unique, copies, self.late, unique & self.twin, unique & trades, self.future)
        return Truth(len(self), *(int(np.count_nonzero(rows)) for rows in counts))

    def to_publish(self, paced_from_us: int | None = None) -> PublishBatch:
        """Ready for `publish_batches`: at once, or each record at its log time as told from `paced_from_us` on."""
        due_s = None if paced_from_us is None else (self.log_time_ms * US_PER_MS - paced_from_us) / US_PER_S
        return PublishBatch(self.keys, self.values, self.log_time_ms, due_s=due_s)

    def json_lines(self) -> Iterator[str]:
        """The records as lines of a capture file that `horizon publish` reads; `log_time_us` keeps the log time."""
        for row, log_time_ms in zip(self.columns.to_pylist(), self.log_time_ms.tolist(), strict=True):
            kind = EventType.Name(row["event_type"])
            line: dict[str, Any] = {
                "exchange": row["exchange"],
                "symbol": row["symbol"],
                "event_type": kind,
                "price": row["price"],
                "volume": row["volume"],
                "timestamp_us": row["timestamp"],
                "received_us": row["received_at"],
                "event_id": row["trade_id"] if kind == "TRADE" else row["event_id"],
                "side": SIDES[row["side"]],
                "sequence": row["sequence"],
                "source": row["source"],
                "log_time_us": log_time_ms * US_PER_MS,
            }
            yield json.dumps({name: value for name, value in line.items() if value is not None})


class Market:
    """An endless or bounded market from `start_us` (event time, microseconds since the Unix epoch) on."""

    def __init__(self, config: MarketConfig, start_us: int) -> None:
        self.config = config
        self.start_us = start_us
        instruments = config.names()
        keys = [f"{exchange}|{symbol}".encode() for exchange, symbol in instruments]
        self._keys = [*keys, *(key + b"|b" for key in keys)]  # the second recorder's lie in partitions of their own
        self._exchanges = pa.array([exchange for exchange, _ in instruments])
        self._symbols = pa.array([symbol for _, symbol in instruments])
        self._protobuf = HandlerPool([MarketDataEvent.DESCRIPTOR.file]).get_for_message(MarketDataEvent.DESCRIPTOR)

    def batches(self) -> Iterator[SimulatedBatch]:
        """Batches of some 4,000 records in the log's order; each call starts the same market anew."""
        left = self.config.count
        for rows in _in_arrival_order(Flow(self.config)):
            rows = rows if left is None else rows[:left]
            if len(rows):
                yield self._batch(rows)
            if left is not None:
                left -= len(rows)
                if left <= 0:
                    return

    def _batch(self, rows: npt.NDArray[Any]) -> SimulatedBatch:
        columns = self._columns(rows)
        log_us = rows["log_us"] + self.start_us
        log_time_ms = log_us // US_PER_MS
        lag_us = log_time_ms * US_PER_MS - columns["timestamp"].to_numpy()
        second = (rows["flags"] & RECORDER_B) > 0
        return SimulatedBatch(
            keys=[self._keys[n] for n in (rows["instrument"] + second * self.config.instruments).tolist()],
            values=self._protobuf.record_batch_to_array(columns).to_pylist(),
            log_time_ms=log_time_ms,
            columns=columns,
            serial=rows["serial"].copy(),
            duplicate=(rows["flags"] & DUPLICATE) > 0,
            twin=(rows["flags"] & TWIN) > 0,
            late=lag_us > self.config.horizon_s * US_PER_S,
            future=lag_us < -Limits().max_ahead_us,
        )

    def _columns(self, rows: npt.NDArray[Any]) -> pa.RecordBatch:
        instrument = pa.array(rows["instrument"].astype(np.int32))
        trade = rows["kind"] == EventType.TRADE
        serial = pa.array(np.char.add("s", rows["serial"].astype("U")), mask=trade)
        second = pa.array((rows["flags"] & RECORDER_B) > 0)
        return pa.record_batch(
            {
                "exchange": self._exchanges.take(instrument),
                "symbol": self._symbols.take(instrument),
                "price": pa.array(rows["price"].copy()),
                "volume": pa.array(rows["volume"].copy()),
                "timestamp": pa.array(rows["event_us"] + self.start_us),
                "event_type": pa.array(rows["kind"].astype(np.int32)),
                "trade_id": pa.array(rows["trade"].copy(), mask=~trade).cast(pa.utf8()),
                "side": pa.array(rows["side"].astype(np.int32)),
                "sequence": pa.array(rows["sequence"].copy()),
                "received_at": pa.array(rows["received_us"] + self.start_us),
                "event_id": serial,  # where there is no trade id, so that copies can be told
                "source": pc.if_else(second, SECOND_SOURCE, SOURCE),
            }
        )


def _in_arrival_order(flow: Flow) -> Iterator[npt.NDArray[Any]]:
    """The flow's rows sorted by arrival: what may still be overtaken waits for the next block."""
    waiting = np.empty(0, ROW)
    while True:
        waiting = np.concatenate([waiting, flow.block()])
        waiting = waiting[np.lexsort((waiting["serial"], waiting["arrival_us"]))]
        done = int(np.searchsorted(waiting["arrival_us"], flow.clock_us))
        yield waiting[:done]
        waiting = waiting[done:]
