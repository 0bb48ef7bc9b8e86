"""The whole graph on any records at all: nothing stops it, each record is in one place, in any cutting and order."""

import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings

from tests.testing import Log, Recorded, Written, places_written, run
from tests.transforms.test_hostile_input import batches
from transforms.decode import BEACON_HEADER


def written(log: Log, *, by_partition: bool) -> Written:
    root = Path(tempfile.mkdtemp())
    return run(log.by_partition(3) if by_partition else log.batches(5), root, log=log)


def is_beacon(record: Recorded) -> bool:
    return record.value is None and any(key == BEACON_HEADER for key, _ in record.headers)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(batches(), batches())
def test_every_record_is_in_one_place_and_files_are_the_same_in_any_order(
    some: list[Recorded], others: list[Recorded]
) -> None:
    log = Log()
    for record in [*some, *others]:
        log.add(
            record.value,
            partition=record.partition,
            log_time_us=record.log_time_us,
            key=record.key,
            headers=record.headers,
        )
    live, replayed = written(log, by_partition=False), written(log, by_partition=True)
    assert places_written(live) == sorted(record.place for record in log.records if not is_beacon(record))
    assert live.files() == replayed.files()
