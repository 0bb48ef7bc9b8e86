"""Options that several commands share: where the brokers are, and stopping at Ctrl-C."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.markup import escape

from runners.stack import StackError, endpoints

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
StateDir = Annotated[
    Path,
    typer.Option(
        "--state-dir", envvar="HORIZON_STATE_DIR", file_okay=False, help="Where the local stack keeps its state."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Machine-readable output: JSON on stdout.")]


def brokers(bootstrap_servers: str | None, state_dir: Path) -> str:
    """The brokers to talk to; ends the command with a message when there are none."""
    if bootstrap_servers is not None:
        return bootstrap_servers
    try:
        return endpoints(state_dir).bootstrap_servers
    except StackError as error:
        fail(escape(f"{error}, or name brokers with --bootstrap-servers"))


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
