"""What Beam needs beside the cluster: expansion service, job server, and the pool of Python workers."""

import stat
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from runners.stack.java import Jvm
from runners.stack.process import ProcessSpec

SERVICE_HEAP_MB = 512
# Both serve a few calls per job: the first compiler tier starts them faster and takes less from the two cores.
_SERVICE_FLAGS = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")


@dataclass(frozen=True)
class Ports:
    """On the loopback interface."""

    expansion: int
    job: int
    artifact: int
    workers: int


def tiny_jar(root: Path) -> Path:
    """What is staged with a job (`--files_to_stage`), since Beam will stage something: a jar without a class."""
    return root / "tiny.jar"


def expansion_spec(port: int, classpath: tuple[Path, ...], root: Path) -> ProcessSpec:
    """The expansion service, which turns ReadKafka into KafkaIO's Java steps."""
    command = Jvm(classpath, SERVICE_HEAP_MB, root, flags=_SERVICE_FLAGS).command(
        "horizon.Expansion",
        str(port),
        "--defaultEnvironmentType=EMBEDDED",  # KafkaIO's steps run inside the TaskManager's own JVM
        "--experiments=use_deprecated_read",  # counts only here, not among a pipeline's options
    )
    return ProcessSpec("expansion", command)


def jobserver_spec(ports: Ports, master: str, conf_dir: Path, classpath: tuple[Path, ...], root: Path) -> ProcessSpec:
    """The job server, which translates a Beam pipeline and submits it to the Flink cluster at `master`."""
    staged = {"horizon.staged": str(write_tiny_jar(root))}
    command = Jvm(classpath, SERVICE_HEAP_MB, root, flags=_SERVICE_FLAGS, properties=staged).command(
        "horizon.Launcher",
        "--job-host=127.0.0.1",
        f"--job-port={ports.job}",
        f"--artifact-port={ports.artifact}",
        "--expansion-port=-1",
        f"--flink-master={master}",
        # in two words, for its parser takes no blank behind a "="
        *("--artifacts-dir", str(root / "artifacts")),
        *("--flink-conf-dir", str(conf_dir)),
    )
    return ProcessSpec("jobserver", command)


def write_tiny_jar(root: Path) -> Path:
    """The jar that is staged; all the job server is to know of its class path (runners/java/horizon/Launcher.java)."""
    root.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(tiny_jar(root), "w") as archive:
        archive.writestr("META-INF/MANIFEST.MF", "Manifest-Version: 1.0\n\n")
    return tiny_jar(root)


# Two arenas: in one for each of its 40 threads, a worker's free memory is what the next thread cannot use. What is
# freed is kept for the next batch: arrays of megabytes, given back and fetched anew, cost a first touch of each page.
_MALLOC: Final = {
    "MALLOC_ARENA_MAX": "2",
    "MALLOC_MMAP_THRESHOLD_": str(32 * 2**20),
    "MALLOC_TRIM_THRESHOLD_": str(256 * 2**20),
}


def workers_spec(port: int, root: Path, import_root: Path) -> ProcessSpec:
    """The pool of Python workers: this very interpreter, with the checkout importable."""
    boot = write_boot(root)
    environment = {"PYTHONPATH": str(import_root), **_MALLOC}
    return ProcessSpec(
        "workers", (sys.executable, "-m", "runners.stack.worker_pool", str(port), str(boot)), environment
    )


def write_boot(root: Path) -> Path:
    """The executable that the pool runs for each worker: our boot module under our interpreter."""
    boot = root / "worker_boot"
    root.mkdir(parents=True, exist_ok=True)
    boot.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m runners.stack.worker_boot "$@"\n')
    boot.chmod(boot.stat().st_mode | stat.S_IXUSR)
    return boot
