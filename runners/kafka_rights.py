"""Whether Kafka lets us in, and lets us do what a command is about to do; asked before it does the first half of it.

Only where a file of `--kafka-config` says who we are. A client's own words for it are a timeout (a wrong password), a
topic that does not exist (one that may not be seen) or an error in the middle of the stream.
"""

import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Final, Literal

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AclOperation, AdminClient

from transforms.brokers import Brokers, Secured, client_settings

_TIMEOUT_S: Final = 20.0
_TRY_S: Final = 0.5
_POLL_S: Final = 0.2
_REFUSED: Final = (KafkaError._AUTHENTICATION, KafkaError._SSL)
_FORBIDDEN: Final = (
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
)
_OPERATIONS: Final = {
    "Read": AclOperation.READ,
    "Write": AclOperation.WRITE,
    "Describe": AclOperation.DESCRIBE,
    "DescribeConfigs": AclOperation.DESCRIBE_CONFIGS,
}
_LATER: Final = (
    KafkaError.NOT_COORDINATOR,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
)


class RightsError(RuntimeError):
    """Kafka does not let us in, or not do it; says who we are, what is missing and the remedy."""


@dataclass(frozen=True)
class Right:
    """What an ACL gives: an operation, in Kafka's words, on a topic or a group."""

    operation: Literal["Read", "Write", "Describe", "DescribeConfigs"]
    kind: Literal["topic", "group"]
    name: str


def reading(topic: str, *groups: str) -> tuple[Right, ...]:
    """What a plain consumer needs: also one that never commits looks for its group's coordinator."""
    return Right("Read", "topic", topic), *(Right("Describe", "group", group) for group in groups)


def require(brokers: Brokers, rights: Sequence[Right]) -> None:
    """RightsError when Kafka does not let us in, or one of the rights is missing. A topic may be missing itself.

    KafkaFileError when the file cannot be used. Nothing is asked where there is none.
    """
    if isinstance(brokers, str):
        return
    refusals: list[KafkaError] = []
    settings = client_settings(brokers) | {"log_level": 0, "error_cb": refusals.append}
    admin = AdminClient(settings)
    _enter(admin, brokers, refusals)
    missing = [right for right in rights if not _given(admin, right)]
    if missing:
        raise RightsError(_denied(brokers, _grouped(missing)))


def _grouped(rights: Sequence[Right]) -> str:
    """The rights with each operation named once.

    >>> _grouped([*reading("raw", "a", "b"), Right("Write", "topic", "raw")])
    'Read on topic raw, Describe on groups a b, Write on topic raw'
    """
    names: dict[tuple[str, str], list[str]] = {}
    for right in rights:
        names.setdefault((right.operation, right.kind), []).append(right.name)
    return ", ".join(
        f"{operation} on {kind}{'s' if len(found) > 1 else ''} {' '.join(found)}"
        for (operation, kind), found in names.items()
    )


def denied_by(error: KafkaException, brokers: Brokers, right: str) -> str | None:
    """One line for what we may not do; None when the broker says something else than that."""
    return _denied(brokers, right) if error.args[0].code() in _FORBIDDEN else None


def _denied(brokers: Brokers, missing: str) -> str:
    who, principal = _who(brokers)
    return (
        f"{who} lacks {missing} at {brokers}; an ACL for {principal} gives it "
        "(kafka-acls --add), or name the file of another user with --kafka-config"
    )


def _who(brokers: Brokers) -> tuple[str, str]:
    """Us in words, and as an ACL names us."""
    if isinstance(brokers, str):
        return "user ANONYMOUS", "User:ANONYMOUS"
    user = brokers.read().user
    if user is None:
        return f"the user of {brokers.file}", "its certificate's name"
    return f"user {user}", f"User:{user}"


def _enter(admin: AdminClient, brokers: Secured, refusals: list[KafkaError]) -> None:
    deadline = time.monotonic() + _TIMEOUT_S
    while True:
        try:
            admin.list_topics(timeout=_TRY_S)
            return
        except KafkaException as error:
            admin.poll(0)
            for refusal in refusals:
                if refusal.code() in _REFUSED:
                    raise RightsError(
                        f"Kafka at {brokers} does not let {_who(brokers)[0]} in: {_short(refusal)}; "
                        f"check {brokers.file}"
                    ) from error
            if time.monotonic() > deadline:
                raise RightsError(
                    f"no broker answers at {brokers} ({_short(error.args[0])}); is it up, and does it speak the "
                    f"security.protocol of {brokers.file}?"
                ) from error


def _short(error: KafkaError) -> str:
    """The client's words without where and how long."""
    return error.str().partition(": ")[2].rpartition(" (after ")[0] or error.str()


def _given(admin: AdminClient, right: Right) -> bool:
    """Whether it is given, or there is nothing that it could be for. What a broker does not tell counts as given."""
    deadline = time.monotonic() + _TIMEOUT_S
    while True:
        try:
            allowed = _described(admin, right).result().authorized_operations
            return allowed is None or _OPERATIONS[right.operation] in allowed
        except KafkaException as error:
            code = error.args[0].code()
            if code in _FORBIDDEN:
                return False
            if code not in _LATER or time.monotonic() > deadline:
                return True
            time.sleep(_POLL_S)


def _described(admin: AdminClient, right: Right) -> "Future[Any]":
    settings = {"include_authorized_operations": True, "request_timeout": _TIMEOUT_S}
    if right.kind == "topic":
        return admin.describe_topics(TopicCollection([right.name]), **settings)[right.name]
    return admin.describe_consumer_groups([right.name], **settings)[right.name]
