"""Every counter of the pipeline, in one place: name, unit and what to do when it moves."""

from functools import cache
from typing import Final, Literal, get_args

from apache_beam.metrics import Metrics
from apache_beam.metrics.metricbase import Counter

Name = Literal[
    "records_read",  # records; falls to 0: look at the source and the group's lag
    "beacons_read",  # records; 0 with silent partitions: bars will stop, start the beacons
    "records_rejected",  # records; a jump: look at md.rejects by reason, then at the producer
    "events_unique",  # events
    "events_duplicate",  # records dropped as copies; a jump: a producer retries or runs twice
    "records_read_again",  # records met a second time after a resume; only ever after one
    "events_late",  # events sent to late; a jump: a venue or a producer lags more than the horizon
    "events_cell_closed",  # events; must be 0: the clock ran ahead of the log, as it may without beacons; replay
    "records_behind_clock",  # records; must be 0: the wall clock moved a silent partition on: are beacons written?
    "identity_conflicts",  # records; one identity with two contents: a venue reuses ids
    "bars_published",  # bars, all versions
    "stats_published",  # stats, all versions
    "files_written",  # files, rewrites included
]
NAMES: Final[tuple[Name, ...]] = get_args(Name)


@cache
def _counter(name: Name) -> Counter:
    return Metrics.counter("horizon", name)


def count(name: Name, amount: int) -> None:
    """Add to a counter; nothing for 0, for each update costs about a microsecond."""
    if amount:
        _counter(name).inc(amount)
