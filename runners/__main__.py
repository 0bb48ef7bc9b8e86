"""The console command `horizon`: the one place that knows every command, and so both presets and pipelines."""

import typer

from runners.commands import bars, compare, demo, fetch, live, peek, publish, replay, simulate, stack, topics

app = typer.Typer(
    name="horizon",
    help="Market-data pipelines whose replay equals the live run, bit for bit.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

app.command("demo", epilog=demo.EPILOG)(demo.demo)
app.command("live", epilog=live.EPILOG)(live.live)
app.command("replay", epilog=replay.EPILOG)(replay.replay_command)
app.command("compare", epilog=compare.EPILOG)(compare.compare_command)
app.command("publish", epilog=publish.EPILOG)(publish.publish)
app.command("simulate", epilog=simulate.EPILOG)(simulate.simulate)
app.command("peek", epilog=peek.EPILOG)(peek.peek)
app.command("bars", epilog=bars.EPILOG)(bars.bars)
app.add_typer(stack.app, name="stack")
app.add_typer(topics.app, name="topics")
app.command("fetch", epilog=fetch.EPILOG)(fetch.fetch_command)


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
