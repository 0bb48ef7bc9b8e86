"""`horizon status`: what a live job does, and why nothing comes out."""

import json
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from confluent_kafka import KafkaException
from rich.console import Console
from rich.markup import escape

from runners.bounds import as_text
from runners.commands.connection import (
    AsJson,
    BootstrapServers,
    KafkaConfig,
    StateDir,
    fail,
    quiet_on_broken_pipe,
    stack,
    stop_on_signal,
)
from runners.flink_rest import FlinkError
from runners.job_numbers import Asked, job_numbers
from runners.kafka_rights import Right, reading
from runners.log import LogError
from runners.resume import ResumeError
from runners.stack import StackError
from runners.status import Finding, JobNumbers, diagnose, holding_back
from schemas.units import MS_PER_S
from transforms.topics import TopicNames

EPILOG = """Examples:

horizon status

horizon status --group second-opinion --watch

horizon status --json | jq -r .findings[].said
"""

_EVERY_S = 2.0
_COLOURS = {"ok": "green", "warning": "yellow", "failed": "red"}


def status(
    group: Annotated[str, typer.Option(help="Consumer group that names the job.")] = "live",
    topic: Annotated[str, typer.Option(help="Topic that it reads.")] = "md.events.raw",
    prefix: Annotated[str, typer.Option(help="First part of its output topics' names.")] = "md",
    watch: Annotated[bool, typer.Option("--watch", help="Again every two seconds, until Ctrl-C.")] = False,
    bootstrap_servers: BootstrapServers = None,
    kafka_config: KafkaConfig = None,
    state_dir: StateDir = Path(".horizon"),
    as_json: AsJson = False,
) -> None:
    """Show a live job's rate, lag, clock, checkpoints and rejects, and what is wrong with it. Exit code 1 if it failed.

    Lag is what no checkpoint covers yet, so it grows and falls with them. The job's clock is the log time that its
    slowest step has reached; bars and files wait for it.
    """
    try:
        rejects = Right("Read", "topic", TopicNames(prefix).rejects)
        rights = [*reading(topic, group, "horizon-look", "horizon-peek"), rejects]
        places = stack(bootstrap_servers, kafka_config, state_dir, rights)
        asked = Asked(
            bootstrap_servers=places.bootstrap_servers,
            flink_rest=places.flink_rest,
            group=group,
            topic=topic,
            prefix=prefix,
            state_dir=places.state_dir,
        )
        findings = _show(job_numbers(asked), as_json)
        with stop_on_signal() as stop:
            while watch and not stop.wait(_EVERY_S):
                findings = _show(job_numbers(asked), as_json)
    except (StackError, FlinkError, LogError, ResumeError) as error:
        fail(error)
    except KafkaException as error:
        fail(escape(f"the broker does not answer: {error.args[0].str()}; `horizon stack status`"))
    except BrokenPipeError:
        quiet_on_broken_pipe()
        return
    if any(finding.level == "failed" for finding in findings):
        raise typer.Exit(1)


def _show(numbers: JobNumbers, as_json: bool) -> list[Finding]:
    findings = diagnose(numbers)
    if as_json:
        typer.echo(json.dumps(as_plain(numbers, findings)))
        return findings
    console = Console(highlight=False, soft_wrap=True)
    for line in lines(numbers):
        console.print(escape(line))
    for finding in findings:
        console.print(f"[{_COLOURS[finding.level]}]{finding.level}[/] {escape(f'{finding.said}; {finding.remedy}')}")
    if not findings:
        console.print("[green]ok[/] nothing holds it back")
    return findings


def as_plain(numbers: JobNumbers, findings: list[Finding]) -> dict[str, Any]:
    """For `--json`."""
    plain = asdict(numbers)
    for partition, row in zip(numbers.partitions, plain["partitions"], strict=True):
        row["lag"] = partition.lag
    plain |= {"newest_ms": numbers.newest_ms, "lag": numbers.lag, "clock_behind_s": numbers.clock_behind_s}
    held = [one.partition for one in holding_back(numbers)]
    return {**plain, "holding_back": held, "findings": [asdict(finding) for finding in findings]}


def lines(numbers: JobNumbers) -> Iterator[str]:
    """The report for people."""
    if numbers.job_id is None:
        yield f"group {numbers.group}: no job"
    else:
        restarts = "" if numbers.restarts is None else f", {numbers.restarts} restarts"
        yield f"group {numbers.group}: job {numbers.job_id} {numbers.state} for {numbers.age_s:,.0f} s{restarts}"
    if numbers.ends:
        yield f"stopped with savepoint {numbers.savepoint}, read to {as_text(numbers.ends)} (partition:offset)"
    yield (
        f"rate: {numbers.read_per_s:,.0f} in, {numbers.unique_per_s:,.0f} unique, {numbers.bars_per_s:,.0f} bars a "
        f"second; lag {numbers.lag:,}"
    )
    yield _clock_line(numbers)
    yield _checkpoint_line(numbers)
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in numbers.reasons.items())
    newest_of = f"; of the newest {sum(numbers.reasons.values()):,}: {reasons}" if reasons else ""
    yield f"rejects: {numbers.rejects:,}{newest_of}"
    for one in numbers.partitions:
        behind_s = (numbers.newest_ms - one.newest_ms) / MS_PER_S
        newest = "no record" if one.newest_ms < 0 else f"newest {_time(one.newest_ms)}, {behind_s:,.1f} s behind"
        yield f"  partition {one.partition:>2}: end {one.end:,}, lag {one.lag:,}, {newest}"


def _clock_line(numbers: JobNumbers) -> str:
    if numbers.newest_ms < 0:
        return "clock: the topic is empty"
    ago_s = (numbers.now_ms - numbers.newest_ms) / MS_PER_S
    said = f"clock: newest log time {_time(numbers.newest_ms)}, {ago_s:,.1f} s ago"
    if numbers.watermark_ms is None:
        return f"{said}; the job's is not known"
    behind_s = numbers.clock_behind_s
    return f"{said}; the job's " + ("has not started" if behind_s is None else f"{max(behind_s, 0):,.1f} s behind it")


def _checkpoint_line(numbers: JobNumbers) -> str:
    known = numbers.checkpoints
    said = f"checkpoints: {known.completed:,} done, {known.failed:,} failed"
    if known.last_at_ms is None:
        return said
    age_s = (numbers.now_ms - known.last_at_ms) / MS_PER_S
    return f"{said}; newest {age_s:,.1f} s ago, {known.last_bytes / 1e6:,.1f} MB, took {known.last_s:,.1f} s"


def _time(time_ms: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(time_ms / MS_PER_S)) + f".{time_ms % 1000:03d}"
