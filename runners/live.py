"""The live job: submit the graph on Flink, watch it, stop it with a savepoint, resume it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from pipelines.market_data import build
from pipelines.options import MarketDataConfig
from pipelines.outputs import Outputs, write
from runners import artifacts
from runners.flink import FlinkRun
from runners.flink_rest import ENDED, ask
from runners.resume import Shape
from runners.stack import Endpoints
from runners.stack.own_jar import jar_name
from schemas.units import US_PER_MS, US_PER_S
from transforms.read_kafka import ReadKafka

_SUBMIT_S: Final = 120.0
_STOP_S: Final = 120.0


class LiveError(RuntimeError):
    """A live job that did not start, died or did not stop; says what to look at."""


@dataclass(frozen=True, kw_only=True)
class LiveOptions:
    """One live job. The group names it: its offsets, its Flink job and its savepoints."""

    topic: str = "md.events.raw"
    group: str = "horizon"
    outputs: Outputs = field(default_factory=Outputs)
    config: MarketDataConfig = field(default_factory=MarketDataConfig)
    parallelism: int = 1
    bundle_ms: int = 100
    checkpoint_ms: int = 5_000
    has_beacons: bool = True  # somebody writes them; else the wall clock moves silent partitions on
    savepoint: str | None = None
    # Of the source. A source of another generation than the savepoint's starts without state, at the committed offsets.
    generation: int = 0
    new_source: bool = False  # the savepoint is one of the generation before

    @property
    def source_label(self) -> str:
        """Name of the source's step, by which Flink knows its state again."""
        return f"ReadKafka{self.generation}"

    @property
    def shape(self) -> Shape:
        """What the job gives depends on, by the options of `horizon live`, as JSON keeps it."""
        config, cell = self.config, self.config.cell
        return {
            "--topic": self.topic,
            "--prefix": self.outputs.topic_prefix,
            "--out": self.outputs.files_root,
            "--horizon-s": cell.horizon_us / US_PER_S,
            "--grace-ms": cell.grace_us / US_PER_MS,
            "--shards": cell.shards,
            "--session-gap-s": config.session_gap_s,
            "--any-price": sorted(config.limits.any_price_venues),
            "--beacons": self.has_beacons,
            "slack in s": cell.slack_us / US_PER_S,
            "intervals in s": list(config.intervals_s),
        }

    def consumer(self, bootstrap_servers: str) -> dict[str, str]:
        """KafkaIO's consumer; Beam commits, so the client must not."""
        return {
            "bootstrap.servers": bootstrap_servers,
            "group.id": self.group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": "false",
            # an answer as soon as there is a record; it costs the broker one for each produced batch (docs/facts.md)
            "fetch.min.bytes": "1",
            "fetch.max.wait.ms": "500",
            "max.poll.records": "50000",  # a reader that finds no records waiting sleeps 50 ms
            "isolation.level": "read_committed",
        }


class LiveJob:
    """A job on the Flink cluster at `flink_rest` (host:port), by its id."""

    def __init__(self, flink_rest: str, job_id: str) -> None:
        self.job_id, self._rest = job_id, flink_rest

    def state(self) -> str:
        """Flink's word: RUNNING, RESTARTING, FAILED, FINISHED, CANCELED, ..."""
        return str(ask(self._rest, f"/jobs/{self.job_id}")["state"])

    def stop(self, savepoints: Path) -> str:
        """Take a savepoint below `savepoints` and end the job; the savepoint's path.

        Not Flink's own stop: that ends KafkaIO's source first, which then declares the end of time, and every cell and
        window closes *before* the savepoint is taken (docs/facts.md). What the job still writes between savepoint and
        end is written again after a resume, with the same keys and into the same files.

        A savepoint that fails (a task is still starting, the disk is full for a moment) is tried again. LiveError when
        none is there after two minutes; the job then runs on.
        """
        deadline = time.monotonic() + _STOP_S
        body = {"target-directory": savepoints.as_uri(), "cancel-job": True}
        while True:
            if (state := self.state()) in ENDED:  # Flink would take the request and never answer
                raise LiveError(f"job {self.job_id} is {state} already")
            trigger = ask(self._rest, f"/jobs/{self.job_id}/savepoints", "POST", body)["request-id"]
            operation = self._ended(f"/jobs/{self.job_id}/savepoints/{trigger}", deadline)
            if "location" in operation:
                self._wait_ended()
                return str(operation["location"])
            if time.monotonic() > deadline:
                cause = " ".join(operation["failure-cause"]["stack-trace"].splitlines()[:2])
                raise LiveError(f"savepoint of job {self.job_id} failed: {cause}; look at the JobManager's log")
            time.sleep(1.0)

    def _ended(self, operation: str, deadline: float) -> dict[str, Any]:
        """What an asynchronous operation of Flink gave."""
        while time.monotonic() < deadline:
            status = ask(self._rest, operation)
            if status["status"]["id"] == "COMPLETED":
                return dict(status["operation"])
            time.sleep(0.2)
        raise LiveError(f"job {self.job_id} did not stop within {_STOP_S:.0f} s; cancel it on Flink's web page")

    def cancel(self) -> None:
        """End the job without a savepoint and wait until its slots are free; nothing when it has ended already."""
        if self.state() not in ENDED:
            ask(self._rest, f"/jobs/{self.job_id}?mode=cancel", "PATCH")
        self._wait_ended()

    def _wait_ended(self) -> None:
        deadline = time.monotonic() + _STOP_S
        while (state := self.state()) not in ENDED:
            if time.monotonic() > deadline:
                raise LiveError(f"job {self.job_id} is {state} {_STOP_S:.0f} s after it was told to end")
            time.sleep(0.2)


