"""Options that several commands share: where the brokers are, and stopping at Ctrl-C."""

import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.markup import escape

from runners.kafka_rights import Right, RightsError, require
from runners.stack import Endpoints, StackError, endpoints
from transforms.brokers import Brokers, Secured
from transforms.kafka_file import KafkaFileError, read

stderr = Console(stderr=True)

BootstrapServers = Annotated[
    str | None,
    typer.Option(
        "--bootstrap-servers",
        metavar="HOST:PORT,...",
        help="Kafka brokers; default: those of the local stack in --state-dir.",
        show_default=False,
    ),
]
KafkaConfig = Annotated[
    Path | None,
    typer.Option(
        "--kafka-config",
        metavar="FILE",
        help="Java properties that say how Kafka lets us in: TLS, user and password; README, Kafka with security.",
        show_default=False,
    ),
]
StateDir = Annotated[
    Path,
    typer.Option(
        "--state-dir", envvar="HORIZON_STATE_DIR", file_okay=False, help="Where the local stack keeps its state."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Machine-readable output: JSON on stdout.")]


def reach(
    bootstrap_servers: str | None, kafka_config: Path | None, state_dir: Path, rights: Sequence[Right] = ()
) -> Brokers:
    """The brokers to talk to. The file's own bootstrap.servers stand where the command line names none.

    StackError when nobody names any, KafkaFileError, and RightsError when they do not let us in or one is missing.
    """
    file = None if kafka_config is None else read(kafka_config.absolute())
    named = bootstrap_servers or (None if file is None else file.properties.get("bootstrap.servers"))
    addresses = named or str(endpoints(state_dir).bootstrap_servers)
    found: Brokers = addresses if file is None else Secured(addresses, str(file.path))
    require(found, rights)
    return found


def brokers(
    bootstrap_servers: str | None, kafka_config: Path | None, state_dir: Path, rights: Sequence[Right] = ()
) -> Brokers:
    """The same; what is wrong ends the command with one line."""
    try:
        return reach(bootstrap_servers, kafka_config, state_dir, rights)
    except StackError as error:
        fail(escape(f"{error}, or name brokers with --bootstrap-servers"))
    except (KafkaFileError, RightsError) as error:
        fail(error)


def reached_by(bootstrap_servers: str | None, kafka_config: Path | None, state_dir: Path) -> list[str]:
    """The options with which another command reaches the same brokers."""
    named = {"--bootstrap-servers": bootstrap_servers, "--kafka-config": kafka_config and kafka_config.absolute()}
    named["--state-dir"] = state_dir.absolute()
    return [word for name, value in named.items() if value for word in (name, str(value))]


def stack(
    bootstrap_servers: str | None, kafka_config: Path | None, state_dir: Path, rights: Sequence[Right] = ()
) -> Endpoints:
    """The local stack with the brokers to talk to, its own or others. StackError when none runs."""
    places = endpoints(state_dir)
    return replace(places, bootstrap_servers=brokers(bootstrap_servers, kafka_config, state_dir, rights))


def say(text: str) -> None:
    """One line on stderr, as it is."""
    stderr.print(text, highlight=False, soft_wrap=True, markup=False)


def fail(message: object, code: int = 1) -> NoReturn:
    """End the command with one line on stderr. An exception is shown as it is; a text may hold rich's markup."""
    text = escape(str(message)) if isinstance(message, BaseException) else message
    stderr.print(f"[bold red]error:[/] {text}", highlight=False, soft_wrap=True)
    raise typer.Exit(code)


@contextmanager
def stop_on_signal() -> Iterator[threading.Event]:
    """An event that Ctrl-C (or SIGTERM) sets once; a second Ctrl-C ends the process as usual."""
    stop = threading.Event()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def on_signal(number: int, _: Any) -> None:
        stop.set()
        signal.signal(number, before[signal.Signals(number)])

    for number in before:
        signal.signal(number, on_signal)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def quiet_on_broken_pipe() -> None:
    """What to do when the reader of our output (head, less) has gone: nothing more, without a traceback."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
