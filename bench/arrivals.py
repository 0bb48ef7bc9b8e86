"""When records can be read from their topics, and when the job's checkpoints started."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from confluent_kafka import OFFSET_END, Consumer, TopicPartition

from runners.flink_rest import FlinkError, ask
from runners.log import Log
from schemas import avro
from transforms.decode import BEACON_HEADER

_CHECKPOINTS_S = 2.0  # Flink remembers ten; they are looked at so often


@dataclass
class Arrivals:
    """When values were first readable, nanoseconds since the epoch."""

    raw: dict[bytes, int] = field(default_factory=dict)
    unique: dict[bytes, int] = field(default_factory=dict)
    bars: dict[bytes, tuple[int, int]] = field(default_factory=dict)  # key -> (window end in us, arrival)


def listen(bootstrap_servers: str, raw: str, prefix: str, begin_ns: int, until_s: float) -> Arrivals:
    """Read the input topic and both output topics until then (seconds of the monotonic clock).

    What comes before `begin_ns` (nanoseconds since the epoch) is read and not kept.
    """
    unique, bars = f"{prefix}.events.unique", f"{prefix}.bars.1s"
    consumer = reader(bootstrap_servers, prefix, (raw, unique, bars))
    found = Arrivals()
    while time.monotonic() < until_s:
        # one and then what is there: asked for many at once, the client waits for all of them or the whole time
        messages = consumer.consume(1, timeout=0.05)
        messages += consumer.consume(1_000, timeout=0)
        now = time.time_ns()
        for message in messages if now >= begin_ns else ():
            topic, value = message.topic(), message.value() or b""
            if topic == unique:
                found.unique.setdefault(value, now)
            elif topic == bars:
                row = avro.decode(value)[1]
                found.bars.setdefault(message.key(), (round(row["window_end"].timestamp() * 1e6), now))
            elif not any(key == BEACON_HEADER for key, _ in message.headers() or ()):
                found.raw.setdefault(value, now)
    consumer.close()
    return found


def reader(bootstrap_servers: str, group: str, topics: tuple[str, ...]) -> Consumer:
    """A consumer at the end of all partitions; up to 5 ms of a delay are its own."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap_servers,
            "group.id": f"{group}-reader",
            "enable.auto.commit": False,
            "auto.offset.reset": "latest",
            "fetch.wait.max.ms": 5,
            "fetch.min.bytes": 65_536,  # else the broker answers each batch by itself and takes half a core for it
        }
    )
    consumer.assign(
        [
            TopicPartition(topic, partition, OFFSET_END)  # else the group's coordinator is asked, and may not be up
            for topic in topics
            for partition in Log(bootstrap_servers, topic).partitions()
        ]
    )
    return consumer


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
