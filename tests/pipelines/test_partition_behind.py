"""A partition five minutes of log time behind the others, on the real stack: all bars wait for it, and nothing is lost.

What a partition holds back is a transaction that stays open: a producer that hangs.
"""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from confluent_kafka import Producer

from runners.live import LiveOptions, running
from runners.log import Log
from runners.publish import PublishBatch, publish_batches
from runners.simulate import Market, MarketConfig, SimulatedBatch
from runners.stack import Endpoints
from schemas.units import MS_PER_S, US_PER_MS, US_PER_S
from tests import live, proof
from tests.conftest import TopicFactory
from tests.simulated import Simulated
from transforms.topics import TopicNames

pytestmark = pytest.mark.slow

TIMEOUT_S = 180.0
PARTITIONS = 12
READABLE_S, BEHIND_S = 20, 300  # of log time in partition 0 before the transaction and in it
MARKET = MarketConfig(seed=41, instruments=120, rate=300, count=300 * (READABLE_S + BEHIND_S))
HOMES = {f"{exchange}|{symbol}".encode(): n % PARTITIONS for n, (exchange, symbol) in enumerate(MARKET.names())}


@dataclass(frozen=True)
class Part:
    """Records of one partition out of a batch."""

    batch: SimulatedBatch
    rows: npt.NDArray[np.intp]

    @property
    def log_time_ms(self) -> npt.NDArray[np.int64]:
        return self.batch.log_time_ms[self.rows]

    def to_publish(self) -> PublishBatch:
        keys, values = ([column[row] for row in self.rows.tolist()] for column in (self.batch.keys, self.batch.values))
        return PublishBatch(keys, values, self.log_time_ms)


class HangingProducer:
    """A producer of partition 0 whose transaction is open until `commit`."""

    def __init__(self, servers: str, topic: str, held: list[Part]) -> None:
        self._producer = Producer({"bootstrap.servers": servers, "transactional.id": topic, "linger.ms": 5})
        self._producer.init_transactions(30)
        self._producer.begin_transaction()
        for part in (part.to_publish() for part in held):
            for key, value, time_ms in zip(part.keys, part.values, part.log_time_ms, strict=True):
                self._producer.produce(topic, value, key, 0, timestamp=int(time_ms))
            self._producer.poll(0)
        assert self._producer.flush(60) == 0

    def commit(self) -> None:
        self._producer.commit_transaction(30)


def newest_bar_end_us(stack: Endpoints, options: LiveOptions) -> int:
    """The newest end of a window whose bar is out."""
    ends = [bar["window_end"] for interval_s in live.INTERVALS_S for bar in live.bars_out(stack, options, interval_s)]
    return round(max(end.timestamp() for end in ends) * US_PER_S)


def test_bars_wait_for_a_partition_that_is_five_minutes_behind_and_nothing_is_lost(
    stack: Endpoints, topic: TopicFactory, tmp_path: Path
) -> None:
    raw, servers = topic(prefix="raw"), stack.bootstrap_servers
    start_us = time.time_ns() // 1_000 - (READABLE_S + BEHIND_S) * US_PER_S
    border_ms = start_us // US_PER_MS + READABLE_S * MS_PER_S
    known, readable, held = Simulated(), {n: [] for n in range(PARTITIONS)}, []  # type: ignore[var-annotated]
    for batch in Market(MARKET, start_us).batches():
        known.add(batch)
        home = np.array([HOMES[key] for key in batch.keys])
        hangs = (home == 0) & (batch.log_time_ms >= border_ms)
        held.append(Part(batch, np.flatnonzero(hangs)))
        for partition, parts in readable.items():
            parts.append(Part(batch, np.flatnonzero((home == partition) & ~hangs)))
    for partition, parts in readable.items():
        publish_batches(servers, raw, [part.to_publish() for part in parts], partition=partition)
    hanging = HangingProducer(servers, raw, held)
    clock_us = max(int(part.log_time_ms.max(initial=0)) for part in readable[0]) * US_PER_MS
    behind_s = (known.newest_us // US_PER_MS - next(int(part.log_time_ms[0]) for part in held if len(part.rows))) / 1e3
    unique = known.truth.unique - sum(int(part.batch.unique[part.rows].sum()) for part in held)
    records = sum(len(part.rows) for part in held)

    options = live.options(stack, topic, raw, tmp_path / "live")
    uniques = Log(servers, TopicNames(options.outputs.topic_prefix).unique)
    with running(stack, options) as job:
        live.wait_until(lambda: sum(uniques.latest().values()) >= unique, TIMEOUT_S, "events are missing")
        far = f"partition 0 is far behind and all bars wait: {behind_s:,.0f} s of log time, {records:,} records"
        live.wait_until(lambda: far in live.findings(stack, options), 60, f"status does not say that {far}", 1.0)
        grace_us = options.config.cell.grace_us
        assert clock_us - 2 * US_PER_S < newest_bar_end_us(stack, options) + grace_us <= clock_us
        hanging.commit()
        live.end(servers, raw, known.newest_us + 12 * US_PER_S)  # a file waits for up to 10 s
        live.wait_settled(stack, options, known.truth.records, known.newest_us + 12 * US_PER_S, TIMEOUT_S)
        assert not any("behind" in said for said in live.findings(stack, options))
        job.stop(tmp_path / "savepoints")
    proof.assert_every_record_once(stack, raw, tmp_path / "live", known)
    proof.assert_replay_equals(stack, raw, tmp_path / "live", tmp_path / "replay")
    proof.assert_true_bars(tmp_path / "replay", known)
