"""Why nothing comes out: the diagnosis from numbers, and on a real job with a partition that is silent."""

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest
from confluent_kafka import Producer
from typer.testing import CliRunner, Result

from runners.__main__ import app
from runners.commands.status import as_plain, lines
from runners.flink_rest import Checkpoints, Failure, failure_in
from runners.job_numbers import job_numbers
from runners.live import running
from runners.simulate import Market, MarketConfig
from runners.stack import Endpoints
from runners.status import JobNumbers, PartitionNumbers, diagnose, holding_back
from tests import live
from tests.conftest import TopicFactory

NOW_MS = 1_700_000_000_000
DONE = Checkpoints(completed=9, interval_s=5, last_at_ms=NOW_MS - 4_000, last_bytes=1_000_000, last_s=0.2)


def partition(number: int, **about: int | None) -> PartitionNumbers:
    """One that is read to its end, with a record of just now."""
    return PartitionNumbers(
        **{"partition": number, "first": 0, "end": 90, "committed": 90, "newest_ms": NOW_MS} | about
    )


EMPTY = {"end": 0, "committed": None, "newest_ms": -1}
HEALTHY = JobNumbers(
    group="g",
    topic="t",
    now_ms=NOW_MS,
    job_id="j",
    state="RUNNING",
    age_s=60,
    restarts=0,
    watermark_ms=NOW_MS - 9_000,
    partitions=[partition(number) for number in range(12)],
    checkpoints=DONE,
)


def said(**about: object) -> list[tuple[str, str]]:
    return [(one.level, one.said) for one in diagnose(replace(HEALTHY, **about))]  # type: ignore[arg-type]


def with_partition(number: int, **about: int | None) -> list[PartitionNumbers]:
    return [partition(n, **about) if n == number else partition(n) for n in range(12)]


def test_a_stopped_job_is_shown_with_how_far_it_read() -> None:
    ended = replace(HEALTHY, job_id=None, state=None, savepoint="flink/savepoints/s-1", ends={1: 30, 0: 12})
    said = "stopped with savepoint flink/savepoints/s-1, read to 0:12,1:30 (partition:offset)"
    assert said in list(lines(ended))
    assert as_plain(ended, [])["ends"] == {1: 30, 0: 12}
    assert not any(line.startswith("stopped") for line in lines(HEALTHY))


def test_nothing_is_said_of_a_healthy_job() -> None:
    assert diagnose(HEALTHY) == []
    assert said(watermark_ms=None) == []  # Flink did not say, and no partition is suspect


def test_no_job_and_a_job_that_does_not_run_are_all_that_is_said() -> None:
    assert said(job_id=None, partitions=with_partition(3, **EMPTY)) == [("failed", "Flink knows of no job of group g")]
    assert said(
        state="RESTARTING", restarts=4, failure=Failure(1, "x.Y: no"), partitions=with_partition(3, **EMPTY)
    ) == [("failed", "job j is RESTARTING after 4 restarts, nothing comes out: x.Y: no")]
    assert said(state="INITIALIZING") == [("warning", "job j is starting, nothing comes out yet")]
    assert said(state="FAILED", restarts=None)[0][1] == "job j is FAILED, nothing comes out"


@pytest.mark.parametrize("watermark_ms", [-(2**63), None])
def test_a_partition_that_never_held_a_record_is_named_while_the_clock_waits(watermark_ms: int | None) -> None:
    (level, found), *rest = said(watermark_ms=watermark_ms, partitions=with_partition(7, **EMPTY))
    assert (level, rest) == ("failed", [])
    assert found.startswith("partition 7 never held a record and no beacons come: the job's clock waits")


def test_empty_partitions_are_no_matter_while_the_clock_runs() -> None:
    assert said(partitions=with_partition(7, **EMPTY)) == []


def test_many_partitions_are_named_by_the_first_ones_and_their_number() -> None:
    partitions = [partition(0), *(partition(number, **EMPTY) for number in range(1, 12))]
    (_, found), *_ = said(watermark_ms=-1, partitions=partitions)
    assert found.startswith("partitions 1, 2, 3, 4, 5, 6 and 5 more never held a record")


def test_an_empty_topic_is_told() -> None:
    partitions = [partition(number, **EMPTY) for number in range(12)]
    assert said(watermark_ms=-1, partitions=partitions) == [("warning", "topic t holds no record")]


def test_a_partition_far_behind_is_named_with_its_distance() -> None:
    behind = with_partition(4, end=50_000, committed=10_000, position_ms=NOW_MS - 90_000)
    ((level, found),) = said(watermark_ms=NOW_MS - 90_000, partitions=behind)
    assert level == "warning"
    assert found == "partition 4 is far behind and all bars wait: 90 s of log time, 40,000 records"
    assert [one.partition for one in holding_back(replace(HEALTHY, partitions=behind))] == [4]


