"""The local stack: real Kafka, real Flink and Beam's services as processes of this machine."""

import fcntl
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from runners import artifacts
from runners.stack import process, ready
from runners.stack.blueprint import IMPORT_ROOT, Drawing, Size, draw
from runners.stack.endpoints import Endpoints, StackError, forget, load, save
from runners.stack.guard import NAME, Guard
from runners.stack.process import ProcessSpec, Running

FORMAT_TIMEOUT_S = 60.0
_PRIVATE = ("kafka", "flink", "beam", "groups", "logs", "pids")  # below the state directory; their owner's alone


class LocalStack:
    """Kafka, Flink, expansion service, job server and Python workers, below one directory.

    `up()` alone leaves them running after this process; as a context manager they go with it, also when it is
    killed. A process that dies meanwhile is started again by the supervisor, which lives as long as the stack. A second
    object for the same directory can look at, kill, start and stop what the first one started.
    """

    def __init__(self, state_dir: Path, brokers: int = 1, taskmanagers: int = 1, slots: int = 2) -> None:
        self.state_dir = state_dir.absolute()
        self.size = Size(brokers, taskmanagers, slots)
        self._guard: Guard | None = None

    def up(self) -> Endpoints:
        """Start everything and wait until it answers; the processes outlive this one.

        Raises:
            StackError: one is running here already, or a process did not start; nothing is left running then.
            ArtifactError: jars are missing.
        """
        places = self._up()
        if self._guard is not None:
            self._guard.release()
        return places

    def __enter__(self) -> Endpoints:
        return self._up()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down()

    def down(self) -> None:
        """Stop everything and wait for it: what uses Kafka, then Kafka. What is down already is fine."""
        running = process.mark_stopping(list(process.noted(self.state_dir).values()), self.state_dir)
        process.stop([one for one in running if one.name != NAME and not _is_kafka(one)], self.state_dir)
        process.stop([one for one in running if _is_kafka(one)], self.state_dir)
        # last, for it stops the rest if we are killed before; it starts nothing that is marked
        process.stop([one for one in running if one.name == NAME], self.state_dir)
        forget(self.state_dir)
        if self._guard is not None:
            self._guard.close()
            self._guard = None

    def purge(self) -> None:
        """Delete Kafka's data, Flink's checkpoints, the groups' notes and the logs of a stack that is down."""
        if self.pids():
            raise StackError(f"the stack in {self.state_dir} is running; stop it with `horizon stack down` first")
        for name in _PRIVATE:
            shutil.rmtree(self.state_dir / name, ignore_errors=True)

    def pids(self) -> dict[str, int]:
        """The living processes, by name."""
        known = process.noted(self.state_dir)
        return {name: running.pid for name, running in known.items() if process.is_alive(running)}

    def dead(self) -> list[str]:
        """The processes that should run and do not."""
        alive = self.pids()
        return [name for name in (NAME, *(spec.name for spec in load(self.state_dir).specs)) if name not in alive]

    def processes(self) -> dict[str, Running]:
        """What is noted of each process, by name: how often it was started again, and whether it was given up."""
        return process.noted(self.state_dir)

    def kill(self, name: str, *, stays_dead: bool = True) -> None:
        """SIGKILL a process and all that it started, and wait until it is gone. Else the supervisor starts it again.

        Raises:
            StackError: no process of that name runs.
        """
        if name not in self.pids():
            raise StackError(f"{name!r} is not running; running are {', '.join(self.pids()) or 'none'}")
        running = process.noted(self.state_dir)[name]
        if stays_dead:
            process.stop([running], self.state_dir, grace_s=0)
        else:
            process.kill_group(running)

    def start(self, name: str) -> None:
        """Start one process again with the command line it had, without waiting for it; a `taskmanager-N` may be new.

        Raises:
            StackError: it runs already, or the stack has no such process.
        """
        with process.noting(self.state_dir):
            if name in self.pids():
                raise StackError(f"{name!r} is running already, with pid {self.pids()[name]}")
            process.spawn(load(self.state_dir).spec(name), self.state_dir)

    def wait_ready(self, timeout_s: float = ready.TIMEOUT_S) -> None:
        """Wait until every part answers, all the slots of `up()` included; what died is waited for unless given up."""
        blueprint = load(self.state_dir)
        ready.wait(blueprint, ready.probes(blueprint), timeout_s, supervised=True)

    def _up(self) -> Endpoints:
        self.state_dir.mkdir(parents=True, exist_ok=True)
        with _only_one(self.state_dir):
            if self.pids():
                raise StackError(f"a stack runs in {self.state_dir} already; stop it with `horizon stack down`")
            process.stop(list(process.noted(self.state_dir).values()), self.state_dir, grace_s=0)  # notes of a crash
            for name in _PRIVATE:
                (self.state_dir / name).mkdir(exist_ok=True)
                (self.state_dir / name).chmod(0o700)
            drawing = draw(self.state_dir, self.size, artifacts.default_cache_dir())
            self._guard = Guard(self.state_dir, {"PYTHONPATH": str(IMPORT_ROOT)})
            try:
                places = self._start(drawing)
                self._guard.supervise()
                return places
            except BaseException:
                self.down()
                raise

    def _start(self, drawing: Drawing) -> Endpoints:
        blueprint = drawing.blueprint
        formats = {spec.name.removesuffix("-format"): spec for spec in drawing.formats}
        with ThreadPoolExecutor(max_workers=len(formats)) as pool:
            brokers = [pool.submit(self._start_broker, spec, blueprint.spec(name)) for name, spec in formats.items()]
            for spec in blueprint.specs:
                if spec.name not in formats:
                    process.spawn(spec, self.state_dir)
            for broker in brokers:
                broker.result()
        save(blueprint)
        ready.wait(blueprint, ready.probes(blueprint))
        return blueprint.endpoints

    def _start_broker(self, prepare: ProcessSpec, serve: ProcessSpec) -> None:
        """Format the data directory, then start the broker on it."""
        preparing = process.spawn(prepare, self.state_dir)
        if not process.wait_gone([preparing], FORMAT_TIMEOUT_S):
            raise StackError(
                f"{prepare.name} still runs after {FORMAT_TIMEOUT_S:.0f} s; is the disk full or very slow?"
            )
        failed = process.exit_code(preparing)
        process.stop([preparing], self.state_dir)
        if failed:
            raise StackError(f"{prepare.name} failed; {ready.log_tail(self.state_dir, prepare.name)}")
        process.spawn(serve, self.state_dir)


def _is_kafka(running: Running) -> bool:
    return running.name.startswith("kafka-")


@contextmanager
def _only_one(state_dir: Path) -> Iterator[None]:
    """Hold the directory while a stack starts in it, so that two cannot start at once."""
    with (state_dir / "up.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StackError(f"another process is starting a stack in {state_dir}; wait for it") from error
        yield
