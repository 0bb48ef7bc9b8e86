"""The identity ladder: trade id, event id, place; never content."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.market_data_pb2 import MarketDataEvent
from tests.testing import Log, trade
from tests.transforms.build_events import events
from transforms.identity import shards_of

Identity = tuple[int, int]


def identities(*sent: MarketDataEvent, partition: int = 0) -> list[Identity]:
    log = Log()
    for event in sent:
        log.add(event, partition=partition)
    rows = events(log).rows
    return list(zip(rows["identity_hi"].tolist(), rows["identity_lo"].tolist(), strict=True))


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


@given(st.lists(texts, unique=True, min_size=1, max_size=12))
def test_different_trade_ids_of_one_instrument_are_different_identities(ids: list[str]) -> None:
    assert len(set(identities(*(trade(trade_id=text) for text in ids)))) == len(ids)


@pytest.mark.parametrize("length", [1, 14, 15, 16, 17, 40, 255, 300])
def test_ids_of_any_length_name_the_event_wherever_it_lies(length: int) -> None:
    event = trade(trade_id="7" * length)
    others = [trade(trade_id="7" * length + "x"), trade(trade_id="7" * (length - 1) + "8")]
    here, *rest = identities(event, *others)
    assert here == identities(others[0], event, partition=3)[1]  # in another batch, with other neighbours
    assert len({here, *rest}) == 3


def test_a_short_id_with_trailing_zero_bytes_is_another_id() -> None:
    assert len(set(identities(*(trade(trade_id=text) for text in ("a", "a\0", "a\0\0"))))) == 3


def test_each_part_of_the_ladder_tells_events_apart() -> None:
    found = identities(
        *(
            trade(exchange=exchange, symbol=symbol, event_type=kind, **{rung: "1"})
            for exchange, symbol in (("binance", "A"), ("kraken", "A"), ("binance", "B"), ("binanceA", "B"))
            for kind in (0, 1, 2, 77, -1)
            for rung in ("trade_id", "event_id")
        )
    )
    assert len(set(found)) == len(found)


def test_content_is_never_identity_and_nameless_events_are_told_apart_by_place() -> None:
    assert len(set(identities(*itertools.repeat(trade(), 5)))) == 5


def test_the_place_is_an_identity_whatever_lies_there() -> None:
    assert identities(trade()) == identities(trade(5, 1.0, event_type=2, symbol="OTHER"))
    assert identities(trade()) != identities(trade(), partition=1)


def test_the_trade_id_wins_over_the_event_id() -> None:
    assert len(set(identities(trade(trade_id="1", event_id="a"), trade(trade_id="1", event_id="b")))) == 1


def test_identity_is_the_same_in_every_run() -> None:
    """A change breaks every running job and every file written: it needs a new schema version."""
    found = identities(
        trade(trade_id="881613"), trade(trade_id="a-trade-id-of-more-than-15-bytes"), trade(event_id="e")
    )
    assert [f"{hi:016x}{lo:016x}" for hi, lo in found] == [
        "777fe45faa3715c098039d74a917ae5b",
        "06e95b1d1bba431700ab472afcc949f2",
        "7682019f186cb9943b7fdc941c6bed72",
    ]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"sequence": 5, "trade_id": "9"}, 5),
        ({"sequence": 0, "trade_id": "9"}, 0),
        ({"trade_id": "9"}, 9),
        ({"trade_id": "0012"}, 12),
        ({"trade_id": "9" * 18}, 10**18 - 1),
        ({"trade_id": "9" * 19}, -1),
        ({"trade_id": "a1"}, -1),
        ({"trade_id": "-1"}, -1),
        ({"trade_id": "٣"}, -1),
        ({}, -1),
    ],
)
def test_order_is_by_sequence_else_by_numeric_trade_id(fields: dict[str, object], expected: int) -> None:
    log = Log()
    log.add(trade(**fields))  # type: ignore[arg-type]
    log.add(trade(sequence=1))
    log.add(trade(trade_id="x"))
    assert events(log).rows["sequence"].tolist() == [expected, 1, -1]


def test_shards_are_even_and_the_same_in_every_run() -> None:
    homes = shards_of([("binance", f"S{number}") for number in range(400)], 4).tolist()
    assert min(homes.count(shard) for shard in range(4)) > 70
    assert homes[:8] == [1, 2, 3, 2, 3, 2, 3, 3]
