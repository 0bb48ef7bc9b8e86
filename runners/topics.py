"""Topics as code: what topics.toml asks for, what the cluster has, and the way from one to the other."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from typing import Literal

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
)

from runners.kafka_rights import denied_by
from runners.log import list_offsets
from runners.topic_specs import TOPICS_FILE, TopicsError, TopicSpec, output_specs, parse_specs, read_specs
from transforms.brokers import Brokers, client_settings

__all__ = [
    "TOPICS_FILE",
    "Change",
    "Plan",
    "TopicSpec",
    "TopicsError",
    "apply_topics",
    "output_specs",
    "parse_specs",
    "plan_topics",
    "read_specs",
]

TIMEOUT_S = 15.0
COMPACTED = ": compaction keeps of a key what was written last, not the highest version"

_CLEANUP, _COMPACT = "cleanup.policy", "compact"

Kind = Literal["create", "alter_config", "add_partitions", "cannot"]


@dataclass(frozen=True)
class Change:
    """One step of a plan, or with kind `cannot` a difference that no step removes."""

    kind: Kind
    topic: str
    detail: str


@dataclass(frozen=True)
class Plan:
    """The way from what the cluster has to what the file asks for; without changes there is no drift."""

    brokers: int
    notes: tuple[str, ...]
    changes: tuple[Change, ...]

    def as_dict(self) -> dict[str, object]:
        """For `--json`."""
        return asdict(self)


@dataclass(frozen=True)
class Actual:
    """A topic as it is."""

    partitions: int
    replication: int
    config: Mapping[str, str]


def plan_topics(bootstrap_servers: Brokers, specs: Sequence[TopicSpec]) -> Plan:
    """Compare without changing anything.

    Raises:
        TopicsError: no broker answers.
    """
    brokers, actual = _actual(bootstrap_servers, specs)
    changes = [change for spec in specs for change in differences(spec.fitted(brokers), actual.get(spec.name))]
    return Plan(brokers, _notes(specs, brokers), tuple(changes))


def differences(spec: TopicSpec, actual: Actual | None) -> list[Change]:
    """What it takes to make one topic as `spec` says; `actual` is None when there is none of its name."""
    if actual is None:
        settings = ", ".join(f"{key}={value}" for key, value in sorted(spec.config.items()))
        detail = f"{spec.partitions} partitions, replication {spec.replication}, {settings}"
        return [Change("create", spec.name, detail)]
    found = []
    if actual.partitions < spec.partitions:
        found.append(Change("add_partitions", spec.name, f"partitions {actual.partitions} -> {spec.partitions}"))
    if actual.partitions > spec.partitions:
        detail = f"partitions {actual.partitions} -> {spec.partitions}: Kafka takes none away; make a new topic"
        found.append(Change("cannot", spec.name, detail))
    if actual.replication != spec.replication:
        detail = (
            f"replication {actual.replication} -> {spec.replication}: reassign its partitions with Kafka's own tool"
        )
        found.append(Change("cannot", spec.name, detail))
    for key, value in sorted(spec.config.items()):
        has = actual.config.get(key, "unset")
        if has != value:
            why = COMPACTED if key == _CLEANUP and _COMPACT in has and _COMPACT not in value else ""
            found.append(Change("alter_config", spec.name, f"{key} {has} -> {value}{why}"))
    return found


def apply_topics(bootstrap_servers: Brokers, specs: Sequence[TopicSpec]) -> Plan:
    """Carry out the plan and wait until every leader answers; gives back the plan that was carried out.

    Raises:
        TopicsError: no broker answers, or one refuses a step.
    """
    plan = plan_topics(bootstrap_servers, specs)
    admin = _admin(bootstrap_servers)
    wanted = {spec.name: spec.fitted(plan.brokers) for spec in specs}
    touched = {kind: _touched(plan, wanted, kind) for kind in ("create", "add_partitions", "alter_config")}
    if touched["create"]:
        new = [
            NewTopic(one.name, one.partitions, one.replication, config=dict(one.config)) for one in touched["create"]
        ]
        _finish(bootstrap_servers, "create", "Create", admin.create_topics(new, operation_timeout=TIMEOUT_S))
    if touched["add_partitions"]:
        grown = [NewPartitions(one.name, one.partitions) for one in touched["add_partitions"]]
        _finish(bootstrap_servers, "add partitions to", "Alter", admin.create_partitions(grown))
    if touched["alter_config"]:
        altered = [_resource(one) for one in touched["alter_config"]]
        pending = {item.name: done for item, done in admin.incremental_alter_configs(altered).items()}
        _finish(bootstrap_servers, "alter", "AlterConfigs", pending)
    _wait_for_leaders(admin, [*touched["create"], *touched["add_partitions"]])
    return plan


def _touched(plan: Plan, wanted: Mapping[str, TopicSpec], kind: str) -> list[TopicSpec]:
    names = dict.fromkeys(change.topic for change in plan.changes if change.kind == kind)
    return [wanted[name] for name in names]


def _admin(bootstrap_servers: Brokers) -> AdminClient:
    return AdminClient(client_settings(bootstrap_servers) | {"log_level": 0})


def _actual(bootstrap_servers: Brokers, specs: Sequence[TopicSpec]) -> tuple[int, dict[str, Actual]]:
    """The number of brokers, and those of the wanted topics that there are."""
    admin = _admin(bootstrap_servers)
    try:
        cluster = admin.list_topics(timeout=TIMEOUT_S)
    except KafkaException as error:
        raise TopicsError(
            f"no broker answers at {bootstrap_servers}; is the stack up (`horizon stack status`)?"
        ) from error
    there = [spec.name for spec in specs if spec.name in cluster.topics]
    resources = [ConfigResource(ConfigResource.Type.TOPIC, name) for name in there]
    configs = admin.describe_configs(resources, request_timeout=TIMEOUT_S) if resources else {}
    found = {}
    for resource, answer in configs.items():
        partitions = cluster.topics[resource.name].partitions
        replication = min(len(partition.replicas) for partition in partitions.values())
        settings = {key: entry.value for key, entry in answer.result().items() if entry.value is not None}
        found[resource.name] = Actual(len(partitions), replication, settings)
    return len(cluster.brokers), found


def settings_of(bootstrap_servers: Brokers, name: str) -> Mapping[str, str]:
    """A topic's settings as the broker has them, its defaults among them; none when there is no such topic."""
    _, found = _actual(bootstrap_servers, [TopicSpec(name, 1, 1, {})])
    return found[name].config if name in found else {}


