"""Exact arithmetic on columns: the decimals of doubles, sums that neither overflow nor know an order, hashes.

The decimal that was meant is the shortest one that gives the double; where arithmetic left noise in its last digits
(0.00031099999999999997 is in feeds of real venues) it is that to the nearest 1e-18. It is an integer of 1e-18, kept as
words of 32 bits in int64, lowest first; a product of two is an integer of 1e-36 in limbs of 16 bits. Words and limbs
are added without a carry, so adding numbers is adding rows, in any order and grouping. A word is below 2**32 and a
product's limb below 2**35: that is room for 2**28 events of one instrument in a cell. Larger windows add Python's
integers.
"""

from decimal import Decimal
from typing import Final

import numpy as np
import numpy.typing as npt

E18: Final = 10**18
WORD_BITS: Final = 32
LIMB_BITS: Final = 16
WORDS: Final = 4  # 1e15 is 2**110 of 1e-18
_LIMBS: Final = 7  # the same 110 bits
NOTIONAL_LIMBS: Final = 2 * _LIMBS - 1

_PLACES: Final = 18
_NOISE: Final = Decimal("1e-15")  # of a number: what a few operations on doubles may have changed it by
_SMALL: Final = 1e-3  # half of 1e-18 is noise beside anything above this
_DIGITS: Final = 15  # two decimals of at most 15 digits never share a double: such a one is the shortest
_POWERS: Final = np.array([10.0**power for power in range(_PLACES + 1)])  # each is exact
_POWERS_LOW: Final = np.array([10**power & 0xFFFFFFFF for power in range(_PLACES + 1)], np.uint64)
_POWERS_HIGH: Final = np.array([10**power >> 32 for power in range(_PLACES + 1)], np.uint64)
# of mix64, as NumPy's numbers: with a small batch to make one takes as long as to use it
_SHIFTS: Final = tuple(map(np.uint64, (30, 27, 31)))
_FACTORS: Final = tuple(map(np.uint64, (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)))
_GOLDEN: Final = np.uint64(0x9E3779B97F4A7C15)

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]
Mask = npt.NDArray[np.bool_]


def _short(values: Floats) -> tuple[Ints, Ints, Mask]:
    """Doubles from 0 to 1e15 as digits / 10**places where 15 digits do, and where they do."""
    magnitude = np.floor(np.log10(np.maximum(values, 1e-18)))
    places = np.clip(_DIGITS - 1 - magnitude, 0, _PLACES).astype(np.int64)
    scale = _POWERS[places]
    digits = np.rint(values * scale)  # off by less than a half: a product below 1e15 is rounded by less than 1/8
    return digits.astype(np.int64), places, (digits / scale == values) & (digits <= 10.0**_DIGITS)


def _integer_of(value: float) -> int | None:
    """The decimal of a double in 1e-18; None where its digits below that are no noise."""
    digits = Decimal(repr(value)).scaleb(_PLACES)
    nearest = digits.to_integral_value()
    return int(nearest) if abs(digits - nearest) <= abs(digits) * _NOISE else None


def is_too_fine(values: Floats) -> Mask:
    """Whether the decimals of these doubles, from -1e15 to 1e15, have digits below 1e-18 that are no noise.

    >>> is_too_fine(np.array([1.234e-9, -0.014596000000000001, 7.000000000000001e-7, 1e-18, 1.5e-18, 5e-324])).tolist()
    [False, False, False, False, True, True]
    """
    size = np.abs(values)
    too_fine = (size < _SMALL) & (size > 0)
    small = np.flatnonzero(too_fine)
    if len(small):
        too_fine[small] = ~_short(size[small])[2]
        for row in np.flatnonzero(too_fine).tolist():
            too_fine[row] = _integer_of(float(values[row])) is None
    return too_fine


