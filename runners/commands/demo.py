"""`horizon demo`: the main job from nothing to the comparison, on this machine."""

import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Annotated, Final

import numpy as np
import pyarrow.compute as pc
import typer
from rich.table import Table

from pipelines.options import MarketDataConfig
from pipelines.outputs import Outputs
from runners.artifacts import ArtifactError
from runners.bar_series import BarQuery, bars_in_files, plain
from runners.beacons import Beacons
from runners.capture import CapturedEvent, CaptureError, read_capture
from runners.charts import write_chart
from runners.commands.compare import report
from runners.commands.connection import fail, stderr
from runners.compare import compare, read_dataset
from runners.flink_rest import FlinkError
from runners.group import LiveGroup
from runners.live import LiveError, LiveOptions
from runners.log import Log
from runners.newest_bars import NewestBars
from runners.publish import PublishBatch, PublishError, publish_batches
from runners.publish_capture import capture_batches
from runners.rebase import schedule
from runners.replay import replay
from runners.simulate import Market, MarketConfig, Truth
from runners.stack import Endpoints, LocalStack, StackError
from runners.topics import TopicsError, apply_topics, read_specs
from runners.watch import Counts, Watch
from schemas.units import MS_PER_S
from transforms.brokers import Brokers
from transforms.datasets import EVENTS, LATE_EVENTS, REJECTS
from transforms.window_kinds import FILE_S

TOPIC: Final = "md.events.raw"
_CAPTURE_GAPS_S: Final = 0.005  # a capture is told at its own pace, its silences cut to this
_SETTLE_S: Final = 120.0
_FILED_MS: Final = 5_000  # of the log's clock after a minute, for its bars to be in a file
_REVISED_S: Final = 35.0  # then what came last is due in the files (runners/reach.py), and is compared

EPILOG = """Examples:

horizon demo

horizon demo --data capture.jsonl.gz --events 1000000 --rate 20000
"""


def demo(
    data: Annotated[Path | None, typer.Option(exists=True, dir_okay=False, help="A capture to publish first.")] = None,
    events: Annotated[int, typer.Option(min=1_000, help="Simulated records, copies included.")] = 200_000,
    rate: Annotated[float, typer.Option(help="Simulated events per second.")] = 10_000,
    state_dir: Annotated[Path, typer.Option(help="Everything the demo makes; emptied at its start.")] = Path(
        ".horizon/demo"
    ),
) -> None:
    """Kafka and Flink up, events in, bars live, the same offsets replayed, both compared, all down again."""
    stack = LocalStack(state_dir.absolute())
    began = time.perf_counter()
    try:
        stack.purge()
        for name in ("live", "replay"):
            shutil.rmtree(state_dir / name, ignore_errors=True)
        _say("starting Kafka (KRaft), Flink and Beam's services")
        with stack as places:
            _say(f"up after {time.perf_counter() - began:.1f} s; Flink's page is http://{places.flink_rest}")
            apply_topics(places.bootstrap_servers, read_specs())
            equal = _run(places, state_dir.absolute(), data, events, rate)
    except (StackError, ArtifactError, CaptureError, TopicsError, PublishError, LiveError, FlinkError) as error:
        fail(error)
    _say(f"stack is down; {time.perf_counter() - began:.0f} s in all")
    if not equal:
        raise typer.Exit(1)


def _run(places: Endpoints, root: Path, data: Path | None, events: int, rate: float) -> bool:
    config = MarketDataConfig()
    outputs = Outputs(files_root=str(root / "live"), bootstrap_servers=places.bootstrap_servers)
    watch = Watch(places.bootstrap_servers, TOPIC, outputs.topic_prefix, config.intervals_s)
    job = LiveGroup(places, LiveOptions(topic=TOPIC, group="demo", outputs=outputs, config=config), _say)
    job.start(fresh=True)
    _say("the live job runs; publishing")
    bars = NewestBars(places.bootstrap_servers, "md.bars.1s")
    with Beacons(places.bootstrap_servers, TOPIC, config.cell.horizon_us):
        published = 0
        for name, batches in _feeds(data, events, rate):
            published += _publish(places.bootstrap_servers, name, batches, lambda: _show(watch.counts(), bars))
        counts = _settled(watch, bars, Log(places.bootstrap_servers, TOPIC), root / "live", published)
    bars.close()
    savepoint, tell_reach = job.stop_and_tell()
    reach = tell_reach()
    _say(f"live: {counts}; stopped with savepoint {savepoint}")
    _say("replaying the same offsets on the DirectRunner")
    manifest = Log(places.bootstrap_servers, TOPIC).freeze()
    began = time.perf_counter()
    replay(places.bootstrap_servers, manifest, root / "replay", config)
    took_s = time.perf_counter() - began
    _say(f"replayed {manifest.records:,} records in {took_s:.1f} s, {manifest.records / took_s:,.0f}/s; comparing")
    verdicts = compare(root / "live", root / "replay", manifest, config.cell.grace_us, reach=reach)
    report(verdicts, as_json=False)
    chart = _chart(root / "live", root / "bars.png")
    typer.echo(f"files    {root / 'live'}\n         {root / 'replay'}\nchart    {chart}")
    return all(verdict.equal for verdict in verdicts) and verdicts[0].live_rows > 0


