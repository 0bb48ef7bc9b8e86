"""Waits until a stack can be used: not "the port is open" but an answer from each part."""

import json
import time
import urllib.request
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from runners.stack.endpoints import Blueprint, StackError
from runners.stack.guard import NAME
from runners.stack.process import is_alive, noted

TIMEOUT_S = 120.0
_POLL_S = 0.1
_TAIL_LINES = 12

Probe = Callable[[], bool]


def probes(blueprint: Blueprint) -> dict[str, Probe]:
    """A question for each part of the stack; each answers within a second or two."""
    places = blueprint.endpoints
    slots = blueprint.taskmanagers * blueprint.slots
    services = ("expansion", places.expansion_endpoint), ("jobserver", places.job_endpoint)
    return {
        "kafka": lambda: brokers_answer(str(places.bootstrap_servers), blueprint.brokers),
        "flink": lambda: flink_answer(places.flink_rest, "/overview").get("slots-total") == slots,
        **{name: partial(grpc_answers, address) for name, address in services},
        "workers": lambda: grpc_answers(places.worker_pool),
    }


def brokers_answer(bootstrap_servers: str, count: int) -> bool:
    """Whether all brokers are in the cluster's metadata."""
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    admin = AdminClient({"bootstrap.servers": bootstrap_servers, "log_level": 0})
    try:
        return len(admin.list_topics(timeout=1.0).brokers) == count
    except KafkaException:
        return False


def flink_answer(rest: str, path: str) -> dict[str, Any]:
    """What Flink's REST interface answers; empty while the JobManager does not."""
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
            f"http://{rest}{path}", timeout=1.0
        ) as answer:
            found: dict[str, Any] = json.load(answer)
            return found
    except (OSError, ValueError):
        return {}


def grpc_answers(address: str) -> bool:
    """Whether a gRPC server completes a handshake there."""
    import grpc

    with grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=0.5)
        except grpc.FutureTimeoutError:
            return False
    return True


def wait(
    blueprint: Blueprint, waiting_for: Mapping[str, Probe], timeout_s: float = TIMEOUT_S, *, supervised: bool = False
) -> None:
    """Ask until every part has answered once. `supervised`: what died is started again, so it is waited for.

    Raises:
        StackError: a process ended for good, or time was up; with the end of its log and where the rest is.
    """
    state_dir = blueprint.endpoints.state_dir
    until = time.monotonic() + timeout_s
    waiting = dict(waiting_for)
    while waiting:
        for process in noted(state_dir).values():
            comes_back = supervised and process.intent == "run" and process.name != NAME
            if not comes_back and not is_alive(process):
                raise StackError(f"{process.name} ended; {log_tail(state_dir, process.name)}")
        waiting = {name: probe for name, probe in waiting.items() if not probe()}
        if waiting and time.monotonic() > until:
            raise StackError(f"not ready after {timeout_s:.0f} s: {', '.join(waiting)}; see {state_dir / 'logs'}")
        time.sleep(_POLL_S if waiting else 0)


def log_tail(state_dir: Path, name: str) -> str:
    """The last lines of a process's log, led by where it is."""
    log = state_dir / "logs" / f"{name}.log"
    lines = log.read_text(errors="replace").splitlines()[-_TAIL_LINES:] if log.exists() else []
    return "\n".join([f"the end of {log}:", *lines])
