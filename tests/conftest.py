"""Fixtures for every floor: one real stack for the whole session, and topics of one's own on it."""

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import replace

import pytest

from runners.stack import Endpoints, LocalStack
from runners.topics import TopicSpec, apply_topics, output_specs


class TopicFactory:
    """Makes topics: `topic(partitions=12, config={"retention.ms": "-1"}, prefix="raw")` under a unique name."""

    def __init__(self, bootstrap_servers: str, replication: int = 1) -> None:
        self._bootstrap_servers, self._replication = bootstrap_servers, replication

    def __call__(self, partitions: int = 12, config: Mapping[str, str] | None = None, prefix: str = "test") -> str:
        return self.create_named(f"{prefix}.{uuid.uuid4().hex[:10]}", partitions, config)

    def create_named(self, name: str, partitions: int = 12, config: Mapping[str, str] | None = None) -> str:
        """A topic of just this name."""
        apply_topics(self._bootstrap_servers, [TopicSpec(name, partitions, self._replication, dict(config or {}))])
        return name

    def outputs(self, prefix: str = "out") -> str:
        """The topics that a live job writes to, under a prefix of their own: that prefix."""
        unique = f"{prefix}-{uuid.uuid4().hex[:10]}"
        apply_topics(self._bootstrap_servers, [replace(spec, partitions=2) for spec in output_specs(unique)])
        return unique


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoints]:
    """A broker, Flink with two slots and all of Beam's services; started by the first test that asks, once."""
    with LocalStack(tmp_path_factory.mktemp("stack")) as places:
        yield places


@pytest.fixture
def local_stack(stack: Endpoints) -> LocalStack:
    """The session's stack as an object, to kill and start its processes. Leave it as it was."""
    return LocalStack(stack.state_dir)


@pytest.fixture(scope="session")
def topic(stack: Endpoints) -> TopicFactory:
    """Topics on the session's stack."""
    return TopicFactory(stack.bootstrap_servers)
