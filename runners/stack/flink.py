"""A Flink cluster by hand: one JobManager and TaskManagers, without Flink's shell scripts."""

import json
from dataclasses import dataclass
from pathlib import Path

from runners.stack.java import Jvm
from runners.stack.process import ProcessSpec

JOBMANAGER_HEAP_MB = 600
# A TaskManager that is started by hand must be told every part of its memory; nothing is derived.
TASK_HEAP_MB = 1536
FRAMEWORK_HEAP_MB = 128
FRAMEWORK_OFF_HEAP_MB = 128
TASK_OFF_HEAP_MB = 512  # gRPC between Flink, the Java harness and the Python workers
NETWORK_MB_PER_SLOT = 128  # ten shuffles of up to 64 buffers of 32 KB at both ends, and as much again
MANAGED_MB = 128  # only bounded jobs sort in it
METASPACE_MB = 256
OVERHEAD_MB = 192
RETAINED_CHECKPOINTS = 3  # of a job that runs; the newest may be half written when everything dies
FOREVER = 2_147_483_647


@dataclass(frozen=True)
class Cluster:
    """Ports on the loopback interface, and where the cluster keeps its files."""

    rpc_port: int
    rest_port: int
    slots: int
    root: Path

    @property
    def network_mb(self) -> int:
        """Memory for the shuffles of a TaskManager."""
        return self.slots * NETWORK_MB_PER_SLOT

    @property
    def conf_dir(self) -> Path:
        """The directory of config.yaml, for the cluster and for whoever submits a job."""
        return self.root / "conf"


def flink_uri(path: Path) -> str:
    """A path as Flink's own class for paths takes it: as it is. What Path.as_uri escapes it would look for as such."""
    return f"file://{path.absolute()}"


def path_of(uri: str) -> Path:
    """The inverse of flink_uri, in each form that Flink gives it back.

    >>> path_of("file:/my state/savepoint-1"), path_of("file:///a%20b")
    (PosixPath('/my state/savepoint-1'), PosixPath('/a%20b'))
    """
    return Path("/" + uri.removeprefix("file:").lstrip("/"))


def config(cluster: Cluster) -> dict[str, object]:
    """Flink's settings, in Flink's names and units."""
    root = cluster.root
    return {
        "jobmanager.rpc.address": "127.0.0.1",
        "jobmanager.rpc.port": cluster.rpc_port,
        "jobmanager.bind-host": "127.0.0.1",
        "jobmanager.memory.heap.size": f"{JOBMANAGER_HEAP_MB}m",
        "rest.address": "127.0.0.1",
        "rest.bind-address": "127.0.0.1",
        "rest.port": cluster.rest_port,
        "web.submit.enable": "false",
        "web.tmpdir": root / "tmp",
        "taskmanager.host": "127.0.0.1",
        "taskmanager.bind-host": "127.0.0.1",
        "taskmanager.numberOfTaskSlots": cluster.slots,
        "taskmanager.cpu.cores": cluster.slots,
        "taskmanager.memory.task.heap.size": f"{TASK_HEAP_MB}m",
        "taskmanager.memory.framework.heap.size": f"{FRAMEWORK_HEAP_MB}m",
        "taskmanager.memory.framework.off-heap.size": f"{FRAMEWORK_OFF_HEAP_MB}m",
        "taskmanager.memory.task.off-heap.size": f"{TASK_OFF_HEAP_MB}m",
        "taskmanager.memory.network.min": f"{cluster.network_mb}m",
        "taskmanager.memory.network.max": f"{cluster.network_mb}m",
        # a step that waits for its bundle's end lets the one before it go on for a bundle or two (docs/facts.md)
        "taskmanager.network.memory.floating-buffers-per-gate": 64,
        "taskmanager.network.memory.max-buffers-per-channel": 64,
        "taskmanager.memory.managed.size": f"{MANAGED_MB}m",
        "taskmanager.memory.jvm-metaspace.size": f"{METASPACE_MB}m",
        "taskmanager.memory.jvm-overhead.min": f"{OVERHEAD_MB}m",
        "taskmanager.memory.jvm-overhead.max": f"{OVERHEAD_MB}m",
        "heartbeat.interval": 1000,  # ms; a killed TaskManager is noticed after 6 s and not after 50
        "heartbeat.timeout": 6000,
        "restart-strategy.type": "fixed-delay",
        "restart-strategy.fixed-delay.attempts": FOREVER,
        "restart-strategy.fixed-delay.delay": "1 s",
        "classloader.resolve-order": "parent-first",  # the jars are on the cluster's own class path
        "execution.buffer-timeout": "5ms",  # 100 ms by default, and that at every shuffle
        "state.backend.type": "hashmap",
        "state.checkpoints.dir": flink_uri(root / "checkpoints"),
        "state.checkpoints.num-retained": RETAINED_CHECKPOINTS,
        "state.savepoints.dir": flink_uri(root / "savepoints"),
        "io.tmp.dirs": root / "tmp",
    }


def write_config(cluster: Cluster) -> None:
    """Write config.yaml and make the directories that it names."""
    for name in ("conf", "tmp", "checkpoints", "savepoints"):
        (cluster.root / name).mkdir(parents=True, exist_ok=True)
    # JSON's strings are YAML's too, whatever a path is made of
    text = "".join(f"{key}: {json.dumps(str(value), ensure_ascii=False)}\n" for key, value in config(cluster).items())
    (cluster.conf_dir / "config.yaml").write_text(text, "utf-8")


def jobmanager_spec(cluster: Cluster, classpath: tuple[Path, ...]) -> ProcessSpec:
    """The JobManager, with Flink's web page."""
    java = Jvm(classpath, JOBMANAGER_HEAP_MB, cluster.root / "tmp", flags=("-XX:+UseSerialGC",))
    main = "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint"
    return ProcessSpec("jobmanager", java.command(main, "--configDir", str(cluster.conf_dir)))


def taskmanager_spec(number: int, cluster: Cluster, classpath: tuple[Path, ...]) -> ProcessSpec:
    """One TaskManager; `number` from 1 on is only its name."""
    heap_mb = TASK_HEAP_MB + FRAMEWORK_HEAP_MB
    direct_mb = FRAMEWORK_OFF_HEAP_MB + TASK_OFF_HEAP_MB + cluster.network_mb
    flags = (
        f"-Xms{heap_mb}m",
        f"-XX:MaxDirectMemorySize={direct_mb}m",
        f"-XX:MaxMetaspaceSize={METASPACE_MB}m",
        "-XX:+UseParallelGC",  # less work for each reference written, and fewer threads beside the workers
        "-XX:+AlwaysPreTouch",  # a page's first touch is dear: at the start, not in the midst of a checkpoint
    )
    java = Jvm(classpath, heap_mb, cluster.root / "tmp", flags=flags)
    main = "org.apache.flink.runtime.taskexecutor.TaskManagerRunner"
    return ProcessSpec(f"taskmanager-{number}", java.command(main, "--configDir", str(cluster.conf_dir)))
