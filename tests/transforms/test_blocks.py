"""The interceptor itself, in the packaged Java: its blocks hold the records it was given, byte for byte."""

import random
import struct
import subprocess
from dataclasses import replace
from itertools import groupby
from typing import Any

import numpy as np
import pytest

from tests import java_main
from tests.transforms.build_blocks import Polled, block, known_name, length
from transforms.blocks import read_block
from transforms.log_clock import in_us, plausible

LIMIT = 512 * 1024
Block = tuple[int, int, int, int, bytes]  # partition, offset, log time, its type, value
HOSTILE = (
    Polled(key=None, value=None),
    Polled(key=b"", value=b"", headers=(("", None), ("", b""))),
    Polled(
        headers=(
            ("\0a\0", b"\0"),
            ("b\0a", b"\0"),
            ("\udcff\udcfe", b"c"),
            ("a\ufffd", b"d"),
            ("a", b"\xff\xfe"),
            ("a", None),
            ("ключ", bytes(range(256))),
        )
    ),
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


def blocks_of(java: list[str], records: list[Polled]) -> list[Block]:
    """What the interceptor makes of one poll; a name of a header stands for any bytes (PEP 383)."""
    sent = [struct.pack(">i", len(records))]
    for record in records:
        sent.append(struct.pack(">iqqi", record.partition, record.offset, record.time_ms, record.kind))
        sent += [nullable(record.key), nullable(record.value), struct.pack(">i", len(record.headers))]
        for name, value in record.headers:
            sent.append(nullable(name.encode(errors="surrogateescape")) + nullable(value))
    return blocks_in(subprocess.run(java, input=b"".join(sent), capture_output=True, timeout=60, check=True).stdout)


def blocks_in(told: bytes) -> list[Block]:
    """What BlocksOfInput.write wrote."""
    found, at = [], 0
    while at < len(told):
        *head, size = struct.unpack_from(">iqqii", told, at)
        at += struct.calcsize(">iqqii")
        found.append((*head, told[at : at + size]))
        at += size
    return found


def known(record: Polled) -> Polled:
    """The record with the names that both readers give its headers."""
    headers = [(known_name(name.encode(errors="surrogateescape")), value) for name, value in record.headers]
    return replace(record, headers=tuple(headers) if len(headers) <= 100_000 else ())


def held(records: list[Polled]) -> int:
    """What a block of these takes, names counted as Java's upper bound has them."""
    names = [
        name.encode(errors="surrogateescape").decode(errors="replace") for one in records for name, _ in one.headers
    ]
    spare = sum(3 * len(name.encode("utf-16-le")) // 2 for name in names)
    known_ = [known(record) for record in records]
    return len(block(known_)) - len(block([])) + spare - sum(len(n.encode()) for one in known_ for n, _ in one.headers)


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
            assert value == block([known(record) for record in records])
            assert (offset, time_ms, kind) == (records[-1].offset, counted(records), 0)
            assert count == 1 or held(records) <= LIMIT
            assert not left or held([*records, left[0]]) > LIMIT  # it is as large as it may be
        assert left == []
    assert wanted == {}


@pytest.mark.parametrize("record", HOSTILE, ids=range(len(HOSTILE)))
def test_a_record_alone_is_a_block(java: list[str], record: Polled) -> None:
    assert blocks_of(java, [record]) == [(0, 0, counted([record]), 0, block([known(record)]))]


def test_a_poll_without_records_gives_none(java: list[str]) -> None:
    assert blocks_of(java, []) == []


def test_a_name_of_any_bytes_is_what_the_other_reader_makes_of_it(java: list[str]) -> None:
    draw = random.Random(3)
    alphabet = [
        b"a",
        b"\0",
        b"\xc3",
        b"\xa9",
        b"\xe0",
        b"\xed",
        b"\xa0",
        b"\xf0",
        b"\x90",
        b"\x80",
        b"\xef\xbf\xbd",
        b"\xff",
    ]
    sent = [b"".join(draw.choices(alphabet, k=draw.randrange(6))) for _ in range(3_000)]
    record = Polled(headers=tuple((name.decode(errors="surrogateescape"), b"1") for name in sent))
    headers = read_block(0, memoryview(blocks_of(java, [record])[0][-1])).headers[0]
    assert headers == [(known_name(name), b"1") for name in sent]
    assert len({known_name(name) for name in sent}) > 10


@pytest.mark.parametrize("count", [100_000, 100_001])
def test_more_headers_than_librdkafka_gives_are_none(java: list[str], count: int) -> None:
    record = Polled(headers=(("", None),) * count)
    assert read_block(0, memoryview(blocks_of(java, [record])[0][-1])).headers.get(0, []) == list(known(record).headers)
