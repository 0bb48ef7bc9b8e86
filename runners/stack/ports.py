"""Free ports on the loopback interface; a state directory keeps its own, so that a stack comes back where it was."""

import json
import random
import socket
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from pathlib import Path

from runners.stack.whole import write_whole

# Below the range from which Linux serves outgoing connections, so that none of those takes a port of ours
# between our look and the server's bind.
_RANGE = range(15_000, 32_000)


def kept_ports(note: Path, names: Sequence[str]) -> dict[str, int]:
    """A port for each name: the one that it had by the note where that is free, else another; the note says so then."""
    known: dict[str, int] = json.loads(note.read_text()) if note.exists() else {}
    kept = {name: known[name] for name in names if name in known and is_free(known[name])}
    others = [name for name in names if name not in kept]
    kept |= zip(others, free_ports(len(others), without=kept.values()), strict=True)
    write_whole(note, json.dumps(known | kept, indent=1))
    return kept


def is_free(port: int) -> bool:
    """Whether nothing listens on it at 127.0.0.1 right now."""
    with socket.socket() as candidate:
        # as the servers will: a connection of the stack before, not yet forgotten, keeps nobody from listening
        candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            candidate.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def free_ports(count: int, without: Collection[int] = ()) -> tuple[int, ...]:
    """`count` different ports that nothing listens on at 127.0.0.1 right now, none of them among `without`."""
    found: list[int] = []
    with ExitStack() as held:
        for port in random.sample(_RANGE, k=len(_RANGE)):
            if port in without:
                continue
            if len(found) == count:
                break
            candidate = held.enter_context(socket.socket())
            try:
                candidate.bind(("127.0.0.1", port))
            except OSError:
                continue
            found.append(port)
    if len(found) < count:
        raise OSError(
            f"only {len(found)} of {count} ports are free in {_RANGE.start}-{_RANGE.stop - 1}; stop something"
        )
    return tuple(found)
