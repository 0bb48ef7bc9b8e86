"""`horizon live` and its replay on a broker with SASL_SSL and ACLs; what is secret lies nowhere but in the file."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import AclOperation, NewTopic, ResourceType

from runners.flink_rest import FlinkJob, ask, job_of
from runners.simulate import MarketConfig
from runners.stack import Endpoints, LocalStack
from runners.topics import output_specs
from tests import live
from tests.secured import SecuredKafka, secured_kafka
from transforms.brokers import Secured

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
GROUP, PREFIX, RAW = "secured", "desk", "desk.raw"
FIRST, SECOND = "of-gold-4711", "of-lead-0815"
PARTITIONS = 3
TIMEOUT_S = 240.0
TOPIC, GROUPS = ResourceType.TOPIC, ResourceType.GROUP
READ, WRITE, DESCRIBE = AclOperation.READ, AclOperation.WRITE, AclOperation.DESCRIBE


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredKafka]:
    """A broker with the job's topics, and the user `desk`, who has just what the job needs."""
    with secured_kafka(tmp_path_factory.mktemp("secured")) as found:
        topics = [NewTopic(RAW, PARTITIONS, 1), *(NewTopic(spec.name, 2, 1) for spec in output_specs(PREFIX))]
        for made in found.admin.create_topics(topics).values():
            made.result(30)
        found.user("desk", FIRST)
        written = [(TOPIC, spec.name, WRITE) for spec in output_specs(PREFIX)]
        found.allow("desk", (TOPIC, RAW, READ), (TOPIC, RAW, WRITE), *written)
        found.allow("desk", (GROUPS, GROUP, READ), (GROUPS, "horizon-*", DESCRIBE))
        yield found


def horizon(brokers: Secured, stack: Endpoints, *arguments: str) -> list[str]:
    """The command line."""
    where = ["--bootstrap-servers", brokers.addresses, "--kafka-config", brokers.file]
    return [sys.executable, "-m", "runners", *arguments, *where, "--state-dir", str(stack.state_dir)]


def done(command: list[str]) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT_S, env=environment)


@contextlib.contextmanager
def followed(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`horizon live` while entered; then Ctrl-C, and its savepoint."""
    with log.open("ab") as said:
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(command, stdout=said, stderr=said, env=environment)
        try:
            yield process
            process.send_signal(signal.SIGINT)
            assert process.wait(TIMEOUT_S) == 0, log.read_text()
        finally:
            process.kill()
            process.wait()


def command_lines(stack: LocalStack, process: subprocess.Popen[bytes]) -> bytes:
    """Those of the stack's processes, of what they started, and of `process`."""
    sessions, found = {*stack.pids().values()}, b""
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            pid = int(place.name)
            if pid == process.pid or os.getsid(pid) in sessions:
                found += (place / "cmdline").read_bytes()
    return found


def graph(stack: Endpoints, job: FlinkJob) -> str:
    """All that Flink tells of a job."""
    paths = ("", "/config", "/plan", "/checkpoints/config", "/exceptions")
    return json.dumps([ask(stack.flink_rest, f"/jobs/{job.job_id}{path}") for path in paths])


def holding(secrets: list[str], places: list[Path]) -> list[str]:
    """The files that hold one of them."""
    files = [file for place in places for file in ([place] if place.is_file() else place.rglob("*")) if file.is_file()]
    assert len(files) > 50  # so it was looked at something
    return [str(file) for file in files if any(secret.encode() in file.read_bytes() for secret in secrets)]


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="only Linux tells the command lines")
def test_job_with_sasl_and_acls_goes_on_with_a_new_password_and_leaves_no_secret(
    stack: Endpoints, local_stack: LocalStack, kafka: SecuredKafka, tmp_path: Path
) -> None:
    brokers = Secured(kafka.by_password, kafka.login("desk", FIRST))
    root, log = tmp_path / "live", tmp_path / "live.log"
    arguments = ["live", "--topic", RAW, "--group", GROUP, "--prefix", PREFIX, "--out", str(root)]
    admin = kafka.certified("admin")
    known = live.publish_ended(brokers, RAW, MarketConfig(count=20_000, seed=1))
    with followed(horizon(brokers, stack, *arguments), log) as process:
        seen = command_lines(local_stack, process)
        live.wait_until(lambda: live.is_complete(root, known.truth), TIMEOUT_S, log.read_text(), 1.0)
        job = job_of(stack.flink_rest, GROUP)
        assert job is not None
        told = graph(stack, job)
        seen += command_lines(local_stack, process)
        status = done(horizon(kafka.certified("admin"), stack, "status", *arguments[1:5], "--prefix", PREFIX, "--json"))
        assert json.loads(status.stdout)["state"] == "RUNNING", status.stderr
    # a password that changes is the next start's, also of the source that lies in the savepoint
    kafka.user("desk", SECOND)
    brokers = Secured(kafka.by_password, kafka.login("desk", SECOND))
    # behind where the first run's log was ended, and before now
    start_us = time.time_ns() // 1_000 - live.HOUR_US * 5 // 6
    more = live.publish_market(brokers, RAW, MarketConfig(count=5_000, seed=2), start_us)
    live.end(brokers, RAW, more.newest_us + live.HOUR_US * 2 // 3)
    records = known.truth.records + more.truth.records
    with followed(horizon(brokers, stack, *arguments), log) as process:
        live.wait_until(lambda: len(live.places_in_files(root)) >= records, TIMEOUT_S, log.read_text(), 1.0)
        seen += command_lines(local_stack, process)
    assert "from savepoint" in log.read_text()
    assert len(live.records(admin, f"{PREFIX}.events.unique")) >= len(live.identities_in_files(root))
    assert b"horizon" in seen
    assert brokers.file.encode() in seen  # the path is all that is told
    secrets = [word.removeprefix("of-") for word in (FIRST, SECOND)]  # a packed file may hold the rest elsewhere
    assert not [secret for secret in secrets if secret.encode() in seen or secret in told]
    assert holding(secrets, [stack.state_dir, root, log]) == []


def test_live_names_what_is_missing_in_one_line(stack: Endpoints, kafka: SecuredKafka) -> None:
    arguments = ["live", "--topic", RAW, "--group", "others", "--prefix", PREFIX]
    wrong = done(horizon(Secured(kafka.by_password, kafka.login("desk", "of-tin")), stack, *arguments))
    assert re.fullmatch(r"error: Kafka at \S+ does not let user desk in: SASL [^\n]*\n", wrong.stderr), wrong.stderr
    kafka.user("intern", "of-tin")
    kafka.allow("intern", (TOPIC, RAW, READ), (GROUPS, "horizon-*", DESCRIBE), (TOPIC, "desk.*", WRITE))
    lacking = done(horizon(Secured(kafka.by_password, kafka.login("intern", "of-tin")), stack, *arguments))
    assert re.fullmatch(r"error: user intern lacks Read on group others at [^\n]*\n", lacking.stderr), lacking.stderr
    assert (wrong.returncode, lacking.returncode) == (1, 1)
