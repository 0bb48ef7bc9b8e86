"""Laws of the dedup, against a plain dictionary."""

import itertools
import random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from transforms.dedup import (
    AGAIN,
    CONFLICT,
    COPY,
    NEW,
    keys,
    log_order,
    merged_seen,
    places,
    seen_from_bytes,
    seen_rows,
    verdicts,
)
from transforms.rows import EVENT_ROW, Rows

Record = tuple[int, int, int]  # (identity, content, offset)
records = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 1), st.integers(0, 12)), max_size=30)


def rows_of(given_: list[Record]) -> Rows:
    rows = np.zeros(len(given_), EVENT_ROW)
    for row, (identity, content, offset) in zip(rows, given_, strict=True):
        # the low word is the same for two identities: the whole 128 bits must be compared
        row["identity_hi"], row["identity_lo"], row["content"] = identity, identity // 2, content
        row["partition"], row["offset"] = offset % 3, offset
    rows["key"] = keys(rows["identity_hi"], rows["identity_lo"], rows["event_time_us"])
    return rows


def plain(given_: list[Record]) -> list[int]:
    known: dict[int, tuple[int, set[int]]] = {}
    result = []
    for identity, content, offset in given_:
        first, read = known.setdefault(identity, (content, set()))
        verdict = AGAIN if offset in read else CONFLICT if first != content else COPY if read else NEW
        read.add(offset)
        result.append(verdict)
    return result


@given(records)
def test_verdicts_are_those_of_a_plain_dictionary(given_: list[Record]) -> None:
    assert verdicts(rows_of(given_), []).tolist() == plain(given_)


@given(records, st.lists(st.integers(0, 30), max_size=4))
def test_verdicts_do_not_depend_on_batching(given_: list[Record], cuts: list[int]) -> None:
    rows, known, found = rows_of(given_), [], []
    edges = [0, *sorted(min(cut, len(rows)) for cut in cuts), len(rows)]
    for start, stop in itertools.pairwise(edges):
        part = rows[start:stop]
        result = verdicts(part, known)
        if (result != AGAIN).any():
            known.append(seen_from_bytes(seen_rows(part[result != AGAIN]).tobytes()))  # what the cell remembers
        known = [merged_seen(known)] if len(known) > 2 else known
        found += result.tolist()
    assert found == plain(given_)


@given(records)
def test_what_was_met_is_only_ever_read_again(given_: list[Record]) -> None:
    rows = rows_of(given_)
    again = verdicts(rows, [seen_rows(rows[verdicts(rows, []) != AGAIN])])
    assert set(again.tolist()) <= {AGAIN}


@given(records, st.randoms())
def test_in_the_order_of_the_log_verdicts_do_not_depend_on_the_order_of_reading(
    given_: list[Record], dice: random.Random
) -> None:
    rows = rows_of(given_)
    rows["clock_us"] = rows["offset"] // 3 * 1_000
    mixed = rows[dice.sample(range(len(rows)), len(rows))]
    found = []
    for read in (rows, mixed):
        ordered = read[log_order(read)]
        places_ = [tuple(row) for row in ordered[["partition", "offset", "identity_hi", "content"]].tolist()]
        found.append(set(zip(places_, verdicts(ordered, []).tolist(), strict=True)))
    if len(set(places(rows).tolist())) == len(rows):  # a place holds one record
        assert found[0] == found[1]


def test_places_of_all_partitions_and_offsets_differ() -> None:
    rows = np.zeros(4, EVENT_ROW)
    rows["partition"], rows["offset"] = [0, 1, 0, 1], [2**43, 0, 0, 2**43]
    assert len(set(places(rows).tolist())) == 4
