"""Bytes on a broker's disk and in the files of events, against the bytes of the keys and values.

    python -m bench.sizes --rate 20000 --seconds 20
    python -m bench.sizes --capture exchange_capture.jsonl.gz

Each way of producing fills a topic of 12 partitions at that rate, simulated or from a capture; then the first of them
is replayed into files. A capture of years has few events in each file of 10 s, so its rows are also put in one file. A
topic's size is that of its segments on the broker's disk, so indexes are not in it.
"""

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bench.load import conditions, make_topics, market, stack_at
from runners.capture import CapturedEvent, read_capture
from runners.log import Log
from runners.publish import PublishBatch, publish_batches
from runners.publish_capture import capture_batches
from runners.rebase import schedule
from runners.replay import replay
from transforms.binary import binary_ends
from transforms.datasets import EVENTS
from transforms.parquet_file import write_file
from transforms.read_offsets import read_stretch

_WAYS = [("snappy", 5), ("snappy", 20), ("zstd", 5), ("zstd", 20), ("zstd", 100)]  # compression, linger in ms


def source(capture: Path | None, rate: float, seconds: float) -> Iterator[PublishBatch]:
    """What is published: a capture as it is, or so many seconds of the simulated market."""
    now_us = time.time_ns() // 1_000
    if capture is None:
        simulated = market(round(rate * seconds), rate, now_us - 3_600_000_000)
        return (batch.to_publish() for batch in simulated.batches())
    events = [event for event in read_capture(capture) if isinstance(event, CapturedEvent)]
    log_us = np.array([event.log_us for event in events], np.int64)
    return capture_batches(events, schedule(log_us, now_us, own_times=True))


def saved(size: int, of: int) -> str:
    """A size, and what is saved of the other in per cent."""
    return f"{size:,} bytes, {100 * (1 - size / of):.1f} % saved"


def main() -> None:
    """Run it and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=20_000)
    parser.add_argument("--seconds", type=float, default=20, help="of the simulated market")
    parser.add_argument("--capture", type=Path, help="a capture to publish in place of the simulated market")
    parser.add_argument("--state-dir", type=Path, help="a stack that runs; default: one of its own")
    asked = parser.parse_args()
    print(conditions())
    with stack_at(asked.state_dir) as places, TemporaryDirectory() as scratch:
        servers, names = places.bootstrap_servers, []
        for compression, linger_ms in _WAYS:
            names.append(f"bench{time.time_ns() // 1_000_000}")
            make_topics(servers, f"{names[-1]}.raw", names[-1])
            batches = list(source(asked.capture, asked.rate, asked.seconds))
            settings = {"compression.type": compression, "linger.ms": linger_ms}
            publish_batches(servers, f"{names[-1]}.raw", batches, rate=asked.rate, settings=settings)
            sent = sum(len(part or b"") for batch in batches for part in (*batch.keys, *batch.values))
            segments = sum(path.stat().st_size for path in places.state_dir.rglob(f"{names[-1]}.raw-*/*.log"))
            print(f"{compression}, linger {linger_ms} ms: keys and values {sent:,}; {saved(segments, sent)}")
        manifest = Log(servers, f"{names[0]}.raw").freeze()
        replay(servers, manifest, Path(scratch, "out"))
        read = (batch for stretch in manifest.stretches for batch in read_stretch(servers, stretch))
        values = sum(int(np.diff(binary_ends(batch.values)).sum()) for batch in read)
        paths = sorted(Path(scratch, "out", "events").rglob("*.parquet"))
        files = sum(path.stat().st_size for path in paths)
        print(f"{len(paths)} files of events: values {values:,}, copies among them; {saved(files, values)}")
        whole = pa.concat_tables([pq.read_table(path, partitioning=None) for path in paths])
        write_file(f"{scratch}/whole", EVENTS, (0, 0), whole)
        (file,) = Path(scratch, "whole").rglob("*.parquet")
        print(f"the same rows in one file: {saved(file.stat().st_size, values)}")


if __name__ == "__main__":
    main()
