"""Units shared by all floors."""

from typing import Final

MS_PER_S: Final = 1_000
US_PER_MS: Final = 1_000
US_PER_S: Final = 1_000_000
NS_PER_US: Final = 1_000
US_PER_MINUTE: Final = 60 * US_PER_S
US_PER_HOUR: Final = 60 * US_PER_MINUTE
