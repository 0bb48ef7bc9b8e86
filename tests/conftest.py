"""Fixtures for every floor: one real stack for the whole session, and topics of one's own on it."""

import uuid
from collections.abc import Callable, Iterator, Mapping

import pytest

from runners.stack import Endpoints, LocalStack
from runners.topics import TopicSpec, apply_topics

TopicFactory = Callable[..., str]


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
    """Makes topics of unique names: `topic(partitions=12, config={"retention.ms": "-1"}, prefix="raw")`."""

    def create(partitions: int = 12, config: Mapping[str, str] | None = None, prefix: str = "test") -> str:
        name = f"{prefix}.{uuid.uuid4().hex[:10]}"
        apply_topics(stack.bootstrap_servers, [TopicSpec(name, partitions, 1, dict(config or {}))])
        return name

    return create
