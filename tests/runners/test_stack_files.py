"""What a stack writes before it starts: ports that it keeps, settings with any path in them, notes of processes."""

import json
import os
import signal
import socket
import string
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from runners import artifacts
from runners.stack import flink, kafka, process
from runners.stack.ports import free_ports, is_free, kept_ports
from runners.stack.process import ProcessSpec, Running

ODD = Path("/Zustand 100 % süß#1\\ß")


def test_a_directory_keeps_its_ports_and_gives_up_only_one_that_is_taken(tmp_path: Path) -> None:
    note = tmp_path / "ports.json"
    first = kept_ports(note, ["a", "b"])
    assert len(set(first.values())) == 2
    assert kept_ports(note, ["a", "b", "c"]) | first == kept_ports(note, ["a", "b", "c"])
    with socket.socket() as other:
        other.bind(("127.0.0.1", first["a"]))
        other.listen()
        assert not is_free(first["a"])
        now = kept_ports(note, ["a", "b"])
    assert now["b"] == first["b"]
    assert now["a"] not in (first["a"], first["b"])


def test_ports_that_are_kept_are_not_given_to_another_name() -> None:
    (port,) = free_ports(1)
    assert all(port not in free_ports(5, without=[port]) for _ in range(20))


def test_settings_of_kafka_and_flink_hold_a_path_whatever_it_is_made_of() -> None:
    broker = kafka.Broker(1, 15_001, 15_002)
    lines = dict(line.split("=", 1) for line in kafka.server_properties(broker, (broker,), ODD).splitlines())
    assert lines["log.dirs"].isascii()
    assert lines["log.dirs"].encode().decode("unicode_escape") == str(ODD)
    assert flink.flink_uri(ODD) == f"file://{ODD}"
    assert [flink.path_of(uri) for uri in (f"file:{ODD}", f"file://{ODD}", str(ODD))] == [ODD] * 3


def test_config_of_flink_is_yaml_whose_strings_are_as_they_were(tmp_path: Path) -> None:
    cluster = flink.Cluster(15_003, 15_004, 2, tmp_path / ODD.name)
    flink.write_config(cluster)
    lines = (cluster.conf_dir / "config.yaml").read_text("utf-8").splitlines()
    told = {key: json.loads(value) for key, value in (line.split(": ", 1) for line in lines)}
    assert told == {key: str(value) for key, value in flink.config(cluster).items()}
    assert told["state.checkpoints.dir"] == f"file://{cluster.root / 'checkpoints'}"


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="only Linux tells what a process was started with")
def test_what_a_dead_process_left_is_stopped_and_a_strangers_group_of_its_number_is_not(tmp_path: Path) -> None:
    leaves = "import subprocess; print(subprocess.Popen(['sleep', '60']).pid, flush=True)"
    ours = process.spawn(ProcessSpec("leaves", (sys.executable, "-c", leaves)), tmp_path)
    process.wait_gone([ours], 20)
    left = int((tmp_path / "logs" / "leaves.log").read_text())
    stranger = Running(ours.name, ours.pid, ours.born, token="0" * 32)
    process.kill_group(stranger)
    os.kill(left, 0)
    process.kill_group(ours)
    assert process.born(left) is None


def test_a_note_of_another_boot_is_of_no_process_that_lives(tmp_path: Path) -> None:
    sleeper = process.spawn(ProcessSpec("sleeper", ("sleep", "60")), tmp_path)
    try:
        assert process.is_alive(sleeper)
        ticks, of, boot, _ = sleeper.born.split()
        before = Running(sleeper.name, sleeper.pid, f"{ticks} {of} {boot} 0", token=sleeper.token)
        assert not process.is_alive(before)
    finally:
        process.stop([sleeper], tmp_path, grace_s=0)


def test_a_process_that_ended_says_with_what(tmp_path: Path) -> None:
    failed = process.spawn(ProcessSpec("failed", (sys.executable, "-c", "raise SystemExit(3)")), tmp_path)
    assert process.wait_gone([failed], 20)
    assert process.exit_code(failed) == 3
    killed = subprocess.Popen(["sleep", "60"])
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert process.exit_code(Running("not ours", killed.pid, "1")) is None


def test_no_cluster_id_begins_with_what_begins_an_option(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = [bytes([first << 2, *range(15)]) for first in range(64)]
    monkeypatch.setattr(kafka.uuid, "uuid4", lambda: SimpleNamespace(bytes=drawn.pop(0)))
    first_characters = [kafka.new_cluster_id()[0] for _ in range(63)]
    assert sorted(first_characters) == sorted(string.ascii_letters + string.digits + "_")


@pytest.mark.slow
def test_kafka_takes_a_cluster_id_of_any_first_character(tmp_path: Path) -> None:
    jars = artifacts.classpath(artifacts.read_lock(), "kafka", artifacts.default_cache_dir())
    for first in string.ascii_letters + string.digits + "_":
        root = tmp_path / first
        broker = kafka.Broker(1, 15_001, 15_002)
        (root / "data").mkdir(parents=True)
        (root / "server.properties").write_text(kafka.server_properties(broker, (broker,), root / "data"))
        cluster_id = first + kafka.new_cluster_id()[1:]
        spec = kafka.format_spec(broker, kafka.jvm(jars, root), root / "server.properties", cluster_id)
        told = subprocess.run(spec.command, capture_output=True, text=True, check=False)
        assert (told.returncode, (root / "data" / "meta.properties").exists()) == (0, True), told.stderr
