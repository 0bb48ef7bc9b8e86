"""Preset: this process, for bounded input; the engine is pinned, for "DirectRunner" would pick one by what it sees."""

FLAGS = [
    "--runner=apache_beam.runners.portability.fn_api_runner.FnApiRunner",
    "--direct_num_workers=1",
]
