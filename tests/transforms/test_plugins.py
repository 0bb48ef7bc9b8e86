"""Plugins of Beam's worker: which Beam they are for, and a bundle that tells nothing."""

import importlib
import subprocess
import sys
from pathlib import Path

import apache_beam
import pytest

from transforms import beam_version

PLUGINS = ("transforms.beam_worker", "transforms.kafka_chunks", "transforms.silent_bundles")


def test_the_version_is_the_one_that_is_installed_by_the_requirements() -> None:
    pins = (Path(__file__).parents[2] / "requirements.in").read_text().splitlines()
    assert f"apache-beam=={beam_version.PINNED}" in pins


@pytest.mark.parametrize("plugin", PLUGINS)
def test_a_plugin_refuses_another_beam_before_it_changes_anything(plugin: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apache_beam, "__version__", "2.71.0")
    monkeypatch.delitem(sys.modules, plugin, raising=False)
    with pytest.raises(RuntimeError, match=rf"{plugin} changes Beam's worker as it is in 2.70.0, .* is 2.71.0"):
        importlib.import_module(plugin)


def test_a_bundle_tells_no_counters() -> None:
    look = """
from apache_beam.runners.worker.bundle_processor import BundleProcessor
import transforms.silent_bundles
assert BundleProcessor.monitoring_infos(None) == []
"""
    subprocess.run([sys.executable, "-c", look], check=True)  # in this process the DirectRunner would miss them
