"""Our own Java: compiled once for each state of its sources, whole or not at all, and asked for before a job starts."""

import subprocess
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from runners import artifacts, live
from runners.artifacts import Artifact, ArtifactError
from runners.live import LiveError, LiveOptions
from runners.stack import Endpoints, own_jar
from tests import java_main

LOCK = artifacts.read_lock()
CACHE = artifacts.default_cache_dir()


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A cache that has every pinned jar, and none of ours."""
    for artifact in LOCK:
        link = tmp_path / artifact.path
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(CACHE / artifact.path)
    return tmp_path


def test_jar_holds_our_classes_and_their_service_and_is_compiled_once(cache: Path) -> None:
    jar = own_jar.jar(LOCK, cache)
    made = jar.stat().st_mtime_ns
    with zipfile.ZipFile(jar) as archive:
        names = {Path(name).stem.partition("$")[0] for name in archive.namelist() if name.endswith(".class")}
        assert names == {
            "AlignedConsumer",
            "Blocks",
            "Expansion",
            "Launcher",
            "LogClock",
            "MapControlClientPool",  # in place of Beam's
            "ReadBlocks",
            "SavedState",
            "ServerFactory",  # in place of Beam's
        }
        services = [name for name in archive.namelist() if name.startswith("META-INF/")]
        assert services == ["META-INF/services/org.apache.beam.sdk.expansion.ExternalTransformRegistrar"]
    assert own_jar.jar(LOCK, cache).stat().st_mtime_ns == made
    assert list(jar.parent.iterdir()) == [jar]


def test_two_processes_that_compile_at_once_leave_one_whole_jar(cache: Path) -> None:
    with ThreadPoolExecutor(max_workers=2) as pool:
        first, second = pool.map(lambda _: own_jar.jar(LOCK, cache), range(2))
    assert first == second
    assert list(first.parent.iterdir()) == [first]
    assert zipfile.ZipFile(first).testzip() is None


def test_another_source_or_version_is_another_jar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {own_jar.jar_name(LOCK)}
    names.add(own_jar.jar_name([*LOCK, Artifact("a", "b", "1", "00", 1, "beam-flink")]))
    names.add(own_jar.jar_name([replace(one, version="3.40.0") if one.role == "compiler" else one for one in LOCK]))
    (tmp_path / "A.java").write_text("class A {}")
    monkeypatch.setattr(own_jar, "SOURCES", tmp_path)
    names.add(own_jar.jar_name(LOCK))
    (tmp_path / "META-INF").mkdir()
    (tmp_path / "META-INF" / "service").write_text("A")
    names.add(own_jar.jar_name(LOCK))
    assert len(names) == 5


def test_source_that_does_not_compile_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "A.java").write_text("class A {\n  int a = b;\n}\n")
    target = tmp_path / "out" / "a.jar"
    with pytest.raises(ArtifactError, match=r"do not compile: .*b cannot be resolved") as raised:
        own_jar.compile_jar(tmp_path, [], LOCK, CACHE, target)
    assert "\n" not in str(raised.value)
    assert list(target.parent.iterdir()) == []


def test_missing_compiler_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"compiler artifacts are missing .*run `horizon fetch`"):
        own_jar.compile_jar(own_jar.SOURCES, [], LOCK, tmp_path, tmp_path / "a.jar")


def test_cluster_without_the_jar_of_these_sources_gets_no_job(
    stack: Endpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "jar_name", lambda lock: "horizon-0123456789abcdef.jar")
    with pytest.raises(LiveError, match=r"without horizon-0123456789abcdef\.jar.*`make setup`.*`horizon stack up`"):
        live.start(stack, LiveOptions())


def test_a_worker_that_does_not_come_is_an_error_and_not_waited_for_for_ever(tmp_path: Path) -> None:
    command = java_main.command(tmp_path, "TakeWorkers")
    told = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert told.returncode == 0, told.stderr
    gone = "Python worker third did not come within 1 s of being asked for; the log of the workers may say why"
    assert told.stdout.splitlines() == ["first", "second", gone, "third is sent away"]
