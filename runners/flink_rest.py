"""Flink's REST interface: calls of it, and what it says of a job."""

import json
import re
import urllib.error
import urllib.request
from dataclasses import dataclass, replace
from http import HTTPStatus
from itertools import takewhile
from typing import Any, Final

from schemas.units import MS_PER_S

STARTING: Final = ("INITIALIZING", "CREATED")
ENDED: Final = ("FAILED", "CANCELED", "FINISHED")  # states that a job does not leave
_TIMEOUT_S: Final = 10.0
_REMEMBERED: Final = 16  # failures; Flink's own limit
# the line of a Python traceback that Beam has added the step to, and ours the record
_OF_WORKER: Final = re.compile(
    r"^(?:[\w.]*RecordError: )?(?P<error>[\w.]+(?:: .*?)?)(?: \[(?P<record>(?:at|from) [^\]]*)\])?"
    r" \[while running '(?P<step>.+?)(?:-ptransform-\d+)?'\]$",
    re.MULTILINE,
)
_OPENER: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # the cluster is never behind a proxy


class FlinkError(RuntimeError):
    """Flink does not answer; says where it was asked."""


class UnknownJobError(FlinkError):
    """Flink does not know the job: its JobManager is another one than the job was submitted to."""


@dataclass(frozen=True)
class FlinkJob:
    """One job; times in milliseconds since the Unix epoch, by the JobManager's clock."""

    job_id: str
    name: str
    state: str  # Flink's word: RUNNING, RESTARTING, FAILED, ...
    start_ms: int
    now_ms: int
    vertices: tuple[str, ...]

    @property
    def starting(self) -> bool:
        """Whether it has only just been submitted: Flink answers no questions about it yet."""
        return self.state in STARTING

    @property
    def ended(self) -> bool:
        """Whether it has come to a state that a job does not leave."""
        return self.state in ENDED


@dataclass(frozen=True)
class Checkpoints:
    """What Flink counts of a job's checkpoints; `last_*` of the newest completed one.

    Flink counts as failed also what it refused to begin while the job was starting; of those it keeps nothing else.
    """

    completed: int = 0
    failed: int = 0
    interval_s: float = 0.0
    last_at_ms: int | None = None
    last_bytes: int = 0
    last_s: float = 0.0  # from trigger to the last acknowledgement
    failed_at_ms: int | None = None  # when the newest failed that had begun; None: none has
    failure: str | None = None  # and why


@dataclass(frozen=True)
class Failure:
    """Why a job was started anew, or ended; `at_ms` in milliseconds since the Unix epoch, by the JobManager's clock."""

    at_ms: int
    error: str  # its first telling line
    step: str | None = None  # of our graph
    record: str | None = None  # where: "at TOPIC/PARTITION/OFFSET", or as transforms/named_failure.py has it
    times: int = 1  # that it came in succession, of the few failures that Flink remembers

    def __str__(self) -> str:
        where = " ".join(part for part in (self.step and f"in {self.step}", self.record) if part)
        return f"{where}: {self.error}" if where else self.error


def ask(flink_rest: str, path: str, method: str = "GET", body: dict[str, Any] | None = None) -> Any:
    """What Flink at `flink_rest` (host:port) answers. FlinkError when it says nothing that can be used."""
    data = None if body is None else json.dumps(body).encode()
    url = f"http://{flink_rest}{path}"
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    try:
        with _OPENER.open(request, timeout=_TIMEOUT_S) as answer:
            return json.load(answer)
    except (OSError, ValueError) as error:
        unknown = isinstance(error, urllib.error.HTTPError) and error.code == HTTPStatus.NOT_FOUND
        kind = UnknownJobError if unknown else FlinkError
        raise kind(f"Flink at {flink_rest} does not answer {path} ({error}); `horizon stack status`") from error


def job_of(flink_rest: str, group: str) -> FlinkJob | None:
    """The group's newest job, running or ended; None when Flink knows of none."""
    # live.py names a job by group and start in ms; 13 digits, so that group a-1 is not taken for a
    ours = re.compile(rf"horizon-{re.escape(group)}-\d{{13}}(-.*)?")
    found = [job for job in ask(flink_rest, "/jobs/overview")["jobs"] if ours.fullmatch(job["name"])]
    if not found:
        return None
    newest = max(found, key=lambda job: int(job["start-time"]))
    told = ask(flink_rest, f"/jobs/{newest['jid']}")
    vertices = tuple(str(vertex["id"]) for vertex in told["vertices"])
    return FlinkJob(newest["jid"], newest["name"], told["state"], int(told["start-time"]), int(told["now"]), vertices)


def watermark_ms(flink_rest: str, job: FlinkJob) -> int | None:
    """The log's clock as the job's slowest step has it, up to 10 s old; None when Flink does not say.

    Negative when some step has none yet: a partition that never gave a record holds it there.
    """
    answers = (ask(flink_rest, f"/jobs/{job.job_id}/vertices/{vertex}/watermarks") for vertex in job.vertices)
    found = [int(metric["value"]) for metrics in answers for metric in metrics]
    return min(found, default=None)


def checkpoints_of(flink_rest: str, job: FlinkJob) -> Checkpoints:
    """The job's checkpoints so far."""
    told = ask(flink_rest, f"/jobs/{job.job_id}/checkpoints")
    interval_ms = ask(flink_rest, f"/jobs/{job.job_id}/checkpoints/config")["interval"]
    counts, last = told["counts"], told["latest"]["completed"] or {}
    failed = told["latest"]["failed"] or {}
    return Checkpoints(
        completed=int(counts["completed"]),
        failed=int(counts["failed"]),
        interval_s=interval_ms / MS_PER_S,
        last_at_ms=int(last["latest_ack_timestamp"]) if last else None,
        last_bytes=int(last.get("state_size", 0)),
        last_s=last.get("end_to_end_duration", 0) / MS_PER_S,
        failed_at_ms=int(failed["failure_timestamp"]) if failed else None,
        failure=failed.get("failure_message"),
    )


def restarts_of(flink_rest: str, job: FlinkJob) -> int | None:
    """How often Flink has started the job anew; None when it does not say."""
    values = ask(flink_rest, f"/jobs/{job.job_id}/metrics?get=numRestarts")
    return int(values[0]["value"]) if values else None


def failure_of(flink_rest: str, job: FlinkJob) -> Failure | None:
    """The job's newest failure; None when it never failed."""
    told = ask(flink_rest, f"/jobs/{job.job_id}/exceptions?maxExceptions={_REMEMBERED}")
    entries = told["exceptionHistory"]["entries"]  # newest first
    if not entries:
        return None
    known = [failure_in(str(entry["stacktrace"]), int(entry["timestamp"])) for entry in entries]
    alike = takewhile(lambda one: (one.step, one.record) == (known[0].step, known[0].record), known)
    return replace(known[0], times=sum(1 for _ in alike))


def failure_in(stack_trace: str, at_ms: int) -> Failure:
    """What a stack trace of Flink's tells.

    >>> failure_in("java.lang.Exception: x\\nRecordError: ValueError: y [at t/0/7] [while running 'A/B']", 1).step
    'A/B'
    """
    found = list(_OF_WORKER.finditer(stack_trace))
    if found:  # the last is what the worker raised in the end
        return Failure(at_ms, found[-1]["error"].strip(), found[-1]["step"], found[-1]["record"])
    lines = stack_trace.splitlines() or ["unknown"]
    causes = [line for line in lines if line.startswith("Caused by:")]
    return Failure(at_ms, causes[-1].removeprefix("Caused by:").strip() if causes else lines[0])
