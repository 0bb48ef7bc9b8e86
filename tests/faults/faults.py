"""The faults, one a function: each does its harm to a job in the middle of its work, and ends it."""

import os
import resource
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from confluent_kafka import Consumer

from tests import live
from tests.faults.frame import Scene, group_members
from transforms.fault_points import FILE_STEPS

FREEZE_S = 30.0
OUTAGE_S = 15.0
ROOM_BYTES = 4_096  # in a full directory


def worker_killed(scene: Scene) -> None:
    os.kill(scene.workers()[0], signal.SIGKILL)


def pool_killed(scene: Scene) -> None:
    """The pool alone: its workers outlive it until the supervisor comes."""
    scene.died_and_back("workers", leader_only=True)


def taskmanager_killed(scene: Scene) -> None:
    scene.died_and_back("taskmanager-1")


def broker_killed(scene: Scene) -> None:
    """The only one; it comes back on its data."""
    scene.died_and_back("kafka-1")


def job_server_killed(scene: Scene) -> None:
    scene.died_and_back("jobserver")


def worker_frozen(scene: Scene) -> None:
    with scene.frozen(*scene.workers()):
        time.sleep(FREEZE_S)


def taskmanager_frozen(scene: Scene) -> None:
    with scene.frozen(scene.leader("taskmanager-1")):
        time.sleep(FREEZE_S)


def broker_frozen(scene: Scene) -> None:
    with scene.frozen(scene.leader("kafka-1")):
        time.sleep(FREEZE_S)


def checkpoints_unwritable(scene: Scene) -> None:
    """What was written can be read, but nothing new can be made."""
    directory = scene.stack.state_dir / "flink" / "checkpoints" / scene.job.job_id
    with read_only(directory):
        time.sleep(OUTAGE_S)


def disk_full(scene: Scene) -> None:
    """RLIMIT_FSIZE of the workers: the kernel takes the first 4 KB of each file, and refuses the rest with EFBIG.

    A small file system of their own would say ENOSPC, but mounting one takes root; Python sees an OSError of write(2)
    after a part of the file in both cases.
    """
    pool = scene.leader("workers")
    limit_file_size(pool, ROOM_BYTES)
    time.sleep(OUTAGE_S)
    limit_file_size(pool, resource.RLIM_INFINITY)


def crashes_while_writing(scene: Scene) -> None:
    """Workers die over a file, one after each step of the writing."""
    for step in FILE_STEPS:
        strike(scene, step, "SIGKILL")


def late_writer(scene: Scene) -> None:
    """A worker freezes over a file, its TaskManager dies, and it wakes when others have written that file again."""
    strike(scene, "read", "SIGSTOP")
    (sleeper,) = [pid for pid in scene.workers() if state_of(pid) == "T"]
    scene.died_and_back("taskmanager-1")
    scene.case.wait_complete(Path(scene.options.outputs.files_root))
    os.kill(sleeper, signal.SIGCONT)
    time.sleep(2.0)


def stranger_in_the_group(scene: Scene) -> None:
    """Another consumer joins the job's group, is given all partitions, and leaves."""
    settings = {
        "bootstrap.servers": scene.case.places.bootstrap_servers,
        "group.id": scene.options.group,
        "enable.auto.commit": False,
    }
    stranger = Consumer(settings)
    stranger.subscribe([scene.case.topic])

    def assigned() -> bool:
        stranger.poll(0.1)
        return bool(stranger.assignment())

    live.wait_until(assigned, 60, "it is given no partition")
    time.sleep(OUTAGE_S)
    stranger.close()


FAULTS: dict[str, Callable[[Scene], None]] = {
    "worker killed": worker_killed,
    "worker pool killed": pool_killed,
    "TaskManager killed": taskmanager_killed,
    "only broker killed": broker_killed,
    "job server killed": job_server_killed,
    "worker frozen": worker_frozen,
    "TaskManager frozen": taskmanager_frozen,
    "broker frozen": broker_frozen,
    "checkpoints unwritable": checkpoints_unwritable,
    "disk full": disk_full,
    "crashes while writing": crashes_while_writing,
    "late writer": late_writer,
    "stranger in the group": stranger_in_the_group,
}


@contextmanager
def read_only(directory: Path) -> Iterator[None]:
    """Nothing can be made in the directory while entered, not by root either."""
    if os.geteuid() == 0:  # whom no mode stops
        subprocess.run(["chattr", "+i", str(directory)], check=True)
    else:
        directory.chmod(0o555)
    try:
        yield
    finally:
        if os.geteuid() == 0:
            subprocess.run(["chattr", "-i", str(directory)], check=True)
        else:
            directory.chmod(0o755)


def limit_file_size(group: int, size: int) -> None:
    """Of every process of the group, and of those that they will start."""
    for pid in group_members(group):
        _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, hard))


def strike(scene: Scene, step: str, signal_name: str) -> None:
    """Start a new pool whose workers have the fault point, and wait until it has struck."""
    once = scene.case.savepoints / f"once-{time.monotonic_ns()}"
    once.touch()
    os.environ["HORIZON_FAULT_AT"] = f"{step} {signal_name} {once}"
    try:
        scene.stack.kill("workers")
        scene.stack.start("workers")
    finally:
        del os.environ["HORIZON_FAULT_AT"]
    live.wait_until(lambda: not once.exists(), 120, f"no file was {step}", poll_s=0.05)


def state_of(pid: int) -> str:
    """The kernel's letter for what a process does."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
