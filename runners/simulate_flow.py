"""How the simulated market moves: instruments, times, prices, ids and the copies that a producer sends."""

from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from runners.simulate_faults import DUPLICATE, TWIN, FaultConfig, Faults
from schemas.event import ORDER_BOOK, TICKER, TRADE
from schemas.units import US_PER_MS, US_PER_S

BLOCK: Final = 4096
"""Events made at once; part of the seed's promise, so not an option."""

_BASES: Final = ("BTC", "ETH", "SOL", "XRP", "ADA", "DOGE", "AVAX", "DOT", "LINK", "LTC", "UNI", "ATOM")

ROW: Final = np.dtype(
    [(name, np.int64) for name in ("instrument", "kind", "event_us", "received_us", "log_us", "arrival_us")]
    + [(name, np.int64) for name in ("trade", "sequence", "serial", "side", "flags")]
    + [(name, np.float64) for name in ("price", "volume")]
)


@dataclass(frozen=True, kw_only=True)
class MarketConfig:
    """What the market is like; shares are of the events, from 0 to 1."""

    seed: int = 1
    instruments: int = 48  # spread over the venues; some are traded far more often than others
    hot_share: float = 0.0  # events of the first instrument, the rest as ever; 0: it too is traded by its rank
    venues: tuple[str, ...] = ("coinbase", "kraken", "binance")  # each third one stamps whole milliseconds
    rate: float = 10_000.0  # events per second of event time, before copies
    count: int | None = None  # records in all, copies included; None: endless
    mix: tuple[float, float, float] = (0.7, 0.2, 0.1)  # TRADE, ORDER_BOOK, TICKER
    duplicate_share: float = 0.01  # sent twice: same id and content, up to duplicate_delay_ms later
    duplicate_delay_ms: float = 2_000.0
    twin_share: float = 0.02  # trades followed by one that differs in the trade id alone
    same_time_share: float = 0.1  # events with the very time of their instrument's event before
    disorder_ms: float = 20.0  # further lag, evenly spread from 0
    late_share: float = 0.0005  # events dated horizon_s + 5 to 60 s before their log time
    horizon_s: float = 120.0  # what counts as late
    burst_every_s: float = 10.0  # period of the bursts, event time
    burst_length_s: float = 0.5
    burst_share: float = 0.25  # of a period's events fall into its burst; 0: none
    faults: FaultConfig = field(default_factory=FaultConfig)  # none by default

    def __post_init__(self) -> None:
        shares = ("duplicate_share", "twin_share", "same_time_share", "late_share", "burst_share")
        rules = [
            (self.instruments >= 1, "instruments", "at least 1"),
            (len(self.venues) >= 1 and all(self.venues), "venues", "at least one name"),
            # at 1 there would be no events when the hot one is silent
            (0 <= self.hot_share < 1, "hot_share", "at least 0 and below 1"),
            (self.rate > 0, "rate", "> 0"),
            (self.count is None or self.count >= 0, "count", ">= 0, or none for an endless market"),
            (len(self.mix) == 3 and min(self.mix) >= 0 and sum(self.mix) > 0, "mix", "three weights >= 0, not all 0"),
            (self.disorder_ms >= 0, "disorder_ms", ">= 0"),
            (self.duplicate_delay_ms >= 1, "duplicate_delay_ms", "at least 1"),
            (0 < self.burst_length_s < self.burst_every_s, "burst_length_s", "> 0 and < burst_every_s"),
            # a copy or a delay must not make an event late that is not meant to be
            (
                self.lag_ms + 5_000 <= self.horizon_s * 1_000,
                "horizon_s",
                "5 s above duplicate_delay_ms + disorder_ms and what the faults add to the lag",
            ),
            *self.faults.rules(self.instruments),
            *((0 <= getattr(self, name) <= 1, name, "between 0 and 1") for name in shares),
        ]
        for holds, name, rule in rules:
            if not holds:
                value = getattr(self, name) if hasattr(self, name) else getattr(self.faults, name)
                raise ValueError(f"{name} must be {rule}, was {value}")

    @property
    def lag_ms(self) -> float:
        """Log lag of an event that is not meant to be late, at most, but for some milliseconds."""
        return self.duplicate_delay_ms + self.disorder_ms + self.faults.lag_ms

    def names(self) -> list[tuple[str, str]]:
        """(exchange, symbol) of each instrument."""
        named = []
        for number in range(self.instruments):
            base, venue = divmod(number, len(self.venues))
            symbol = f"{_BASES[base]}-USDT" if base < len(_BASES) else f"C{base:03d}-USDT"
            named.append((self.venues[venue], symbol))
        return named


