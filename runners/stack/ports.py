"""Free ports on the loopback interface."""

import random
import socket
from contextlib import ExitStack

# Below the range from which Linux serves outgoing connections, so that none of those takes a port of ours
# between our look and the server's bind.
_RANGE = range(15_000, 32_000)


def free_ports(count: int) -> tuple[int, ...]:
    """`count` different ports that nothing listens on at 127.0.0.1 right now."""
    found: list[int] = []
    with ExitStack() as held:
        for port in random.sample(_RANGE, k=len(_RANGE)):
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
