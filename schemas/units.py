"""Units shared by all floors."""

from typing import Final

MS_PER_S: Final = 1_000
US_PER_MS: Final = 1_000
US_PER_S: Final = 1_000_000
NS_PER_US: Final = 1_000
US_PER_MINUTE: Final = 60 * US_PER_S
US_PER_HOUR: Final = 60 * US_PER_MINUTE
LOG_TIME_FROM_US: Final = 1_230_768_000 * US_PER_S
"""The year 2009: no Kafka, and no coin, is older."""
LOG_TIME_UNTIL_US: Final = 253_370_764_800 * US_PER_S
"""The year 9999: whatever lies a window behind it is still before the year 10000, where calendars end."""
