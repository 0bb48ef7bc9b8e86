"""What a run may be told, as frozen values that are checked at once."""

from dataclasses import dataclass, field

from transforms.cell_config import SETTLED_US, CellConfig
from transforms.faults import Limits
from transforms.header_ids import IdHeaders
from transforms.sessions import Sessions, SessionTimes
from transforms.window_kinds import Kind, Windowing, larger, sliding


class ConfigError(ValueError):
    """An option that cannot be; names the option, the value and the remedy."""


@dataclass(frozen=True, kw_only=True)
class MarketDataConfig:
    """Options of the market-data graph. Two runs with equal options over equal records give equal results."""

    limits: Limits = field(default_factory=Limits)
    id_headers: IdHeaders = field(default_factory=IdHeaders)
    cell: CellConfig = field(default_factory=CellConfig)
    intervals_s: tuple[int, ...] = (10, 60, 300, 3600)  # larger bars and stats, in seconds; each divides a day
    session_gap_s: int | None = None  # so many seconds without a trade end an instrument's session; None: no sessions

    def __post_init__(self) -> None:
        """Raise ConfigError for what cannot be."""
        cell = self.cell
        if cell.grace_us < 0:
            raise ConfigError(f"grace must be >= 0, was {cell.grace_us} us")
        if cell.horizon_us <= cell.grace_us:
            raise ConfigError(f"horizon must exceed grace ({cell.grace_us} us), was {cell.horizon_us} us")
        if not 1 <= cell.shards <= 1024:
            raise ConfigError(f"shards must be 1 to 1024, was {cell.shards}")
        for interval_s in self.intervals_s:
            if interval_s <= 1 or 86_400 % interval_s:
                raise ConfigError(f"an interval must be > 1 s and divide a day, was {interval_s} s")
        if self.session_gap_s is not None and not 1 <= self.session_gap_s <= 86_400:
            raise ConfigError(f"session gap must be 1 to 86400 s, was {self.session_gap_s} s")
        _check_names(self.id_headers)

    @property
    def windows(self) -> Windowing:
        """A larger window is whole when its cells have settled, and may grow for as long as they, and a minute."""
        return Windowing(self.cell.grace_us + SETTLED_US, self.cell.horizon_us + self.cell.slack_us + 60_000_000)

    @property
    def sessions(self) -> tuple[SessionTimes, ...]:
        """The sessions that are folded: none, or those of the one gap."""
        return () if self.session_gap_s is None else (SessionTimes(self.session_gap_s, self.windows.lateness_us),)

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The larger windows that are made."""
        sessions = [Sessions(times) for times in self.sessions]
        return *larger(self.intervals_s, self.windows), sliding(self.windows), *sessions


def _check_names(headers: IdHeaders) -> None:
    """Raise ConfigError for names that no header has, or of which nobody could tell what they stand for."""
    names = [*headers.trade_id, *headers.event_id]
    for name in names:
        if not name or not name.isprintable() or "\ufffd" in name:  # what is not UTF-8 is not printable either
            raise ConfigError(f"a header of ids must have a name of printable UTF-8, was {name!r}")
        if names.count(name) > 1:
            raise ConfigError(f"header {name!r} is named twice; it stands for the trade id or for the event id, once")
