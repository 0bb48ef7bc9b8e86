"""`horizon simulate`: a seeded market onto a topic or into a file."""

import json
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, TextIO

import typer
from rich.markup import escape

from runners.commands.connection import AsJson, BootstrapServers, KafkaConfig, StateDir, brokers, fail, stop_on_signal
from runners.commands.publishing import PublishProgress
from runners.kafka_rights import Right
from runners.publish import PublishBatch, Published, PublishError, publish_batches
from runners.simulate import FaultConfig, Market, MarketConfig, SimulatedBatch, Truth
from runners.simulate_truth import Tally
from schemas.units import US_PER_S
from transforms.brokers import Brokers

_DEFAULT = MarketConfig()

EPILOG = """Examples:

horizon simulate                                   (10,000 events/s until Ctrl-C)

horizon simulate --rate 50000 --duration 60 --seed 7

horizon simulate --count 200000 --unpaced --late 0.01 --duplicates 0.05

horizon simulate --instruments 10000 --hot 0.9      (most of it in one partition)

horizon simulate --count 1000 --out market.jsonl   (a file that horizon publish reads)

horizon simulate --count 100000 --unpaced --recorders 2 --gaps 0.01 --future 0.001 --truth truth.json
"""


def simulate(
    topic: Annotated[str, typer.Option(help="Topic to publish to.")] = "md.events.raw",
    out: Annotated[Path | None, typer.Option(help="Write JSON lines to a file instead (- for stdout).")] = None,
    rate: Annotated[
        float, typer.Option(help="Events per second, in event time and, when paced, on the clock.")
    ] = 10_000,
    count: Annotated[int | None, typer.Option(min=0, help="Records in all, copies included; default: endless.")] = None,
    duration: Annotated[float | None, typer.Option(help="As many records as take N seconds at --rate.")] = None,
    unpaced: Annotated[bool, typer.Option("--unpaced", help="As fast as possible; log times then end at now.")] = False,
    seed: Annotated[int, typer.Option(help="The same seed and options give the same market.")] = _DEFAULT.seed,
    instruments: Annotated[int, typer.Option(help="Instruments, spread over the venues.")] = _DEFAULT.instruments,
    hot: Annotated[float, typer.Option(help="Share of the first instrument's events; 0: as its rank has it.")] = 0,
    venues: Annotated[str, typer.Option(help="Names of the venues.")] = ",".join(_DEFAULT.venues),
    mix: Annotated[str, typer.Option(help="Weights of TRADE, ORDER_BOOK, TICKER.")] = "0.7,0.2,0.1",
    duplicates: Annotated[float, typer.Option(help="Share sent twice, same id.")] = _DEFAULT.duplicate_share,
    twins: Annotated[float, typer.Option(help="Share of trades equal but for their id.")] = _DEFAULT.twin_share,
    same_time: Annotated[float, typer.Option(help="Share with the time of the one before.")] = _DEFAULT.same_time_share,
    disorder_ms: Annotated[float, typer.Option(help="Spread of the lag, milliseconds.")] = _DEFAULT.disorder_ms,
    late: Annotated[float, typer.Option(help="Share dated beyond the horizon.")] = _DEFAULT.late_share,
    horizon_s: Annotated[float, typer.Option(help="What counts as late, seconds.")] = _DEFAULT.horizon_s,
    bursts: Annotated[float, typer.Option(help="Share inside bursts of 0.5 s every 10 s.")] = _DEFAULT.burst_share,
    future: Annotated[float, typer.Option(help="Share dated far ahead of its log time: rejects.")] = 0,
    clock_skew_ms: Annotated[float, typer.Option(help="Each venue's clock is off by up to so much, constantly.")] = 0,
    silent: Annotated[int, typer.Option(help="Listed instruments that send nothing.")] = 0,
    gaps: Annotated[float, typer.Option(help="Share that a recorder loses: holes in the sequence numbers.")] = 0,
    halts_s: Annotated[float, typer.Option(help="Each venue halts once in so many seconds; 0: never.")] = 0,
    halt_length_s: Annotated[float, typer.Option(help="Seconds that a halt lasts.")] = 5,
    recorders: Annotated[int, typer.Option(help="2: each event recorded twice, under other keys.")] = 1,
    partition_disorder_ms: Annotated[
        float, typer.Option(help="Every third instrument reaches the log up to so late, in any order.")
    ] = 0,
    truth: Annotated[Path | None, typer.Option(help="Write what must come out to this file, as JSON.")] = None,
    bootstrap_servers: BootstrapServers = None,
    kafka_config: KafkaConfig = None,
    state_dir: StateDir = Path(".horizon"),
    as_json: AsJson = False,
) -> None:
    """Make up a market and publish it: with duplicates, content twins, bursts, disorder and late events.

    Paced by default: each record is sent when the clock reaches its log time. At the end the true counts are printed
    (unique, duplicates, late, twins), which is what a pipeline must find; --truth keeps them by instrument, for the
    default limits and --horizon-s. A hot instrument, clocks that are off, silences, gaps, halts, a second recorder and
    disorder between partitions are off unless asked for.
    """
    if count is None and duration is not None:
        count = max(0, round(duration * rate))
    if count is None and (unpaced or out is not None):
        raise typer.BadParameter("without a pace there is no end: give --count or --duration")
    try:
        config = MarketConfig(
            seed=seed,
            instruments=instruments,
            hot_share=hot,
            venues=tuple(name for name in venues.split(",") if name),
            rate=rate,
            count=count,
            mix=_weights(mix),
            duplicate_share=duplicates,
            twin_share=twins,
            same_time_share=same_time,
            disorder_ms=disorder_ms,
            late_share=late,
            horizon_s=horizon_s,
            burst_share=bursts,
            faults=FaultConfig(
                future_share=future,
                clock_skew_ms=clock_skew_ms,
                silent_instruments=silent,
                gap_share=gaps,
                halt_every_s=halts_s,
                halt_length_s=halt_length_s,
                recorders=recorders,
                partition_disorder_ms=partition_disorder_ms,
            ),
        )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    if truth is not None and not truth.parent.is_dir():
        fail(escape(f"cannot write {truth}: there is no directory {truth.parent}; make it first"))
    feed = _Feed(config, paced=not unpaced and out is None)
    if out is not None:
        whole = _write(out, feed)
    else:
        servers = brokers(bootstrap_servers, kafka_config, state_dir, [Right("Write", "topic", topic)])
        whole = _publish(feed, topic, servers, as_json)
    if truth is not None:
        if not whole:
            fail(escape(f"stopped inside a batch: the truth of what was sent is not known, {truth} is not written"))
        _write_truth(truth, feed)


