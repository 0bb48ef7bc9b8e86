"""Laws of the exact arithmetic, against decimals and Python's integers."""

from decimal import ROUND_HALF_EVEN, Context, Decimal
from fractions import Fraction

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from transforms.exact import E9, NOTIONAL_LIMBS, from_limbs, half_even, hash_columns, mix64, notional_limbs, split_e9

EXACT = Context(prec=60, rounding=ROUND_HALF_EVEN)

decimals = st.builds(  # what a double can hold: at most 15 digits, at most nine of them behind the point
    lambda digits, places: Decimal(digits).scaleb(-places), st.integers(0, 10**15 - 1), st.integers(0, 9)
)
price_e9 = st.integers(1, 9 * 10**18)
units = st.integers(0, 10**15)
nanos = st.integers(0, E9 - 1)


def joined(value: float) -> int:
    whole, rest = split_e9(np.array([value]))
    assert 0 <= rest[0] < E9
    return int(whole[0]) * E9 + int(rest[0])


@given(decimals)
@example(Decimal("3234691346912.85"))
@example(Decimal("123456789.1"))
@example(Decimal("4194303.123456789"))
@example(Decimal("4194304.000000001"))
@example(Decimal("999999.999999999"))
def test_split_e9_gives_back_the_decimal_that_was_sent(value: Decimal) -> None:
    assert joined(float(value)) == int(value.scaleb(9))


@given(st.floats(0, 1e15))
@example(2.9999999999)
@example(0.014596000000000001)
@example(4194304.5)
def test_split_e9_is_the_nearest_step_of_the_shortest_decimal(value: float) -> None:
    exact = EXACT.multiply(Decimal(repr(value)), Decimal(E9))
    # a decimal halfway between two steps may go either way below 2**22, where the double decides
    assert abs(Decimal(joined(value)) - exact) <= Decimal("0.5") + Decimal("2e-7")


@given(st.lists(st.floats(0, 1e15), max_size=20))
def test_split_e9_of_a_column_is_that_of_its_values(values: list[float]) -> None:
    whole, rest = split_e9(np.array(values, np.float64))
    assert [a * E9 + b for a, b in zip(whole.tolist(), rest.tolist(), strict=True)] == [joined(v) for v in values]


@given(st.lists(st.tuples(price_e9, units, nanos), min_size=1, max_size=30))
@example([(9 * 10**18, 10**15, E9 - 1)] * 30)
def test_notional_limbs_are_the_product_and_may_be_added(rows: list[tuple[int, int, int]]) -> None:
    columns = [np.array(column, np.int64) for column in zip(*rows, strict=True)]
    limbs = notional_limbs(columns[0], columns[1], columns[2])
    assert limbs.shape == (len(rows), NOTIONAL_LIMBS)
    products = [price * (whole * E9 + rest) for price, whole, rest in rows]
    assert [from_limbs(row) for row in limbs] == products
    assert from_limbs(limbs.sum(axis=0)) == sum(products)


def test_a_million_of_the_largest_notionals_still_fit_their_limbs() -> None:
    largest = notional_limbs(np.array([9 * 10**18]), np.array([10**15]), np.array([E9 - 1]))
    assert from_limbs((largest * 2**28)[0]) == 2**28 * 9 * 10**18 * (10**24 + E9 - 1)


@given(st.lists(st.tuples(price_e9, units, nanos), min_size=2, max_size=20), st.randoms())
def test_sums_do_not_depend_on_order_or_grouping(rows: list[tuple[int, int, int]], dice: object) -> None:
    def total(part: list[tuple[int, int, int]]) -> np.ndarray:
        columns = [np.array(column, np.int64) for column in zip(*part, strict=True)]
        return notional_limbs(columns[0], columns[1], columns[2]).sum(axis=0)

    shuffled = rows.copy()
    dice.shuffle(shuffled)  # type: ignore[attr-defined]
    middle = len(rows) // 2
    assert (total(shuffled[:middle]) + total(shuffled[middle:])).tolist() == total(rows).tolist()


@given(st.lists(st.integers(0, 2**64 - 1), unique=True, min_size=1, max_size=50))
def test_mix64_is_a_bijection_on_what_it_meets(words: list[int]) -> None:
    assert len(set(mix64(np.array(words, np.uint64)).tolist())) == len(words)


def test_hash_of_columns_depends_on_each_column_and_on_their_order() -> None:
    a, b = np.array([1, 2, -1]), np.array([3, 2, 0])
    assert len(set(hash_columns(a, b).tolist())) == 3
    assert (hash_columns(a, b) != hash_columns(b, a))[[0, 2]].all()
    assert hash_columns(a, b).tolist() == hash_columns(a.copy(), b.copy()).tolist()


@given(st.integers(-(10**40), 10**40) | st.integers(-9, 9), st.integers(1, 10**30) | st.integers(1, 4))
@example(-5, 2)
def test_quotient_is_rounded_half_even(numerator: int, denominator: int) -> None:
    assert half_even(numerator, denominator) == round(Fraction(numerator, denominator))


def test_quotient_by_nothing_is_none() -> None:
    assert half_even(5, 0) is None
