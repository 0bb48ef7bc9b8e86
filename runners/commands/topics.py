"""`horizon topics`: topics as code."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from runners.commands.connection import AsJson, BootstrapServers, KafkaConfig, StateDir, brokers, fail
from runners.kafka_rights import Right
from runners.topics import TOPICS_FILE, Plan, TopicsError, TopicSpec, apply_topics, plan_topics, read_specs

app = typer.Typer(
    no_args_is_help=True,
    help="Make the topics what one file says they are, or see whether they are.",
    epilog="Example:\n\nhorizon topics plan && horizon topics apply\n",
)

TopicsFile = Annotated[
    Path, typer.Option("--file", help="Topics to want, in the form of the file that ships.", show_default=False)
]

_SIGNS = {"create": "+", "add_partitions": "~", "alter_config": "~", "cannot": "!"}


@app.command(
    epilog="Examples:\n\nhorizon topics plan\n\nhorizon topics plan --bootstrap-servers kafka-1:9092 --json\n\n"
    "horizon topics plan --kafka-config desk.properties\n"
)
def plan(
    file: TopicsFile = TOPICS_FILE,
    bootstrap_servers: BootstrapServers = None,
    kafka_config: KafkaConfig = None,
    state_dir: StateDir = Path(".horizon"),
    as_json: AsJson = False,
) -> None:
    """Show what `apply` would do: + create, ~ change, ! a difference that it cannot remove. Changes nothing."""
    _show(_planned(file, bootstrap_servers, kafka_config, state_dir), as_json)


@app.command(epilog="Example:\n\nhorizon topics apply\n")
def apply(
    file: TopicsFile = TOPICS_FILE,
    bootstrap_servers: BootstrapServers = None,
    kafka_config: KafkaConfig = None,
    state_dir: StateDir = Path(".horizon"),
    as_json: AsJson = False,
) -> None:
    """Create topics, add partitions and set their configuration. Exit code 1 when a difference is left.

    Nothing is ever deleted. A running live job does not read partitions that are added to its topic.
    """
    try:
        specs = read_specs(file)
        done = apply_topics(brokers(bootstrap_servers, kafka_config, state_dir, _rights(specs)), specs)
    except TopicsError as error:
        fail(escape(str(error)))
    _show(done, as_json)
    if any(change.kind == "cannot" for change in done.changes):
        raise typer.Exit(1)


@app.command(epilog="Example:\n\nhorizon topics check || echo drift\n")
def check(
    file: TopicsFile = TOPICS_FILE,
    bootstrap_servers: BootstrapServers = None,
    kafka_config: KafkaConfig = None,
    state_dir: StateDir = Path(".horizon"),
    as_json: AsJson = False,
) -> None:
    """Like `plan`, with exit code 1 when anything differs. Only settings that the file names are compared."""
    found = _planned(file, bootstrap_servers, kafka_config, state_dir)
    _show(found, as_json)
    if found.changes:
        raise typer.Exit(1)


def _rights(specs: Sequence[TopicSpec]) -> list[Right]:
    """What it takes to see how topics are; whoever may not see one takes it for one to be created."""
    return [Right(operation, "topic", spec.name) for operation in ("Describe", "DescribeConfigs") for spec in specs]


def _planned(file: Path, bootstrap_servers: str | None, kafka_config: Path | None, state_dir: Path) -> Plan:
    try:
        specs = read_specs(file)
        return plan_topics(brokers(bootstrap_servers, kafka_config, state_dir, _rights(specs)), specs)
    except TopicsError as error:
        fail(escape(str(error)))


def _show(found: Plan, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(found.as_dict()))
        return
    for note in found.notes:
        typer.echo(f"note: {note}")
    for change in found.changes:
        typer.echo(f"{_SIGNS[change.kind]} {change.topic}: {change.detail}")
    if not found.changes:
        typer.echo("no difference")
