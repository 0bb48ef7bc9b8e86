"""A step that fails says at which record: its error goes to Flink, and from there to `horizon status` and `live`.

Flink restarts a job at every error, from its newest checkpoint, and so meets the same record again. Beam adds the
step's name to an error's message; here the place in the log is added, as `[at TOPIC/PARTITION/OFFSET]`. A step that
looks at each record for itself is tried again on halves of its batch until one record is left; of others the first
record of what they were given is named, and of a timer its key. Nothing is done while nothing fails.
"""

from collections.abc import Callable, Iterator
from functools import wraps
from inspect import isgeneratorfunction
from typing import Any, Final, cast

import numpy as np
import pyarrow as pa
from apache_beam.transforms import userstate
from apache_beam.transforms.userstate import TimerSpec

_MAX_CHARS: Final = 300  # of the error's own text

Process = Callable[..., Any]


class RecordError(RuntimeError):
    """A step failed at a record; the message has the error's kind and text, and the record's place in the log."""


def names_record(process: Process) -> Process:
    """For `process` of a DoFn: what it raises becomes a RecordError that names the element's first record."""
    return _naming(process, lambda _, element: _from(element))


def names_record_alone(process: Process) -> Process:
    """For one that keeps no state and whose element has a length and `take(rows)`: the very record is named."""
    return _naming(process, lambda self, element: _culprit(lambda part: _fails(process, self, part), element))


def on_timer(spec: TimerSpec) -> Callable[[Process], Process]:
    """Beam's own, and what the timer raises becomes a RecordError that names its parameter `key`."""

    def naming(fire: Process) -> Process:
        @wraps(fire)
        def named(self: Any, **given: Any) -> Iterator[Any]:
            try:
                yield from fire(self, **given) or ()
            except Exception as error:
                raise _record_error(error, f"at key {given.get('key')}") from error

        return cast(Process, userstate.on_timer(spec)(named))

    return naming


def first_place(element: Any) -> str | None:
    """TOPIC/PARTITION/OFFSET of the first record in an element of any step; None when it tells of none."""
    if isinstance(element, tuple):  # keyed
        return first_place(element[-1])
    if isinstance(element, pa.RecordBatch):
        columns = [name for name in ("topic", "partition", "offset") if name in element.schema.names]
        return "/".join(str(element[name][0]) for name in columns) if len(columns) == 3 and len(element) else None
    raw = getattr(element, "raw", element)  # of decoded ones; events make it
    raw = raw() if callable(raw) else raw
    return f"{raw.topic}/{raw.partition[0]}/{raw.offset[0]}" if hasattr(raw, "topic") and len(raw) else None


def _naming(process: Process, where: Callable[[Any, Any], str]) -> Process:
    @wraps(process)
    def named(self: Any, element: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return process(self, element, *args, **kwargs)
        except Exception as error:
            raise _record_error(error, where(self, element)) from error

    @wraps(process)
    def named_as_it_yields(self: Any, element: Any, *args: Any, **kwargs: Any) -> Iterator[Any]:
        try:
            yield from process(self, element, *args, **kwargs)
        except Exception as error:
            raise _record_error(error, where(self, element)) from error

    return named_as_it_yields if isgeneratorfunction(process) else named


def _record_error(error: Exception, where: str) -> RecordError:
    text = f"{type(error).__name__}: {' '.join(str(error).split())[:_MAX_CHARS]}"
    return RecordError(f"{text} [{where}]" if where else text)


def _from(element: Any) -> str:
    place = first_place(element)
    return f"from {place} on" if place else ""


def _culprit(fails: Callable[[Any], bool], element: Any) -> str:
    """Where the one record is at which the step fails; where its batch begins if it fails at no half of it."""
    while len(element) > 1:
        half = len(element) // 2
        parts = (element.take(rows) for rows in (np.arange(half), np.arange(half, len(element))))
        failing = next((part for part in parts if fails(part)), None)
        if failing is None:
            return _from(element)
        element = failing
    return f"at {first_place(element)}"


def _fails(process: Process, self: Any, part: Any) -> bool:
    try:
        list(process(self, part) or ())
    except Exception:
        return True
    return False