def words_e18(values: Floats) -> Ints:
    """The decimals of doubles from -1e15 to 1e15, none of them too fine, as (n, WORDS) words; all have the sign.

    >>> [from_words(row) for row in words_e18(np.array([1.5, -1e-18, 1e15]))]
    [1500000000000000000, -1, 1000000000000000000000000000000000]
    """
    digits, places, is_short = _short(np.abs(values))
    low, high = digits.astype(np.uint64) & np.uint64(0xFFFFFFFF), digits.astype(np.uint64) >> np.uint64(WORD_BITS)
    power = _PLACES - places
    power_low, power_high = _POWERS_LOW[power], _POWERS_HIGH[power]
    words = np.empty((len(values), WORDS), "<u4")
    part = low * power_low
    for column, more in enumerate((low * power_high + high * power_low, high * power_high, 0)):
        words[:, column] = part & np.uint64(0xFFFFFFFF)
        part = (part >> np.uint64(WORD_BITS)) + np.asarray(more, np.uint64)
    words[:, WORDS - 1] = part
    for row in np.flatnonzero(~is_short).tolist():
        integer = abs(_integer_of(float(values[row])) or 0)
        words[row] = np.frombuffer(integer.to_bytes(4 * WORDS, "little"), "<u4")
    signed: Ints = words.astype(np.int64)
    return np.where(values[:, None] < 0, -signed, signed)


def integers_e18(values: Floats) -> list[int]:
    """The decimals of doubles as words_e18 takes them, as Python's integers of 1e-18."""
    return [from_words(row) for row in words_e18(values)]


def product_limbs(left: Ints, right: Ints) -> Ints:
    """The products of numbers as words_e18 gives them, in 1e-36, as (n, NOTIONAL_LIMBS) limbs.

    >>> limbs = product_limbs(words_e18(np.array([-1e15])), words_e18(np.array([1e15])))
    >>> from_limbs(limbs[0]) == -(10**66)
    True
    """
    a, b = _limbs(left), _limbs(right)
    product = np.zeros((NOTIONAL_LIMBS, len(left)), np.int64)
    for limb in range(_LIMBS):
        product[limb : limb + _LIMBS] += a[limb] * b
    return product.T


def _limbs(words: Ints) -> Ints:
    """Words as limbs with the same sign, a limb a row: long rows are multiplied faster than short ones."""
    limbs = np.abs(words).astype("<u4").view("<u2")[:, :_LIMBS].T.astype(np.int64, order="C")
    return np.where((words < 0).any(axis=1), -limbs, limbs)


def from_words(words: Ints) -> int:
    """The integer that a row of words stands for."""
    return sum(word << (WORD_BITS * i) for i, word in enumerate(words.tolist()))


def from_limbs(limbs: Ints) -> int:
    """The integer that a row of limbs stands for."""
    return sum(limb << (LIMB_BITS * i) for i, limb in enumerate(limbs.tolist()))


def quotient(numerator: int, denominator: int) -> float | None:
    """The quotient rounded once, to the nearest double; None where the denominator is 0.

    >>> quotient(1, 3), quotient(-10**60, 10**61), quotient(1, 0)
    (0.3333333333333333, -0.1, None)
    """
    return numerator / denominator if denominator else None


def mix64(value: Words) -> Words:
    """Bijective scrambling of 64-bit words (the finalizer of SplitMix64, Steele et al. 2014)."""
    mixed: Words = value >> _SHIFTS[0]
    mixed ^= value
    for shift, factor in zip(_SHIFTS[1:], _FACTORS, strict=True):
        mixed *= factor
        mixed ^= mixed >> shift
    return mixed


def hash_columns(*columns: npt.NDArray[np.int64]) -> Words:
    """One 64-bit hash a row over integer columns, order of columns counts."""
    result: Words = np.full(len(columns[0]), _GOLDEN, np.uint64)
    for column in columns:
        result ^= column.astype(np.int64).view(np.uint64)
        result = mix64(result)
        result += _GOLDEN
    return result
