"""Artifacts: only the bytes of the lock count as present; a download goes on, tries again, or says what is missing."""

import hashlib
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner

from runners.__main__ import app
from runners.artifacts import (
    Artifact,
    ArtifactError,
    classpath,
    default_cache_dir,
    default_repository,
    is_intact,
    missing,
    parse_lock,
    read_lock,
)
from runners.download import ATTEMPTS, fetch

CONTENT = bytes(range(256)) * 4_000  # more than one chunk of the download
WRONG = bytes(len(CONTENT))


def artifact(name: str = "kafka-clients", content: bytes = CONTENT) -> Artifact:
    return Artifact("org.apache", name, "3.9.1", hashlib.sha256(content).hexdigest(), len(content), "kafka")


JAR = artifact()


@dataclass
class Answer:
    """What the repository sends for one request; cut_bytes: the connection ends after so many."""

    content: bytes = CONTENT
    cut_bytes: int | None = None
    resumes: bool = True
    status: int = 200


@dataclass
class Repository:
    """A Maven repository on this machine that gives one answer after the other, the last one for ever."""

    url: str = ""
    answers: list[Answer] = field(default_factory=lambda: [Answer()])
    asked: list[tuple[str, str | None]] = field(default_factory=list)  # (path, Range)

    def next_answer(self) -> Answer:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@pytest.fixture
