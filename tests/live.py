"""Live runs on the real stack: logs that end, outputs of one's own, and what a run wrote held against its log."""

import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition

from pipelines.options import MarketDataConfig
from pipelines.outputs import Outputs
from runners.compare import read_dataset
from runners.flink_rest import job_of, watermark_ms
from runners.job_numbers import Asked, job_numbers
from runners.live import LiveOptions
from runners.log import Log
from runners.publish import PublishBatch, publish_batches
from runners.simulate import Market, MarketConfig, Truth
from runners.stack import Endpoints
from runners.status import diagnose
from schemas import avro
from schemas.newest import newest
from schemas.units import US_PER_MS
from tests.conftest import TopicFactory
from tests.simulated import Simulated, identity_texts, sorted_texts
from tests.testing import Written
from transforms.brokers import Brokers, client_settings
from transforms.datasets import BARS, EVENTS, LATE_EVENTS, REJECTS, STATS
from transforms.decode import BEACON_HEADER
from transforms.event_messages import version_of
from transforms.headers import headers_of
from transforms.topics import TopicNames

HOUR_US = 3_600_000_000
INTERVALS_S = (1, *MarketDataConfig().intervals_s)

Places = npt.NDArray[np.int64]  # sorted; partition and offset in one number


def wait_until(holds: Callable[[], bool], timeout_s: float, what: str, poll_s: float = 0.2) -> float:
    """Ask until it holds; the seconds that took."""
    began = time.monotonic()
    while not holds():
        if time.monotonic() - began > timeout_s:
            raise AssertionError(f"after {timeout_s:.0f} s: {what}")
        time.sleep(poll_s)
    return time.monotonic() - began


def places(partition: npt.ArrayLike, offset: npt.ArrayLike) -> Places:
    return np.sort(np.asarray(partition, np.int64) << 40 | np.asarray(offset, np.int64))


# ---- logs ------------------------------------------------------------------------------------------------------


def publish_market(
    servers: Brokers,
    topic: str,
    config: MarketConfig,
    start_us: int,
    *,
    paced: bool = False,
    partition: int | None = None,
    keyed: bool = True,
    known: Simulated | None = None,
) -> Simulated:
    """Publish a simulated market, as fast as the log times go or at once; into one partition if that is named.

    What is known of it is added to `known` where that is given.
    """
    known = known or Simulated()

    def batches() -> Iterator[PublishBatch]:
        for batch in Market(config, start_us).batches():
            known.add(batch)
            ready = batch.to_publish(start_us if paced else None)
            yield ready if keyed else replace(ready, keys=[None] * len(ready))

    publish_batches(servers, topic, batches(), partition=partition)
    return known


