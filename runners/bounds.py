"""The edges of a stretch of the log: read from a command line, and held against what the log has."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

Bound = datetime | Mapping[int, int] | None  # a log time, an offset a partition, or the log's own edge

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MS: Final = timedelta(milliseconds=1)


class BoundError(ValueError):
    """An edge that the log does not have; says what it has."""


def parse_bound(text: str | None) -> Bound:
    """A log time or offsets from a command line. BoundError when it is neither.

    >>> parse_bound("0:100,1:250")
    {0: 100, 1: 250}
    """
    if text is None:
        return None
    try:
        if ":" in text and all(part.replace(":", "").strip().isdigit() for part in text.split(",")):
            pairs = [part.split(":") for part in text.split(",")]
            offsets = {int(partition): int(offset) for partition, offset in pairs}
            if len(offsets) < len(pairs):
                raise BoundError(f"{text!r} names a partition twice; name each once, as 0:100,1:250")
            return offsets
        time = datetime.fromisoformat(text)
        return time if time.tzinfo else time.replace(tzinfo=UTC)
    except BoundError:
        raise
    except ValueError:
        raise BoundError(f"{text!r} is neither a time like 2026-11-24T09:00 nor offsets like 0:100,1:250") from None


def in_ms(time: datetime) -> int:
    """Milliseconds since the Unix epoch, the next whole one, as Kafka keeps log times; 0 for what lies before it.

    >>> in_ms(datetime(2026, 11, 24, 9, 0, 0, 1_000, UTC)) % 1_000  # which a float of seconds makes 0
    1
    """
    return max(0, -((_EPOCH - time) // _MS))


def check_order(start: Bound, stop: Bound) -> None:
    """BoundError for a start behind its end, before the log is asked."""
    if isinstance(start, datetime) and isinstance(stop, datetime) and start > stop:
        raise BoundError(f"the start {start.isoformat()} lies behind the end {stop.isoformat()}; turn them round")
    if isinstance(start, Mapping) and isinstance(stop, Mapping):
        for partition in sorted(start.keys() & stop.keys()):
            if start[partition] > stop[partition]:
                raise BoundError(
                    f"partition {partition} would begin at {start[partition]} and end before, at {stop[partition]}; "
                    "turn them round"
                )


def check_offsets(topic: str, offsets: Mapping[int, int], first: Mapping[int, int], end: Mapping[int, int]) -> None:
    """BoundError unless there is an offset for each partition of the topic, within what the log holds."""
    if offsets.keys() != first.keys():
        named, held = (", ".join(map(str, sorted(which))) for which in (offsets, first))
        raise BoundError(f"{topic} has partitions {held}, named were {named}; name the offset of each")
    for partition, offset in sorted(offsets.items()):
        if not first[partition] <= offset <= end[partition]:
            raise BoundError(
                f"{topic}[{partition}] holds offsets {first[partition]} to {end[partition]}, asked was {offset}; "
                "choose a stretch that retention has kept"
            )


def as_text(offsets: Mapping[int, int]) -> str:
    """Offsets as `parse_bound` takes them.

    >>> as_text({1: 250, 0: 100})
    '0:100,1:250'
    """
    return ",".join(f"{partition}:{offset}" for partition, offset in sorted(offsets.items()))
