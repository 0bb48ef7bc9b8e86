"""Exact arithmetic on columns: doubles to integers of 1e-9, sums that cannot overflow or depend on order, hashes.

A number is a row of int64 limbs, so adding numbers is adding rows, in any order, in any grouping. Limbs are base
2**16 while events are folded: a limb of one product is below 2**35, which leaves room for 2**28 events in a sum.
"""

from decimal import Decimal

import numpy as np
import numpy.typing as npt

from schemas.units import E9

LIMB_BITS = 16
_EXACT_BELOW = 2.0**22  # where a double's own step grows to 1e-9
PRICE_LIMBS = 4  # a price_e9 is below 2**63
VOLUME_LIMBS = 5  # a volume_e9 is below 2**80
NOTIONAL_LIMBS = PRICE_LIMBS + VOLUME_LIMBS - 1

Ints = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]


def split_e9(values: npt.NDArray[np.float64]) -> tuple[Ints, Ints]:
    """Non-negative finite doubles below 2**62 as (units, nanos), nanos in 0..999,999,999, nearest 1e-9.

    What is rounded is the decimal that was meant, the shortest one that gives the double. Up to 2**22 a double is
    nearer to it than a step of 1e-9, so columns will do: the whole part is split off first, and the fraction is exact
    before it is scaled. Above, the double itself is off by more than a step, so its decimal digits are read.

    >>> [part.tolist() for part in split_e9(np.array([0.014596000000000001, 3234691346912.85, 2.9999999999]))]
    [[0, 3234691346912, 3], [14596000, 850000000, 0]]
    """
    whole = np.floor(values)
    units = whole.astype(np.int64)
    nanos = np.rint((values - whole) * E9).astype(np.int64)
    for row in np.flatnonzero((values >= _EXACT_BELOW) & (values != whole)).tolist():
        nanos[row] = int(((Decimal(repr(float(values[row]))) - int(units[row])) * E9).to_integral_value())
    carry = nanos == E9
    return units + carry, np.where(carry, 0, nanos)


def _limbs(value: Words, count: int) -> Ints:
    """uint64 column (n,) as (n, count) limbs of 16 bits, lowest first."""
    shifts = np.arange(count, dtype=np.uint64) * np.uint64(LIMB_BITS)
    return ((value[:, None] >> shifts) & np.uint64(0xFFFF)).astype(np.int64)


def notional_limbs(price_e9: Ints, units: Ints, nanos: Ints) -> Ints:
    """price x volume in 1e-18 as (n, NOTIONAL_LIMBS) limbs, exact; the limbs of many events may just be added.

    >>> limbs = notional_limbs(np.array([3 * E9]), np.array([10**15]), np.array([5]))
    >>> from_limbs(limbs[0]) == 3 * 10**9 * (10**24 + 5)
    True
    """
    price = _limbs(price_e9.astype(np.uint64), PRICE_LIMBS)
    # units * 1e9 needs 80 bits: multiply 32-bit halves by 1e9 (30 bits) and carry from the lower into the upper one
    low = (units & 0xFFFFFFFF) * E9 + nanos
    high = (units >> 32) * E9 + (low >> 32)
    volume = np.concatenate(
        [_limbs((low & 0xFFFFFFFF).astype(np.uint64), 2), _limbs(high.astype(np.uint64), VOLUME_LIMBS - 2)], axis=1
    )
    product = np.zeros((len(price_e9), NOTIONAL_LIMBS), np.int64)
    for i in range(PRICE_LIMBS):
        product[:, i : i + VOLUME_LIMBS] += price[:, i : i + 1] * volume
    return product


def from_limbs(limbs: Ints) -> int:
    """The integer that a row of limbs stands for."""
    return sum(limb << (LIMB_BITS * i) for i, limb in enumerate(limbs.tolist()))


def half_even(numerator: int, denominator: int) -> int | None:
    """The quotient to the nearest integer, a half to the even one; None where the denominator is 0. It must be >= 0.

    >>> half_even(5, 2), half_even(7, 2), half_even(-5, 2), half_even(-7, 2), half_even(8, 3), half_even(1, 0)
    (2, 4, -2, -4, 3, None)
    """
    if not denominator:
        return None
    quotient, rest = divmod(numerator, denominator)
    return quotient + (2 * rest > denominator or (2 * rest == denominator and quotient % 2))


def mix64(value: Words) -> Words:
    """Bijective scrambling of 64-bit words (the finalizer of SplitMix64, Steele et al. 2014)."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


def hash_columns(*columns: npt.NDArray[np.int64]) -> Words:
    """One 64-bit hash a row over integer columns, order of columns counts."""
    result: Words = np.full(len(columns[0]), 0x9E3779B97F4A7C15, np.uint64)
    for column in columns:
        result = mix64(result ^ column.astype(np.int64).view(np.uint64)) + np.uint64(0x9E3779B97F4A7C15)
    return result