def _shares(instruments: int, hot_share: float) -> npt.NDArray[np.float64]:
    """Of the events, by instrument: falling with its rank, or the first one's as told and the others' by rank."""
    popularity = 1 / np.arange(1, instruments + 1)
    if hot_share and instruments > 1:
        popularity[0] = hot_share / (1 - hot_share) * popularity[1:].sum()
    shares: npt.NDArray[np.float64] = popularity / popularity.sum()
    return shares


class Flow:
    """Blocks of events in the order of their event times; times are microseconds since the market's start."""

    def __init__(self, config: MarketConfig) -> None:
        self._config = config
        self._random = np.random.default_rng(config.seed)
        size = config.instruments
        self._faults = Faults(config.faults, config.seed, size, len(config.venues), config.lag_ms * US_PER_MS)
        self._popularity = np.cumsum(_shares(size, config.hot_share))
        self._mix = np.cumsum(np.array(config.mix) / sum(config.mix))
        self._decimals = 10 ** self._random.integers(2, 6, size)  # ticks in one unit of the quote currency
        self._home = self._random.integers(5_000, 500_000, size)  # the price that each one comes back to, ticks
        self._ticks = self._home.copy()
        self._trades = self._random.integers(1_000, 1_000_000, size)
        self._sequences = np.zeros(size, np.int64)
        self._made = 0
        self._even_s = 0.0  # time so far if there were no bursts

    @property
    def clock_us(self) -> int:
        """No later block arrives before this."""
        return int(self._with_bursts(np.array([self._even_s]))[0])

    def block(self) -> npt.NDArray[Any]:
        """The next 4,096 events with their twins, copies and faults, as an array of rows in no order."""
        rows = self._times()
        rows = rows[np.argsort(rows["instrument"], kind="stable")]
        self._share_times(rows)
        rows = self._faults.sent(self._twins(rows))
        if not len(rows):
            return rows
        self._prices_and_ids(rows)
        rows = self._faults.recorded(rows)
        return np.concatenate([rows, self._copies(rows)])

    def _times(self) -> npt.NDArray[Any]:
        random, config = self._random, self._config
        rows = np.zeros(BLOCK, ROW)
        even_s = self._even_s + np.cumsum(random.exponential(1 / config.rate, BLOCK))
        self._even_s = float(even_s[-1])
        time_us = self._with_bursts(even_s)
        rows["event_us"] = time_us
        rows["instrument"] = np.searchsorted(self._popularity, random.random(BLOCK)).clip(0, config.instruments - 1)
        rows["kind"] = np.searchsorted(self._mix, random.random(BLOCK)).clip(0, 2)
        lag_us = US_PER_MS + random.exponential(2_000, BLOCK) + random.random(BLOCK) * config.disorder_ms * US_PER_MS
        rows["log_us"] = time_us + lag_us.astype(np.int64)
        return rows

    def _with_bursts(self, even_s: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
        """Times squeezed so that the last `burst_share` of each period falls into its last `burst_length_s`."""
        config = self._config
        period = config.burst_every_s
        whole, phase = np.divmod(even_s, period)
        if config.burst_share:
            from_s = [0.0, (1 - config.burst_share) * period, period]
            phase = np.interp(phase, from_s, [0.0, period - config.burst_length_s, period])
        time_us: npt.NDArray[np.int64] = ((whole * period + phase) * US_PER_S).astype(np.int64)
        return time_us

    def _share_times(self, rows: npt.NDArray[Any]) -> None:
        """Same-time runs, late events and venues that stamp milliseconds; `rows` are sorted by instrument."""
        random, config = self._random, self._config
        same = random.random(BLOCK) < config.same_time_share
        same[0] = False
        same[1:] &= rows["instrument"][1:] == rows["instrument"][:-1]
        leader = np.maximum.accumulate(np.where(same, 0, np.arange(BLOCK)))
        rows["event_us"] = rows["event_us"][leader]
        late = random.random(BLOCK) < config.late_share
        back_us = (config.horizon_s + random.uniform(5, 60, BLOCK)) * US_PER_S
        rows["event_us"] -= np.where(late, back_us, 0).astype(np.int64)
        in_ms = rows["instrument"] % len(config.venues) % 3 == 2
        rows["event_us"] -= np.where(in_ms, rows["event_us"] % US_PER_MS, 0)

    def _twins(self, rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Some trades twice: the second arrives later and gets an id of its own."""
        twin = (self._random.random(BLOCK) < self._config.twin_share) & (rows["kind"] == TRADE)
        rows = np.repeat(rows, 1 + twin)
        second = np.flatnonzero(twin) + np.arange(1, np.count_nonzero(twin) + 1)
        rows["flags"][second] = TWIN
        rows["log_us"][second] += self._random.integers(0, US_PER_MS, len(second))
        rows["received_us"] = rows["log_us"]
        rows["arrival_us"] = rows["log_us"] + (self._random.random(len(rows)) * 2_000).astype(np.int64)
        rows["arrival_us"][second] = rows["arrival_us"][second - 1] + 1
        return rows

    def _prices_and_ids(self, rows: npt.NDArray[Any]) -> None:
        """Random walk on the tick grid and running numbers for each instrument, in the order of event times."""
        random, size = self._random, len(rows)
        instrument, twin = rows["instrument"], rows["flags"] == TWIN
        last = np.flatnonzero(np.append(instrument[1:] != instrument[:-1], True))
        first = np.append(0, last[:-1] + 1)
        run = np.repeat(np.arange(len(first)), last - first + 1)

        def running(steps: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
            total: npt.NDArray[np.int64] = np.cumsum(steps)
            before: npt.NDArray[np.int64] = (total[first] - steps[first])[run]
            return total - before

        steps = random.integers(-3, 4, size) * (1 + self._home[instrument] // 20_000)
        ticks = np.maximum(self._ticks[instrument] + running(np.where(twin, 0, steps)), 1)
        trades = self._trades[instrument] + running((rows["kind"] == TRADE).astype(np.int64))
        sequences = self._sequences[instrument] + running(np.ones(size, np.int64))
        seen = instrument[last]
        self._trades[seen], self._sequences[seen] = trades[last], sequences[last]
        self._ticks[seen] = ticks[last] + (self._home[seen] - ticks[last]) // 64
        rows["price"] = ticks / self._decimals[instrument]
        rows["trade"], rows["sequence"] = trades, sequences
        rows["serial"] = self._made + np.arange(size)
        self._made += size
        self._sizes(rows, twin)

    def _sizes(self, rows: npt.NDArray[Any], twin: npt.NDArray[np.bool_]) -> None:
        random, kind = self._random, rows["kind"]
        lots = 1 + random.exponential(30_000, len(rows)).astype(np.int64)
        lots[(kind == ORDER_BOOK) & (random.random(len(rows)) < 0.1)] = 0  # the level goes away
        lots[kind == TICKER] += 10_000_000_000
        side = np.where(kind == TICKER, 0, random.integers(1, 3, len(rows)))
        second = np.flatnonzero(twin)
        lots[second], side[second] = lots[second - 1], side[second - 1]
        rows["volume"], rows["side"] = lots / 100_000, side

    def _copies(self, rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
        copies = rows[self._random.random(len(rows)) < self._config.duplicate_share]
        delay_us = self._random.uniform(1, self._config.duplicate_delay_ms, len(copies)) * US_PER_MS
        for name in ("log_us", "arrival_us"):
            copies[name] += delay_us.astype(np.int64)
        copies["flags"] |= DUPLICATE
        return copies
