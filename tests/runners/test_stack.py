"""The real stack under its supervisor: a part that dies answers again, at the same address."""

import json
import os
import shutil
import signal

from typer.testing import CliRunner

from runners.__main__ import app
from runners.stack import Endpoints, LocalStack
from runners.stack.checkpoints import NEWEST_KEPT, Sweep
from runners.stack.ready import grpc_answers
from tests.live import wait_until


def test_job_server_that_died_answers_again_and_status_counts_it(stack: Endpoints, local_stack: LocalStack) -> None:
    before = local_stack.processes()["jobserver"]
    os.kill(before.pid, signal.SIGKILL)
    wait_until(lambda: local_stack.processes()["jobserver"].restarts > before.restarts, 30, "it is not started again")
    local_stack.wait_ready()
    assert grpc_answers(stack.job_endpoint)
    after = local_stack.processes()["jobserver"]
    status = CliRunner().invoke(app, ["stack", "status", "--json", "--state-dir", str(stack.state_dir)])
    said = json.loads(status.output)
    assert status.exit_code == 0
    assert said["restarts"]["jobserver"] == {"restarts": before.restarts + 1, "last": after.restarted}
    assert said["pids"]["jobserver"] == after.pid
    plain = CliRunner().invoke(app, ["stack", "status", "--state-dir", str(stack.state_dir)])
    assert f"pid {after.pid}, started again {after.restarts} time(s), last at {after.restarted}" in plain.output


def test_sweep_asks_flink_and_the_groups_notes_before_it_deletes(stack: Endpoints) -> None:
    checkpoints, groups = stack.state_dir / "flink" / "checkpoints", stack.state_dir / "groups"
    old = [checkpoints / f"{number:032x}" for number in range(NEWEST_KEPT + 2)]
    for number, job in enumerate(old):
        (job / "chk-1").mkdir(parents=True)
        os.utime(job, (number, number))
    groups.mkdir(exist_ok=True)
    note = groups / "idle.json"
    note.write_text(json.dumps({"job": old[0].name, "origin": None}))
    try:
        said = Sweep(stack.state_dir).when_due(0.0)
        assert f"deleted {old[1]}, checkpoints of an ended job that no group's note names" in said
        assert (old[0].exists(), old[1].exists()) == (True, False)
    finally:
        note.unlink()
        for job in old:
            shutil.rmtree(job, ignore_errors=True)
