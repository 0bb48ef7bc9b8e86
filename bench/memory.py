"""Memory of the live job over time: every process of the stack, and the size of the job's state.

    python -m bench.memory --rate 20000 --minutes 20 --plot docs/memory-20000.svg

A process of its own publishes the market in real time. Memory is what a process has for itself (bench/processes.py);
the state is that of the newest checkpoint. What each grew by is told for the second half of the run.
"""

import argparse
import multiprocessing
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from bench.load import conditions, make_topics, market, stack_at
from bench.processes import memory_mb
from pipelines.outputs import Outputs
from runners.beacons import Beacons
from runners.flink_rest import checkpoints_of, job_of
from runners.live import LiveOptions, running
from runners.publish import publish_batches
from runners.stack import Endpoints
from runners.watch import Watch
from transforms.cell_config import CellConfig

STATE = "state in the newest checkpoint"
_EVERY_S = 5.0
_IDENTITY_BYTES = 32  # what a cell remembers of an event


class Sample(NamedTuple):
    """At one moment."""

    minutes: float  # since the first one
    mb: dict[str, float]  # by name of a process, and STATE
    checkpoint_s: float  # how long the newest took


def publish(bootstrap_servers: str, topic: str, events: int, rate: float) -> None:
    """Publish the market in real time, from now on."""
    start_us = time.time_ns() // 1_000
    batches = (batch.to_publish(paced_from_us=start_us) for batch in market(events, rate, start_us).batches())
    publish_batches(bootstrap_servers, topic, batches)


def samples(places: Endpoints, group: str, seconds: float) -> Iterator[Sample]:
    """One every few seconds."""
    began = time.monotonic()
    while (elapsed := time.monotonic() - began) < seconds:
        job = job_of(places.flink_rest, group)
        assert job is not None
        newest = checkpoints_of(places.flink_rest, job)
        yield Sample(elapsed / 60, memory_mb(places.state_dir) | {STATE: newest.last_bytes / 1e6}, newest.last_s)
        time.sleep(_EVERY_S)


def report(found: list[Sample], rate: float, cell: CellConfig) -> None:
    """What each held at its most and at the end, and how it grew in the second half."""
    half = found[len(found) // 2 :]
    minutes = np.array([sample.minutes for sample in half])
    for name in found[-1].mb:
        values = np.array([sample.mb.get(name, 0.0) for sample in half])
        slope, most = np.polyfit(minutes, values, 1)[0], max(sample.mb.get(name, 0.0) for sample in found)
        print(f"{name}: most {most:,.0f} MB, end {values[-1]:,.0f} MB, second half {slope:+.2f} MB a minute")
    took_s = np.array([sample.checkpoint_s for sample in found])
    print(f"a checkpoint took {np.median(took_s):.1f} s in the middle, {took_s.max():.1f} s at most")
    kept_s = (cell.horizon_us + cell.slack_us) / 1e6
    print(
        f"identities alone: {_IDENTITY_BYTES * rate * kept_s / 1e6:,.0f} MB ({_IDENTITY_BYTES} bytes, {kept_s:.0f} s)"
    )


def draw(found: list[Sample], file: Path, title: str) -> None:
    """A line for each process and for the state."""
    mpl.rcParams["svg.hashsalt"] = "horizon"
    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.subplots()
    for name in found[-1].mb:
        axes.plot(
            [sample.minutes for sample in found],
            [sample.mb.get(name) for sample in found],
            label=name,
            linestyle="--" if name == STATE else "-",
        )
    axes.set(title=title, xlabel="minutes", ylabel="MB", ylim=(0, None))
    axes.grid(visible=True, alpha=0.3)
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    figure.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else None)


def main() -> None:
    """Run it and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=20_000)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--parallelism", type=int, default=1)
    parser.add_argument("--plot", type=Path, help="an .svg or .png to draw")
    parser.add_argument("--state-dir", type=Path, help="a stack that runs; default: one of its own")
    asked = parser.parse_args()
    print(conditions())
    with stack_at(asked.state_dir) as places, TemporaryDirectory() as scratch:
        name = f"bench{time.time_ns() // 1_000_000}"
        servers, raw = places.bootstrap_servers, f"{name}.raw"
        make_topics(servers, raw, name)
        outputs = Outputs(files_root=f"{scratch}/files", bootstrap_servers=servers, topic_prefix=name)
        options = replace(LiveOptions(topic=raw, group=name, parallelism=asked.parallelism), outputs=outputs)
        watch = Watch(servers, raw, name, options.config.intervals_s)
        events = round(asked.rate * asked.minutes * 60)
        with running(places, options) as job, Beacons(servers, raw):
            publisher = multiprocessing.get_context("spawn").Process(
                target=publish, args=(servers, raw, events, asked.rate)
            )
            publisher.start()
            found = list(samples(places, name, asked.minutes * 60))
            counts = watch.counts()
            publisher.terminate()
            publisher.join()
            job.stop(places.state_dir / "flink" / "savepoints")
    out = counts.unique + counts.late + counts.rejects
    print(f"{asked.rate:,.0f} events/s for {asked.minutes:g} minutes; at its end {out:,} of {events:,} were out")
    report(found, asked.rate, options.config.cell)
    if asked.plot:
        draw(found, asked.plot, f"Live job at {asked.rate:,.0f} events/s, parallelism {asked.parallelism}")


if __name__ == "__main__":
    main()
