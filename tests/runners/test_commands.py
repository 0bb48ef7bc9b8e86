"""The command line: every command explains itself with examples, and a user's error is one line and an exit code."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner, Result

from runners import log, peek
from runners.__main__ import app

ROOT = Path(__file__).parents[2]
NOBODY = ["--bootstrap-servers", "127.0.0.1:1"]


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command and group below, by its words."""
    yield path, command
    for name, below in getattr(command, "commands", {}).items():
        yield from commands(below, (*path, name))


COMMANDS = dict(commands(typer.main.get_command(app)))
EACH_COMMAND = pytest.mark.parametrize("path", COMMANDS, ids=" ".join)


def examples(path: tuple[str, ...]) -> list[str]:
    """The lines that the epilog of a command shows."""
    _, *lines = [line.strip() for line in COMMANDS[path].epilog.splitlines() if line.strip()]
    return lines


def horizon(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments, prog_name="horizon")


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory without a stack, with a file `file`, an empty directory `empty` and broken manifests."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HORIZON_STATE_DIR", raising=False)
    (tmp_path / "file").write_text("neither JSON nor CSV")
    for name, manifest in (("empty", None), ("no-json", "{"), ("list", "[]"), ("other", "{}")):
        (tmp_path / name).mkdir()
        if manifest is not None:
            (tmp_path / name / "manifest.json").write_text(manifest)
    return tmp_path


@EACH_COMMAND
def test_help_of_every_command_ends_with_examples_of_it(path: tuple[str, ...]) -> None:
    result = horizon(*path, "--help")
    assert result.exit_code == 0
    assert re.search(r"Examples?:", result.output)
    assert any(" ".join(("horizon", *path)) in line for line in examples(path))


@EACH_COMMAND
def test_every_command_and_option_says_what_it_is_for(path: tuple[str, ...]) -> None:
    assert COMMANDS[path].help
    assert [parameter.name for parameter in COMMANDS[path].params if not parameter.help] == []


@EACH_COMMAND
def test_examples_use_only_commands_and_options_that_there_are(path: tuple[str, ...]) -> None:
    for example in re.split(r"&&|\|\||\n", "\n".join(examples(path))):
        words = re.sub(r"  +\(.*\)|\| jq .*", "", example).split()
        if "horizon" not in words or "COMMAND" in words:
            continue
        words = words[words.index("horizon") + 1 :]
        named = max((known for known in COMMANDS if tuple(words[: len(known)]) == known), key=len)
        options = {option for parameter in COMMANDS[named].params for option in parameter.opts}
        assert named, example
        assert {word for word in words if word.startswith("--")} <= options, example


def test_command_line_without_a_command_shows_the_help() -> None:
    assert horizon().output.strip() == horizon("--help").output.strip()