def _notes(specs: Sequence[TopicSpec], brokers: int) -> tuple[str, ...]:
    """What the reader should know though it is no drift."""
    wanted = max((spec.replication for spec in specs), default=0)
    if wanted <= brokers:
        return ()
    return (f"{brokers} broker(s): replication {brokers} instead of {wanted}, so a lost disk is lost data",)


def _resource(spec: TopicSpec) -> ConfigResource:
    entries = [
        ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET) for key, value in spec.config.items()
    ]
    return ConfigResource(ConfigResource.Type.TOPIC, spec.name, incremental_configs=entries)


def _finish(brokers: Brokers, doing: str, operation: str, pending: Mapping[str, "Future[None]"]) -> None:
    for name, done in pending.items():
        try:
            done.result(timeout=TIMEOUT_S)
        except KafkaException as error:
            why = denied_by(error, brokers, f"{operation} on topic {name}")
            why = why or f"{error.args[0].str()}; see `horizon topics plan`"
            raise TopicsError(f"cannot {doing} topic {name}: {why}") from error


def _wait_for_leaders(admin: AdminClient, specs: Sequence[TopicSpec]) -> None:
    """The controller has answered; wait until the leader of every partition does, too."""
    places = {TopicPartition(one.name, p): OffsetSpec.latest() for one in specs for p in range(one.partitions)}
    try:
        list_offsets(admin, places)
    except KafkaException as error:
        names = ", ".join(one.name for one in specs)
        raise TopicsError(
            f"no leader for every partition of {names}: {error.args[0].str()}; see the brokers' logs"
        ) from error