def start(places: Endpoints, options: LiveOptions) -> LiveJob:
    """Submit the job and wait until Flink runs it. The job goes on when this process ends.

    LiveError when the cluster lacks our jar, or the job does not run within two minutes.
    """
    _check_jar(places.flink_rest)
    name = f"horizon-{options.group}-{time.time_ns() // 1_000_000}"
    flink = FlinkRun.on(
        places,
        name,
        parallelism=options.parallelism,
        checkpoint_ms=options.checkpoint_ms,
        bundle_ms=options.bundle_ms,
        savepoint=options.savepoint,
        new_source=options.new_source,
    )
    pipeline = beam.Pipeline(options=PipelineOptions(flink.flags()))
    consumer = options.consumer(places.bootstrap_servers)
    source = ReadKafka(places.expansion_endpoint, options.topic, consumer, options.has_beacons)
    raw = pipeline | options.source_label >> source
    write(build(raw, options.config, options.outputs.files_root), options.outputs, options.config.cell.grace_us)
    result = pipeline.run()
    try:
        return LiveJob(places.flink_rest, _running_job(places.flink_rest, name, result))
    except BaseException:
        result.cancel()  # it may still come up, and nobody would know its id
        raise


def _check_jar(flink_rest: str) -> None:
    """Refuse a cluster without the jar of just these sources: its job would start, and fail again and again.

    The JobManager stands for the TaskManagers, whose class path Flink does not tell; both are given the same.
    """
    wanted = jar_name(artifacts.read_lock())
    known = ask(flink_rest, "/jobmanager/environment")["classpath"]
    if not any(Path(entry).name == wanted for entry in known):
        raise LiveError(
            f"Flink at {flink_rest} runs without {wanted}, which KafkaIO's consumer needs; "
            "run `make setup`, then `horizon stack down` and `horizon stack up`"
        )


@contextmanager
def running(places: Endpoints, options: LiveOptions) -> Iterator[LiveJob]:
    """A live job while entered: one that was not stopped by then is cancelled, so that none is left on the cluster."""
    job = start(places, options)
    try:
        yield job
    finally:
        job.cancel()


def _running_job(flink_rest: str, name: str, result: Any) -> str:
    """Flink's id of the job of that name, once all its tasks run."""
    deadline = time.monotonic() + _SUBMIT_S
    while time.monotonic() < deadline:
        if result.state in ("FAILED", "CANCELLED"):
            raise LiveError(f"job {name} ended as {result.state} at once; look at jobserver.log")
        jobs = [job for job in ask(flink_rest, "/jobs/overview")["jobs"] if job["name"].startswith(name)]
        # a job that is still being set up has no tasks: none of none runs
        if jobs and jobs[0]["state"] == "RUNNING" and jobs[0]["tasks"]["running"] == jobs[0]["tasks"]["total"] > 0:
            return str(jobs[0]["jid"])
        time.sleep(0.2)
    raise LiveError(f"job {name} does not run after {_SUBMIT_S:.0f} s; are there free slots? `horizon stack status`")
