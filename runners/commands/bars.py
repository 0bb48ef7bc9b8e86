"""`horizon bars`: bars as a table and as a candlestick chart."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from runners.bar_series import (
    INTERVALS,
    BarQuery,
    BarsError,
    bars_in_files,
    bars_on_topic,
    instruments,
    last_of_each,
    plain,
)
from runners.charts import write_chart
from runners.commands.connection import AsJson, BootstrapServers, KafkaConfig, StateDir, brokers, fail
from runners.commands.peek import plain_value
from runners.kafka_rights import reading
from runners.peek import PeekError

_WIDE = 110
_FILE_WIDTH = 160

EPILOG = """Examples:

horizon bars --symbol BTC-USDT --interval 1m

horizon bars --dir out/replay --symbol BTC-USDT --exchange binance --interval 1s --last 300 --chart btc.html

horizon bars --from-topic --interval 10s --symbol ETH-USDT --chart eth.png
"""


def bars(
    symbol: Annotated[str | None, typer.Option(help="Venue symbol, e.g. BTC-USDT; default: all.")] = None,
    exchange: Annotated[str | None, typer.Option(help="Venue, e.g. binance; default: all.")] = None,
    interval: Annotated[str, typer.Option(help="Length of the bars: " + ", ".join(INTERVALS) + ".")] = "1m",
    last: Annotated[int, typer.Option(min=1, help="Bars of each instrument to show.")] = 20,
    directory: Annotated[
        Path | None,
        typer.Option(
            "--dir",
            help="Directory that live or replay wrote to, bars/**/*.parquet below it; default: STATE/data/live.",
        ),
    ] = None,
    from_topic: Annotated[
        bool, typer.Option("--from-topic", help="Read the topic md.bars.<interval> instead.")
    ] = False,
    topic: Annotated[str | None, typer.Option(help="Read this topic instead.")] = None,
    chart: Annotated[Path | None, typer.Option(help="Draw one instrument's bars: FILE.png or FILE.html.")] = None,
    bootstrap_servers: BootstrapServers = None,
    kafka_config: KafkaConfig = None,
    state_dir: StateDir = Path(".horizon"),
    as_json: AsJson = False,
) -> None:
    """Show bars, of each the highest version, and draw them as candlesticks with volume."""
    if interval not in INTERVALS:
        raise typer.BadParameter(f"--interval must be one of {', '.join(INTERVALS)}, was {interval!r}")
    query = BarQuery(INTERVALS[interval], symbol, exchange)
    try:
        if from_topic or topic is not None:
            name = topic or f"md.bars.{interval}"
            rights = reading(name, "horizon-peek")
            found = bars_on_topic(brokers(bootstrap_servers, kafka_config, state_dir, rights), name, query)
        else:
            found = bars_in_files(directory or state_dir / "data" / "live", query)
    except (BarsError, PeekError) as error:
        fail(error)
    shown = last_of_each(found, last)
    if not shown:
        fail(escape(f"no bars of {interval} for {exchange or 'any venue'} {symbol or 'any symbol'}"))
    if as_json:
        for row in shown:
            typer.echo(json.dumps(plain_value(row)))
    else:
        console = Console()
        if not console.is_terminal:
            console = Console(width=_FILE_WIDTH)  # nobody's window: nothing is cut off
        console.print(_table(shown, interval, wide=console.width >= _WIDE))
    if chart is not None:
        _draw(chart, shown, as_json)


def _draw(chart: Path, shown: list[dict[str, Any]], as_json: bool) -> None:
    found = list(instruments(shown))
    if len(found) > 1:
        names = ", ".join(f"{exchange} {symbol}" for exchange, symbol in found[:8])
        fail(escape(f"a chart shows one instrument; choose with --exchange and --symbol among {names}"))
    try:
        write_chart(chart, shown)
    except (ValueError, OSError) as error:
        fail(error)
    typer.echo(f"chart: {chart}", err=as_json)


def _colour(bar: dict[str, Any]) -> str:
    if bar["open"] is None:  # prints of size zero alone
        return "default"
    return "green" if bar["close"] >= bar["open"] else "red"


def _table(rows: list[dict[str, Any]], interval: str, wide: bool) -> Table:
    """The bars as a table; a narrow one leaves out what says least."""
    named = list(instruments(rows))
    title = f"{' '.join(named[0])}, bars of {interval}" if len(named) == 1 else f"bars of {interval}"
    days = {row["window_start"].date() for row in rows}
    title += f", {min(days)} (UTC)" if len(days) == 1 else " (UTC)"
    window = "%H:%M:%S" if len(days) == 1 else "%m-%d %H:%M:%S"
    cells = {
        **({"instrument": [" ".join((row["exchange"], row["symbol"])) for row in rows]} if len(named) > 1 else {}),
        "window": [f"{row['window_start']:{window}}" for row in rows],
        **{name: [plain(row[name]) for row in rows] for name in ("open", "high", "low")},
        "close": [f"[{_colour(row)}]{plain(row['close'])}[/]" for row in rows],
        "volume": [plain(row["volume"]) for row in rows],
        **({"vwap": [plain(row["vwap"]) for row in rows]} if wide else {}),
        "trades": [str(row["trade_count"]) for row in rows],
        **({"version": [str(row["version"]) for row in rows]} if wide else {}),
    }
    table = Table(title=title, header_style="bold", box=box.SIMPLE_HEAD, padding=(0, int(wide), 0, 0), pad_edge=False)
    for name in cells:
        left = name in ("instrument", "window")
        table.add_column(name, justify="left" if left else "right", no_wrap=True)
    for line in zip(*cells.values(), strict=True):
        table.add_row(*line)
    return table
