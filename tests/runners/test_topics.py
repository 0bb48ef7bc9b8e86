"""Topics as code, on a real broker: every drift is seen, what can be is removed, the rest is said."""

import json
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource
from typer.testing import CliRunner, Result

from runners import topics
from runners.__main__ import app
from runners.beacons import MAX_AHEAD_MS
from runners.doctor_stack import topics_verdict
from runners.stack import Endpoints
from runners.topics import (
    COMPACTED,
    TOPICS_FILE,
    Actual,
    Change,
    TopicsError,
    TopicSpec,
    apply_topics,
    differences,
    parse_specs,
    plan_topics,
    read_specs,
    settings_of,
)
from tests.conftest import TopicFactory

DAY_MS = 86_400_000
SPEC = TopicSpec("a", 4, 3, {"retention.ms": "1000", "cleanup.policy": "delete"})
ASKED = Actual(4, 3, SPEC.config)


@pytest.fixture
def name() -> str:
    return f"drift.{uuid.uuid4().hex[:10]}"


def spec(name: str, partitions: int = 2, replication: int = 1, retention_ms: int = DAY_MS) -> TopicSpec:
    return TopicSpec(name, partitions, replication, {"retention.ms": str(retention_ms)})


def alter(stack: Endpoints, name: str, key: str, value: str) -> None:
    """Change a topic's configuration as an operator does, beside the file."""
    entry = ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ConfigResource.Type.TOPIC, name, incremental_configs=[entry])
    admin = AdminClient({"bootstrap.servers": stack.bootstrap_servers})
    for done in admin.incremental_alter_configs([resource]).values():
        done.result(timeout=15)


def eventually(question: Callable[[], bool]) -> bool:
    """Whether it holds within seconds: the controller answers before the broker knows."""
    deadline = time.monotonic() + 10
    while not (holds := question()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return holds


def file_with(path: Path, *specs: TopicSpec) -> Path:
    """A topics file that asks for these."""
    lines = []
    for one in specs:
        lines += [f'[topics."{one.name}"]', f"partitions = {one.partitions}", f"replication = {one.replication}"]
        lines += [f'[topics."{one.name}".config]', *(f'"{key}" = "{value}"' for key, value in one.config.items())]
    path.write_text("\n".join(lines))
    return path


def horizon_topics(command: str, stack: Endpoints, file: Path, *more: str) -> Result:
    servers = ["--bootstrap-servers", stack.bootstrap_servers]
    return CliRunner().invoke(app, ["topics", command, "--file", str(file), *servers, *more])


def changes(stack: Endpoints, *specs: TopicSpec) -> tuple[Change, ...]:
    return plan_topics(stack.bootstrap_servers, specs).changes


def test_missing_topic_is_planned_then_made_and_there_is_no_drift(stack: Endpoints, name: str) -> None:
    wanted = spec(name, partitions=3)
    planned = changes(stack, wanted)
    assert planned == (Change("create", name, f"3 partitions, replication 1, retention.ms={DAY_MS}"),)
    assert apply_topics(stack.bootstrap_servers, [wanted]).changes == planned
    assert changes(stack, wanted) == ()


def test_plan_alone_makes_nothing(stack: Endpoints, name: str) -> None:
    changes(stack, spec(name))
    assert name not in AdminClient({"bootstrap.servers": stack.bootstrap_servers}).list_topics(timeout=15).topics


def test_changed_retention_is_drift_and_apply_sets_it_back(stack: Endpoints, topic: TopicFactory) -> None:
    name = topic(partitions=2, config={"retention.ms": str(DAY_MS)})
    alter(stack, name, "retention.ms", "60000")
    drift = (Change("alter_config", name, f"retention.ms 60000 -> {DAY_MS}"),)
    assert eventually(lambda: changes(stack, spec(name)) == drift)
    apply_topics(stack.bootstrap_servers, [spec(name)])
    assert eventually(lambda: changes(stack, spec(name)) == ())


def test_setting_that_the_file_does_not_name_is_left_alone(stack: Endpoints, topic: TopicFactory) -> None:
    name = topic(partitions=2, config={"retention.ms": str(DAY_MS)})
    alter(stack, name, "max.message.bytes", "123456")
    apply_topics(stack.bootstrap_servers, [spec(name, retention_ms=60_000)])
    both = TopicSpec(name, 2, 1, {"retention.ms": "60000", "max.message.bytes": "123456"})
    assert eventually(lambda: changes(stack, both) == ())


def test_too_few_partitions_are_added(stack: Endpoints, topic: TopicFactory) -> None:
    name = topic(partitions=2, config={"retention.ms": str(DAY_MS)})
    assert changes(stack, spec(name, partitions=5)) == (Change("add_partitions", name, "partitions 2 -> 5"),)
    apply_topics(stack.bootstrap_servers, [spec(name, partitions=5)])
    assert changes(stack, spec(name, partitions=5)) == ()


def test_too_many_partitions_are_said_and_left(stack: Endpoints, topic: TopicFactory, tmp_path: Path) -> None:
    name = topic(partitions=3, config={"retention.ms": str(DAY_MS)})
    result = horizon_topics("apply", stack, file_with(tmp_path / "topics.toml", spec(name, partitions=2)))
    assert result.exit_code == 1
    assert result.stdout == f"! {name}: partitions 3 -> 2: Kafka takes none away; make a new topic\n"
    assert changes(stack, spec(name, partitions=3)) == ()


def test_check_ends_with_1_while_there_is_drift_and_with_0_after_apply(
    stack: Endpoints, name: str, topic: TopicFactory, tmp_path: Path
) -> None:
    old = topic(partitions=1, config={"retention.ms": "60000"})
    file = file_with(tmp_path / "topics.toml", spec(name), spec(old, partitions=1))
    before = horizon_topics("check", stack, file)
    assert before.exit_code == 1
    assert before.stdout.splitlines() == [
        f"+ {name}: 2 partitions, replication 1, retention.ms={DAY_MS}",
        f"~ {old}: retention.ms 60000 -> {DAY_MS}",
    ]
    assert horizon_topics("plan", stack, file).exit_code == 0
    assert horizon_topics("apply", stack, file).exit_code == 0
    assert eventually(lambda: horizon_topics("check", stack, file).exit_code == 0)
    assert horizon_topics("check", stack, file).stdout == "no difference\n"


def test_replication_lowered_on_a_small_cluster_is_said_aloud_and_no_drift(
    stack: Endpoints, name: str, tmp_path: Path
) -> None:
    wanted = TopicSpec(name, 1, 3, {"min.insync.replicas": "2"})
    file = file_with(tmp_path / "topics.toml", wanted)
    note = "1 broker(s): replication 1 instead of 3, so a lost disk is lost data"
    made = horizon_topics("apply", stack, file)
    assert made.stdout.splitlines() == [
        f"note: {note}",
        f"+ {name}: 1 partitions, replication 1, min.insync.replicas=1",
    ]
    again = horizon_topics("check", stack, file, "--json")
    assert again.exit_code == 0
    assert json.loads(again.stdout) == {"brokers": 1, "notes": [note], "changes": []}


def test_setting_that_the_broker_refuses_is_named_with_its_topic(stack: Endpoints, name: str) -> None:
    with pytest.raises(TopicsError, match=f"cannot create topic {name}: .*retention.ms"):
        apply_topics(stack.bootstrap_servers, [TopicSpec(name, 1, 1, {"retention.ms": "soon"})])


def test_broker_that_does_not_answer_is_one_line_with_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topics, "TIMEOUT_S", 0.5)
    result = CliRunner().invoke(app, ["topics", "check", "--bootstrap-servers", "127.0.0.1:1"])
    assert result.exit_code == 1
    assert result.stderr == "error: no broker answers at 127.0.0.1:1; is the stack up (`horizon stack status`)?\n"