def _feeds(data: Path | None, events: int, rate: float) -> Iterator[tuple[str, Iterable[PublishBatch]]]:
    """What is published, one after the other."""
    if data is not None:
        captured = [event for event in read_capture(data) if isinstance(event, CapturedEvent)]
        times = np.array([event.log_us for event in captured], np.int64)
        plan = schedule(times, time.time_ns() // 1_000, speed=1.0, close_gaps_s=_CAPTURE_GAPS_S)
        yield f"{len(captured):,} captured events", capture_batches(captured, plan)
    start_us = time.time_ns() // 1_000
    market = Market(MarketConfig(rate=rate, count=events), start_us)
    yield f"{events:,} simulated records", _paced(market, start_us)


def _paced(market: Market, start_us: int) -> Iterator[PublishBatch]:
    truth = Truth()
    for batch in market.batches():
        truth += batch.truth
        yield batch.to_publish(paced_from_us=start_us)
    _say(
        f"the simulator's truth: unique {truth.unique:,}, duplicates {truth.duplicates:,}, late {truth.late:,}, "
        f"content twins {truth.twins:,}"
    )


def _publish(servers: Brokers, name: str, batches: Iterable[PublishBatch], show: Callable[[], None]) -> int:
    """Publish while the screen shows what comes out; the number of records published."""
    _say(name)
    with ThreadPoolExecutor(max_workers=1) as pool:
        done = pool.submit(publish_batches, servers, TOPIC, batches)
        while not wait([done], timeout=2.0).done:
            show()
        return done.result().records


def _settled(watch: Watch, bars: NewestBars, log: Log, live: Path, published: int) -> Counts:
    """Wait until every record and its bars are in the files: the log's clock has to pass their windows first."""
    _say("all is published; the last files follow when the log's clock has passed their minute")
    minute_ms = FILE_S * MS_PER_S
    ended_ms = (max(log.newest_ms().values()) // minute_ms + 1) * minute_ms + _FILED_MS
    deadline = time.monotonic() + _SETTLE_S
    accounted, since = -1, 0.0
    while time.monotonic() < deadline:
        time.sleep(2.0)
        counts = watch.counts()
        _show(counts, bars)
        before, accounted = accounted, _accounted(live)
        if accounted != published or before != accounted:
            since = time.monotonic()
        # what came late last has gone through cells, windows and files, and the last minute's bars are there
        elif time.monotonic() - since > _REVISED_S and min(log.newest_ms().values()) >= ended_ms:
            return counts
    raise LiveError(
        f"{accounted:,} of {published:,} records are in the files after {_SETTLE_S:.0f} s; logs: {live.parent}"
    )


def _accounted(live: Path) -> int:
    """Records found in the files: unique events, their copies, late events and rejects."""
    events = read_dataset(live, EVENTS)
    copies = int(pc.sum(pc.list_value_length(events["copies"])).as_py() or 0)
    return len(events) + copies + len(read_dataset(live, LATE_EVENTS)) + len(read_dataset(live, REJECTS))


def _show(counts: Counts, bars: NewestBars) -> None:
    stderr.print(f"live: {counts}", highlight=False, soft_wrap=True)
    rows = bars.poll()
    if not stderr.is_terminal or not rows:
        return
    table = Table("venue", "symbol", "second", "open", "high", "low", "close", "volume", "trades", "version")
    for row in rows[:8]:
        prices = (plain(row[name]) for name in ("open", "high", "low", "close", "volume"))
        second = f"{row['window_start']:%H:%M:%S}"
        table.add_row(row["exchange"], row["symbol"], second, *prices, str(row["trade_count"]), str(row["version"]))
    stderr.print(table)


def _chart(live: Path, file: Path) -> Path:
    """1 s bars of the instrument that traded most."""
    rows = bars_in_files(live, BarQuery(1, None, None))
    trades: dict[tuple[str, str], int] = {}
    for row in rows:
        pair = (row["exchange"], row["symbol"])
        trades[pair] = trades.get(pair, 0) + row["trade_count"]
    busiest = max(trades, key=lambda pair: trades[pair])
    write_chart(file, [row for row in rows if (row["exchange"], row["symbol"]) == busiest])
    return file


def _say(text: str) -> None:
    stderr.print(f"[bold]·[/] {text}", highlight=False, soft_wrap=True)
