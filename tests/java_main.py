"""The programs of tests/java, compiled against our jar and the cluster's."""

from pathlib import Path

from runners import artifacts
from runners.stack import own_jar
from runners.stack.java import runtime


def command(scratch: Path, main: str) -> list[str]:
    """The command that runs the class `main`; compiled into `scratch`."""
    lock, cache_dir = artifacts.read_lock(), artifacts.default_cache_dir()
    against = own_jar.flink_jars(lock, cache_dir)
    jar = scratch / "main.jar"
    own_jar.compile_jar(Path(__file__).parent / "java", against, lock, cache_dir, jar)
    return [runtime(), "-cp", ":".join(map(str, [jar, *against])), main]
