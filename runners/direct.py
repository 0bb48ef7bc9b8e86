"""Preset: this process, for bounded input; the engine is pinned, for "DirectRunner" would pick one by what it sees."""

from transforms import beam_worker  # noqa: F401  (here the engine is its own worker, and loads no plugins)

FLAGS = [
    "--runner=apache_beam.runners.portability.fn_api_runner.FnApiRunner",
    "--direct_num_workers=1",
]
