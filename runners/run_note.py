"""run.json: what shaped the files of a directory, so that nobody who reads them later has to know it."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from pipelines.options import ConfigError, MarketDataConfig
from runners.stack.whole import write_whole
from schemas.units import US_PER_MS, US_PER_S
from transforms.cell_config import CellConfig
from transforms.faults import Limits
from transforms.header_ids import IdHeaders

RUN: Final = "run.json"

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
    """Note the options of a run below `root`, whole or not at all."""
    write_whole(root / RUN, json.dumps(shape_of(config), indent=1))


def read_run(root: Path) -> MarketDataConfig:
    """The options of the run that wrote below `root`. RunNoteError when it left none."""
    try:
        return config_of(json.loads((root / RUN).read_text()))
    except FileNotFoundError:
        raise RunNoteError(
            f"{root} has no {RUN}: is it a directory of `horizon live` or `horizon replay`? An older version left none"
        ) from None
    except (ValueError, KeyError, TypeError, ConfigError) as error:
        raise RunNoteError(f"{root / RUN} is damaged: {error!r}; write the files anew") from error


def differing(one: MarketDataConfig, other: MarketDataConfig) -> dict[str, tuple[Any, Any]]:
    """The options in which two runs differ, with the values of both."""
    left, right = shape_of(one), shape_of(other)
    return {name: (left[name], right[name]) for name in left if left[name] != right[name]}
