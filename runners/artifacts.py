"""The Java artifacts that the local stack runs on: the lock file, the cache and its checksums.

The cache has Maven's own layout, so `HORIZON_MAVEN_REPOSITORY=file://…` can point at another cache.
Nothing is trusted by its name: a file counts as present only when its size and sha256 are those of the lock.
"""

import fcntl
import hashlib
import os
import pwd
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

Role = Literal["kafka", "beam-flink", "compiler"]
ROLES: tuple[Role, ...] = get_args(Role)
LOCK_FILE = Path(__file__).with_name("artifacts.lock")


class ArtifactError(Exception):
    """An artifact is missing, broken or cannot be had; the message names it and the remedy, on one line."""


@dataclass(frozen=True)
class Artifact:
    """One locked jar. The same jar may serve two roles and then has two lines in the lock."""

    group: str
    name: str
    version: str
    sha256: str
    size_bytes: int
    role: Role

    @property
    def coordinate(self) -> str:
        """`group:name:version`, as Maven writes it."""
        return f"{self.group}:{self.name}:{self.version}"

    @property
    def path(self) -> str:
        """Where it lies below a Maven repository, and below our cache."""
        return f"{self.group.replace('.', '/')}/{self.name}/{self.version}/{self.name}-{self.version}.jar"


def parse_lock(text: str) -> tuple[Artifact, ...]:
    """Read lines of `group:artifact:version sha256 bytes role`; `#` starts a comment.

    Raises:
        ArtifactError: a line that has another form, with its number.
    """
    found = []
    for number, line in enumerate(text.splitlines(), start=1):
        content = line.split("#", 1)[0].strip()
        if not content:
            continue
        try:
            coordinate, sha256, size, role = content.split()
            group, name, version = coordinate.split(":")
            found.append(Artifact(group, name, version, sha256, int(size), _role(role)))
        except ValueError as error:
            raise ArtifactError(
                f"artifacts.lock, line {number}: {line!r}: {error}; restore the file from git"
            ) from error
    return tuple(found)


def _role(text: str) -> Role:
    for role in ROLES:
        if role == text:
            return role
    raise ValueError(f"role must be one of {', '.join(ROLES)}")


def read_lock(path: Path = LOCK_FILE) -> tuple[Artifact, ...]:
    """The artifacts that this version of the project is pinned to."""
    return parse_lock(path.read_text())


def default_cache_dir(environment: Mapping[str, str] = os.environ) -> Path:
    """HORIZON_CACHE_DIR, or ~/.cache/horizon; the password database stands in for an empty HOME."""
    chosen = environment.get("HORIZON_CACHE_DIR")
    if chosen:
        return Path(chosen).expanduser().absolute()
    home = environment.get("HOME") or pwd.getpwuid(os.getuid()).pw_dir
    return Path(home) / ".cache" / "horizon"


def default_repository(environment: Mapping[str, str] = os.environ) -> str:
    """HORIZON_MAVEN_REPOSITORY, or the repository that Beam itself fetches its jars from."""
    chosen = environment.get("HORIZON_MAVEN_REPOSITORY")
    if chosen:
        return chosen.rstrip("/")
    from apache_beam.utils.subprocess_server import JavaJarServer  # here, for it costs half a second

    return str(JavaJarServer.MAVEN_CENTRAL_REPOSITORY)


def is_intact(artifact: Artifact, path: Path) -> bool:
    """Whether the file at `path` is that artifact, by size and sha256 of every byte."""
    try:
        if path.stat().st_size != artifact.size_bytes:
            return False
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == artifact.sha256
    except FileNotFoundError:
        return False


def missing(artifacts: Sequence[Artifact], cache_dir: Path) -> list[Artifact]:
    """The artifacts that the cache lacks or holds broken, one per file, in the lock's order. 220 MB take 0.3 s."""
    unique = list({artifact.path: artifact for artifact in artifacts}.values())
    with ThreadPoolExecutor(max_workers=4) as pool:  # hashing releases the interpreter's lock
        intact = list(pool.map(lambda artifact: is_intact(artifact, cache_dir / artifact.path), unique))
    return [artifact for artifact, good in zip(unique, intact, strict=True) if not good]


def classpath(artifacts: Sequence[Artifact], role: Role, cache_dir: Path) -> tuple[Path, ...]:
    """The verified jars of one role.

    Raises:
        ArtifactError: some are missing or broken.
    """
    wanted = [artifact for artifact in artifacts if artifact.role == role]
    lacking = missing(wanted, cache_dir)
    if lacking:
        raise ArtifactError(
            f"{len(lacking)} of {len(wanted)} {role} artifacts are missing or broken in {cache_dir}, "
            f"the first is {lacking[0].coordinate}; run `horizon fetch`"
        )
    return tuple(cache_dir / artifact.path for artifact in wanted)


@contextmanager
def locked(cache_dir: Path) -> Iterator[None]:
    """Hold the cache for one writer; a second one waits. The lock goes with the process that held it."""
    cache_dir.mkdir(parents=True, exist_ok=True)
    with (cache_dir / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
