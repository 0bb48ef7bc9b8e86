"""Times that a producer may set to anything, on their way into EVENT and LATE records."""

import numpy as np
import pytest

from schemas import avro
from tests.oracle import utc
from tests.testing import T0_US, Log, trade
from tests.transforms.build_events import events
from transforms.event_rows import event_table
from transforms.faults import Limits
from transforms.late import late_rows
from transforms.topics import TopicNames, late_events

LIMITS = Limits()


@pytest.mark.parametrize(
    ("received_at", "kept"),
    [
        (T0_US, True),
        (T0_US + LIMITS.max_ahead_us, True),  # the recorder's clock is ahead of that of the log
        (T0_US + LIMITS.max_ahead_us + 1, False),
        (T0_US - LIMITS.max_age_us, True),
        (T0_US - LIMITS.max_age_us - 1, False),
        (T0_US // 1_000_000, False),  # seconds
        (T0_US // 1_000, False),  # milliseconds: 20 January 1970, if they were believed
        (T0_US * 1_000, False),  # nanoseconds
        (0, False),  # a default, sent as if it were a time
        (-1, False),
        (2**63 - 1, False),  # what no calendar has stopped the job
        (-(2**63), False),
    ],
)
def test_received_at_that_is_no_time_near_the_log_time_is_unknown_in_events_and_late_events(
    received_at: int, kept: bool
) -> None:
    log = Log()
    log.add(trade(received_at=received_at), log_time_us=T0_US)
    log.add(trade(1, received_at=T0_US), log_time_us=T0_US)
    log.add(trade(2), log_time_us=T0_US)
    batch = events(log)
    wanted = [utc(received_at) if kept else None, utc(T0_US), None]
    _, messages = late_events(late_rows(batch, "beyond_horizon"), TopicNames(), lambda _: 12)
    assert [avro.decode(message[0])[1]["received_at"] for message in messages] == wanted
    assert event_table([(batch, np.arange(3))])["received_at"].to_pylist() == wanted


def test_received_at_is_judged_by_the_log_time_of_its_own_record() -> None:
    log = Log()
    for log_time_us in (T0_US - 10_000_000, T0_US):
        log.add(trade(-10_000_000, received_at=T0_US), log_time_us=log_time_us)
    table = event_table([(events(log), np.array([1, 0]))])
    assert dict(zip(table["offset"].to_pylist(), table["received_at"].to_pylist(), strict=True)) == {
        0: None,
        1: utc(T0_US),
    }
