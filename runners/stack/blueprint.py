"""Draws a stack: chooses free ports, writes the configuration files, and says what to start."""

import json
from dataclasses import dataclass
from pathlib import Path

import runners
from runners import artifacts
from runners.stack import beam, flink, kafka, own_jar
from runners.stack.endpoints import Blueprint, Endpoints, StackError
from runners.stack.ports import kept_ports
from runners.stack.process import ProcessSpec

_PORTS = ("flink rpc", "flink rest", "expansion", "job", "artifact", "workers")
IMPORT_ROOT = Path(runners.__file__).resolve().parent.parent  # the checkout, importable on the workers


@dataclass(frozen=True)
class Size:
    """How many of each; every count from 1 on."""

    brokers: int = 1
    taskmanagers: int = 1
    slots: int = 2

    def __post_init__(self) -> None:
        for name, count in vars(self).items():
            if count < 1:
                raise StackError(f"--{name} must be at least 1, was {count}")


@dataclass(frozen=True)
class Drawing:
    """What to run: once before the brokers, and from then on."""

    formats: tuple[ProcessSpec, ...]  # one per broker, in the order of the brokers
    blueprint: Blueprint


def draw(state_dir: Path, size: Size, cache_dir: Path) -> Drawing:
    """Lay a stack out below `state_dir`; Kafka's data from an earlier run is kept.

    Raises:
        ArtifactError: jars are missing, or our own does not compile.
        StackError: the directory holds the data of a cluster of another size.
    """
    lock = artifacts.read_lock()
    kafka_jars = artifacts.classpath(lock, "kafka", cache_dir)
    # ours everywhere: the job server too makes a consumer, to find the partitions
    flink_jars = own_jar.flink_jars(lock, cache_dir)
    nodes = range(1, size.brokers + 1)
    names = [f"kafka-{node}{what}" for node in nodes for what in ("", " controller")]
    port = kept_ports(state_dir / "ports.json", [*_PORTS, *names])
    cluster = flink.Cluster(port["flink rpc"], port["flink rest"], size.slots, state_dir / "flink")
    services = beam.Ports(port["expansion"], port["job"], port["artifact"], port["workers"])
    brokers = tuple(kafka.Broker(node, port[f"kafka-{node}"], port[f"kafka-{node} controller"]) for node in nodes)
    flink.write_config(cluster)
    formats, broker_specs = _kafka(state_dir / "kafka", brokers, kafka_jars)
    places = _endpoints(state_dir, cluster, services, brokers)
    specs = (
        *broker_specs,
        flink.jobmanager_spec(cluster, flink_jars),
        *(flink.taskmanager_spec(number + 1, cluster, flink_jars) for number in range(size.taskmanagers)),
        *_beam(state_dir / "beam", services, places, flink_jars),
    )
    return Drawing(formats, Blueprint(size.brokers, size.taskmanagers, size.slots, places, specs))


def _kafka(
    root: Path, brokers: tuple[kafka.Broker, ...], jars: tuple[Path, ...]
) -> tuple[tuple[ProcessSpec, ...], tuple[ProcessSpec, ...]]:
    """The processes that prepare the data directories, and the brokers."""
    cluster_id = _cluster_id(root, len(brokers))
    java = kafka.jvm(jars, root)
    formats, servers = [], []
    for broker in brokers:
        properties = root / str(broker.node) / "server.properties"
        data_dir = properties.parent / "data"
        data_dir.mkdir(parents=True, exist_ok=True)
        properties.write_text(kafka.server_properties(broker, brokers, data_dir))
        formats.append(kafka.format_spec(broker, java, properties, cluster_id))
        servers.append(kafka.broker_spec(broker, java, properties))
    return tuple(formats), tuple(servers)


def _cluster_id(root: Path, brokers: int) -> str:
    """The id of the cluster whose data lies here, made up when there is none yet."""
    note = root / "cluster.json"
    if note.exists():
        known = json.loads(note.read_text())
        if known["brokers"] != brokers:
            raise StackError(
                f"{root} holds the data of {known['brokers']} broker(s), --brokers was {brokers}; "
                "choose another --state-dir, or delete the data with `horizon stack down --purge`"
            )
        return str(known["id"])
    root.mkdir(parents=True, exist_ok=True)
    fresh = kafka.new_cluster_id()
    note.write_text(json.dumps({"id": fresh, "brokers": brokers}))
    return fresh


def _beam(root: Path, ports: beam.Ports, places: Endpoints, jars: tuple[Path, ...]) -> tuple[ProcessSpec, ...]:
    return (
        beam.expansion_spec(ports.expansion, jars, root),
        beam.jobserver_spec(ports, places.flink_master, places.flink_conf_dir, jars, root),
        beam.workers_spec(ports.workers, root, IMPORT_ROOT),
    )


def _endpoints(
    state_dir: Path, cluster: flink.Cluster, services: beam.Ports, brokers: tuple[kafka.Broker, ...]
) -> Endpoints:
    def local(port: int) -> str:
        return f"127.0.0.1:{port}"

    return Endpoints(
        bootstrap_servers=",".join(local(broker.port) for broker in brokers),
        flink_rest=local(cluster.rest_port),
        flink_master=local(cluster.rest_port),
        job_endpoint=local(services.job),
        artifact_endpoint=local(services.artifact),
        expansion_endpoint=local(services.expansion),
        worker_pool=local(services.workers),
        state_dir=state_dir,
        flink_conf_dir=cluster.conf_dir,
        tiny_jar=beam.tiny_jar(state_dir / "beam"),
    )
