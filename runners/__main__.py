"""The console command `horizon`: the one place that knows every command, and so both presets and pipelines."""

import typer

app = typer.Typer(
    name="horizon",
    help="Market-data pipelines whose replay equals the live run, bit for bit.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
