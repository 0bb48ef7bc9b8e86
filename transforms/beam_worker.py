"""Three things that Beam's Python worker does for each bundle, at a cost that bundles of 5 to 100 ms can bear.

Importing this module changes the worker of its process; on Flink each worker imports it as a Beam plugin. What each
costs without, and how that was seen, is in docs/facts.md.
"""

import sys
from typing import Any, Final

import pyarrow as pa
from apache_beam.runners.worker import statecache, statesampler
from apache_beam.runners.worker.bundle_processor import FnApiUserStateContext
from apache_beam.runners.worker.sdk_worker import _Future

from transforms import beam_version

beam_version.check(__name__)

_ENTRY_BYTES: Final = 400  # what the cache needs for a key and its place


def size_of(*objects: Any) -> int:
    """Bytes that the cache holds for objects that are values or lists of values.

    Beam sizes what it caches with objsize, which walks the globals of all modules on every put, and does not count the
    keys: cleared states stay in the cache, so that it would grow to many times its limit. Our state is bytes, small
    integers and Arrow batches, which know their size.
    """
    total = _ENTRY_BYTES
    for value in objects:
        total += _bytes_of(value)
        if isinstance(value, (list, tuple)):
            total += sum(map(_bytes_of, value))
    return total


def _bytes_of(value: Any) -> int:
    # sys.getsizeof of a batch with the columns of a bar takes 100 us, sixty times as long
    return value.get_total_buffer_size() if isinstance(value, pa.RecordBatch) else sys.getsizeof(value)


class _Sent:
    """A handler of state whose writes are on their way when it returns; Beam waits for each before the next."""

    def __init__(self, handler: Any) -> None:
        self._handler, self._answers = handler, list[Any]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._handler, name)

    def clear(self, key: Any) -> Any:
        return self._noted(self._handler.clear(key))

    def extend(self, key: Any, coder: Any, elements: Any) -> Any:
        return self._noted(self._handler.extend(key, coder, elements))

    def wait(self) -> None:
        """Wait for all. RuntimeError when the runner refused one: Beam's own worker would not look."""
        answers, self._answers = self._answers, []
        for response in [answer.get() for answer in answers]:
            if response is not None and response.error:
                raise RuntimeError(f"the runner did not take a write of state: {response.error}")

    def _noted(self, answer: Any) -> Any:
        self._answers.append(answer)
        return _Future.done()


def _context(self: Any, state_handler: Any, *rest: Any, _init: Any = FnApiUserStateContext.__init__) -> None:
    _init(self, _Sent(state_handler), *rest)


def _commit(self: Any, *, _commit_each: Any = FnApiUserStateContext.commit) -> None:
    _commit_each(self)
    self._state_handler.wait()


def _start(self: Any) -> None:
    """Without the thread that samples where time goes: each bundle would start one, and wait for it to wake and end."""
    statesampler.set_current_tracker(self)
    self.started = True


def _stop(self: Any) -> None:
    statesampler.set_current_tracker(None)
    self.finished = True


statecache.get_deep_size = size_of
FnApiUserStateContext.__init__, FnApiUserStateContext.commit = _context, _commit
statesampler.StateSampler.start, statesampler.StateSampler.stop = _start, _stop
