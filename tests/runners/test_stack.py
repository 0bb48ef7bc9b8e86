"""The real stack under its supervisor: a part that dies answers again, at the same address."""

import json
import os
import signal

from typer.testing import CliRunner

from runners.__main__ import app
from runners.stack import Endpoints, LocalStack
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
