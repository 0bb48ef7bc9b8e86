"""The live job's reader (Java) and a replay's (librdkafka) on one real broker: the same records, whatever they are."""

import random
import subprocess
from collections.abc import Sequence

import numpy as np
import pytest

from runners.log import Log
from runners.stack import Endpoints
from tests import java_main
from tests.conftest import TopicFactory
from tests.hostile import assert_laws
from tests.testing import Recorded, trade
from tests.transforms.build_blocks import known_name
from tests.transforms.test_blocks import blocks_in
from tests.wire import WireRecord, send
from transforms.batches import RawBatch
from transforms.blocks import join_blocks, read_block
from transforms.log_clock import in_us
from transforms.read_offsets import read_stretch

ANY = {"retention.ms": "-1", "message.timestamp.after.max.ms": str(2**63 - 1), "max.message.bytes": "20000000"}
PARTITIONS = 3
NAMES = [b"", b"trace", b"horizon-event-id", b"horizon-event-id\0x", b"horizon-beacon", b"a\0b", b"\0", b"\xff\xfe"]
NAMES += [
    b"\xed\xa0\x80",
    b"\xc0\x80",
    b"x\0\xff",
    b"\xff\0x",
    "ключ".encode(),
    "a\ufffd".encode(),
    b"\xf4\x90\x80\x80",
]
TIMES_MS = [-(2**63), -5, -1, 0, 1_700_000_000, 1_230_767_999_999, 1_700_000_000_000, 1_700_000_000_001, 2**63 - 1]
TIMES_MS += [1_700_000_000_000_000, 1_700_000_000_000_000_000, 253_370_764_800_000, 253_402_300_799_999]


def read_live(java: list[str], servers: str, topic: str) -> dict[int, RawBatch]:
    """By partition what the live job's consumer gives."""
    command = [*java, servers, topic, str(PARTITIONS)]
    told = blocks_in(subprocess.run(command, capture_output=True, timeout=120, check=True).stdout)
    by_home = {home: [read_block(home, memoryview(one[-1])) for one in told if one[0] == home] for home, *_ in told}
    return {home: join_blocks(topic, blocks) for home, blocks in by_home.items()}


def read_replayed(servers: str, topic: str) -> dict[int, list[RawBatch]]:
    """By partition what a replay reads."""
    stretches = Log(servers, topic).freeze().stretches
    return {one.partition: list(read_stretch(servers, one)) for one in stretches if one.start < one.stop}


def recorded(batches: Sequence[RawBatch]) -> list[Recorded]:
    """The records of batches as the laws take them."""
    return [
        Recorded(
            int(batch.partition[row]),
            int(batch.offset[row]),
            int(batch.log_time_us[row]),
            batch.keys[row].as_py(),
            batch.values[row].as_py(),
            tuple(batch.headers.get(row, ())),
            None,
        )
        for batch in batches
        for row in range(len(batch))
    ]


def hostile_records(seed: int, count: int) -> list[WireRecord]:
    """Records of any bytes, names, times and sizes."""
    draw = random.Random(seed)

    def data() -> bytes | None:
        return draw.choice([None, b"", draw.randbytes(draw.randrange(60)), draw.randbytes(2_000)])

    def value() -> bytes | None:
        event = trade(trade_id=str(draw.random())).SerializeToString()
        return draw.choice([event, event[: draw.randrange(len(event))], data()])

    def name() -> bytes:
        return draw.choice([*NAMES, draw.randbytes(draw.randrange(5))])

    return [
        WireRecord(data(), data(), [(name(), data()) for _ in range(draw.choice([0, 0, 1, 3]))], draw.choice(TIMES_MS))
        for _ in range(count)
    ]


@pytest.fixture(scope="module")
def java(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command that reads a topic and writes its blocks."""
    return java_main.command(tmp_path_factory.mktemp("java"), "PollBlocks")


def assert_both_read(java: list[str], servers: str, topic: str, sent: dict[int, list[WireRecord]]) -> None:
    """Both readers give what was sent, names of headers as the rule has them."""
    live, replayed = read_live(java, servers, topic), read_replayed(servers, topic)
    assert live.keys() == replayed.keys() == sent.keys()
    for home, records in sent.items():
        found = recorded([live[home]])
        assert found == recorded(replayed[home])
        assert [(one.key, one.value) for one in found] == [(one.key, one.value) for one in records]
        headers = [[(known_name(name), value) for name, value in one.headers] for one in records]
        assert [list(one.headers) for one in found] == [one if len(one) <= 100_000 else [] for one in headers]
        assert [one.log_time_us for one in found] == in_us(np.array([one.time_ms for one in records])).tolist()
        assert_laws(found)


@pytest.mark.parametrize(
    ("time_type", "packed"), [("CreateTime", False), ("CreateTime", True), ("LogAppendTime", True)]
)
def test_any_bytes_names_and_times(
    stack: Endpoints, topic: TopicFactory, java: list[str], time_type: str, packed: bool
) -> None:
    name = topic(PARTITIONS, ANY | {"message.timestamp.type": time_type}, "raw")
    sent: dict[int, list[WireRecord]] = {}
    for number in range(6):
        batch = hostile_records(number, 30)
        send(stack.bootstrap_servers, name, number % PARTITIONS, batch, packed=packed)
        sent.setdefault(number % PARTITIONS, []).extend(batch)
    if time_type == "CreateTime":
        assert_both_read(java, stack.bootstrap_servers, name, sent)
    else:
        live, replayed = read_live(java, stack.bootstrap_servers, name), read_replayed(stack.bootstrap_servers, name)
        assert {home: recorded([batch]) for home, batch in live.items()} == {
            home: recorded(batches) for home, batches in replayed.items()
        }


def test_any_sizes(stack: Endpoints, topic: TopicFactory, java: list[str]) -> None:
    """A packed batch is small on the wire: a broker of default settings takes what is larger than its limit."""
    name = topic(PARTITIONS, ANY | {"max.message.bytes": "1000000"}, "raw")
    sent = {
        0: [
            WireRecord(b"\xff garbage", b"k", [(b"kafka_dlt-exception-stacktrace", b"x" * 4_100_000)]),
            WireRecord(b"\xff", b"k" * 4_100_000),
            WireRecord(b"\xff" * 4_100_000),
            WireRecord(b"v", headers=[(b"n" * 4_100_000, None)]),
        ],
        1: [WireRecord(b"v", headers=[(b"", None)] * count) for count in (100_000, 100_001)],
        2: [WireRecord(b"v" * 500_000, b"k" * 500_000, [(b"h", b"h" * 500_000)]) for _ in range(3)],
    }
    for home, records in sent.items():
        for record in records:
            send(stack.bootstrap_servers, name, home, [record], packed=True)
    assert_both_read(java, stack.bootstrap_servers, name, sent)
