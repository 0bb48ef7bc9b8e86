"""The interceptor itself, in the packaged Java: its blocks hold the records it was given, byte for byte."""

import random
import struct
import subprocess
from itertools import groupby
from typing import Any

import numpy as np
import pytest

from tests import java_main
from tests.transforms.build_blocks import Polled, block, length
from transforms.log_clock import in_us, plausible

LIMIT = 512 * 1024
Block = tuple[int, int, int, int, bytes]  # partition, offset, log time, its type, value
HOSTILE = (
    Polled(key=None, value=None),
    Polled(key=b"", value=b"", headers=(("", None), ("", b""))),
    Polled(headers=(("\0a\0", b"\0"), ("a", b"\xff\xfe"), ("a", None), ("ключ", bytes(range(256))))),
    Polled(time_ms=-1, kind=1),
    Polled(time_ms=1_700_000_000_000_000),
    Polled(time_ms=2**63 - 1),
    Polled(time_ms=-(2**63)),
    Polled(value=b"x" * (LIMIT - 1_000)),
    Polled(value=b"y" * 3_000_000, headers=(("large", b"z" * 100_000),)),
    Polled(key=b"k" * LIMIT, value=None, kind=1),
    Polled(value=b"HBLK" + b"\1\0\0\0" * 5),
)


@pytest.fixture(scope="module")
def java(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command that reads records and writes the interceptor's blocks."""
    return java_main.command(tmp_path_factory.mktemp("java"), "BlocksOfInput")


def nullable(data: bytes | None) -> bytes:
    return struct.pack(">i", length(data)) + (data or b"")


def blocks_of(java: list[str], records: list[Polled], names: dict[str, bytes] | None = None) -> list[Block]:
    """What the interceptor makes of one poll; `names` has the bytes of names that are not UTF-8."""
    sent = [struct.pack(">i", len(records))]
    for record in records:
        sent.append(struct.pack(">iqqi", record.partition, record.offset, record.time_ms, record.kind))
        sent += [nullable(record.key), nullable(record.value), struct.pack(">i", len(record.headers))]
        for name, value in record.headers:
            sent.append(nullable((names or {}).get(name, name.encode())) + nullable(value))
    told = subprocess.run(java, input=b"".join(sent), capture_output=True, timeout=60, check=True).stdout
    found, at = [], 0
    while at < len(told):
        *head, size = struct.unpack_from(">iqqii", told, at)
        at += struct.calcsize(">iqqii")
        found.append((*head, told[at : at + size]))
        at += size
    return found


def held(records: list[Polled]) -> int:
    """What a block of these takes, names counted as Java's upper bound has them."""
    headers = [(name, value) for record in records for name, value in record.headers]
    spare = sum(3 * len(name.encode("utf-16-le")) // 2 - len(name.encode()) for name, _ in headers)
    return len(block(records)) - len(block([])) + spare


def counted(records: list[Polled]) -> int:
    """The newest log time that a market's calendar has, ms; -1: none."""
    times = np.array([record.time_ms for record in records])
    return int(times[plausible(in_us(times))].max(initial=-1))


def hostile_log(seed: int) -> list[Polled]:
    """Records of three partitions with holes between their offsets and times that go back."""
    draw, offset, found = random.Random(seed), 0, []
    for _ in range(6_000):
        one: dict[str, Any] = vars(draw.choice(HOSTILE[:7]) if draw.random() < 0.99 else draw.choice(HOSTILE))
        if one["value"] == b"v":
            one = one | {"value": draw.randbytes(draw.randrange(400)), "key": draw.randbytes(draw.randrange(30))}
        offset += draw.choice((1, 1, 1, 7))
        time_ms = one["time_ms"] - draw.randrange(10_000) if one["time_ms"] == Polled.time_ms else one["time_ms"]
        found.append(Polled(**one | {"partition": draw.randrange(3), "offset": offset, "time_ms": time_ms}))
    return found


def test_blocks_hold_every_record_of_a_poll_in_order_and_are_cut_at_the_limit(java: list[str]) -> None:
    log = hostile_log(seed=7)
    wanted = {partition: [one for one in log if one.partition == partition] for partition in range(3)}
    for partition, blocks in groupby(blocks_of(java, log), key=lambda one: one[0]):
        left = wanted.pop(partition)
        for _, offset, time_ms, kind, value in blocks:
            (count,) = struct.unpack_from("<i", value, 8)
            records, left = left[:count], left[count:]
            assert value == block(records)
            assert (offset, time_ms, kind) == (records[-1].offset, counted(records), 0)
            assert count == 1 or held(records) <= LIMIT
            assert not left or held([*records, left[0]]) > LIMIT  # it is as large as it may be
        assert left == []
    assert wanted == {}


@pytest.mark.parametrize("record", HOSTILE, ids=range(len(HOSTILE)))
def test_a_record_alone_is_a_block(java: list[str], record: Polled) -> None:
    assert blocks_of(java, [record]) == [(0, 0, counted([record]), 0, block([record]))]


def test_a_poll_without_records_gives_none(java: list[str]) -> None:
    assert blocks_of(java, []) == []


def test_a_name_that_is_not_utf8_comes_as_the_java_client_gives_it(java: list[str]) -> None:
    record = Polled(headers=(("a\ufffdb", b"1"),))
    assert blocks_of(java, [record], {"a\ufffdb": b"a\xffb"})[0][-1] == block([record])
