"""Coverage-guided fuzzing of decode and check against the laws of tests/hostile.py; `make fuzz MINUTES=10` runs it.

An input is cut into records: a byte that says what the record has (headers, beacon, null), then lengths and bytes. What
it finds is written as a file `crash-…` into the directory of the corpus; put its records into
tests/transforms/test_hostile_input.py before it is fixed.
"""

import sys

import atheris

with atheris.instrument_imports(include=["transforms", "schemas"]):
    from tests.hostile import assert_laws
    from tests.testing import T0_US, Log, Recorded, trade
    from transforms.decode import BEACON_HEADER

_LOG_TIMES_US = (T0_US, T0_US + 121_000_000, 0)
_HEADERS = ("trace", "ce_id", "trade_id", "horizon-event-id")


def records(data: bytes) -> list[Recorded]:
    """The records that an input stands for."""
    given = atheris.FuzzedDataProvider(data)
    log = Log()
    while given.remaining_bytes() and len(log.records) < 6:
        what = given.ConsumeInt(1)
        key = given.ConsumeBytes(4) if what & 1 else None
        headers = [(_HEADERS[what >> 2 & 3], given.ConsumeBytes(12))] if what & 2 else []
        if what & 0x78 == 0x78:
            headers.append((BEACON_HEADER, b"1"))
        size = given.ConsumeIntInRange(0, 400)
        value = given.ConsumeBytes(size)
        if what & 0x80:
            value = trade(trade_id=str(size)).SerializeToString() + value
        log.add(value, partition=what & 1, log_time_us=_LOG_TIMES_US[size % 3], key=key, headers=headers)
    return log.records


def one_input(data: bytes) -> None:
    """What the fuzzer calls."""
    assert_laws(records(data))


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
