"""The console command `horizon`: the one place that knows every command, and so both presets and pipelines."""

from typing import Any

import typer
from confluent_kafka import KafkaException
from rich.markup import escape
from typer._click.core import Context  # where Typer, whose version is pinned, keeps what click's users know
from typer._click.exceptions import NoArgsIsHelpError, UsageError
from typer.core import TyperGroup

from runners.commands import (
    bars,
    compare,
    demo,
    doctor,
    fetch,
    live,
    peek,
    publish,
    replay,
    simulate,
    stack,
    status,
    topics,
)
from runners.commands.connection import fail
from transforms.kafka_file import KafkaFileError

EPILOG = """Examples:

horizon demo                        (all of it, from nothing to the comparison)

horizon stack up && horizon topics apply && horizon simulate --count 100000

horizon COMMAND --help              (what it takes, with examples)
"""


class _Commands(TyperGroup):
    """A command line that cannot be is told in one line, like every other error."""

    def invoke(self, ctx: Context) -> Any:
        try:
            return super().invoke(ctx)
        except NoArgsIsHelpError:
            raise
        except KafkaFileError as error:  # it was good when the command began
            fail(error)
        except KafkaException as error:  # where a command has no better word for it
            fail(escape(f"Kafka: {error.args[0].str()}; `horizon doctor` looks at the brokers"))
        except UsageError as error:
            command = error.ctx.command_path if error.ctx is not None else "horizon"
            said = " ".join(error.format_message().split()).rstrip(".")
            fail(escape(f"{said}; see `{command} --help`"), error.exit_code)


app = typer.Typer(
    name="horizon",
    cls=_Commands,
    help="Market-data pipelines whose replay equals the live run, bit for bit.",
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

app.command("demo", epilog=demo.EPILOG)(demo.demo)
app.command("live", epilog=live.EPILOG)(live.live)
app.command("status", epilog=status.EPILOG)(status.status)
app.command("replay", epilog=replay.EPILOG)(replay.replay_command)
app.command("compare", epilog=compare.EPILOG)(compare.compare_command)
app.command("publish", epilog=publish.EPILOG)(publish.publish)
app.command("simulate", epilog=simulate.EPILOG)(simulate.simulate)
app.command("peek", epilog=peek.EPILOG)(peek.peek)
app.command("bars", epilog=bars.EPILOG)(bars.bars)
app.command("doctor", epilog=doctor.EPILOG)(doctor.doctor)
app.add_typer(stack.app, name="stack")
app.add_typer(topics.app, name="topics")
app.command("fetch", epilog=fetch.EPILOG)(fetch.fetch_command)


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
