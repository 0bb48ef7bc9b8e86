"""Bundles that end without telling their counters, imported by each worker of a job without metrics as a Beam plugin.

Beam's worker makes some 60 protobufs for each bundle, under Python's lock; Flink throws them away under
`--disable_metrics`. A job that ends needs them, and so does the DirectRunner, which splits bundles by what they tell.
"""

from typing import Any

from apache_beam.runners.worker.bundle_processor import BundleProcessor

from transforms import beam_version

beam_version.check(__name__)


def _nothing(self: Any) -> list[Any]:
    return []


BundleProcessor.monitoring_infos = _nothing
