"""Units shared by all floors: exact integers inside, decimals and doubles only at the edge."""

from decimal import Decimal
from typing import Final

E9: Final = 1_000_000_000
"""Steps of 1e-9 in one: prices and volumes are integers of 1e-9 once decoded."""

MS_PER_S: Final = 1_000
US_PER_MS: Final = 1_000
US_PER_S: Final = 1_000_000
NS_PER_US: Final = 1_000
US_PER_MINUTE: Final = 60 * US_PER_S
US_PER_HOUR: Final = 60 * US_PER_MINUTE
LOG_TIME_FROM_US: Final = 1_230_768_000 * US_PER_S
"""The year 2009: no Kafka, and no coin, is older."""
LOG_TIME_UNTIL_US: Final = 253_402_300_800 * US_PER_S
"""The year 10000, where calendars end."""


def decimal_from_e9(value_e9: int) -> Decimal:
    """The exact decimal of an integer of 1e-9.

    >>> decimal_from_e9(1_500_000_000)
    Decimal('1.500000000')
    """
    return Decimal(value_e9).scaleb(-9)


def e9_from_decimal(value: Decimal) -> int:
    """The integer of 1e-9 of a decimal; ValueError when it has more than nine places.

    >>> e9_from_decimal(Decimal("0.000000001"))
    1
    """
    scaled = value.scaleb(9)
    if scaled != scaled.to_integral_value():
        raise ValueError(f"{value} has more than nine decimal places: round it to 1e-9 first")
    return int(scaled)
