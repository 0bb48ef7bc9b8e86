"""The rule for readers: of a key the highest version counts, and files and topics agree on it."""

import doctest
import itertools
import random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from schemas import newest as rule
from schemas.avro import RECORDS
from schemas.bar import BAR
from schemas.newest import newest
from schemas.records import Record
from schemas.stat import STAT
from tests.schemas.conftest import ROWS
from transforms.datasets import BARS, STATS, Dataset

VERSIONED = (BAR, STAT)


def test_example_in_the_docstring() -> None:
    assert doctest.testmod(rule).failed == 0


def test_a_lower_version_that_was_written_later_does_not_count() -> None:
    rows = [{"id": 1, "version": version} for version in (1, 3, 2)]
    for order in itertools.permutations(rows):
        assert newest(order, ["id"]) == {(1,): {"id": 1, "version": 3}}


def test_of_equal_versions_one_is_given() -> None:
    rows = [{"id": 1, "version": 1, "offset": offset} for offset in (5, 7)]
    assert newest(rows, ["id"]) == {(1,): rows[0]}


def test_records_know_the_fields_that_tell_two_of_them_apart() -> None:
    for record in RECORDS:
        assert set(record.key) <= {field.name for field in record.fields if not field.nullable}, record.name
    assert all(record.key for record in VERSIONED)


@given(st.lists(st.tuples(st.sampled_from("AB"), st.sampled_from([1, 10]), st.integers(1, 9))), st.randoms())
def test_files_are_united_by_the_rule_that_readers_of_topics_go_by(
    written: list[tuple[str, int, int]], dice: random.Random
) -> None:
    for dataset in (BARS, STATS):
        assert_united_by_the_rule(dataset, written, dice)


def assert_united_by_the_rule(dataset: Dataset, written: list[tuple[str, int, int]], dice: random.Random) -> None:
    one = ROWS[dataset.record.name]
    rows: list[dict[str, Any]] = [
        {**one, "symbol": symbol, "interval_s": interval_s, "version": version}
        for symbol, interval_s, version in written
    ]
    found = newest(dice.sample(rows, len(rows)), dataset.record.key)
    united = Record.rows(dataset.unite(dataset.record.table_from_rows(rows)))
    names = ("symbol", "interval_s", "version")
    chosen = [sorted(tuple(row[name] for name in names) for row in of) for of in (found.values(), united)]
    assert chosen[0] == chosen[1]
