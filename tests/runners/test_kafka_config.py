"""Commands on a broker that asks who comes: the right user works, and what is missing is one line."""

import base64
import bz2
import contextlib
import doctest
import json
import re
import subprocess
import zlib
from collections.abc import Iterator
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from confluent_kafka.admin import AclOperation, NewTopic, ResourceType
from typer.testing import CliRunner, Result

from pipelines.market_data import build
from pipelines.outputs import Outputs, write
from runners import kafka_rights
from runners.__main__ import app
from runners.broker_version import broker_version
from runners.doctor_stack import broker_check
from runners.live import LiveOptions
from runners.stack import Endpoints
from tests import java_main
from tests.secured import SecuredKafka, secured_kafka
from transforms.brokers import Secured, java_settings
from transforms.read_kafka import ReadKafka

TOPIC, GROUP = ResourceType.TOPIC, ResourceType.GROUP
READ, WRITE, DESCRIBE = AclOperation.READ, AclOperation.WRITE, AclOperation.DESCRIBE
PASSWORD = 'of gold=:#!${x}} "and" \\lead\\ ä'  # what either client, or the file, might take for a sign of its own


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredKafka]:
    """A broker of this module with the topic `raw`."""
    with secured_kafka(tmp_path_factory.mktemp("secured")) as found:
        for made in found.admin.create_topics([NewTopic("raw", 2, 1)]).values():
            made.result(30)
        yield found


@pytest.fixture(scope="module")
def desk(kafka: SecuredKafka) -> Secured:
    """Who may do all that these tests do."""
    found = kafka.user("desk", PASSWORD)
    kafka.allow("desk", (TOPIC, "raw", READ), (TOPIC, "raw", WRITE), (GROUP, "horizon-*", READ), (GROUP, "live", READ))
    return found


def horizon(brokers: Secured, *arguments: str) -> Result:
    return CliRunner().invoke(
        app, [*arguments, "--bootstrap-servers", brokers.addresses, "--kafka-config", brokers.file]
    )


def refused(brokers: Secured, *arguments: str) -> str:
    """The one line of a command that must fail."""
    result = horizon(brokers, *arguments)
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code != 0
    assert re.fullmatch(r"error: [^\n]+\n", result.stderr), result.stderr
    assert result.stdout == ""
    return result.stderr


def test_right_user_publishes_peeks_and_replays(kafka: SecuredKafka, desk: Secured, tmp_path: Path) -> None:
    sent = horizon(desk, "simulate", "--topic", "raw", "--count", "500", "--unpaced", "--json")
    assert sent.exit_code == 0, sent.output
    seen = horizon(desk, "peek", "raw", "--limit", "3", "--json")
    assert [json.loads(line)["kind"] for line in seen.stdout.splitlines()] == ["MarketDataEvent"] * 3, seen.output
    captured = tmp_path / "capture.jsonl"
    assert horizon_plain("simulate", "--count", "100", "--out", str(captured)).exit_code == 0
    published = horizon(desk, "publish", str(captured), "--topic", "raw", "--json")
    assert json.loads(published.stdout)["published"] == 100, published.output
    replayed = horizon(desk, "replay", "--topic", "raw", "--out", str(tmp_path / "again"), "--json")
    assert replayed.exit_code == 0, replayed.output
    assert json.loads(replayed.stdout)["records"] == 600