@pytest.mark.usefixtures("workplace")
@pytest.mark.parametrize(
    ("line", "exit_code", "said"),
    [
        ("compare absent empty", 2, "absent is no directory; name the one that `horizon live` wrote its files to"),
        ("compare empty absent", 2, "absent is no directory; name the one that `horizon replay` wrote its files to"),
        ("compare empty file", 2, "file is no directory; .*"),
        ("compare empty empty", 2, "empty/manifest.json cannot be read .*; is empty a replay's directory.*"),
        ("compare empty no-json", 2, "no-json/manifest.json cannot be read .*"),
        ("compare empty list", 2, "list/manifest.json cannot be read .*"),
        ("compare empty other", 2, "other/manifest.json cannot be read .*"),
        ("replay --out new", 1, "no stack runs in .horizon; start one with `horizon stack up`, or name brokers .*"),
        ("replay", 2, "Missing option '--out'; see `horizon replay --help`"),
        ("replay --out file", 2, "Invalid value for '--out': .*'file' is a file; see `horizon replay --help`"),
        ("replay --out new --from soon --bootstrap-servers 127.0.0.1:1", 2, ".*'soon' is neither a time like .*"),
        ("live", 1, "no stack runs in .horizon; start one with `horizon stack up`"),
        ("live --parallelism 0", 2, "Invalid value for '--parallelism': .*"),
        ("peek md.late", 1, "no stack runs in .horizon; .*"),
        ("peek md.late --tail --from-start", 2, "Invalid value: --from-start and --tail exclude each other; see .*"),
        ("bars", 1, "no bars in .horizon/data/live/bars; run `horizon live` or `horizon replay`, or name .*"),
        ("bars --interval 7m", 2, "Invalid value: --interval must be one of 1s, .*, was '7m'; see .*"),
        ("publish absent.jsonl", 2, "Invalid value for 'files': .*'absent.jsonl' does not exist; see .*"),
        ("publish file", 1, "no stack runs in .horizon; .*"),
        ("publish file.csv --bootstrap-servers 127.0.0.1:1", 2, ".*'file.csv' does not exist; .*"),
        ("simulate --count 1", 1, "no stack runs in .horizon; .*"),
        ("simulate --count 1 --out absent/a", 1, "cannot write absent/a: No such file or directory; name .*"),
        ("simulate --count 1 --out empty", 1, "cannot write empty: Is a directory; name .*"),
        ("simulate --out a", 2, "Invalid value: without a pace there is no end: give --count or --duration; see .*"),
        ("simulate --count 1 --out a --mix 1,2", 2, "Invalid value: mix must be three numbers .*, was '1,2'; see .*"),
        ("simulate --count 1 --out a --rate 0", 2, "Invalid value: rate must be > 0, was 0.0; see .*"),
        ("demo --data absent", 2, "Invalid value for '--data': .*'absent' does not exist; see .*"),
        ("status", 1, "no stack runs in .horizon; start one with `horizon stack up`"),
        ("simulate --count 1 --out a --recorders 3", 2, "Invalid value: recorders must be 1 or 2, was 3; see .*"),
        ("simulate --count 1 --out a --truth absent/t", 1, "cannot write absent/t: there is no directory absent; .*"),
        ("stack status", 1, "no stack runs in .horizon; start one with `horizon stack up`"),
        ("stack up --brokers 0", 2, "Invalid value for '--brokers': .*"),
        ("stack up --state-dir file", 2, "Invalid value for '--state-dir' .*'file' is a file; see .*"),
        ("topics check", 1, "no stack runs in .horizon; .*"),
        ("topics plan --file absent.toml --bootstrap-servers 127.0.0.1:1", 1, "no topics file at absent.toml; .*"),
        ("topics plan --file file --bootstrap-servers 127.0.0.1:1", 1, "the topics file is wrong at .*"),
        ("topics nonsense", 2, "No such command 'nonsense'; see `horizon topics --help`"),
        ("nonsense", 2, "No such command 'nonsense'; see `horizon --help`"),
        ("bars --nonsense", 2, "No such option: --nonsense; see `horizon bars --help`"),
    ],
)
def test_users_error_is_one_line_and_an_exit_code(line: str, exit_code: int, said: str) -> None:
    result = horizon(*line.split())
    assert isinstance(result.exception, SystemExit), result.exception
    assert re.fullmatch(f"error: {said}\n", result.stderr), result.stderr
    assert (result.exit_code, result.stdout) == (exit_code, "")


@pytest.mark.usefixtures("workplace")
@pytest.mark.parametrize("line", ["replay --out new", "peek md.late", "bars --from-topic"])
def test_broker_that_does_not_answer_is_one_line_with_its_address(
    line: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for module in (log, peek):
        monkeypatch.setattr(module, "_TIMEOUT_S", 0.5)
    result = horizon(*line.split(), *NOBODY)
    assert result.exit_code == 1
    assert re.fullmatch(r"error: no broker answers at 127\.0\.0\.1:1[ ;].*is it up\?.*\n", result.stderr)
    assert capfd.readouterr().err == ""  # the client's own log goes past Python


def test_command_line_says_nothing_of_what_it_imports() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "runners", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