def test_a_partition_that_fell_silent_is_named() -> None:
    silent = with_partition(2, newest_ms=NOW_MS - 300_000)
    ((level, found),) = said(watermark_ms=NOW_MS - 300_000, partitions=silent)
    assert level == "warning"
    assert found.startswith("partition 2 is silent for 300 s without beacons")


def test_a_clock_behind_that_no_partition_explains_is_told_as_that() -> None:
    ((level, found),) = said(watermark_ms=NOW_MS - 45_000)
    assert level == "warning"
    assert found == "the job's clock is 45 s behind the newest log time, and no partition holds it back"
    assert said(watermark_ms=-1)[0][1] == "the job's clock has not started, and no partition holds it back"


def test_checkpoints_that_do_not_come_are_told_after_five_intervals() -> None:
    none = Checkpoints(interval_s=5)
    assert said(checkpoints=none, age_s=25) == []
    assert said(checkpoints=none, age_s=26) == [("failed", "no checkpoint in 26 s, one is due every 5 s")]
    old = replace(DONE, last_at_ms=NOW_MS - 25_100)
    assert said(checkpoints=old) == []
    assert said(checkpoints=replace(old, last_at_ms=NOW_MS - 25_300)) == [
        ("warning", "the newest checkpoint is 25 s old, one is due every 5 s")
    ]


def test_checkpoints_that_failed_just_now_are_told_and_those_refused_at_the_start_are_not() -> None:
    assert said(checkpoints=replace(DONE, failed=8)) == []
    failed = replace(DONE, failed=2, failure="disk full", failed_at_ms=NOW_MS - 2_000)
    told = [("warning", "2 checkpoints failed: disk full")]
    assert said(checkpoints=failed) == told
    assert said(checkpoints=replace(failed, failed_at_ms=NOW_MS - 25_000)) == told  # every other one may fail
    assert said(checkpoints=replace(failed, failed_at_ms=NOW_MS - 25_300)) == []
    assert told[0] in said(checkpoints=replace(failed, failed_at_ms=NOW_MS - 90_000, last_at_ms=NOW_MS - 95_000))


def test_lag_is_counted_from_the_oldest_record_where_nothing_was_committed() -> None:
    assert partition(0, first=10, committed=None).lag == 80
    assert partition(0, first=10, committed=5).lag == 80  # what retention took is not read any more
    assert partition(0, committed=70).lag == 20


def test_report_says_the_numbers_and_json_the_same() -> None:
    numbers = replace(HEALTHY, rejects=12, reasons={"undecodable": 10, "empty_value": 2}, read_per_s=1_234.5)
    report = "\n".join(lines(numbers))
    for text in (
        "group g: job j RUNNING for 60 s, 0 restarts",
        "rate: 1,234 in, 0 unique, 0 bars a second; lag 0",
        "clock: newest log time 2023-11-14 22:13:20.000, 0.0 s ago; the job's 9.0 s behind it",
        "checkpoints: 9 done, 0 failed; newest 4.0 s ago, 1.0 MB, took 0.2 s",
        "rejects: 12; of the newest 12: undecodable 10, empty_value 2",
        "  partition 11: end 90, lag 0, newest 2023-11-14 22:13:20.000, 0.0 s behind",
    ):
        assert text in report
    plain = json.loads(json.dumps(as_plain(numbers, diagnose(numbers))))
    assert (plain["clock_behind_s"], plain["partitions"][3]["lag"], plain["findings"]) == (9.0, 0, [])


def horizon(stack: Endpoints, command: str, raw: str, group: str, *more: str) -> Result:
    line = [command, "--state-dir", str(stack.state_dir), "--group", group, "--topic", raw, "--json", *more]
    return CliRunner().invoke(app, line)


