"""Laws of the exact arithmetic, against decimals, fractions and Python's integers."""

import doctest
import random
from decimal import Context, Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from transforms import exact
from transforms.exact import (
    from_limbs,
    from_words,
    hash_columns,
    integers_e18,
    is_too_fine,
    mix64,
    product_limbs,
    quotient,
    words_e18,
)

EXACT = Context(prec=1_200)

short = st.builds(  # what is sent: some digits, somewhere between 1e-18 and 1e15
    lambda digits, power: float(f"{digits}e{power}"), st.integers(0, 10**17 - 1), st.integers(-18, 14)
)
any_double = st.floats(0, 1e15, allow_subnormal=True)
numbers = st.one_of(short, any_double).filter(lambda value: value <= 1e15).flatmap(lambda v: st.sampled_from([v, -v]))
fine = numbers.filter(lambda value: meant(value).denominator == 1)


def meant(value: float) -> Fraction:
    """The decimal that was meant, in 1e-18: the shortest, but whole where that changes it by at most 1e-15 of it."""
    written = Fraction(Decimal(repr(value))) * 10**18
    nearest = Fraction(round(written))
    return nearest if abs(written - nearest) <= abs(written) / 10**15 else written


def test_examples_of_the_docs() -> None:
    assert doctest.testmod(exact).failed == 0


@given(st.lists(numbers, min_size=1, max_size=20))
@example([0.014596000000000001, 3234691346912.85, 999999999999999.9, 1e15, 1e-18, 1.5e-18, 5e-324, 0.0, -0.0])
@example([0.1 + 0.2, 1.234e-9, 4.98e-10, 1.05e11, 0.0007000000000000001])
def test_too_fine_is_what_has_digits_below_1e_18(values: list[float]) -> None:
    assert is_too_fine(np.array(values)).tolist() == [meant(value).denominator != 1 for value in values]


@given(st.lists(fine, min_size=1, max_size=20))
@example([1e-18, -1e-18, 1e15, -1e15, 999999999999999.9, 0.014596000000000001, 9007199254740993e-4])
def test_words_are_the_shortest_decimal_of_each_double(values: list[float]) -> None:
    words = words_e18(np.array(values))
    assert [from_words(row) for row in words] == [meant(value) for value in values]
    assert integers_e18(np.array(values)) == [meant(value) for value in values]
    assert (np.abs(words) < 2**32).all()


@given(st.integers(0, 10**15), st.integers(0, 18))
def test_fifteen_digits_come_back_as_they_were_written(digits: int, places: int) -> None:
    written = EXACT.scaleb(Decimal(digits), -places)
    assume(written <= 10**15)
    assert integers_e18(np.array([float(written)])) == [int(EXACT.scaleb(written, 18))]


@given(st.lists(st.tuples(fine, fine), min_size=1, max_size=20), st.randoms())
@example([(1e15, 1e15)] * 20, random.Random(1))
@example([(-1e15, 1e15), (1e15, 1e15)], random.Random(1))
def test_sums_are_those_of_fractions_in_any_order_and_grouping(
    rows: list[tuple[float, float]], dice: random.Random
) -> None:
    shuffled = dice.sample(rows, len(rows))
    cut = dice.randrange(len(rows) + 1)
    words, limbs = np.zeros(exact.WORDS, np.int64), np.zeros(exact.NOTIONAL_LIMBS, np.int64)
    for part in (shuffled[:cut], shuffled[cut:]):
        price, size = (words_e18(np.array([row[side] for row in part], np.float64)) for side in (0, 1))
        words += size.sum(axis=0)
        limbs += product_limbs(price, size).sum(axis=0)
    volume, notional = from_words(words), from_limbs(limbs)
    assert volume == sum(meant(size) for _, size in rows)
    assert notional == sum(meant(price) * meant(size) for price, size in rows)


def test_the_largest_numbers_have_room_for_268_million_events() -> None:
    largest = words_e18(np.array([999_999_999_999_999.9]))
    assert from_words((largest * 2**28)[0]) == 2**28 * (10**33 - 10**17)
    assert from_limbs((product_limbs(largest, largest) * 2**28)[0]) == 2**28 * (10**33 - 10**17) ** 2
    assert product_limbs(*[np.full((1, 4), 2**32 - 1)] * 2).max() < 2**35


@given(st.lists(st.integers(0, 2**64 - 1), unique=True, min_size=1, max_size=50))
def test_mix64_is_a_bijection_on_what_it_meets(words: list[int]) -> None:
    assert len(set(mix64(np.array(words, np.uint64)).tolist())) == len(words)


def test_hash_of_columns_depends_on_each_column_and_on_their_order() -> None:
    a, b = np.array([1, 2, -1]), np.array([3, 2, 0])
    assert len(set(hash_columns(a, b).tolist())) == 3
    assert (hash_columns(a, b) != hash_columns(b, a))[[0, 2]].all()
    assert hash_columns(a, b).tolist() == hash_columns(a.copy(), b.copy()).tolist()


@given(st.integers(-(10**66), 10**66), st.integers(1, 10**66))
def test_quotient_is_rounded_once(numerator: int, denominator: int) -> None:
    assert quotient(numerator, denominator) == float(Fraction(numerator, denominator))


@pytest.mark.parametrize("numerator", [0, 5])
def test_quotient_by_zero_is_none(numerator: int) -> None:
    assert quotient(numerator, 0) is None
