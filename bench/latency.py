"""Latency of the live job: produce -> unique event on its topic, and window end + grace -> 1 s bar on its topic.

    python -m bench.latency --rate 20000 --bundle-ms 5

A process of its own publishes in real time and notes when its client had taken each record; this one notes when the
record can be read from the input topic (the broker alone, for comparison) and when the event can be read from the
output topic. Both look at the same clock.
"""

import argparse
import multiprocessing
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from confluent_kafka import Consumer, TopicPartition

from bench.load import conditions, make_topics, market, stack_at
from pipelines.outputs import Outputs
from runners.beacons import Beacons
from runners.live import LiveOptions, running
from runners.log import Log
from runners.publish import Published, publish_batches
from schemas import avro
from transforms.decode import BEACON_HEADER


@dataclass(frozen=True)
class Load:
    """What is published: the same market in every process that asks."""

    bootstrap_servers: str
    topic: str
    events: int
    rate: float
    start_us: int
    notes: Path  # nanoseconds since the epoch, one a record in the order of publishing


def publish(load: Load) -> None:
    """Publish in real time and note when each record was taken."""
    taken = np.memmap(load.notes, np.int64, "r+", shape=(load.events,))
    done = 0

    def note(progress: Published) -> None:
        nonlocal done
        taken[done : progress.records] = time.time_ns()
        done = progress.records

    source = market(load.events, load.rate, load.start_us)
    batches = (batch.to_publish(paced_from_us=load.start_us) for batch in source.batches())
    wait_s = load.start_us / 1e6 - time.time()
    time.sleep(max(wait_s, 0))
    publish_batches(load.bootstrap_servers, load.topic, batches, on_progress=note)


@dataclass
class Arrivals:
    """When values were first readable, nanoseconds since the epoch."""

    raw: dict[bytes, int] = field(default_factory=dict)
    unique: dict[bytes, int] = field(default_factory=dict)
    bars: dict[bytes, tuple[int, int]] = field(default_factory=dict)  # key -> (window end in us, arrival)


def listen(load: Load, prefix: str, until_s: float) -> Arrivals:
    """Read the input topic and both output topics until then (seconds of the monotonic clock)."""
    unique, bars = f"{prefix}.events.unique", f"{prefix}.bars.1s"
    consumer = Consumer(
        {
            "bootstrap.servers": load.bootstrap_servers,
            "group.id": prefix,
            "enable.auto.commit": False,
            "auto.offset.reset": "latest",
            "fetch.wait.max.ms": 5,
            "fetch.min.bytes": 65_536,  # else the broker answers each batch by itself and takes half a core for it
        }
    )
    consumer.assign(
        [
            TopicPartition(topic, partition)
            for topic in (load.topic, unique, bars)
            for partition in Log(load.bootstrap_servers, topic).partitions()
        ]
    )
    found = Arrivals()
    while time.monotonic() < until_s:
        messages = consumer.consume(1_000, timeout=0.05)
        now = time.time_ns()
        for message in messages:
            topic, value = message.topic(), message.value()
            if topic == unique:
                found.unique.setdefault(value, now)
            elif topic == bars:
                row = avro.decode(value)[1]
                found.bars.setdefault(message.key(), (round(row["window_end"].timestamp() * 1e6), now))
            elif not any(key == BEACON_HEADER for key, _ in message.headers() or ()):
                found.raw.setdefault(value, now)
    consumer.close()
    return found


def line(name: str, ms: np.ndarray) -> str:
    """p50, p90, p99 of a column of milliseconds."""
    if not len(ms):
        return f"{name}: nothing arrived"
    p50, p90, p99 = np.percentile(ms, (50, 90, 99))
    return f"{name}: p50 {p50:.1f} ms, p90 {p90:.1f} ms, p99 {p99:.1f} ms ({len(ms):,})"


def report(load: Load, found: Arrivals, grace_us: int, warm_up_s: float) -> None:
    """The figures of what was published after the warm-up; a copy counts from its original."""
    taken = np.memmap(load.notes, np.int64, "r", shape=(load.events,))
    begin = load.start_us * 1_000 + round(warm_up_s * 1e9)
    sent: dict[bytes, int] = {}
    values = (value for batch in market(load.events, load.rate, load.start_us).batches() for value in batch.values)
    for value, at in zip(values, taken.tolist(), strict=True):
        sent.setdefault(value, at)
    for name, arrived in (
        ("produce -> input topic (the broker alone)", found.raw),
        ("produce -> unique", found.unique),
    ):
        delays = [at - sent[value] for value, at in arrived.items() if sent[value] >= begin]
        print(line(name, np.array(delays) / 1e6))
    end_us = load.start_us + round(load.events / load.rate * 1e6)
    late = [at / 1e3 - (end + grace_us) for end, at in found.bars.values() if begin / 1e3 <= end <= end_us]
    print(line("window end + grace -> 1 s bar", np.array(late) / 1e3))
    missing = sum(1 for value, at in sent.items() if at >= begin and value not in found.unique)
    print(f"{missing:,} of {len(sent):,} events not on the unique topic (late ones are not, by the rules)")


def main() -> None:
    """Run it and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=20_000)
    parser.add_argument("--seconds", type=float, default=60, help="measured, after the warm-up")
    parser.add_argument("--warm-up", type=float, default=30, help="seconds published before")
    parser.add_argument("--parallelism", type=int, default=1)
    parser.add_argument("--bundle-ms", type=int, default=5)
    parser.add_argument("--no-files", action="store_true")
    parser.add_argument("--state-dir", type=Path, help="a stack that runs; default: one of its own")
    asked = parser.parse_args()
    print(conditions())
    with stack_at(asked.state_dir) as places, TemporaryDirectory() as scratch:
        name = f"bench{time.time_ns() // 1_000_000}"
        make_topics(places.bootstrap_servers, f"{name}.raw", name)
        options = replace(
            LiveOptions(topic=f"{name}.raw", group=name, parallelism=asked.parallelism, bundle_ms=asked.bundle_ms),
            outputs=Outputs(
                files_root=None if asked.no_files else f"{scratch}/files",
                bootstrap_servers=places.bootstrap_servers,
                topic_prefix=name,
            ),
        )
        events = round(asked.rate * (asked.warm_up + asked.seconds))
        notes = Path(scratch, "taken")
        np.memmap(notes, np.int64, "w+", shape=(events,)).flush()
        with running(places, options) as job, Beacons(places.bootstrap_servers, f"{name}.raw"):
            start_us = time.time_ns() // 1_000 + 3_000_000
            load = Load(places.bootstrap_servers, f"{name}.raw", events, asked.rate, start_us, notes)
            publisher = multiprocessing.get_context("spawn").Process(target=publish, args=(load,))
            publisher.start()
            found = listen(load, name, time.monotonic() + asked.warm_up + asked.seconds + 10)
            publisher.join()
            job.stop(places.state_dir / "flink" / "savepoints")
        print(f"{asked.rate:,.0f} events/s, bundles of {asked.bundle_ms} ms, parallelism {asked.parallelism}")
        report(load, found, options.config.cell.grace_us, asked.warm_up)


if __name__ == "__main__":
    main()
