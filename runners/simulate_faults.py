"""What goes wrong around the simulated market: clocks, silences, a second recorder, records that were lost.

All of it is off by default and draws from a stream of its own, so that a market without it stays what it was, byte for
byte. Rows are those of simulate_flow.ROW; times are microseconds since the market's start.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from schemas.units import US_PER_MS, US_PER_S

DUPLICATE: Final = 1
TWIN: Final = 2
RECORDER_B: Final = 4

RECORDER_DELAY_MS: Final = 50.0
"""The second recorder's copy comes up to this much later."""

_STREAM: Final = 1  # of the seed; 0 would be the flow's own
_MARGIN_US: Final = 5 * US_PER_S  # of lag, which events of one time may add; MarketConfig keeps it below the horizon
_AHEAD_US: Final = 15 * US_PER_S  # beyond what all lags and clocks add: the pipeline takes events up to 5 s ahead
_AHEAD_SPREAD_US: Final = 3_600 * US_PER_S
_MAX_SKEW_MS: Final = 4_000.0  # above, the pipeline refuses events of a clock that runs ahead

Rows = npt.NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class FaultConfig:
    """What goes wrong; shares are of the events, from 0 to 1."""

    future_share: float = 0.0  # events dated far ahead of their log time: rejects
    clock_skew_ms: float = 0.0  # each venue's clock is off by a constant of up to so much, either way
    silent_instruments: int = 0  # listed instruments that send nothing at all
    gap_share: float = 0.0  # events that a recorder lost: a hole in the sequence numbers
    halt_every_s: float = 0.0  # each venue halts once in such a period, at a time of its own; 0: never
    halt_length_s: float = 5.0  # how long it sends nothing; the sequence numbers have no hole
    recorders: int = 1  # 2: each event is recorded twice, under other keys, so mostly in other partitions
    partition_disorder_ms: float = 0.0  # every third instrument's records reach the log up to so late, in any order

    def rules(self, instruments: int) -> list[tuple[bool, str, str]]:
        """(whether it holds, option, rule) of each rule."""
        shares = ((0 <= getattr(self, name) <= 1, name, "between 0 and 1") for name in ("future_share", "gap_share"))
        halts = self.halt_every_s
        return [
            *shares,
            (0 <= self.clock_skew_ms <= _MAX_SKEW_MS, "clock_skew_ms", f"between 0 and {_MAX_SKEW_MS:.0f}"),
            (0 <= self.silent_instruments < instruments, "silent_instruments", f">= 0 and < {instruments}"),
            (halts >= 0, "halt_every_s", ">= 0"),
            (not halts or 0 < self.halt_length_s < halts, "halt_length_s", "> 0 and < halt_every_s"),
            (self.recorders in (1, 2), "recorders", "1 or 2"),
            (self.partition_disorder_ms >= 0, "partition_disorder_ms", ">= 0"),
        ]

    @property
    def lag_ms(self) -> float:
        """What it adds to an event's log lag, at most."""
        return self.clock_skew_ms + (RECORDER_DELAY_MS if self.recorders == 2 else 0.0)


class Faults:
    """The faults of one market. `lag_us`: what disorder and copies add to an event's log lag, at most."""

    def __init__(self, config: FaultConfig, seed: int, instruments: int, venues: int, lag_us: float) -> None:
        self._config, self._venues = config, venues
        self._random = np.random.default_rng([seed, _STREAM])
        skew_us = self._random.uniform(-1, 1, venues) * config.clock_skew_ms * US_PER_MS
        self.skew_us: npt.NDArray[np.int64] = skew_us.astype(np.int64) // US_PER_MS * US_PER_MS
        self._halt_at = self._random.random(venues)
        self.silent = np.sort(self._random.permutation(instruments)[: config.silent_instruments])
        self._lag_us = int(lag_us) + _MARGIN_US
        self._ahead_us = self._lag_us + 2 * int(config.clock_skew_ms * US_PER_MS) + _AHEAD_US

    def sent(self, rows: Rows) -> Rows:
        """Without what is never sent: silent instruments, venues that halt. Before they get numbers."""
        kept = ~np.isin(rows["instrument"], self.silent)
        if (every_s := self._config.halt_every_s) > 0:
            venue = rows["instrument"] % self._venues
            starts_s = self._halt_at[venue] * (every_s - self._config.halt_length_s)
            phase_s = rows["log_us"] / US_PER_S % every_s
            kept &= (phase_s < starts_s) | (phase_s >= starts_s + self._config.halt_length_s)
            second = np.flatnonzero(rows["flags"] == TWIN)
            kept[second] = kept[second - 1]  # the twin of a trade shares its fate
        return rows if kept.all() else rows[kept]

    def recorded(self, rows: Rows) -> Rows:
        """As the recorders saw them: clocks, events dated ahead, disorder, the second recorder's copies, losses."""
        config, random = self._config, self._random
        if config.clock_skew_ms:
            rows["event_us"] += self.skew_us[rows["instrument"] % self._venues]
        if config.future_share:
            plain = (rows["flags"] == 0) & ~np.append(rows["flags"][1:] == TWIN, False)
            plain &= rows["log_us"] - rows["event_us"] < self._lag_us  # not one that is late already
            ahead = plain & (random.random(len(rows)) < config.future_share)
            by_us = self._ahead_us + random.random(len(rows)) * _AHEAD_SPREAD_US
            rows["event_us"] += np.where(ahead, by_us.astype(np.int64) // US_PER_MS * US_PER_MS, 0)
        if config.partition_disorder_ms:
            late_us = random.random(len(rows)) * config.partition_disorder_ms * US_PER_MS
            rows["arrival_us"] += np.where(rows["instrument"] % 3 == 0, late_us.astype(np.int64), 0)
        lost = random.random(len(rows)) < config.gap_share
        if config.recorders == 1:
            return rows[~lost] if config.gap_share else rows
        return np.concatenate([rows[~lost], self._second(rows, lost)])

    def _second(self, rows: Rows, lost: npt.NDArray[np.bool_]) -> Rows:
        """The other recorder's records: copies, but for what the first one lost."""
        copies = rows.copy()
        delay_us = 1 + (self._random.random(len(rows)) * RECORDER_DELAY_MS * US_PER_MS).astype(np.int64)
        for name in ("received_us", "log_us", "arrival_us"):
            copies[name] += delay_us
        copies["flags"] |= np.where(lost, RECORDER_B, RECORDER_B | DUPLICATE)
        return copies[self._random.random(len(rows)) >= self._config.gap_share]
