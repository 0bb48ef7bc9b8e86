"""What the processes of a local stack use, read from /proc; the Python workers count with the pool that starts them."""

import json
import os
from pathlib import Path


def trees(state_dir: Path) -> dict[str, set[int]]:
    """The pids of each process of the stack and of all that it started, by the process's name."""
    parents = {int(stat.parent.name): int(fields[1]) for stat, fields in _stats()}
    found: dict[str, set[int]] = {}
    for note in (state_dir / "pids").glob("*.json"):
        members = {json.loads(note.read_text())["pid"]}
        while grown := {pid for pid, parent in parents.items() if parent in members} - members:
            members |= grown
        found[note.stem] = members
    return found


def cpu_seconds(state_dir: Path) -> dict[str, float]:
    """CPU seconds so far, children that ended included."""
    ticks = os.sysconf("SC_CLK_TCK")
    used = {int(stat.parent.name): sum(map(int, fields[11:15])) / ticks for stat, fields in _stats()}
    return {name: sum(used.get(pid, 0.0) for pid in members) for name, members in trees(state_dir).items()}


def memory_mb(state_dir: Path) -> dict[str, float]:
    """Resident memory of their own in MB (1e6 bytes): without mapped files, which the kernel takes back at will."""
    return {name: sum(map(_anonymous_mb, members)) for name, members in trees(state_dir).items()}


def _stats() -> list[tuple[Path, list[str]]]:
    """The fields of each /proc/PID/stat after the command's name."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            found.append((stat, stat.read_text().rpartition(")")[2].split()))
        except OSError:  # it has ended
            continue
    return found


def _anonymous_mb(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("RssAnon:")) * 1024 / 1e6
