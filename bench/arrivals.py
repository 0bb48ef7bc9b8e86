"""When records can be read from their topics, and when the job's checkpoints started."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from runners.flink_rest import FlinkError, ask
from runners.log import Log
from schemas import avro
from transforms.read_offsets import read_stretch

_CHECKPOINTS_S = 2.0  # Flink remembers ten; they are looked at so often


@dataclass
class Arrivals:
    """When records were first readable, nanoseconds since the epoch: of any version, for what they say is not asked."""

    unique: dict[bytes, int]  # by value
    bars: dict[bytes, tuple[int, int]]  # key -> (window end in us, arrival)


def arrivals(bootstrap_servers: str, prefix: str, begin_ns: int) -> Arrivals:
    """What lies on both output topics since then, by the broker's time of the append, which is whole milliseconds.

    A record that is the only copy can be read from its append on. The topics are read when all is over: a reader beside
    the job would take a tenth of a core, and as much of the broker.
    """
    unique, bars = dict[bytes, int](), dict[bytes, tuple[int, int]]()
    for value, _, at in _appended(bootstrap_servers, f"{prefix}.events.unique", begin_ns):
        unique.setdefault(value, at)
    for value, key, at in _appended(bootstrap_servers, f"{prefix}.bars.1s", begin_ns):
        row = avro.decode(value)[1]
        bars.setdefault(key, (round(row["window_end"].timestamp() * 1e6), at))
    return Arrivals(unique, bars)


def _appended(bootstrap_servers: str, topic: str, begin_ns: int) -> Iterator[tuple[bytes, bytes, int]]:
    """Value, key and time of the append of each record since then, by partition."""
    manifest = Log(bootstrap_servers, topic).freeze(datetime.fromtimestamp(begin_ns / 1e9, UTC))
    for stretch in manifest.stretches:
        for batch in read_stretch(bootstrap_servers, stretch):
            times = (batch.log_time_us * 1_000).tolist()
            yield from zip(batch.values.to_pylist(), batch.keys.to_pylist(), times, strict=True)


@contextmanager
def checkpoint_starts(flink_rest: str, job_id: str) -> Iterator[set[int]]:
    """When each checkpoint of the job started, milliseconds since the epoch; the set grows while entered."""
    starts, over = set[int](), threading.Event()

    def look() -> None:
        while not over.wait(_CHECKPOINTS_S):
            with suppress(FlinkError):
                history = ask(flink_rest, f"/jobs/{job_id}/checkpoints")["history"]
                starts.update(int(checkpoint["trigger_timestamp"]) for checkpoint in history)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield starts
    finally:
        over.set()
        thread.join()