@pytest.mark.slow
def test_status_names_the_one_of_twelve_partitions_that_is_silent_without_beacons(
    stack: Endpoints, topic: TopicFactory, tmp_path: Path
) -> None:
    raw, silent = topic(prefix="raw"), 11
    options = live.options(stack, topic, raw, tmp_path / "live")
    prefix = options.outputs.topic_prefix
    asked = live.asked(stack, options)
    (missing,) = diagnose(job_numbers(asked))
    assert (missing.level, missing.said) == ("failed", f"Flink knows of no job of group {options.group}")
    producer = Producer({"bootstrap.servers": stack.bootstrap_servers, "log_level": 0})
    producer.produce(raw, b"\xff", partition=0)
    start_us = time.time_ns() // 1_000 - 10_000_000
    for batch in Market(MarketConfig(rate=2_000, count=20_000), start_us).batches():
        for number, (value, time_ms) in enumerate(zip(batch.values, batch.log_time_ms.tolist(), strict=True)):
            producer.produce(raw, value, partition=number % silent, timestamp=time_ms)
    assert producer.flush(30) == 0
    with running(stack, options) as job:

        def findings() -> list[str]:
            return live.findings(stack, options)

        live.wait_until(lambda: any("partition 11 never held" in one for one in findings()), 120, "not named", 1.0)
        live.wait_until(lambda: job_numbers(asked).checkpoints.completed > 1, 120, "no checkpoint", 1.0)
        numbers = job_numbers(asked)
        assert [one.partition for one in holding_back(numbers)] == [silent]
        assert (numbers.job_id, numbers.state, numbers.restarts) == (job.job_id, "RUNNING", 0)
        assert numbers.reasons == {"undecodable": 1}
        assert sum(one.end for one in numbers.partitions) == 20_001
        told = horizon(stack, "status", raw, options.group, "--prefix", prefix)
        assert told.exit_code == 1
        assert json.loads(told.stdout)["holding_back"] == [silent]

        checks = {one["name"]: one for one in json.loads(horizon(stack, "doctor", raw, options.group).stdout)["checks"]}
        assert {name for name, one in checks.items() if one["level"] == "failed"} <= {"topics"}, checks
        assert "Kafka 4.1" in checks["broker"]["said"]
        assert f"horizon-{options.group}" in checks["job"]["said"]
        assert {"clocks", "lag", "flink", "checkpoints", "processes"} <= checks.keys()

        producer.produce(raw, None, partition=silent, headers=[("horizon-beacon", b"1")])
        assert producer.flush(30) == 0
        live.wait_until(lambda: not any("never held" in one for one in findings()), 120, "still named", 1.0)
        live.wait_until(lambda: (job_numbers(asked).watermark_ms or -1) > 0, 120, "the clock does not start", 1.0)


STEP = "DecodeEvents/Decode/ParDo(_Decode)"
IN_PYTHON = f"""org.apache.flink.runtime.JobException: Recovery is suppressed
Caused by: java.util.concurrent.ExecutionException: java.lang.RuntimeException: Error received from SDK harness for \
instruction 7: Traceback (most recent call last):
  File "named_failure.py", line 54, in named
    yield from process(self, element, *args, **kwargs) or ()
ValueError: no such thing

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
  File "apache_beam/runners/common.py", line 1498, in process
transforms.named_failure.RecordError: ValueError: no [such] thing [at md.events.raw/3/1234]

During handling of the above exception, another exception occurred:

transforms.named_failure.RecordError: ValueError: no [such] thing [at md.events.raw/3/1234] \
[while running '{STEP}-ptransform-55']

\tat java.base/java.util.concurrent.CompletableFuture.reportGet(Unknown Source)
Caused by: java.lang.RuntimeException: Error received from SDK harness for instruction 7
"""


def test_an_error_of_a_worker_tells_step_and_record_and_any_other_its_cause() -> None:
    found = failure_in(IN_PYTHON, 5)
    assert found == Failure(5, "ValueError: no [such] thing", STEP, "at md.events.raw/3/1234")
    assert str(found) == f"in {STEP} at md.events.raw/3/1234: ValueError: no [such] thing"
    bare = failure_in(f"Traceback:\nKeyError: 'a' [while running '{STEP}-ptransform-55']\n", 5)
    assert bare == Failure(5, "KeyError: 'a'", STEP)
    assert failure_in("a.B: no\n\tat x\nCaused by: c.D: why\n\tat y", 5) == Failure(5, "c.D: why")


@pytest.mark.parametrize(("times", "ago_s", "is_told"), [(3, 5, True), (2, 5, False), (3, 500, False)])
def test_a_job_that_fails_at_one_record_again_and_again_names_it(times: int, ago_s: int, is_told: bool) -> None:
    failure = replace(failure_in(IN_PYTHON, NOW_MS - 1_000 * ago_s), times=times)
    told = f"restarted 7 times, the last {times} of them in {STEP} at md.events.raw/3/1234: ValueError: no [such] thing"
    assert said(restarts=7, failure=failure) == ([("failed", told)] if is_told else [])


def test_log_times_in_a_wrong_unit_are_told() -> None:
    told = "9 of the newest rejects have a log time that is none: seconds or microseconds for milliseconds?"
    assert said(reasons={"undecodable": 1, "log_time_implausible": 9}) == [("warning", told)]
