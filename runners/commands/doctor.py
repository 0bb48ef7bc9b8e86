"""`horizon doctor`: one line for each thing that a run rests on, and what to do."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer
from confluent_kafka import KafkaException
from rich.console import Console
from rich.markup import escape

from runners.commands.connection import AsJson, BootstrapServers, KafkaConfig, StateDir, reach
from runners.doctor import Check, machine_checks
from runners.doctor_stack import stack_checks
from runners.kafka_rights import RightsError
from runners.stack import StackError, endpoints
from transforms.kafka_file import KafkaFileError

EPILOG = """Examples:

horizon doctor

horizon doctor --group live --json | jq -r .checks[].said
"""

_COLOURS = {"ok": "green", "warning": "yellow", "failed": "red"}


def doctor(
    group: Annotated[str, typer.Option(help="Consumer group of the live job to look at.")] = "live",
    topic: Annotated[str, typer.Option(help="Topic that it reads.")] = "md.events.raw",
    bootstrap_servers: BootstrapServers = None,
    kafka_config: KafkaConfig = None,
    state_dir: StateDir = Path(".horizon"),
    as_json: AsJson = False,
) -> None:
    """Look at all that a run rests on: this machine, and where a stack runs also Kafka, Flink and the job.

    One line each: ok, warning or failed, and what to do. Nothing is changed or fetched. Exit code 1 when one failed.
    """
    checks = machine_checks(state_dir)
    try:
        places = endpoints(state_dir)
        places = replace(places, bootstrap_servers=reach(bootstrap_servers, kafka_config, state_dir))
        checks += stack_checks(places, group, topic)
    except StackError as error:
        checks.append(Check("stack", "ok", str(error)))
    except (KafkaFileError, RightsError) as error:
        checks.append(Check("broker", "failed", str(error)))
    except KafkaException as error:
        checks.append(Check("broker", "failed", f"it stopped answering: {error.args[0].str()}", "see its log"))
    failed = any(check.level == "failed" for check in checks)
    if as_json:
        typer.echo(json.dumps({"failed": failed, "checks": [asdict(check) for check in checks]}))
    else:
        console = Console(highlight=False, soft_wrap=True)
        for check in checks:
            remedy = f"; {check.remedy}" if check.remedy else ""
            level = f"[{_COLOURS[check.level]}]{check.level:7}[/]"
            console.print(f"{level} {check.name:11} {escape(check.said + remedy)}")
    if failed:
        raise typer.Exit(1)
