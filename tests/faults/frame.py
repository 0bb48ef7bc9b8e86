"""What every fault run needs: a topic that ended long ago, a job over it, and a look at how long nothing came out."""

import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from confluent_kafka import Consumer, KafkaException, TopicPartition

from runners.live import LiveJob, LiveOptions
from runners.log import Log
from runners.simulate import MarketConfig
from runners.stack import Endpoints, LocalStack
from runners.stack.process import Running, is_alive
from tests import live
from tests.conftest import TopicFactory
from tests.simulated import Simulated
from transforms.topics import TopicNames

MARKET = MarketConfig(seed=11, rate=10_000, count=700_000)
LEFT = 500_000  # records that must still be unprocessed when the fault comes
TIMEOUT_S = 240.0


@dataclass(frozen=True)
class Case:
    """A topic that ended long ago, with its beacons; every run over it must write the same files."""

    places: Endpoints
    stack: LocalStack
    new_topic: TopicFactory
    topic: str
    known: Simulated
    savepoints: Path

    def options(self, root: Path) -> LiveOptions:
        return replace(live.options(self.places, self.new_topic, self.topic, root), checkpoint_ms=2_000)

    def unique_out(self, options: LiveOptions) -> int:
        """Unique events that the job has published, those of a repeated bundle again."""
        prefix = options.outputs.topic_prefix
        return sum(Log(self.places.bootstrap_servers, TopicNames(prefix).unique).latest().values())

    def wait_complete(self, root: Path) -> float:
        return live.wait_until(
            lambda: live.is_complete(root, self.known.truth), TIMEOUT_S, f"{root} is not complete", poll_s=1.0
        )

    def wait_for_moment(self, options: LiveOptions, seed: str) -> int:
        """Wait for a moment drawn by the seed: the unique events that are out by then."""
        moment = random.Random(seed).randrange(5_000, MARKET.count - LEFT - 60_000)
        live.wait_until(lambda: self.unique_out(options) >= moment, TIMEOUT_S, "the job is slow", poll_s=0.05)
        out = self.unique_out(options)
        assert MARKET.count - out >= LEFT
        return out

    @contextmanager
    def whole_afterwards(self) -> Iterator[None]:
        """Whatever happens inside, the stack is whole afterwards, for the tests that follow."""
        try:
            yield
        finally:
            for name in self.stack.dead():
                if name not in self.stack.processes():  # else the supervisor starts it
                    self.stack.start(name)
            self.stack.wait_ready()


@dataclass(frozen=True)
class Scene:
    """What a fault finds: a job in the middle of its work."""

    case: Case
    job: LiveJob
    options: LiveOptions

    @property
    def stack(self) -> LocalStack:
        return self.case.stack

    def leader(self, name: str) -> int:
        """The pid of a process of the stack."""
        return self.stack.pids()[name]

    def workers(self) -> list[int]:
        """The pids of the Python workers."""
        pool = self.leader("workers")
        return sorted(pid for pid in group_members(pool) if pid != pool)

    @contextmanager
    def frozen(self, *pids: int) -> Iterator[None]:
        """SIGSTOP while entered."""
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)

    def died_and_back(self, name: str, *, leader_only: bool = False) -> None:
        """SIGKILL a process of the stack, and wait until the supervisor has started it again."""
        before = self.stack.processes()[name]
        if leader_only:
            os.kill(before.pid, signal.SIGKILL)
        else:
            self.stack.kill(name, stays_dead=False)
        live.wait_until(lambda: _runs_again(self.stack, before), 60, f"{name} is not started again")


def killed_and_back(stack: LocalStack, *names: str) -> None:
    """SIGKILL processes of the stack and what they started, and wait until the supervisor has started them again."""
    before = [stack.processes()[name] for name in names]
    for name in names:
        stack.kill(name, stays_dead=False)
    live.wait_until(lambda: all(_runs_again(stack, one) for one in before), 60, f"{names} are not started again")


def _runs_again(stack: LocalStack, before: Running) -> bool:
    now = stack.processes()[before.name]
    return now.restarts > before.restarts and is_alive(now)


def group_members(group: int) -> list[int]:
    """The living processes of a process group."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, of = stat.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(of) == group and state not in "ZX":
            found.append(int(stat.parent.name))
    return found


class Silence:
    """How long nothing was published, at most, while entered."""

    def __init__(self, servers: str, options: LiveOptions) -> None:
        topic = TopicNames(options.outputs.topic_prefix).unique
        self._partitions = [TopicPartition(topic, partition) for partition in Log(servers, topic).partitions()]
        self._settings = {"bootstrap.servers": servers, "group.id": "silence", "log_level": 0}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self.longest_s = 0.0

    def __enter__(self) -> "Silence":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        consumer = Consumer(self._settings)
        before, grown_at = -1, time.monotonic()
        while not self._ended.wait(0.1):
            try:
                now = sum(consumer.get_watermark_offsets(one, timeout=1.0)[1] for one in self._partitions)
            except KafkaException:
                continue
            if now > before:
                self.longest_s = max(self.longest_s, time.monotonic() - grown_at)
                before, grown_at = now, time.monotonic()
        consumer.close()
