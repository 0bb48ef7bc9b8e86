"""What the topics shall be: the form of topics.toml, and how it fits a cluster of some size."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

TOPICS_FILE = Path(__file__).with_name("topics.toml")
INPUT_TOPIC = "md.events.raw"
_IN_SYNC = "min.insync.replicas"


class TopicsError(Exception):
    """The file or the cluster does not allow it; the message names the thing, the value and the remedy."""


@dataclass(frozen=True)
class TopicSpec:
    """One topic as it shall be. `config` has Kafka's own names and values as text."""

    name: str
    partitions: int
    replication: int
    config: Mapping[str, str]

    def fitted(self, brokers: int) -> "TopicSpec":
        """The same for a cluster of `brokers`: no more replicas than those, and one of them may always be away.

        >>> TopicSpec("a", 12, 3, {"min.insync.replicas": "2"}).fitted(brokers=1)
        TopicSpec(name='a', partitions=12, replication=1, config={'min.insync.replicas': '1'})
        """
        replication = min(self.replication, brokers)
        config = dict(self.config)
        if _IN_SYNC in config:
            config[_IN_SYNC] = str(min(int(config[_IN_SYNC]), max(1, replication - 1)))
        return replace(self, replication=replication, config=config)


def parse_specs(text: str) -> tuple[TopicSpec, ...]:
    """Read the form of topics.toml.

    Raises:
        TopicsError: it is no TOML, or a topic lacks a number or has what is not known.
    """
    try:
        document = tomllib.loads(text)
        defaults = _table("defaults", document.get("defaults", {}))
        topics = _table("topics", document.get("topics"))
        return tuple(_spec(name, defaults, _table(name, asked)) for name, asked in topics.items())
    except ValueError as error:  # tomllib's too
        raise TopicsError(f"the topics file is wrong at {error}; runners/topics.toml shows the form") from error


def _table(name: str, found: object) -> dict[str, object]:
    if not isinstance(found, dict):
        raise ValueError(f"{name}: a table is needed, was {found!r}")
    return found


def _spec(name: str, defaults: Mapping[str, object], asked: Mapping[str, object]) -> TopicSpec:
    unknown = asked.keys() - {"partitions", "replication", "config"}
    if unknown:
        raise ValueError(f"{name}: unknown {', '.join(sorted(unknown))}")
    config = {**_settings("defaults", defaults), **_settings(name, asked)}
    whole = {**defaults, **asked}
    return TopicSpec(name, _number(name, "partitions", whole), _number(name, "replication", whole), config)


def _number(name: str, key: str, table: Mapping[str, object]) -> int:
    found = table.get(key)
    if type(found) is not int or found < 1:  # a bool is an int, too
        raise ValueError(f"{name}: {key} must be a number from 1, was {found!r}")
    return found


def _settings(name: str, table: Mapping[str, object]) -> dict[str, str]:
    config = _table(f"{name}: config", table.get("config", {}))
    return {key: str(value).lower() if isinstance(value, bool) else str(value) for key, value in config.items()}


def output_specs(prefix: str) -> tuple[TopicSpec, ...]:
    """The topics that a live job writes to, below another prefix than md."""
    outputs = (spec for spec in read_specs() if spec.name != INPUT_TOPIC)
    return tuple(replace(spec, name=spec.name.replace("md", prefix, 1)) for spec in outputs)


def read_specs(path: Path = TOPICS_FILE) -> tuple[TopicSpec, ...]:
    """The topics of a file; without one, those that ship with the project."""
    try:
        return parse_specs(path.read_text())
    except FileNotFoundError as error:
        raise TopicsError(f"no topics file at {path}; leave --file out for the one that ships") from error