def repository(monkeypatch: pytest.MonkeyPatch) -> Iterator[Repository]:
    """Serves on a free port until the test ends."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    told = Repository()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers["Range"]
            told.asked.append((self.path, asked))
            answer = told.next_answer()
            start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and answer.resumes else 0
            body = answer.content[start:]
            if start and not body:
                self.send_error(416)  # as every repository does: there is nothing behind the end
                return
            self.send_response(206 if start else answer.status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: answer.cut_bytes])

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        told.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield told
        server.shutdown()
        thread.join()


def closed_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def put(cache: Path, one: Artifact, content: bytes, suffix: str = "") -> Path:
    path = cache / (one.path + suffix)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_missing_artifact_is_fetched_from_its_maven_path(repository: Repository, tmp_path: Path) -> None:
    assert fetch([JAR], tmp_path, repository.url) == [JAR]
    assert (tmp_path / JAR.path).read_bytes() == CONTENT
    assert repository.asked == [("/org/apache/kafka-clients/3.9.1/kafka-clients-3.9.1.jar", None)]


def test_intact_artifact_is_not_asked_for(repository: Repository, tmp_path: Path) -> None:
    put(tmp_path, JAR, CONTENT)
    assert fetch([JAR], tmp_path, repository.url) == []
    assert repository.asked == []


def test_jar_of_two_roles_is_fetched_once(repository: Repository, tmp_path: Path) -> None:
    fetch([JAR, replace(JAR, role="beam-flink")], tmp_path, repository.url)
    assert len(repository.asked) == 1


@pytest.mark.parametrize("damaged", [WRONG, CONTENT[:-1], CONTENT + b"!", b""], ids=["bytes", "short", "long", "empty"])
def test_damaged_artifact_in_the_cache_is_fetched_again(repository: Repository, tmp_path: Path, damaged: bytes) -> None:
    path = put(tmp_path, JAR, damaged)
    assert missing([JAR], tmp_path) == [JAR]
    fetch([JAR], tmp_path, repository.url)
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("wrong", [WRONG, CONTENT + b"!"], ids=["bytes", "long"])
def test_download_with_another_checksum_is_thrown_away_and_fetched_again(
    repository: Repository, tmp_path: Path, wrong: bytes
) -> None:
    repository.answers = [Answer(wrong), Answer()]
    progress: list[int] = []
    fetch([JAR], tmp_path, repository.url, progress.append)
    assert is_intact(JAR, tmp_path / JAR.path)
    assert repository.asked == [(f"/{JAR.path}", None)] * 2
    assert sum(progress) == len(CONTENT)


def test_download_whose_checksum_stays_wrong_ends_with_nothing_in_the_cache(
    repository: Repository, tmp_path: Path
) -> None:
    repository.answers = [Answer(WRONG)]
    with pytest.raises(ArtifactError, match=r"cannot fetch org\.apache:kafka-clients:3\.9\.1: its sha256 is not"):
        fetch([JAR], tmp_path, repository.url)
    assert len(repository.asked) == ATTEMPTS
    assert list(tmp_path.rglob("*.jar*")) == []


def test_download_cut_off_goes_on_where_it_stopped(repository: Repository, tmp_path: Path) -> None:
    repository.answers = [Answer(cut_bytes=300_000), Answer(cut_bytes=200_000), Answer()]
    progress: list[int] = []
    fetch([JAR], tmp_path, repository.url, progress.append)
    assert (tmp_path / JAR.path).read_bytes() == CONTENT
    assert [asked for _, asked in repository.asked] == [None, "bytes=300000-", "bytes=500000-"]
    assert sum(progress) == len(CONTENT)


def test_download_of_an_interrupted_run_is_resumed_by_the_next(repository: Repository, tmp_path: Path) -> None:
    part = put(tmp_path, JAR, CONTENT[:300_000], ".part")
    fetch([JAR], tmp_path, repository.url)
    assert (tmp_path / JAR.path).read_bytes() == CONTENT
    assert [asked for _, asked in repository.asked] == ["bytes=300000-"]
    assert not part.exists()


def test_resumed_download_with_a_wrong_beginning_is_fetched_whole(repository: Repository, tmp_path: Path) -> None:
    put(tmp_path, JAR, WRONG[:300_000], ".part")
    fetch([JAR], tmp_path, repository.url)
    assert (tmp_path / JAR.path).read_bytes() == CONTENT
    assert [asked for _, asked in repository.asked] == ["bytes=300000-", None]


@pytest.mark.parametrize("found", [CONTENT, WRONG, CONTENT + b"!"], ids=["intact", "bytes", "long"])
def test_whole_download_that_an_interrupted_run_did_not_check_is_checked_first(
    repository: Repository, tmp_path: Path, found: bytes
) -> None:
    put(tmp_path, JAR, found, ".part")
    fetch([JAR], tmp_path, repository.url)
    assert (tmp_path / JAR.path).read_bytes() == CONTENT
    assert repository.asked == [(f"/{JAR.path}", None)] * (found != CONTENT)


def test_repository_that_cannot_resume_sends_the_whole_file(repository: Repository, tmp_path: Path) -> None:
    repository.answers = [Answer(resumes=False)]
    put(tmp_path, JAR, WRONG[:300_000], ".part")
    fetch([JAR], tmp_path, repository.url)
    assert (tmp_path / JAR.path).read_bytes() == CONTENT
    assert len(repository.asked) == 1


def test_connection_that_ends_without_a_byte_is_given_up_after_some_attempts(
    repository: Repository, tmp_path: Path
) -> None:
    repository.answers = [Answer(cut_bytes=0)]
    with pytest.raises(ArtifactError, match="the connection ended early"):
        fetch([JAR], tmp_path, repository.url)
    assert len(repository.asked) == ATTEMPTS


def test_artifact_that_the_repository_lacks_is_named_and_not_asked_for_again(
    repository: Repository, tmp_path: Path
) -> None:
    repository.answers = [Answer(b"", status=404)]
    with pytest.raises(ArtifactError, match=r"answers 404 for org\.apache:kafka-clients:3\.9\.1; 1 artifacts"):
        fetch([JAR], tmp_path, repository.url)
    assert len(repository.asked) == 1


def test_two_fetches_at_once_ask_for_each_file_once(repository: Repository, tmp_path: Path) -> None:
    with ThreadPoolExecutor(max_workers=2) as pool:
        fetched = list(pool.map(lambda _: fetch([JAR], tmp_path, repository.url), range(2)))
    assert sorted(fetched, key=len) == [[], [JAR]]
    assert len(repository.asked) == 1


def test_repository_of_files_is_read_like_one_of_http(tmp_path: Path) -> None:
    put(tmp_path / "repository", JAR, CONTENT)
    put(tmp_path / "cache", JAR, CONTENT[:300_000], ".part")
    fetch([JAR], tmp_path / "cache", (tmp_path / "repository").as_uri())
    assert is_intact(JAR, tmp_path / "cache" / JAR.path)


def test_fetch_without_a_network_is_one_line_with_what_is_missing_and_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("HORIZON_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("HORIZON_MAVEN_REPOSITORY", f"http://127.0.0.1:{closed_port()}")
    result = CliRunner().invoke(app, ["fetch"])
    count = len({one.path for one in read_lock()})
    (error,) = [line for line in result.stderr.splitlines() if not line.startswith("fetching ")]
    assert result.exit_code == 1
    assert error.startswith("error: cannot fetch ")
    assert f"Connection refused; {count} artifacts (" in error
    assert "set HORIZON_MAVEN_REPOSITORY to a repository within reach, then run `horizon fetch`" in error


def test_check_of_an_empty_cache_names_the_first_artifact_and_fetches_nothing(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HORIZON_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("HORIZON_MAVEN_REPOSITORY", repository.url)
    result = CliRunner().invoke(app, ["fetch", "--check"])
    assert result.exit_code == 1
    assert read_lock()[0].coordinate in result.stderr
    assert repository.asked == []


def test_class_path_has_the_jars_of_one_role_in_the_order_of_the_lock(tmp_path: Path) -> None:
    jars = [JAR, replace(JAR, name="flink", role="beam-flink"), artifact("a")]
    for jar in jars:
        put(tmp_path, jar, CONTENT)
    assert classpath(jars, "kafka", tmp_path) == (tmp_path / jars[0].path, tmp_path / jars[2].path)


def test_class_path_with_a_missing_jar_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"1 of 1 kafka .*org\.apache:kafka-clients:3\.9\.1; run `horizon fetch`"):
        classpath([JAR], "kafka", tmp_path)


def test_lock_line_is_read_and_comments_are_not() -> None:
    line = f"{JAR.coordinate} {JAR.sha256} {JAR.size_bytes} kafka"
    assert parse_lock(f"# a comment\n\n{line}  # and one more\n") == (JAR,)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("org.apache:kafka-clients 00 1 kafka", "not enough values"),
        ("a:b:1 00 many kafka", "invalid literal"),
        ("a:b:1 00 1 spark", "role must be one of kafka, beam-flink, compiler"),
        ("a:b:1 00 1", "not enough values"),
    ],
)
def test_lock_line_of_another_form_is_named_by_its_number(line: str, reason: str) -> None:
    with pytest.raises(ArtifactError, match=rf"line 2: .*{reason}.*; restore the file from git"):
        parse_lock(f"# first\n{line}\n")


def test_lock_that_ships_names_every_file_with_one_checksum() -> None:
    lock = read_lock()
    assert {one.role for one in lock} == {"kafka", "beam-flink", "compiler"}
    assert len({(one.path, one.sha256, one.size_bytes) for one in lock}) == len({one.path for one in lock})


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"HORIZON_CACHE_DIR": "/srv/jars", "HOME": "/home/a"}, "/srv/jars"),
        ({"HOME": "/home/a"}, "/home/a/.cache/horizon"),
        ({"HORIZON_CACHE_DIR": "", "HOME": "/home/a"}, "/home/a/.cache/horizon"),
    ],
)
def test_cache_lies_where_the_environment_says(environment: dict[str, str], expected: str) -> None:
    assert default_cache_dir(environment) == Path(expected)


def test_repository_of_the_environment_is_taken_without_a_slash_at_its_end() -> None:
    assert default_repository({"HORIZON_MAVEN_REPOSITORY": "file:///mnt/maven/"}) == "file:///mnt/maven"
