"""Replay on the DirectRunner: records a second over a full topic, beside the plain reading of the same offsets.

    python -m bench.replay --events 3000000 --runs 3

Each run reads the whole topic twice: once with the consumer alone (batches are made and thrown away), once through the
graph into Parquet files. The time of a replay is that of the whole call, building the graph included.
"""

import argparse
import resource
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.load import conditions, make_topics, market, preload, stack_at
from runners.log import Log
from runners.replay import replay
from transforms.read_offsets import Manifest, read_stretch


def plain(bootstrap_servers: str, manifest: Manifest) -> int:
    """Read every stretch into batches and count the records."""
    filled = [stretch for stretch in manifest.stretches if stretch.start < stretch.stop]
    return sum(len(batch) for stretch in filled for batch in read_stretch(bootstrap_servers, stretch))


def main() -> None:
    """Run it and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=3_000_000)
    parser.add_argument("--rate", type=float, default=100_000, help="events a second of event time")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--state-dir", type=Path, help="a stack that runs; default: one of its own")
    asked = parser.parse_args()
    print(conditions())
    with stack_at(asked.state_dir) as places, TemporaryDirectory() as scratch:
        name = f"bench{time.time_ns() // 1_000_000}"
        servers = places.bootstrap_servers
        make_topics(servers, f"{name}.raw", name)
        source = market(asked.events, asked.rate, time.time_ns() // 1_000 - 3_600_000_000)
        seconds = preload(servers, f"{name}.raw", source)
        print(f"filled {name}.raw with {asked.events:,} records at {asked.events / seconds:,.0f}/s")
        manifest = Log(servers, f"{name}.raw").freeze()
        for run in range(asked.runs):
            began, cpu = time.perf_counter(), time.process_time()
            records = plain(servers, manifest)
            read_s, read_cpu = time.perf_counter() - began, time.process_time() - cpu
            began, cpu = time.perf_counter(), time.process_time()
            replay(servers, manifest, Path(scratch, str(run)))
            whole_s, whole_cpu = time.perf_counter() - began, time.process_time() - cpu
            print(
                f"run {run + 1}: reading alone {records / read_s:,.0f}/s ({read_cpu:.1f} CPU-s), replay with files "
                f"{records / whole_s:,.0f}/s ({whole_cpu:.1f} CPU-s), {whole_s / read_s:.2f} times the reading"
            )
        peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        print(f"peak memory {peak_gb:.2f} GB")


if __name__ == "__main__":
    main()