def test_topic_as_asked_for_has_no_difference() -> None:
    assert differences(SPEC, ASKED) == []


@pytest.mark.parametrize(
    ("actual", "change"),
    [
        (Actual(3, 3, SPEC.config), Change("add_partitions", "a", "partitions 3 -> 4")),
        (
            Actual(5, 3, SPEC.config),
            Change("cannot", "a", "partitions 5 -> 4: Kafka takes none away; make a new topic"),
        ),
        (
            Actual(4, 1, SPEC.config),
            Change("cannot", "a", "replication 1 -> 3: reassign its partitions with Kafka's own tool"),
        ),
        (
            Actual(4, 3, {"retention.ms": "1000", "cleanup.policy": "compact"}),
            Change("alter_config", "a", f"cleanup.policy compact -> delete{COMPACTED}"),
        ),
        (
            Actual(4, 3, {"retention.ms": "1000", "cleanup.policy": "compact,delete"}),
            Change("alter_config", "a", f"cleanup.policy compact,delete -> delete{COMPACTED}"),
        ),
        (Actual(4, 3, {"cleanup.policy": "delete"}), Change("alter_config", "a", "retention.ms unset -> 1000")),
    ],
)
def test_each_difference_is_one_change(actual: Actual, change: Change) -> None:
    assert differences(SPEC, actual) == [change]


@pytest.mark.parametrize(("brokers", "replication", "in_sync"), [(1, 1, "1"), (2, 2, "1"), (3, 3, "2"), (9, 3, "2")])
def test_spec_fitted_to_a_cluster_lets_one_broker_be_away(brokers: int, replication: int, in_sync: str) -> None:
    fitted = TopicSpec("a", 12, 3, {"min.insync.replicas": "2"}).fitted(brokers)
    assert (fitted.replication, fitted.config) == (replication, {"min.insync.replicas": in_sync})


