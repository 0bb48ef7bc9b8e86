"""Replay: exactly the offsets of a manifest through the same graph, on this machine or on Flink."""

import json
from pathlib import Path
from typing import Final

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from pipelines.market_data import build
from pipelines.options import MarketDataConfig
from pipelines.outputs import Outputs, write
from runners import direct
from runners.dataset_files import count_rows
from runners.run_note import note_rows, write_run
from transforms.brokers import Brokers
from transforms.parquet_file import check_root
from transforms.read_offsets import Manifest, ReadOffsets

MANIFEST: Final = "manifest.json"


class ReplayError(RuntimeError):
    """A replay that must not run; says why and what to do."""


def replay(
    bootstrap_servers: Brokers,
    manifest: Manifest,
    out: Path,
    config: MarketDataConfig | None = None,
    flags: list[str] | None = None,
) -> dict[str, int]:
    """Run the graph over the manifest into Parquet below `out`; the run's counters by name.

    `flags` are those of a preset, the DirectRunner's by default. The manifest is written first, so that what was read
    is known whatever happens. ReplayError when `out` holds another run's files.
    """
    config = config or MarketDataConfig()
    try:
        check_root(str(out))
    except OSError as error:
        raise ReplayError(str(error)) from error
    if any(out.iterdir()):
        raise ReplayError(f"{out} is not empty: rows of another run would be united with this one's; name a new one")
    (out / MANIFEST).write_text(manifest.to_json())
    write_run(out, config)
    pipeline = beam.Pipeline(options=PipelineOptions(flags or direct.FLAGS))
    raw = pipeline | "ReadOffsets" >> ReadOffsets(bootstrap_servers, manifest)
    write(build(raw, config, str(out)), Outputs(files_root=str(out)), config.cell.grace_us)
    result = pipeline.run()
    result.wait_until_finish()
    note_rows(out, count_rows(out))
    counters = result.metrics().query()["counters"]
    totals: dict[str, int] = {}
    for counter in counters:
        name = counter.key.metric.name
        if counter.key.metric.namespace == "horizon":
            totals[name] = totals.get(name, 0) + counter.committed
    return totals


def manifest_of(out: Path) -> Manifest:
    """The manifest of a replay's directory. ReplayError when there is none."""
    try:
        return Manifest.from_json((out / MANIFEST).read_text())
    except (FileNotFoundError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise ReplayError(f"{out / MANIFEST} cannot be read ({error}); is {out} a replay's directory?") from error
