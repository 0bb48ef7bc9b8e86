"""Fetches artifacts from a Maven repository: in parallel, resumed after an interruption, never trusted unchecked."""

import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from http.client import HTTPException
from pathlib import Path

from runners.artifacts import Artifact, ArtifactError, is_intact, locked, missing

WORKERS = 8
TIMEOUT_S = 30.0
ATTEMPTS = 4  # in a row without a new byte
_CHUNK_BYTES = 256 * 1024

OnBytes = Callable[[int], None]  # bytes that are now here; below zero when some had to be thrown away


def fetch(
    artifacts: Sequence[Artifact], cache_dir: Path, repository: str, on_bytes: OnBytes = lambda count: None
) -> list[Artifact]:
    """Make the cache hold all of them, and give back those that had to be fetched.

    Raises:
        ArtifactError: the repository cannot be reached, lacks one, or keeps sending other bytes than the lock says.
    """
    with locked(cache_dir):
        wanted = missing(artifacts, cache_dir)
        failed = threading.Event()

        def one(artifact: Artifact) -> None:
            if failed.is_set():
                return
            try:
                fetch_one(artifact, cache_dir / artifact.path, f"{repository}/{artifact.path}", on_bytes)
            except BaseException:
                failed.set()
                raise

        with ThreadPoolExecutor(max_workers=WORKERS) as pool:
            pending = [pool.submit(one, artifact) for artifact in wanted]
            try:
                done, _ = wait(pending, return_when=FIRST_EXCEPTION)
            finally:
                failed.set()  # after Ctrl-C too: the others end with their file
        errors = [error for future in done if (error := future.exception()) is not None]
        if errors:
            raise _summary(errors[0], wanted, cache_dir) from errors[0]
        return wanted


def _summary(error: BaseException, wanted: Sequence[Artifact], cache_dir: Path) -> BaseException:
    if not isinstance(error, ArtifactError):
        return error
    lacking = missing(wanted, cache_dir)
    megabytes = sum(artifact.size_bytes for artifact in lacking) / 1e6
    return ArtifactError(
        f"{error}; {len(lacking)} artifacts ({megabytes:.0f} MB) are missing: connect to the network or set "
        "HORIZON_MAVEN_REPOSITORY to a repository within reach, then run `horizon fetch`"
    )


def fetch_one(artifact: Artifact, target: Path, url: str, on_bytes: OnBytes) -> None:
    """Fetch one file by way of `<name>.part`, which an interrupted run leaves for the next to go on with.

    Raises:
        ArtifactError: after several attempts without a new byte, or when the bytes are not the lock's.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    attempts_left, reason = ATTEMPTS, "no attempt"
    while attempts_left:
        before = _size(part)
        try:
            if before < artifact.size_bytes:  # else an interrupted run has fetched it whole and not checked it
                _append(part, url, artifact.size_bytes, on_bytes)
            reason = "the connection ended early"
        except urllib.error.HTTPError as error:
            raise ArtifactError(f"the repository answers {error.code} for {artifact.coordinate}") from error
        except (OSError, HTTPException) as error:
            reason = str(getattr(error, "reason", error)) or type(error).__name__
        if is_intact(artifact, part):
            part.replace(target)
            return
        if _size(part) >= artifact.size_bytes:
            on_bytes(-_size(part))
            part.unlink()
            reason = "its sha256 is not the one in the lock file"
            attempts_left -= 1
        elif _size(part) == before:
            attempts_left -= 1
    raise ArtifactError(f"cannot fetch {artifact.coordinate}: {reason}")


def _append(part: Path, url: str, size_bytes: int, on_bytes: OnBytes) -> None:
    """Ask for what is missing of the file, or for all of it when the server cannot resume."""
    have = _size(part)
    headers = {"User-Agent": "horizon", **({"Range": f"bytes={have}-"} if have else {})}
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT_S) as answer:
        resumed = have > 0 and answer.status == 206
        if have and not resumed:
            on_bytes(-have)
        with part.open("ab" if resumed else "wb") as file:
            left = size_bytes - (have if resumed else 0) + 1  # one byte more than right is enough to see it is wrong
            while left > 0 and (chunk := answer.read(min(_CHUNK_BYTES, left))):
                file.write(chunk)
                on_bytes(len(chunk))
                left -= len(chunk)


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0
