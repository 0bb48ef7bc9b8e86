"""Throughput of the whole live job: a full topic read by Flink, files and topics written, counted on the output topics.

    python -m bench.live
    python -m bench.live --against HEAD~1 --runs 3
    python -m bench.live --profile DIR

The topic is filled first, so that the generator takes no core while the job runs. Two minutes from the first record out
are warm-up: the JVMs' second compiler takes a core for the first of them. Then events a second are the unique events,
late ones and rejects that come out, and CPU microseconds an event are of the same time. The job is then cancelled.
"""

import argparse
import json
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from bench import profile
from bench.against import against
from bench.load import conditions, make_topics, market, preload, stack_at
from bench.processes import cpu_seconds
from pipelines.outputs import Outputs
from runners.live import LiveOptions, running
from runners.stack import Endpoints
from runners.watch import Watch

_SILENT_S = 15.0  # nothing more has come out for so long: the topic has ended
_START_S = 120.0


@dataclass(frozen=True)
class Sample:
    """What had come out, and what each process had used, at one moment."""

    at: float  # seconds of a clock that only runs forward
    out: int  # records on the topics of unique events, late ones and rejects
    bars: int  # 1 s bars, all versions
    cpu: dict[str, float]  # CPU seconds by process


def measure(places: Endpoints, options: LiveOptions, seconds: float, steady: Callable[[float], None]) -> list[Sample]:
    """A sample a second, from the first record out for at least so long, or until the topic has ended.

    `steady` is called with each, with the seconds since the first.
    """
    watch = Watch(places.bootstrap_servers, options.topic, options.outputs.topic_prefix, options.config.intervals_s)
    series: list[Sample] = []
    with running(places, options):
        submitted = time.monotonic()
        while True:
            counts = watch.counts()
            out = counts.unique + counts.late + counts.rejects
            if out:
                series.append(Sample(counts.at, out, counts.bars[1], cpu_seconds(places.state_dir)))
            elif time.monotonic() - submitted > _START_S:
                raise SystemExit(f"nothing came out within {_START_S:.0f} s")
            if series:
                steady(series[-1].at - series[0].at)
            before = sum(sample.out < out for sample in series)  # the newest change is the sample after these
            if series and series[-1].at - series[before].at > _SILENT_S:
                return series[: before + 1]
            # in a silence it is not yet known whether the job is held up or the topic has ended
            if len(series) == before + 1 and series[-1].at - series[0].at >= seconds:
                return series
            time.sleep(1.0)


@dataclass(frozen=True)
class Figures:
    """Of the measured time."""

    rate: float  # events a second
    bars: float  # 1 s bars a second: a job that reads far ahead of the log's clock gives events and no bars
    seconds: float
    cpu_us: dict[str, float]  # microseconds an event, by process


def figures(series: list[Sample], warm_up: float) -> Figures:
    """What came out after the warm-up (seconds); over all that there is when the topic ended in it."""
    steady = [sample for sample in series if sample.at - series[0].at >= warm_up]
    first, last = (steady if len(steady) > 1 else series)[0], series[-1]
    seconds, events = last.at - first.at, last.out - first.out
    if not events:
        raise SystemExit("the topic ended within a second; give it more --events")
    cpu = {part: (used - first.cpu.get(part, 0.0)) / events * 1e6 for part, used in last.cpu.items()}
    return Figures(events / seconds, (last.bars - first.bars) / seconds, seconds, cpu)


def report(series: list[Sample], warm_up: float, seconds: float) -> Figures:
    """Print the rate of each 10 s and the figures, and say when the time was not what was asked for."""
    for one, later in zip(series[:-10:10], series[10::10], strict=False):
        took, bars = later.at - one.at, later.bars - one.bars
        print(f"  {one.at - series[0].at:6.1f} s  {(later.out - one.out) / took:10,.0f}/s  {bars / took:8,.0f} bars/s")
    found, lasted = figures(series, warm_up), series[-1].at - series[0].at
    if lasted < warm_up + seconds - 2:
        had = "the warm-up is in the figures" if lasted <= warm_up + 2 else "the figures are of what there was"
        print(f"THE TOPIC ENDED {lasted:.0f} s after the first record out, not after {warm_up:.0f} + {seconds:.0f} s:")
        print(f"  {had}; give it more --events")
    print(f"{found.rate:,.0f} events/s, {found.bars:,.0f} 1 s bars/s over {found.seconds:.0f} s")
    print(f"CPU us an event: {parts(found.cpu_us)}")
    return found


