"""The console command `horizon`: the one place that knows every command, and so both presets and pipelines."""

import typer

from runners.commands import fetch, stack, topics

app = typer.Typer(
    name="horizon",
    help="Market-data pipelines whose replay equals the live run, bit for bit.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

app.add_typer(stack.app, name="stack")
app.add_typer(topics.app, name="topics")
app.command("fetch", epilog=fetch.EPILOG)(fetch.fetch_command)


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
