"""Our own Java, `runners/java/`: compiled into one jar of the cache, once for each state of its sources.

The jar's name holds a hash of the sources and of all they are compiled with and against, so that what runs can be told
from what should run by its name, and a changed source is a new jar.
"""

import hashlib
import subprocess
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from runners.artifacts import Artifact, ArtifactError, classpath
from runners.stack.java import runtime

SOURCES: Final = Path(__file__).resolve().parent.parent / "java"
_TIMEOUT_S: Final = 120.0


def jar_name(lock: Sequence[Artifact]) -> str:
    """The name of the jar that belongs to the sources as they are."""
    digest = hashlib.sha256()
    for source in (*_files(SOURCES, "**/*.java"), *_files(SOURCES, "META-INF/**/*")):
        digest.update(f"{source.relative_to(SOURCES)}\0{len(source.read_bytes())}\0".encode() + source.read_bytes())
    for artifact in lock:
        if artifact.role != "kafka":
            digest.update(f"{artifact.coordinate} {artifact.sha256}\n".encode())
    return f"horizon-{digest.hexdigest()[:16]}.jar"


def place(lock: Sequence[Artifact], cache_dir: Path) -> Path:
    """Where the jar lies, or will."""
    return cache_dir / "horizon" / jar_name(lock)


def jar(lock: Sequence[Artifact], cache_dir: Path) -> Path:
    """The jar, compiled when it is not there yet (2 s).

    Raises:
        ArtifactError: what it takes is missing, or the sources do not compile.
    """
    found = place(lock, cache_dir)
    if not found.exists():
        compile_jar(SOURCES, classpath(lock, "beam-flink", cache_dir), lock, cache_dir, found)
    return found


def flink_jars(lock: Sequence[Artifact], cache_dir: Path) -> tuple[Path, ...]:
    """The class path of the cluster and of Beam's services: ours before those whose classes it stands in for."""
    return (jar(lock, cache_dir), *classpath(lock, "beam-flink", cache_dir))


def compile_jar(
    sources: Path, against: Sequence[Path], lock: Sequence[Artifact], cache_dir: Path, target: Path
) -> None:
    """Compile all sources below a directory into a jar with its META-INF, which is there whole or not at all.

    Raises:
        ArtifactError: the compiler is missing, or what it says.
    """
    (compiler,) = classpath(lock, "compiler", cache_dir)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".compile-", dir=target.parent) as scratch:
        out, packed = Path(scratch, "out"), Path(scratch, target.name)
        command = [runtime(), "-jar", str(compiler), "-17", "-proc:none", "-encoding", "UTF-8", "-d", str(out)]
        command += ["-cp", ":".join(map(str, against)), *map(str, _files(sources, "**/*.java"))]
        told = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
        if told.returncode:
            raise ArtifactError(f"the Java sources in {sources} do not compile: {' '.join(told.stderr.split())}")
        with zipfile.ZipFile(packed, "w") as archive:
            for file in sorted(out.rglob("*.class")):
                archive.write(file, file.relative_to(out))
            for file in _files(sources, "META-INF/**/*"):
                archive.write(file, file.relative_to(sources))
        packed.replace(target)  # a second process that compiled the same puts the same in its place


def _files(root: Path, pattern: str) -> list[Path]:
    return sorted(path for path in root.glob(pattern) if path.is_file())