def test_topic_takes_the_defaults_and_what_its_own_table_says_instead() -> None:
    (found,) = parse_specs("""
        [defaults]
        partitions = 12
        replication = 3
        [defaults.config]
        "retention.ms" = 1_000
        "cleanup.policy" = "delete"
        [topics.a]
        partitions = 4
        [topics.a.config]
        "cleanup.policy" = "compact"
        "unclean.leader.election.enable" = false
    """)
    config = {"retention.ms": "1000", "cleanup.policy": "compact", "unclean.leader.election.enable": "false"}
    assert found == TopicSpec("a", 4, 3, config)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("topics = 1 2", "line 1"),
        ("", "topics: a table is needed, was None"),
        ("topics = 5", "topics: a table is needed, was 5"),
        ("defaults = 5\n[topics.a]", "defaults: a table is needed, was 5"),
        ("[topics]\na = 5", "a: a table is needed, was 5"),
        ("[topics.a]\nreplication = 1", "a: partitions must be a number from 1, was None"),
        ("[topics.a]\npartitions = 'many'", "a: partitions must be a number from 1, was 'many'"),
        ("[topics.a]\npartitions = 1\nreplication = 0", "a: replication must be a number from 1, was 0"),
        ("[topics.a]\nretention = 5", "a: unknown retention"),
        ("[topics.a]\npartitions = 1\nreplication = 1\nconfig = 5", "a: config: a table is needed, was 5"),
    ],
)
def test_topics_file_of_another_form_is_refused_with_the_topic_and_what_is_wrong(text: str, named: str) -> None:
    with pytest.raises(TopicsError, match=f"{named}.*runners/topics.toml shows the form"):
        parse_specs(text)


def test_topics_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(TopicsError, match=f"no topics file at {tmp_path / 'absent.toml'}"):
        read_specs(tmp_path / "absent.toml")


def test_the_input_topic_takes_no_log_time_further_ahead_than_beacons_believe() -> None:
    (raw,) = (one for one in read_specs(TOPICS_FILE) if one.name == "md.events.raw")
    assert raw.config["message.timestamp.after.max.ms"] == str(MAX_AHEAD_MS)


def test_a_record_dated_further_ahead_than_the_topic_takes_is_the_brokers_to_refuse(
    stack: Endpoints, topic: TopicFactory
) -> None:
    raw = topic(1, {"message.timestamp.after.max.ms": str(MAX_AHEAD_MS)}, "raw")
    assert settings_of(stack.bootstrap_servers, raw)["message.timestamp.after.max.ms"] == str(MAX_AHEAD_MS)
    told: list[str | None] = []
    producer = Producer({"bootstrap.servers": stack.bootstrap_servers})
    for ahead_ms in (0, 3_000_000):
        at_ms = time.time_ns() // 1_000_000 + ahead_ms
        producer.produce(raw, b"", timestamp=at_ms, on_delivery=lambda error, _: told.append(error and error.name()))
        producer.flush(30)
    assert told == [None, "INVALID_TIMESTAMP"]


def test_no_topic_that_ships_is_compacted() -> None:
    assert {one.config["cleanup.policy"] for one in read_specs(TOPICS_FILE)} == {"delete"}


def test_a_compacted_topic_of_bars_is_told_by_topics_and_doctor_and_apply_mends_it(
    stack: Endpoints, topic: TopicFactory, tmp_path: Path
) -> None:
    """As the topics of an earlier version are."""
    old = topic(2, {"cleanup.policy": "compact,delete"}, "old.bars.1s")
    wanted = TopicSpec(old, 2, 1, {"cleanup.policy": "delete", "retention.ms": str(DAY_MS)})
    file = file_with(tmp_path / "topics.toml", wanted)
    told = f"{old}: cleanup.policy compact,delete -> delete{COMPACTED}"
    before = horizon_topics("check", stack, file)
    assert before.exit_code == 1
    assert f"~ {told}" in before.stdout.splitlines()
    checked = topics_verdict((wanted,), plan_topics(stack.bootstrap_servers, [wanted]))
    assert checked.level == "warning"
    assert checked.said.endswith(f"the first: {told.replace(': ', ' ', 1)}")
    assert "horizon topics apply" in checked.remedy
    assert horizon_topics("apply", stack, file).exit_code == 0
    assert eventually(lambda: settings_of(stack.bootstrap_servers, old)["cleanup.policy"] == "delete")


def test_topics_that_ship_are_those_of_the_pipeline_with_three_replicas() -> None:
    specs = read_specs(TOPICS_FILE)
    assert {one.name for one in specs} >= {"md.events.raw", "md.events.unique", "md.late", "md.rejects", "md.bars.1s"}
    assert {(one.partitions, one.replication, one.config["min.insync.replicas"]) for one in specs} == {(12, 3, "2")}