def publish_ended(servers: Brokers, topic: str, config: MarketConfig, *, keyed: bool = True) -> Simulated:
    """A simulated market of the past, whole, and the beacons that end it: every run over it closes every window."""
    known = publish_market(servers, topic, config, time.time_ns() // 1_000 - 3 * HOUR_US, keyed=keyed)
    end(servers, topic, known.newest_us + 2 * HOUR_US)
    return known


def records(servers: Brokers, topic: str) -> list[Message]:
    """All that lies on a topic now."""
    settings = {**client_settings(servers), "group.id": "tests", "enable.auto.commit": False}
    consumer = Consumer(settings | {"enable.partition.eof": True})
    left, found = set(Log(servers, topic).partitions()), list[Message]()
    try:
        consumer.assign([TopicPartition(topic, partition, 0) for partition in left])
        heard = time.monotonic()
        while left:
            for message in consumer.consume(50_000, timeout=0.2):  # waits for that many, or for so long
                heard = time.monotonic()
                if (error := message.error()) is None:
                    found.append(message)
                else:
                    assert error.code() == KafkaError._PARTITION_EOF, error
                    left.discard(message.partition())
            assert time.monotonic() - heard < 30, f"{topic} does not come to its end in partitions {left}"
    finally:
        consumer.close()
    return found


def is_beacon(message: Message) -> bool:
    return message.value() is None and any(key == BEACON_HEADER for key, _ in headers_of(message))


def places_in_log(servers: Brokers, topic: str) -> Places:
    """The place of every record on the topic but beacons."""
    found = [(m.partition(), m.offset()) for m in records(servers, topic) if not is_beacon(m)]
    return places(*zip(*found, strict=True))


def end(servers: Brokers, topic: str, log_time_us: int) -> None:
    """A beacon in every partition: the log's clock stands at that time when all of them are read."""
    refused: list[KafkaError] = []
    producer = Producer(
        {
            **client_settings(servers),
            "acks": "all",
            "on_delivery": lambda error, _: refused.append(error) if error else None,
        }
    )
    for partition in Log(servers, topic).partitions():
        producer.produce(topic, None, None, partition, timestamp=log_time_us // 1_000, headers=[(BEACON_HEADER, b"1")])
    assert producer.flush(30) == 0
    assert refused == []


# ---- runs ---------------------------------------------------------------------------------------------------


def options(stack: Endpoints, topic: TopicFactory, raw: str, root: Path) -> LiveOptions:
    """A live job over `raw` with files below `root`, and a group and output topics of its own."""
    outputs = Outputs(files_root=str(root), bootstrap_servers=stack.bootstrap_servers, topic_prefix=topic.outputs())
    return LiveOptions(topic=raw, group=outputs.topic_prefix, outputs=outputs)


def asked(stack: Endpoints, of: LiveOptions) -> Asked:
    """The question that `horizon status` asks of that job."""
    group, topic, prefix = of.group, of.topic, of.outputs.topic_prefix
    servers, rest = stack.bootstrap_servers, stack.flink_rest
    return Asked(
        bootstrap_servers=servers,
        flink_rest=rest,
        group=group,
        topic=topic,
        prefix=prefix,
        state_dir=stack.state_dir,
    )


def findings(stack: Endpoints, of: LiveOptions) -> list[str]:
    """What `horizon status` finds wrong with that job."""
    return [finding.said for finding in diagnose(job_numbers(asked(stack, of)))]


def bars_out(stack: Endpoints, of: LiveOptions, interval_s: int) -> list[dict[str, Any]]:
    """The bars of an interval that lie on their topic, all versions; `at` is when each was produced."""
    found = records(stack.bootstrap_servers, TopicNames(of.outputs.topic_prefix).bars(interval_s))
    return [{"at": message.timestamp()[1] / 1e3, **avro.decode(message.value())[1]} for message in found]


def events_out(servers: str, prefix: str) -> dict[bytes, bytes]:
    """The unique events on their topic by key, of each the highest version."""
    rows = [
        {"key": message.key(), "version": version_of(message.headers()), "value": message.value()}
        for message in records(servers, TopicNames(prefix).unique)
    ]
    return {key: row["value"] for (key,), row in newest(rows, ["key"]).items()}


def sums(root: Path) -> dict[str, str]:
    """sha256 of every file by its path below the root."""
    return {name: hashlib.sha256(data).hexdigest() for name, data in Written(root).files().items()}


REVISED_S = 25.0  # cells, windows and files revise in steps of 10 s of the log's clock


def wait_settled(stack: Endpoints, options: LiveOptions, records: int, log_time_us: int, timeout_s: float) -> None:
    """Until the files account for every record and the clock of each step has come to that log time.

    What is due by then is in the files when the job is stopped: a step's clock waits for what the step still writes.
    """
    root = Path(options.outputs.files_root or "")
    wait_until(lambda: len(places_in_files(root)) >= records, timeout_s, "records are missing", 1.0)

    def passed() -> bool:
        job = job_of(stack.flink_rest, options.group)
        assert job is not None
        clock_ms = watermark_ms(stack.flink_rest, job)
        return clock_ms is not None and clock_ms >= log_time_us // US_PER_MS - 1

    wait_until(passed, timeout_s, f"the job's clock does not come to {log_time_us} us", 1.0)
    time.sleep(REVISED_S)  # the last revisions go through cells, windows and files in steps of 10 s


def places_in_files(root: Path) -> Places:
    """The place of every record in unique, copies, late and rejects; twice what is found twice."""
    tables = {dataset.name: read_dataset(root, dataset) for dataset in (EVENTS, LATE_EVENTS, REJECTS)}
    copies = pc.list_flatten(tables["events"]["copies"]).combine_chunks()
    columns = [(table["partition"].to_numpy(), table["offset"].to_numpy()) for table in tables.values()]
    columns.append((copies.field("partition").to_numpy(), copies.field("offset").to_numpy()))
    partition, offset = (np.concatenate(parts) for parts in zip(*columns, strict=True))
    return places(partition, offset)


def identities_in_files(root: Path) -> pa.Array:
    """Sorted texts of the unique events in the files."""
    return sorted_texts([identity_texts(read_dataset(root, EVENTS)).combine_chunks()])


def partitions_of_instruments(root: Path) -> dict[tuple[str, str], int]:
    """In how many partitions each instrument's unique events lie."""
    events = read_dataset(root, EVENTS).group_by(["exchange", "symbol"]).aggregate([("partition", "count_distinct")])
    names = zip(events["exchange"].to_pylist(), events["symbol"].to_pylist(), strict=True)
    return dict(zip(names, events["partition_count_distinct"].to_pylist(), strict=True))


def trades_in_bars(root: Path) -> dict[int, int]:
    """Trades in the bars of each interval."""
    bars = read_dataset(root, BARS)
    sums_ = bars.group_by("interval_s").aggregate([("trade_count", "sum")])
    return dict(zip(sums_["interval_s"].to_pylist(), sums_["trade_count_sum"].to_pylist(), strict=True))


def events_in_stats(root: Path) -> dict[tuple[str, int], int]:
    """Events in the stats of each kind and interval, levels' deletions among them."""
    counted = [("event_count", "sum"), ("level_delete_count", "sum")]
    stats = read_dataset(root, STATS).group_by(["kind", "interval_s"]).aggregate(counted)
    return {
        (row["kind"], row["interval_s"]): row["event_count_sum"] + (row["level_delete_count_sum"] or 0)
        for row in stats.to_pylist()
    }


def is_complete(root: Path, truth: Truth) -> bool:
    """Whether the files hold every record of an ended log and all its bars and stats."""
    events = (root / EVENTS.name).glob("**/[!.]*.parquet")
    if sum(pq.read_metadata(file).num_rows for file in events) < truth.unique:  # cheap, for the job needs the cores
        return False
    whole = len(places_in_files(root)) >= truth.records
    if not whole or trades_in_bars(root) != dict.fromkeys(INTERVALS_S, truth.trades):
        return False
    counts = events_in_stats(root)
    others = [counts.get(("ticker", interval_s), 0) + counts.get(("book", interval_s), 0) for interval_s in INTERVALS_S]
    return others == [truth.unique - truth.trades] * len(others) and counts.get(("sliding", 60)) == 6 * truth.trades
