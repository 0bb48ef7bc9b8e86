"""`horizon fetch`: the Java artifacts that the local stack needs, and the jar of our own sources."""

import json
import time
from typing import Annotated

import typer
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from runners import artifacts
from runners.artifacts import ArtifactError
from runners.commands.connection import AsJson, fail, stderr
from runners.download import OnBytes, fetch
from runners.stack import own_jar

EPILOG = """Examples:

horizon fetch

horizon fetch --check   (verify the cache without the network)

HORIZON_MAVEN_REPOSITORY=file:///mnt/maven horizon fetch
"""

_LINE_EVERY_S = 5.0


def fetch_command(
    check: Annotated[bool, typer.Option("--check", help="Only verify; exit code 1 when something is missing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Download the pinned Kafka, Flink and Beam jars, each verified by sha256, and compile our own Java.

    They go to HORIZON_CACHE_DIR (default ~/.cache/horizon), 230 MB. What is intact stays, and an interrupted
    download goes on where it stopped.
    """
    lock = artifacts.read_lock()
    cache_dir = artifacts.default_cache_dir()
    try:
        fetched = [] if check else fetch_missing()
        if not check:
            own_jar.jar(lock, cache_dir)
    except ArtifactError as error:
        fail(escape(str(error)))
    lacking = [one.coordinate for one in artifacts.missing(lock, cache_dir)]
    ours = own_jar.place(lock, cache_dir)
    if not ours.exists():
        lacking.append(ours.name)
    if as_json:
        report = {"cache_dir": str(cache_dir), "fetched": fetched, "missing": lacking}
        typer.echo(json.dumps(report))
    elif lacking:
        fail(f"{len(lacking)} artifacts are missing in {cache_dir}, the first is {lacking[0]}")
    else:
        count = len({artifact.path for artifact in lock})
        typer.echo(f"{count} artifacts in {cache_dir}: {len(fetched)} fetched, all verified")
    if lacking:
        raise typer.Exit(1)


def fetch_missing() -> list[str]:
    """Fetch what the cache lacks, with progress on stderr; gives back the coordinates of what was fetched.

    Raises:
        ArtifactError: it cannot be had.
    """
    lock = artifacts.read_lock()
    cache_dir = artifacts.default_cache_dir()
    lacking = artifacts.missing(lock, cache_dir)
    if not lacking:
        return []
    total = sum(artifact.size_bytes for artifact in lacking)
    repository = artifacts.default_repository()
    if stderr.is_terminal:
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        with Progress(*columns, console=stderr) as progress:
            task = progress.add_task(f"{len(lacking)} artifacts", total=total)
            fetched = fetch(lock, cache_dir, repository, lambda count: progress.advance(task, count))
    else:
        fetched = fetch(lock, cache_dir, repository, _line_now_and_then(len(lacking), total))
    return [artifact.coordinate for artifact in fetched]


def _line_now_and_then(count: int, total_bytes: int) -> OnBytes:
    """Progress for a log file: a line at the start and one every few seconds."""
    stderr.print(f"fetching {count} artifacts, {total_bytes / 1e6:.0f} MB", highlight=False)
    seen, said = 0, time.monotonic()

    def on_bytes(more: int) -> None:
        nonlocal seen, said
        seen += more  # calls from several threads may lose a chunk; this is only for show
        if time.monotonic() - said > _LINE_EVERY_S:
            said = time.monotonic()
            stderr.print(f"  {seen / 1e6:.0f} of {total_bytes / 1e6:.0f} MB", highlight=False)

    return on_bytes


if __name__ == "__main__":  # `make setup` comes this way: the whole command line takes seconds to import
    typer.run(fetch_command)