def parts(cpu_us: dict[str, float]) -> str:
    """Each process that used any."""
    return ", ".join(f"{part} {used:.1f}" for part, used in sorted(cpu_us.items()) if used > 0.05)


def options_of(asked: argparse.Namespace, name: str, places: Endpoints) -> LiveOptions:
    """The job; an option that was not given is left at what the checkout has as its default."""
    given = {key: getattr(asked, key) for key in ("bundle_ms", "checkpoint_ms") if getattr(asked, key) is not None}
    files = None if asked.no_files else str(places.state_dir / name)
    outputs = Outputs(files_root=files, bootstrap_servers=places.bootstrap_servers, topic_prefix=name)
    topic = asked.topic or f"{name}.raw"
    options = LiveOptions(topic=topic, group=name, parallelism=asked.parallelism, outputs=outputs, **given)
    if asked.shards is None:
        return options
    return replace(options, config=replace(options.config, cell=replace(options.config.cell, shards=asked.shards)))


def one(asked: argparse.Namespace) -> Figures:
    """One run."""
    print(conditions())
    with stack_at(asked.state_dir) as places:
        name = f"bench{time.time_ns() // 1_000_000}"
        options = options_of(asked, name, places)
        make_topics(places.bootstrap_servers, options.topic, name)
        if not asked.topic:
            source = market(asked.events, asked.rate, time.time_ns() // 1_000 - 3_600_000_000)
            seconds = preload(places.bootstrap_servers, options.topic, source)
            print(
                f"filled {options.topic} with {asked.events:,} records at {asked.events / seconds:,.0f}/s", flush=True
            )
        profiler = Profiler(places.state_dir, asked.profile, asked.warm_up, asked.seconds)
        series = measure(places, options, asked.warm_up + asked.seconds, profiler)
        profiler.end()
        shutil.rmtree(places.state_dir / name, ignore_errors=True)
    found = report(series, asked.warm_up, asked.seconds)
    if asked.profile:
        profile.report(asked.profile)
    return found


class Profiler:
    """Samples the measured time, when it is to."""

    def __init__(self, state_dir: Path, out: Path | None, warm_up: float, seconds: float) -> None:
        self._state_dir, self._out, self._warm_up, self._seconds = state_dir, out, warm_up, seconds
        self._running: list[subprocess.Popen[bytes]] = []

    def __call__(self, at: float) -> None:
        if self._out and not self._running and at >= self._warm_up:
            self._running = profile.sampling(self._state_dir, int(self._seconds * 0.8), self._out)

    def end(self) -> None:
        """Wait for the samples."""
        for process in self._running:
            process.wait(self._seconds)


def arguments() -> argparse.ArgumentParser:
    """The options of one run, and of runs against another revision."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=24_000_000, help="on the topic; more than comes out in the time")
    parser.add_argument("--warm-up", type=float, default=120, help="seconds, from the first record out")
    parser.add_argument("--seconds", type=float, default=120, help="measured, after the warm-up")
    parser.add_argument("--rate", type=float, default=100_000, help="events a second of event time")
    parser.add_argument("--parallelism", type=int, default=1)
    parser.add_argument("--bundle-ms", type=int)
    parser.add_argument("--checkpoint-ms", type=int)
    parser.add_argument("--shards", type=int)
    parser.add_argument("--no-files", action="store_true")
    parser.add_argument("--topic", help="a topic that was filled before")
    parser.add_argument("--state-dir", type=Path, help="a stack that runs; default: one of its own")
    parser.add_argument("--profile", metavar="DIR", type=Path, help="sample the measured time too (bench/profile.py)")
    parser.add_argument("--figures", type=Path, help="write the figures there too, as JSON")
    parser.add_argument("--against", metavar="REV", help="in turns with that revision, each on stacks of its own")
    parser.add_argument("--runs", type=int, default=3, help="of each, with --against")
    return parser


def main() -> None:
    """Run it and print the figures."""
    parser = arguments()
    asked = parser.parse_args()
    if asked.against:
        if asked.state_dir or asked.topic or asked.figures or asked.profile:
            parser.error(
                "--against has stacks, topics and figures of its own: no --state-dir, --topic, --figures or --profile"
            )
        against(asked.against, asked.runs, {**vars(asked), "against": None, "runs": None})
        return
    found = one(asked)
    if asked.figures:
        asked.figures.write_text(json.dumps(vars(found)))


if __name__ == "__main__":
    main()
