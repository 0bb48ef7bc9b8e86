"""Nobody reaches a part of the stack, or of a job that runs on it, over the network: all listen on loopback alone."""

import contextlib
import os
from collections import defaultdict
from pathlib import Path

import pytest

from pipelines.outputs import Outputs
from runners.live import LiveOptions, running
from runners.stack import Endpoints, LocalStack
from tests.conftest import TopicFactory

LISTENS = "0A"
LOOPBACK = ("0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F")  # as the kernel has it


def listeners(stack: LocalStack) -> dict[str, set[str]]:
    """Name of a process of the stack -> address:port of each socket on which it, or what it started, listens."""
    sessions = {pid: name for name, pid in stack.pids().items()}
    owners: dict[str, str] = {}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
            name = sessions.get(os.getsid(int(process.name)))
            if name is not None:
                owners |= {str(handle.readlink()): name for handle in (process / "fd").iterdir()}
    found: dict[str, set[str]] = defaultdict(set)
    for table in ("tcp", "tcp6"):
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            _, address, _, state, *_, inode = line.split()[:10]
            if state == LISTENS and (name := owners.get(f"socket:[{inode}]")):
                found[name].add(address)
    return found


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="only Linux tells whose a socket is")
def test_every_socket_of_the_stack_and_of_a_job_listens_on_loopback_alone(
    stack: Endpoints, local_stack: LocalStack, topic: TopicFactory, tmp_path: Path
) -> None:
    idle = listeners(local_stack)
    outputs = Outputs(files_root=str(tmp_path), bootstrap_servers=stack.bootstrap_servers, topic_prefix=topic.outputs())
    with running(stack, LiveOptions(topic=topic(2), group=tmp_path.name, outputs=outputs)):
        busy = listeners(local_stack)
    assert set(busy) >= {"kafka-1", "jobmanager", "taskmanager-1", "expansion", "jobserver", "workers"}
    assert len(busy["taskmanager-1"]) > len(idle["taskmanager-1"])  # those of the workers' services
    assert {
        f"{name} {address}"
        for name, addresses in busy.items()
        for address in addresses
        if address.partition(":")[0] not in LOOPBACK
    } == set()


def test_what_the_stack_keeps_is_its_owners_alone(stack: Endpoints, tmp_path: Path) -> None:
    shown = {path.name for path in stack.state_dir.iterdir() if path.is_dir() and path.stat().st_mode & 0o077}
    assert shown <= {"data"}  # files of a run are for those whom the umask names
