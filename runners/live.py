"""The live job: submit the graph on Flink, watch it, stop it with a savepoint, resume it."""

import time
from collections.abc import Iterator, Mapping
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
from runners.log import Log
from runners.resume import next_offsets
from runners.run_note import Shape, shape_of, write_run
from runners.stack import Endpoints
from runners.stack.flink import flink_uri, path_of
from runners.stack.own_jar import jar_name
from schemas.units import MS_PER_S
from transforms.parquet_file import check_root
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
    savepoint: Path | None = None  # directory of the savepoint or checkpoint to go on from
    starts: Mapping[int, int] | None = None  # partition -> first offset; None: the savepoint's, or the log's first

    @property
    def shape(self) -> Shape:
        """What the job gives depends on, by the options of `horizon live`, as JSON keeps it."""
        return shape_of(self.config) | {
            "--topic": self.topic,
            "--prefix": self.outputs.topic_prefix,
            "--out": self.outputs.files_root,
            "--beacons": self.has_beacons,
        }

    @property
    def consumer(self) -> dict[str, str]:
        """KafkaIO's consumer, but for where Kafka is; Beam commits, so the client must not."""
        return {
            "group.id": self.group,
            "auto.offset.reset": "none",  # records that retention took are missed, not passed over
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

    def stop(self, savepoints: Path) -> Path:
        """Take a savepoint below `savepoints` and end the job; the savepoint's directory.

        Not Flink's own stop: that ends KafkaIO's source first, which then declares the end of time, and every cell and
        window closes *before* the savepoint is taken (docs/facts.md). What the job still writes between savepoint and
        end is written again after a resume, with the same keys and into the same files.

        A savepoint that fails (a task is still starting, the disk is full for a moment) is tried again. LiveError when
        none is there after two minutes; the job then runs on.
        """
        deadline = time.monotonic() + _STOP_S
        body = {"target-directory": flink_uri(savepoints), "cancel-job": True}
        while True:
            if (state := self.state()) in ENDED:  # Flink would take the request and never answer
                raise LiveError(f"job {self.job_id} is {state} already")
            trigger = ask(self._rest, f"/jobs/{self.job_id}/savepoints", "POST", body)["request-id"]
            operation = self._ended(f"/jobs/{self.job_id}/savepoints/{trigger}", deadline)
            if "location" in operation:
                self._wait_ended()
                return path_of(str(operation["location"]))
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


def job_name(group: str) -> str:
    """A name for a job that starts now; Flink lists it by that, and status finds it again (flink_rest.py)."""
    return f"horizon-{group}-{time.time_ns() // 1_000_000}"


def submitted_s(name: str) -> float:
    """When a job of that name was submitted, seconds since the Unix epoch.

    >>> submitted_s("horizon-live-1700000000500")
    1700000000.5
    """
    return int(name.rpartition("-")[2]) / MS_PER_S


def start(places: Endpoints, options: LiveOptions, name: str | None = None) -> LiveJob:
    """Submit the job and wait until Flink runs it. The job goes on when this process ends.

    Its source is a new one each time: KafkaIO's configuration and splits lie in a snapshot, so one that went on from
    there would look for the brokers where they were, and never see new partitions. What it had read is taken over.

    LiveError when the cluster lacks our jar, or the job does not run within two minutes; ResumeError when the snapshot
    cannot be read.
    """
    _check_jar(places.flink_rest)
    _prepare_root(options)
    name = name or job_name(options.group)
    log = Log(places.bootstrap_servers, options.topic)
    starts = options.starts
    if starts is None:
        starts = log.earliest() if options.savepoint is None else next_offsets(options.savepoint, options.topic)
    flink = FlinkRun.on(
        places,
        name,
        parallelism=options.parallelism,
        checkpoint_ms=options.checkpoint_ms,
        bundle_ms=options.bundle_ms,
        savepoint=options.savepoint,
    )
    pipeline = beam.Pipeline(options=PipelineOptions(flink.flags()))
    source = ReadKafka(
        places.expansion_endpoint,
        places.bootstrap_servers,
        options.topic,
        options.consumer,
        starts,
        log.newest_before(starts),
        options.has_beacons,
    )
    raw = pipeline | f"ReadKafka-{name}" >> source
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


def _prepare_root(options: LiveOptions) -> None:
    """Refuse a directory that no file could be written to: the job would start, and fail with the first file."""
    root = options.outputs.files_root
    if root is not None:
        try:
            check_root(root)
            write_run(Path(root), options.config)
        except OSError as error:
            raise LiveError(str(error)) from error


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
