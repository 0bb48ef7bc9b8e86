"""Times that a producer may set to anything, on their way into EVENT and LATE records."""

import pytest

from schemas import avro
from tests.oracle import utc
from tests.testing import T0_US, Log, trade
from tests.transforms.build_events import events
from transforms.late import late_rows
from transforms.topics import TopicNames, late_events

YEAR_10000_US = 253_402_300_800_000_000


@pytest.mark.parametrize(
    ("received_at", "kept"),
    [
        (T0_US, True),
        (0, True),
        (YEAR_10000_US - 1, True),
        (YEAR_10000_US, False),
        (2**63 - 1, False),
        (-1, False),
        (-(2**63), False),
    ],
)
def test_received_at_that_no_calendar_has_is_unknown_and_stops_no_late_event(received_at: int, kept: bool) -> None:
    log = Log()
    log.add(trade(received_at=received_at))
    _, messages = late_events(late_rows(events(log), "beyond_horizon"), TopicNames(), lambda _: 12)
    (row,) = [avro.decode(message[0])[1] for message in messages]
    assert row["received_at"] == (utc(received_at) if kept else None)
