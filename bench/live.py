"""Throughput of the whole live job: a full topic read by Flink, files and topics written, counted on the output topic.

    python -m bench.live --events 6000000

The topic is filled first, so that the generator takes no core while the job runs; then events a second are the unique
events, late ones and rejects that came out, over the seconds in which the job was running at full rate.
"""

import argparse
import shutil
import time
from dataclasses import replace
from pathlib import Path

from bench.load import conditions, make_topics, market, preload, stack_at
from bench.processes import cpu_seconds
from pipelines.outputs import Outputs
from runners.live import LiveOptions, running
from runners.stack import Endpoints
from runners.watch import Watch

_WARM_UP_S = 20.0


def measure(places: Endpoints, options: LiveOptions) -> list[tuple[float, int]]:
    """(seconds, records accounted for on the output topics) about once a second until all have come out."""
    watch = Watch(places.bootstrap_servers, options.topic, options.outputs.topic_prefix, options.config.intervals_s)
    series: list[tuple[float, int]] = []
    with running(places, options):
        last_change = time.monotonic()
        while True:
            counts = watch.counts()
            out = counts.unique + counts.late + counts.rejects
            if not series or out != series[-1][1]:
                last_change = time.monotonic()
            series.append((counts.at, out))
            if time.monotonic() - last_change > (15 if series[-1][1] else 120):
                return series
            time.sleep(1.0)


def main() -> None:
    """Run it and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=6_000_000)
    parser.add_argument("--rate", type=float, default=100_000, help="events a second of event time")
    parser.add_argument("--parallelism", type=int, default=2)
    parser.add_argument("--bundle-ms", type=int, default=LiveOptions().bundle_ms)
    parser.add_argument("--checkpoint-ms", type=int, default=LiveOptions().checkpoint_ms)
    parser.add_argument("--shards", type=int, default=LiveOptions().config.cell.shards)
    parser.add_argument("--no-files", action="store_true")
    parser.add_argument("--topic", help="a topic that was filled before")
    parser.add_argument("--state-dir", type=Path, help="a stack that runs; default: one of its own")
    asked = parser.parse_args()
    print(conditions())
    with stack_at(asked.state_dir) as places:
        name = f"bench{time.time_ns() // 1_000_000}"
        topic = asked.topic or f"{name}.raw"
        make_topics(places.bootstrap_servers, topic, name)
        if not asked.topic:
            source = market(asked.events, asked.rate, time.time_ns() // 1_000 - 3_600_000_000)
            seconds = preload(places.bootstrap_servers, topic, source)
            print(f"filled {topic} with {asked.events:,} records at {asked.events / seconds:,.0f}/s")
        root = places.state_dir / name
        options = LiveOptions(topic=topic, group=name, parallelism=asked.parallelism, bundle_ms=asked.bundle_ms)
        options = replace(
            options,
            checkpoint_ms=asked.checkpoint_ms,
            config=replace(options.config, cell=replace(options.config.cell, shards=asked.shards)),
            outputs=Outputs(
                files_root=None if asked.no_files else str(root),
                bootstrap_servers=places.bootstrap_servers,
                topic_prefix=name,
            ),
        )
        before = cpu_seconds(places.state_dir)
        series = measure(places, options)
        after = cpu_seconds(places.state_dir)
        shutil.rmtree(root, ignore_errors=True)
    report(series, {part: after[part] - before.get(part, 0.0) for part in after})


def report(series: list[tuple[float, int]], cpu: dict[str, float]) -> None:
    """The rate of each 10 s and over the whole, from the first record after the warm-up to the last."""
    total = series[-1][1]
    began = next(at for at, out in series if out)
    done = next(at for at, out in series if out == total)
    steady = [(at, out) for at, out in series if began + _WARM_UP_S <= at <= done] or [
        (at, out) for at, out in series if began <= at <= done
    ]
    for (at, out), (later, more) in zip(series[:-10:10], series[10::10], strict=False):
        print(f"  {at - series[0][0]:6.1f} s  {(more - out) / (later - at):10,.0f}/s")
    (first_at, first), (last_at, last) = steady[0], steady[-1]
    print(f"{total:,} records out in {done - began:.1f} s from the first one on: {total / (done - began):,.0f}/s")
    if last_at > first_at:
        print(f"after the warm-up: {(last - first) / (last_at - first_at):,.0f}/s over {last_at - first_at:.0f} s")
    print(
        "CPU seconds: " + ", ".join(f"{part} {seconds:.0f}" for part, seconds in sorted(cpu.items()) if seconds > 0.5)
    )


if __name__ == "__main__":
    main()
