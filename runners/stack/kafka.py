"""Kafka brokers in KRaft mode, each a broker and a controller in one process."""

import uuid
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from pathlib import Path

from runners.stack.java import Jvm
from runners.stack.process import ProcessSpec

HEAP_MB = 1024
DEFAULT_PARTITIONS = 12


@dataclass(frozen=True)
class Broker:
    """One broker: its number from 1 on, and its two ports on the loopback interface."""

    node: int
    port: int
    controller_port: int

    @property
    def name(self) -> str:
        """The process's name in the stack."""
        return f"kafka-{self.node}"


def new_cluster_id() -> str:
    """A fresh id in the form that Kafka demands: 16 random bytes in URL-safe base64.

    None that begins with a dash, as one in 64 would: the tool that formats takes it for an option.
    """
    while (cluster_id := urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()).startswith("-"):
        pass
    return cluster_id


def server_properties(broker: Broker, cluster: tuple[Broker, ...], data_dir: Path) -> str:
    """The broker's configuration file. Everything is loopback only, and no topic is made by accident."""
    replicas = min(3, len(cluster))
    in_sync = min(2, replicas)
    voters = ",".join(f"{peer.node}@127.0.0.1:{peer.controller_port}" for peer in cluster)
    address = f"PLAINTEXT://127.0.0.1:{broker.port}"
    settings = {
        "process.roles": "broker,controller",
        "node.id": broker.node,
        "controller.quorum.voters": voters,
        "listeners": f"{address},CONTROLLER://127.0.0.1:{broker.controller_port}",
        "advertised.listeners": address,
        "controller.listener.names": "CONTROLLER",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "PLAINTEXT",
        "log.dirs": data_dir,
        "auto.create.topics.enable": "false",
        "num.partitions": DEFAULT_PARTITIONS,
        "default.replication.factor": replicas,
        "min.insync.replicas": in_sync,
        "log.message.timestamp.type": "CreateTime",
        "offsets.topic.replication.factor": replicas,
        "offsets.topic.num.partitions": 8,  # 50 by default, each with files of its own; one machine needs few
        "transaction.state.log.replication.factor": replicas,
        "transaction.state.log.min.isr": in_sync,
        "transaction.state.log.num.partitions": 8,
        "share.coordinator.state.topic.replication.factor": replicas,
        "share.coordinator.state.topic.min.isr": in_sync,
        "group.initial.rebalance.delay.ms": 0,  # 3 s by default, in case more members come; here they do not
        "num.network.threads": 2,
        "num.io.threads": 4,
        "log.cleaner.dedupe.buffer.size": 32 * 1024 * 1024,
    }
    return "".join(f"{key}={_escaped(str(value))}\n" for key, value in settings.items())


def _escaped(text: str) -> str:
    """For a properties file, which Java reads as Latin-1 with escapes."""
    units = memoryview(text.encode("utf-16-le")).cast("H")
    return "".join(chr(unit) if 32 <= unit < 127 and unit != ord("\\") else f"\\u{unit:04x}" for unit in units)


def jvm(classpath: tuple[Path, ...], temp_dir: Path) -> Jvm:
    """The JVM of a broker. Log lines of level INFO are for a broker's life: few after the start."""
    return Jvm(
        classpath,
        HEAP_MB,
        temp_dir,
        flags=("-Xms256m", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20"),
        properties={
            "org.slf4j.simpleLogger.log.org.apache.kafka.clients": "warn",
            "org.slf4j.simpleLogger.log.state.change.logger": "warn",
        },
    )


def format_spec(broker: Broker, java: Jvm, properties: Path, cluster_id: str) -> ProcessSpec:
    """The run that prepares a broker's empty data directory; it does nothing to one that is prepared."""
    command = java.command(
        "kafka.tools.StorageTool", "format", "--ignore-formatted", "-t", cluster_id, "-c", str(properties)
    )
    return ProcessSpec(f"{broker.name}-format", command)


def broker_spec(broker: Broker, java: Jvm, properties: Path) -> ProcessSpec:
    """The broker itself."""
    return ProcessSpec(broker.name, java.command("kafka.Kafka", str(properties)))
