"""What every measurement shares: the conditions it ran under, and simulated events on a topic of its own."""

import gc
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from runners.publish import PublishBatch, publish_batches
from runners.simulate import Market, MarketConfig
from runners.stack import Endpoints, LocalStack, endpoints
from runners.topic_specs import TopicSpec
from runners.topics import apply_topics, output_specs


def conditions() -> str:
    """One line: what the figures depend on."""
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    load = os.getloadavg()[0]
    return (
        f"{os.cpu_count()} cores, {memory_gib:.0f} GiB, Python {platform.python_version()}; broker, Flink, workers and "
        f"load generator on this one machine; load average before the run {load:.1f}"
    )


def make_topics(bootstrap_servers: str, raw: str, prefix: str) -> None:
    """The input topic `raw` (12 partitions, unlimited retention) and the output topics below `prefix`.

    The records of the output topics have the broker's time of the append.
    """
    dated = {"message.timestamp.type": "LogAppendTime"}
    outputs = [replace(spec, config={**spec.config, **dated}) for spec in output_specs(prefix)]
    apply_topics(bootstrap_servers, [TopicSpec(raw, 12, 1, {"retention.ms": "-1"}), *outputs])


def market(events: int, rate: float, start_us: int) -> Market:
    """The market of all figures: `events` records, bursts and duplicates included, `rate` a second of event time."""
    return Market(MarketConfig(rate=rate, count=events), start_us)


def preload(bootstrap_servers: str, topic: str, source: Market) -> float:
    """Put the whole market on the topic as fast as it goes; the seconds it took."""
    began = time.perf_counter()
    publish_batches(bootstrap_servers, topic, (batch.to_publish() for batch in source.batches()))
    return time.perf_counter() - began


def in_real_time(source: Market) -> Iterator[PublishBatch]:
    """The market, for `publish_batches`: each record is due at its log time by this machine's clock.

    It is made whole now: making it takes as long as sending it.
    """
    batches = list(source.batches())
    gc.freeze()  # else the collector walks all of it again and again

    def paced() -> Iterator[PublishBatch]:
        began_us = time.time_ns() // 1_000  # publish_batches counts from when the first is asked for
        for batch in batches:
            yield batch.to_publish(paced_from_us=began_us)

    return paced()


@contextmanager
def stack_at(state_dir: Path | None) -> Iterator[Endpoints]:
    """The stack that runs in `state_dir`, or one of its own that goes with the measurement."""
    if state_dir is not None:
        yield endpoints(state_dir)
        return
    with TemporaryDirectory(prefix="horizon-bench-") as own, LocalStack(Path(own)) as places:
        yield places
