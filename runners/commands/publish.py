"""`horizon publish`: captured events onto a topic."""

import json
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import typer

from runners.capture import BadRow, CapturedEvent, CaptureError, read_capture
from runners.commands.connection import (
    AsJson,
    BootstrapServers,
    KafkaConfig,
    StateDir,
    brokers,
    fail,
    say,
    stderr,
    stop_on_signal,
)
from runners.commands.publishing import PublishProgress
from runners.kafka_rights import Right
from runners.log import Log, LogError
from runners.publish import Published, PublishError, publish_batches
from runners.publish_capture import capture_batches
from runners.rebase import Schedule, schedule
from schemas.units import LOG_TIME_UNTIL_US, MS_PER_S, US_PER_HOUR, US_PER_MS, US_PER_S
from transforms.brokers import Brokers

_BAD_ROWS_SHOWN = 20
_RETENTION_H = 168
_BEHIND_S = 60.0  # half the default horizon

EPILOG = """Examples:

horizon publish capture.jsonl.gz

horizon publish --speed 20 --close-gaps 1 monday.csv.gz tuesday.csv.gz

horizon publish --own-times --topic md.events.old capture.jsonl   (a topic of unlimited retention)
"""


def publish(
    files: Annotated[list[Path], typer.Argument(exists=True, dir_okay=False, help="JSON lines or CSV, plain or .gz.")],
    topic: Annotated[str, typer.Option(help="Topic to publish to.")] = "md.events.raw",
    speed: Annotated[
        float | None, typer.Option(help="Send as recorded, N times as fast; default: as fast as possible.")
    ] = None,
    rate: Annotated[float | None, typer.Option(help="Send at most N events per second.")] = None,
    close_gaps: Annotated[
        float | None,
        typer.Option(help="Shorten silences of the capture to N seconds; rows between two share one shift."),
    ] = None,
    own_times: Annotated[
        bool, typer.Option("--own-times", help="Keep all times instead of moving them to now.")
    ] = False,
    source: Annotated[str, typer.Option(help="Source to name in events that name none.")] = "",
    bootstrap_servers: BootstrapServers = None,
    kafka_config: KafkaConfig = None,
    state_dir: StateDir = Path(".horizon"),
    as_json: AsJson = False,
) -> None:
    """Publish captured events to Kafka, in the order of their log times, each delivery confirmed.

    A row's log time (Kafka timestamp) is its received_us, or its event time. All times are moved to now by one
    constant shift, the largest for which no record is dated ahead of the wall clock when it is sent; the shift is in
    the header horizon-shift-us. Files are held in memory: about 0.5 KB an event.

    Rows that cannot be encoded are named with file and line; the exit code is then 1, and all others are published.
    """
    servers = brokers(bootstrap_servers, kafka_config, state_dir, [Right("Write", "topic", topic)])
    events, bad = _read(files, source)
    log_us = np.array([event.log_us for event in events], np.int64)
    try:
        plan = schedule(
            log_us,
            time.time_ns() // 1_000,
            speed=speed,
            rate=rate,
            close_gaps_s=close_gaps,
            own_times=own_times,
        )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    if not own_times:
        _warn_of_retention(log_us, plan)
    if len(events):
        _warn_of_old_times(servers, topic, int(log_us[plan.row[0]] + plan.shift_us[0]))
    with stop_on_signal() as stop, PublishProgress(f"publish to {topic}", len(events)) as progress:
        try:
            done = publish_batches(servers, topic, capture_batches(events, plan), stop=stop, on_progress=progress)
        except PublishError as error:
            fail(error)
    _report(topic, done, len(events), bad, plan, as_json)


def _read(files: list[Path], source: str) -> tuple[list[CapturedEvent], list[BadRow]]:
    events, bad = [], []
    for file in files:
        try:
            for row in read_capture(file, source):
                if isinstance(row, BadRow):
                    bad.append(row)
                else:
                    events.append(row)
        except CaptureError as error:
            fail(error)
    return events, bad


def _warn_of_old_times(servers: Brokers, topic: str, first_us: int) -> None:
    """Lateness is by the clock of the partition: what is far behind what lies there already is late."""
    try:
        known_ms = Log(servers, topic).newest_ms().values()
    except LogError:
        return  # publishing says it better
    # one in a wrong unit dates nothing
    newest_ms = max((ms for ms in known_ms if ms * US_PER_MS < LOG_TIME_UNTIL_US), default=-1)
    behind_s = newest_ms / MS_PER_S - first_us / US_PER_S
    if behind_s > _BEHIND_S:
        stderr.print(
            f"[bold yellow]warning:[/] {topic} holds records up to {behind_s:,.0f} s newer than the first log time. "
            "Events behind their partition's newest log time by more than a job's horizon go to late. Publish at "
            "--speed 1 (--close-gaps shortens silences), or to a topic of its own."
        )


def _warn_of_retention(log_us: npt.NDArray[np.int64], plan: Schedule) -> None:
    moved = log_us[plan.row] + plan.shift_us
    hours = float(moved[-1] - moved[0]) / US_PER_HOUR if len(moved) else 0.0
    if hours > _RETENTION_H:
        stderr.print(
            f"[yellow]warning:[/] the capture spans {hours:,.0f} h; records older than the topic's retention "
            f"({_RETENTION_H} h by default) are deleted within minutes. Shorten its silences with --close-gaps 1.",
            highlight=False,
        )


def _report(topic: str, done: Published, events: int, bad: list[BadRow], plan: Schedule, as_json: bool) -> None:
    for row in bad[:_BAD_ROWS_SHOWN]:
        say(f"not published: {row}")
    if len(bad) > _BAD_ROWS_SHOWN:
        stderr.print(f"... and {len(bad) - _BAD_ROWS_SHOWN:,} rows more")
    shifts = sorted({int(shift) for shift in plan.shift_us})
    if as_json:
        report = {
            "topic": topic,
            "published": done.records,
            "events": events,
            "bad_rows": [str(row) for row in bad],
            "seconds": round(done.seconds, 3),
            "shift_us": shifts[0] if len(shifts) == 1 else None,
            "shifts": len(shifts),
        }
        typer.echo(json.dumps(report))
    else:
        rest = f"; {len(bad):,} rows could not be encoded" if bad else ""
        typer.echo(f"{done.records:,} of {events:,} events on {topic}, {done.rate:,.0f}/s, all confirmed{rest}")
    if bad:
        raise typer.Exit(1)
