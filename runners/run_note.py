"""run.json: what shaped the files of a directory, so that nobody who reads them later has to know it."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from pipelines.options import ConfigError, MarketDataConfig
from runners.reach import Reach
from runners.stack.whole import write_whole
from schemas.units import US_PER_MS, US_PER_S
from transforms.cell_config import CellConfig
from transforms.faults import Limits
from transforms.header_ids import IdHeaders
from transforms.rejects import CODE_VERSION

RUN: Final = "run.json"
_CODE: Final = "code version"
_REACH: Final = "read"  # of a live run that was stopped
_ROWS: Final = "rows"  # of a replay that has ended

Shape = dict[str, Any]  # name of an option, as the commands have it -> its value


class RunNoteError(ValueError):
    """A directory whose files nothing is known of; names it and the remedy."""


def shape_of(config: MarketDataConfig) -> Shape:
    """What the results depend on, as JSON keeps it."""
    cell = config.cell
    return {
        "--horizon-s": cell.horizon_us / US_PER_S,
        "--grace-ms": cell.grace_us / US_PER_MS,
        "--shards": cell.shards,
        "--session-gap-s": config.session_gap_s,
        "--any-price": sorted(config.limits.any_price_venues),
        "--trade-id-header": list(config.id_headers.trade_id),
        "--event-id-header": list(config.id_headers.event_id),
        "slack in s": cell.slack_us / US_PER_S,
        "intervals in s": list(config.intervals_s),
    }


def options_of(config: MarketDataConfig) -> list[str]:
    """Those that are not the defaults, as the commands take them.

    >>> options_of(replace(MarketDataConfig(), session_gap_s=30))
    ['--session-gap-s', '30']
    """
    plain, words = shape_of(MarketDataConfig()), list[str]()
    for name, value in shape_of(config).items():
        if name.startswith("--") and value != plain[name]:
            words += [word for one in (value if isinstance(value, list) else [value]) for word in (name, str(one))]
    return words


def config_of(shape: Mapping[str, Any]) -> MarketDataConfig:
    """The inverse of shape_of. KeyError, TypeError or ConfigError for what it is not."""
    cell = CellConfig(
        horizon_us=round(shape["--horizon-s"] * US_PER_S),
        grace_us=round(shape["--grace-ms"] * US_PER_MS),
        shards=shape["--shards"],
        slack_us=round(shape["slack in s"] * US_PER_S),
    )
    return replace(
        MarketDataConfig(),
        limits=Limits(any_price_venues=frozenset(shape["--any-price"])),
        id_headers=IdHeaders(trade_id=tuple(shape["--trade-id-header"]), event_id=tuple(shape["--event-id-header"])),
        cell=cell,
        intervals_s=tuple(shape["intervals in s"]),
        session_gap_s=shape["--session-gap-s"],
    )


def write_run(root: Path, config: MarketDataConfig) -> None:
    """Note the options of a run below `root`, whole or not at all; what was noted of an earlier one there is void."""
    write_whole(root / RUN, json.dumps(shape_of(config) | {_CODE: CODE_VERSION}, indent=1))


def note_reach(root: Path, reach: Reach) -> None:
    """Note how far the run has come, beside its options. RunNoteError when they are not there."""
    _add(root, _REACH, reach.as_json())


def note_rows(root: Path, rows: Mapping[str, int]) -> None:
    """Note that a replay has ended, and how many rows of each dataset it left. RunNoteError without its options."""
    _add(root, _ROWS, dict(rows))


def read_run(root: Path) -> MarketDataConfig:
    """The options of the run that wrote below `root`. RunNoteError when it left none."""
    try:
        return config_of(_read(root))
    except (ValueError, KeyError, TypeError, ConfigError) as error:
        raise _damaged(root, error) from error


def read_reach(root: Path) -> Reach | None:
    """How far the run below `root` had come when it was stopped; None: it runs, or was killed. RunNoteError."""
    told = _read(root).get(_REACH)
    try:
        return None if told is None else Reach.from_json(told)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(root, error) from error


def read_rows(root: Path) -> dict[str, int] | None:
    """Rows of each dataset that the replay below `root` left; None: it has not ended. RunNoteError."""
    told = _read(root).get(_ROWS)
    try:
        return None if told is None else {str(name): int(rows) for name, rows in told.items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise _damaged(root, error) from error


def read_code_version(root: Path) -> str:
    """The version of the code that made the run. RunNoteError."""
    return str(_read(root).get(_CODE, "not noted"))


def _read(root: Path) -> Shape:
    try:
        told = json.loads((root / RUN).read_text())
    except FileNotFoundError:
        raise RunNoteError(
            f"{root} has no {RUN}: is it a directory of `horizon live` or `horizon replay`? An older version left none"
        ) from None
    except ValueError as error:
        raise _damaged(root, error) from error
    if not isinstance(told, dict):
        raise _damaged(root, TypeError(f"it holds {told!r}"))
    return told


def _add(root: Path, name: str, value: Any) -> None:
    write_whole(root / RUN, json.dumps(_read(root) | {name: value}, indent=1))


def _damaged(root: Path, error: Exception) -> RunNoteError:
    return RunNoteError(f"{root / RUN} is damaged: {error!r}; write the files anew")


def differing(one: MarketDataConfig, other: MarketDataConfig) -> dict[str, tuple[Any, Any]]:
    """The options in which two runs differ, with the values of both."""
    left, right = shape_of(one), shape_of(other)
    return {name: (left[name], right[name]) for name in left if left[name] != right[name]}
