"""Latency of the live job: due -> unique event on its topic, and window end + grace -> 1 s bar on its topic.

    python -m bench.latency --rate 20000 --bundle-ms 5

A process of its own publishes in real time, each record at its log time; when the event can be read from the output
topic the broker says, with its time of the append. All look at the same clock. A delay counts from the time at which
the record was due, not from when the client took it: a generator that is held up by a slow system would else ask less
of it. By how much it was behind is told beside. The market is made before, and the output topics are read afterwards:
what the meter itself takes of the machine is not what is measured.
"""

import argparse
import multiprocessing
import time
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from bench.arrivals import Arrivals, arrivals, checkpoint_starts
from bench.delays import Ns, by_checkpoint, by_tenth, line
from bench.load import conditions, in_real_time, make_topics, market, stack_at
from pipelines.outputs import Outputs
from runners.beacons import Beacons
from runners.live import LiveOptions, running
from runners.publish import Published, publish_batches

_AHEAD_S = 10.0  # the market starts so long after the generator was asked for, and the time that making it takes
_MAKE_S = 6e-6  # a record, on a slow machine
_AFTER_S = 10.0  # for what is on its way when the last record was due


@dataclass(frozen=True)
class Load:
    """What is published: the same market in every process that asks."""

    bootstrap_servers: str
    topic: str
    events: int
    rate: float
    start_us: int
    warm_up_s: float
    notes: Path  # when the client had taken each record, nanoseconds since the epoch, in the order of publishing

    @property
    def begin_ns(self) -> int:
        """The first moment that is measured, since the epoch."""
        return self.start_us * 1_000 + round(self.warm_up_s * 1e9)


def publish(load: Load) -> None:
    """Publish in real time and note when each record was taken."""
    taken = np.memmap(load.notes, np.int64, "r+", shape=(load.events,))
    done = 0

    def note(progress: Published) -> None:
        nonlocal done
        taken[done : progress.records] = time.time_ns()
        done = progress.records

    source = market(load.events, load.rate, load.start_us)
    publish_batches(load.bootstrap_servers, load.topic, in_real_time(source), on_progress=note)


def due_times(load: Load) -> tuple[Ns, dict[bytes, int]]:
    """When each record was due, in the order of publishing, and that of each measured event that must come out."""
    columns, must, latest = [], dict[bytes, int](), 0
    for batch in market(load.events, load.rate, load.start_us).batches():
        # nothing overtakes: a record is due when those before it are
        due = np.maximum(np.maximum.accumulate(batch.log_time_ms) * 1_000_000, latest)
        latest = int(due[-1])
        columns.append(due)
        for row in np.flatnonzero(batch.unique & (due >= load.begin_ns)).tolist():
            must[batch.values[row]] = int(due[row])
    return np.concatenate(columns), must


def report(load: Load, found: Arrivals, grace_us: int, checkpoints_ms: set[int]) -> None:
    """The figures of what was due after the warm-up."""
    due, must = due_times(load)
    taken = np.memmap(load.notes, np.int64, "r", shape=(load.events,))
    print(line("the generator behind its own schedule", (taken - due)[due >= load.begin_ns] / 1e6))
    sent = np.array([must[value] for value in found.unique if value in must], np.int64)
    ms = (np.array([at for value, at in found.unique.items() if value in must], np.int64) - sent) / 1e6
    print("\n".join((line("due -> unique", ms), *by_tenth(sent, ms), *by_checkpoint(sent, ms, checkpoints_ms))))
    end_us = load.start_us + round(load.events / load.rate * 1e6)
    late = [at / 1e3 - (end + grace_us) for end, at in found.bars.values() if load.begin_ns / 1e3 <= end <= end_us]
    print(line("window end + grace -> 1 s bar", np.array(late) / 1e3))
    print(f"{len(must.keys() - found.unique.keys()):,} of {len(must):,} unique events not on their topic")


def main() -> None:
    """Run it and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=20_000)
    parser.add_argument("--seconds", type=float, default=60, help="measured, after the warm-up")
    parser.add_argument("--warm-up", type=float, default=120, help="seconds published before")
    parser.add_argument("--parallelism", type=int, default=1)
    parser.add_argument("--bundle-ms", type=int, default=5)
    parser.add_argument("--no-files", action="store_true")
    parser.add_argument("--state-dir", type=Path, help="a stack that runs; default: one of its own")
    asked = parser.parse_args()
    print(conditions())
    with stack_at(asked.state_dir) as places, TemporaryDirectory() as scratch:
        name = f"bench{time.time_ns() // 1_000_000}"
        servers, raw = places.bootstrap_servers, f"{name}.raw"
        make_topics(servers, raw, name)
        files = None if asked.no_files else f"{scratch}/files"
        options = replace(
            LiveOptions(topic=raw, group=name, parallelism=asked.parallelism, bundle_ms=asked.bundle_ms),
            outputs=Outputs(files_root=files, bootstrap_servers=servers, topic_prefix=name),
        )
        events = round(asked.rate * (asked.warm_up + asked.seconds))
        notes = Path(scratch, "taken")
        np.memmap(notes, np.int64, "w+", shape=(events,)).flush()
        with running(places, options) as job, Beacons(servers, raw):
            ahead_s = _AHEAD_S + _MAKE_S * events
            start_us = time.time_ns() // 1_000 + round(ahead_s * 1e6)
            load = Load(servers, raw, events, asked.rate, start_us, asked.warm_up, notes)
            publisher = multiprocessing.get_context("spawn").Process(target=publish, args=(load,))
            publisher.start()
            with checkpoint_starts(places.flink_rest, job.job_id) as checkpoints_ms:
                publisher.join()
                time.sleep(_AFTER_S)
        if publisher.exitcode:
            raise SystemExit("the generator failed; what it said is above")
        print(f"{asked.rate:,.0f} events/s, bundles of {asked.bundle_ms} ms, parallelism {asked.parallelism}")
        report(load, arrivals(servers, name, load.begin_ns), options.config.cell.grace_us, checkpoints_ms)


if __name__ == "__main__":
    main()
