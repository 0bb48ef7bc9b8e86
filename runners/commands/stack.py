"""`horizon stack`: the local Kafka and Flink."""

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from runners.artifacts import ArtifactError
from runners.commands.connection import AsJson, StateDir, fail, stderr
from runners.commands.fetch import fetch_missing
from runners.stack import Endpoints, LocalStack, StackError, endpoints
from runners.stack.process import Running

app = typer.Typer(
    no_args_is_help=True,
    help="Run a real Kafka and Flink on this machine; nothing has to be installed.",
    epilog="Example:\n\nhorizon stack up && horizon stack status && horizon stack down\n",
)

UP_EPILOG = """Examples:

horizon stack up

horizon stack up --brokers 3 --state-dir /tmp/three   (replication 3, as in production)

horizon stack up --json | jq -r .bootstrap_servers
"""


@app.command(epilog=UP_EPILOG)
def up(
    brokers: Annotated[int, typer.Option(min=1, help="Kafka brokers; 3 for a cluster with replication 3.")] = 1,
    taskmanagers: Annotated[int, typer.Option(min=1, help="Flink TaskManagers; each takes some 2.5 GB.")] = 1,
    slots: Annotated[int, typer.Option(min=1, help="Task slots of each TaskManager: the parallelism it can run.")] = 2,
    state_dir: StateDir = Path(".horizon"),
    as_json: AsJson = False,
) -> None:
    """Start Kafka, Flink, Beam's services and the Python workers, and wait until they answer.

    Free ports on the loopback interface; Beam's two Java services listen on all. They run on after this command;
    `horizon stack down` stops them. Kafka's data is kept from one start to the next. A process that dies is started
    again, which a line on this terminal and in STATE/logs/supervisor.log says.
    """
    began = time.monotonic()
    try:
        fetch_missing()
        with stderr.status("starting Kafka, Flink and Beam's services"):
            places = LocalStack(state_dir, brokers, taskmanagers, slots).up()
    except (StackError, ArtifactError) as error:
        fail(escape(str(error)))
    if as_json:
        typer.echo(_as_json(places))
        return
    Console().print(_table(places))
    typer.echo(f"ready after {time.monotonic() - began:.1f} s; stop it with `horizon stack down`")


@app.command(epilog="Example:\n\nhorizon stack down --purge   (start from nothing next time)\n")
def down(
    purge: Annotated[bool, typer.Option("--purge", help="Delete Kafka's data, checkpoints and logs as well.")] = False,
    state_dir: StateDir = Path(".horizon"),
) -> None:
    """Stop the stack; without one there is nothing to do. Files of live and replay runs are never touched."""
    stack = LocalStack(state_dir)
    count = len(stack.pids())
    with stderr.status("stopping"):
        stack.down()
    if purge:
        stack.purge()
    typer.echo(f"stopped {count} processes" if count else f"no stack was running in {state_dir}")


@app.command(epilog="Example:\n\nhorizon stack status --json | jq .pids\n")
def status(state_dir: StateDir = Path(".horizon"), as_json: AsJson = False) -> None:
    """Show where the stack listens, which processes live, and how often each was started again after it died.

    Exit code 1 when none runs, or one is dead.
    """
    try:
        places = endpoints(state_dir)
        stack = LocalStack(state_dir)
        dead = stack.dead()
    except StackError as error:
        if as_json:
            typer.echo(json.dumps({"running": False}))
            raise typer.Exit(1) from error
        fail(escape(str(error)))
    if as_json:
        restarts = {name: {"restarts": one.restarts, "last": one.restarted} for name, one in stack.processes().items()}
        typer.echo(_as_json(places, running=True, pids=stack.pids(), dead=dead, restarts=restarts))
    else:
        Console().print(_table(places))
        for name, process in stack.processes().items():
            typer.echo(f"  {name:16} {_life(process, dead=name in dead)}")
    if dead:
        if not as_json:
            typer.echo(f"  dead: {', '.join(dead)}; see {state_dir / 'logs'}")
        raise typer.Exit(1)


def _life(process: Running, *, dead: bool) -> str:
    words = [f"pid {process.pid}"]
    if process.restarts:
        words.append(f"started again {process.restarts} time(s), last at {process.restarted}")
    if dead:
        words.append("died too often and was given up" if process.intent == "given up" else "dead")
    return ", ".join(words)


def _as_json(places: Endpoints, **more: object) -> str:
    return json.dumps({**asdict(places), **more}, default=str)


def _table(places: Endpoints) -> Table:
    table = Table(show_header=False, box=None, padding=(0, 2))
    rows = {
        "Kafka": str(places.bootstrap_servers),
        "Flink's web page": f"http://{places.flink_rest}",
        "job server": places.job_endpoint,
        "expansion service": places.expansion_endpoint,
        "Python workers": places.worker_pool,
        "state and logs": str(places.state_dir),
    }
    for name, value in rows.items():
        table.add_row(name, value)
    return table