class _Feed:
    """The market's batches, from now on or up to now, with the truth so far."""

    def __init__(self, config: MarketConfig, paced: bool) -> None:
        self.config = config
        self.truth = Truth()
        self.tally = Tally(config, 0)
        self._paced = paced

    def batches(self) -> Iterator[SimulatedBatch]:
        start_us = time.time_ns() // 1_000
        if not self._paced:  # the last copies lie a little beyond the rate's span
            span_s = (self.config.count or 0) / self.config.rate
            start_us -= int((span_s * 1.05 + self.config.duplicate_delay_ms / 1_000) * US_PER_S)
        self._start_us = start_us
        self.tally = Tally(self.config, start_us)
        for batch in Market(self.config, start_us).batches():
            self.truth += batch.truth
            self.tally.add(batch)
            yield batch

    def publishable(self) -> Iterator[PublishBatch]:
        for batch in self.batches():
            yield batch.to_publish(self._start_us if self._paced else None)


def _publish(feed: _Feed, topic: str, servers: Brokers, as_json: bool) -> bool:
    """Whether all that the market gave was sent."""
    with stop_on_signal() as stop, PublishProgress(f"simulate to {topic}", feed.config.count) as progress:
        try:
            done = publish_batches(servers, topic, feed.publishable(), stop=stop, on_progress=progress)
        except PublishError as error:
            fail(error)
    whole = done.records == feed.truth.records  # stopped in a batch: the counts would not be those of the topic
    _report(topic, done, feed.truth if whole else None, as_json)
    return whole


def _report(topic: str, done: Published, truth: Truth | None, as_json: bool) -> None:
    if as_json:
        report = {"topic": topic, "published": done.records, "seconds": round(done.seconds, 3)}
        typer.echo(json.dumps({**report, "truth": None if truth is None else asdict(truth)}))
        return
    typer.echo(f"{done.records:,} records on {topic}, {done.rate:,.0f}/s, all confirmed")
    if truth is not None:
        typer.echo(
            f"unique {truth.unique:,} (of them trades {truth.trades:,}, content twins {truth.twins:,}), "
            f"duplicates {truth.duplicates:,}, late {truth.late:,}, dated ahead {truth.future:,}"
        )


def _write(out: Path, feed: _Feed) -> bool:
    """Whether all that the market gave was written."""
    with stop_on_signal() as stop:
        if str(out) == "-":
            return _write_lines(sys.stdout, feed, stop)
        try:
            with out.open("w", encoding="utf-8") as file:
                whole = _write_lines(file, feed, stop)
        except OSError as error:
            fail(escape(f"cannot write {out}: {error.strerror}; name a file that can be made"))
    typer.echo(f"{feed.truth.records:,} records in {out}: {asdict(feed.truth)}")
    return whole


def _write_lines(file: TextIO, feed: _Feed, stop: threading.Event) -> bool:
    for batch in feed.batches():
        if stop.is_set():
            return False
        file.writelines(f"{line}\n" for line in batch.json_lines())
    return True


def _write_truth(file: Path, feed: _Feed) -> None:
    try:
        file.write_text(json.dumps(feed.tally.as_dict(), indent=1) + "\n")
    except OSError as error:
        fail(escape(f"cannot write {file}: {error.strerror}; name a file that can be made"))


def _weights(text: str) -> tuple[float, float, float]:
    try:
        trade, order_book, ticker = (float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"mix must be three numbers like 0.7,0.2,0.1, was {text!r}") from None
    return trade, order_book, ticker