def horizon_plain(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def test_client_certificate_plans_and_makes_topics(kafka: SecuredKafka, tmp_path: Path) -> None:
    file = tmp_path / "topics.toml"
    file.write_text("[topics.made]\npartitions = 2\nreplication = 1\n")
    admin = kafka.certified("admin")
    applied = horizon(admin, "topics", "apply", "--file", str(file))
    assert applied.exit_code == 0, applied.output
    assert horizon(admin, "topics", "check", "--file", str(file)).exit_code == 0
    assert broker_check(admin).level == "ok"


def test_version_is_asked_by_tls_and_without_a_password(desk: Secured) -> None:
    assert broker_version(desk).startswith("4.1")


def test_java_reads_by_the_same_file_and_is_told_no_secret(kafka: SecuredKafka, desk: Secured, tmp_path: Path) -> None:
    command = java_main.command(tmp_path, "ReadSecured")
    assert horizon(desk, "simulate", "--topic", "raw", "--count", "50", "--unpaced").exit_code == 0
    pair = kafka.write("pair", "security.protocol=SASL_SSL", "sasl.mechanism=SCRAM-SHA-512", *_pair(kafka))
    told = []
    for brokers in (desk, kafka.certified("admin"), Secured(desk.addresses, pair)):
        settings = java_settings(brokers) | {"group.id": "live", "enable.auto.commit": "false"}
        assert not [value for value in settings.values() if "gold" in value or "plain-pair" in value]
        told.append(tmp_path / f"told-{len(told)}.properties")
        told[-1].write_text("".join(f"{name}={_escaped(value)}\n" for name, value in settings.items()))
    done = subprocess.run(
        [command[0], "-Dorg.slf4j.simpleLogger.defaultLogLevel=info", *command[1:], "raw", *map(str, told)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert len(re.findall("^read ", done.stdout, re.MULTILINE)) == len(told), done.stderr[-3000:]
    assert "sasl.jaas.config = [hidden]" in done.stderr  # so its log was seen
    assert "gold" not in done.stdout + done.stderr
    assert "plain-pair" not in done.stdout + done.stderr


def test_job_graph_holds_the_path_and_no_secret(stack: Endpoints, desk: Secured, tmp_path: Path) -> None:
    options = LiveOptions(topic="raw", outputs=Outputs(files_root=str(tmp_path), bootstrap_servers=desk))
    pipeline = beam.Pipeline(options=PipelineOptions(["--runner=PortableRunner", "--job_endpoint=127.0.0.1:1"]))
    raw = pipeline | ReadKafka(stack.expansion_endpoint, desk, options.topic, options.consumer, {0: 0}, {})
    write(build(raw, options.config, options.outputs.files_root), options.outputs, options.config.cell.grace_us)
    graph = pipeline.to_runner_api().SerializeToString()
    # Beam packs what it pickles
    packed = re.findall(rb"[A-Za-z0-9+/=]{200,}", graph)
    whole = graph + b"".join(_unpacked(part) for part in packed)
    assert whole.count(desk.file.encode()) > 2  # KafkaIO's consumer and what Python's steps hold
    assert [word for word in (b"gold", b"lead") if word in whole] == []


def _unpacked(part: bytes) -> bytes:
    for unpack in (bz2.decompress, zlib.decompress):
        with contextlib.suppress(OSError, ValueError, zlib.error, EOFError):
            return unpack(base64.b64decode(part))
    return b""


def _pair(kafka: SecuredKafka) -> tuple[str, str]:
    kafka.user("pair", "plain-pair-ü}:=")
    kafka.allow("pair", (TOPIC, "raw", READ), (GROUP, "live", READ))
    return "sasl.username=pair", "sasl.password=plain-pair-ü}:="


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\")


def test_wrong_password_is_told_with_the_user(kafka: SecuredKafka, desk: Secured) -> None:
    wrong = Secured(kafka.by_password, kafka.login("desk", "of-lead"))
    for line in ("peek raw", "simulate --topic raw --count 1", "topics plan"):
        said = refused(wrong, *line.split())
        assert f"Kafka at {kafka.by_password} does not let user desk in: SASL authentication error" in said
        assert said.rstrip().endswith(f"check {wrong.file}")
        assert "of-lead" not in said


def test_certificate_of_another_authority_is_told(kafka: SecuredKafka, desk: Secured, tmp_path: Path) -> None:
    from tests.secured import Authority

    text = Path(desk.file).read_text().replace(str(kafka.authority.file), str(Authority(tmp_path).file))
    strange = tmp_path / "strange.properties"
    strange.write_text(text)
    strange.chmod(0o600)
    assert "SSL handshake failed" in refused(Secured(desk.addresses, str(strange)), "peek", "raw")


@pytest.mark.parametrize(
    ("user", "rights", "line", "lacks"),
    [
        ("none", [], "peek raw", "Read on topic raw, Describe on group horizon-peek"),
        (
            "reader",
            [(TOPIC, "raw", READ), (GROUP, "horizon-*", READ)],
            "simulate --topic raw --count 1",
            "Write on topic",
        ),
        ("writer", [(TOPIC, "raw", WRITE)], "peek raw", "Read on topic raw"),
        (
            "topical",
            [(TOPIC, "raw", READ)],
            "replay --topic raw --out new",
            "Describe on groups horizon-replay horizon-clock",
        ),
    ],
)
def test_missing_right_is_one_line_with_user_operation_and_resource(
    kafka: SecuredKafka,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    user: str,
    rights: list[tuple[ResourceType, str, AclOperation]],
    line: str,
    lacks: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    brokers = kafka.user(user, f"of-{user}")
    kafka.allow(user, *rights)
    said = refused(brokers, *line.split())
    assert said.startswith(f"error: user {user} lacks {lacks}")
    assert f"an ACL for User:{user} gives it" in said
    assert f"of-{user}" not in said


def test_topic_that_we_may_not_create_is_one_line(kafka: SecuredKafka, tmp_path: Path) -> None:
    file = tmp_path / "topics.toml"
    file.write_text("[topics.wanted]\npartitions = 2\nreplication = 1\n")
    planner = kafka.user("planner", "of-planner")
    said = refused(planner, "topics", "plan", "--file", str(file))
    assert "user planner lacks Describe on topic wanted, DescribeConfigs on topic wanted at" in said
    kafka.allow("planner", (TOPIC, "wanted", DESCRIBE), (TOPIC, "wanted", AclOperation.DESCRIBE_CONFIGS))
    assert "+ wanted" in horizon(planner, "topics", "plan", "--file", str(file)).stdout
    said = refused(planner, "topics", "apply", "--file", str(file))
    assert "cannot create topic wanted: user planner lacks Create on topic wanted" in said


def test_examples_of_the_docs() -> None:
    assert doctest.testmod(kafka_rights).failed == 0


def test_file_that_is_wrong_is_one_line(kafka: SecuredKafka, tmp_path: Path) -> None:
    file = tmp_path / "kafka.properties"
    file.write_text("security.protocol=SSL\nsasl.password=of-gold\n")
    file.chmod(0o600)
    said = refused(Secured("127.0.0.1:1", str(file)), "peek", "raw")
    assert f"{file}: sasl.password has no part in security.protocol=SSL" in said
