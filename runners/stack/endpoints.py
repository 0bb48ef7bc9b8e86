"""Where a running stack listens, and the file that says so: `stack.json` in its state directory."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from runners.stack.process import ProcessSpec, is_alive, noted
from runners.stack.whole import write_whole
from transforms.brokers import Brokers


class StackError(Exception):
    """The stack cannot do what was asked; the message names the thing, the value and the remedy."""


@dataclass(frozen=True)
class Endpoints:
    """Addresses are `127.0.0.1:port`; several brokers are separated by commas."""

    bootstrap_servers: Brokers
    flink_rest: str
    flink_master: str
    job_endpoint: str
    artifact_endpoint: str
    expansion_endpoint: str
    worker_pool: str
    state_dir: Path
    flink_conf_dir: Path
    tiny_jar: Path  # for --files_to_stage: the cluster has the real jars


@dataclass(frozen=True)
class Blueprint:
    """A whole stack on paper: its size, its addresses, and the command line of each process."""

    brokers: int
    taskmanagers: int
    slots: int
    endpoints: Endpoints
    specs: tuple[ProcessSpec, ...]

    def spec(self, name: str) -> ProcessSpec:
        """The process of that name; a `taskmanager-N` beyond those of the start is one like the first.

        Raises:
            StackError: there is none.
        """
        for spec in self.specs:
            if spec.name == name:
                return spec
        if name.startswith("taskmanager-"):
            return replace(self.spec("taskmanager-1"), name=name)
        names = ", ".join(spec.name for spec in self.specs)
        raise StackError(f"the stack has no process {name!r}; it has {names}")


def save(blueprint: Blueprint) -> None:
    """Write stack.json whole or not at all."""
    write_whole(_file(blueprint.endpoints.state_dir), json.dumps(asdict(blueprint), indent=1, default=str))


def load(state_dir: Path) -> Blueprint:
    """The stack that was started in this directory, running or not.

    Raises:
        StackError: none was.
    """
    try:
        fields = json.loads(_file(state_dir).read_text())
    except FileNotFoundError as error:
        raise StackError(f"no stack runs in {state_dir}; start one with `horizon stack up`") from error
    places = {name: Path(fields["endpoints"][name]) for name in ("state_dir", "flink_conf_dir", "tiny_jar")}
    specs = tuple(
        ProcessSpec(spec["name"], tuple(spec["command"]), dict(spec["environment"])) for spec in fields["specs"]
    )
    endpoints_ = Endpoints(**{**fields["endpoints"], **places})
    return Blueprint(fields["brokers"], fields["taskmanagers"], fields["slots"], endpoints_, specs)


def forget(state_dir: Path) -> None:
    """Remove stack.json."""
    _file(state_dir).unlink(missing_ok=True)


def endpoints(state_dir: Path) -> Endpoints:
    """The addresses of the stack that runs in this directory.

    Raises:
        StackError: none runs there.
    """
    blueprint = load(state_dir)
    if not any(is_alive(process) for process in noted(state_dir).values()):
        raise StackError(f"the stack in {state_dir} is not running any more; start it with `horizon stack up`")
    return blueprint.endpoints


def _file(state_dir: Path) -> Path:
    return state_dir / "stack.json"
