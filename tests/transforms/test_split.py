"""Splitting by cell loses nothing and keeps the reading order."""

from hypothesis import given
from hypothesis import strategies as st

from tests.testing import Log, trade
from tests.transforms.build_events import events
from transforms.identity import shards_of
from transforms.split import split_by_cell

rows = st.lists(st.tuples(st.integers(-30_000_000, 30_000_000), st.sampled_from("ABCDE"), st.booleans()), min_size=1)


@given(rows, st.integers(1, 5))
def test_every_record_is_in_the_one_piece_of_its_cell(given_: list[tuple[int, str, bool]], shards: int) -> None:
    log = Log()
    for at_us, symbol, has_header in given_:
        log.add(
            trade(at_us, symbol=symbol), headers=[("h", symbol.encode())] if has_header else [], key=symbol.encode()
        )
    found = {}
    for (start, shard), piece in split_by_cell(events(log), shards):
        assert (start, shard) not in found
        assert len(piece)
        offsets = piece.rows["offset"].tolist()
        assert offsets == sorted(offsets)
        found[start, shard] = offsets
        for row, offset in enumerate(offsets):
            record = log.records[offset]
            assert record.event is not None
            pair = piece.instruments[piece.rows["instrument"][row]]
            assert pair == (record.event.exchange, record.event.symbol)
            assert (start, shard) == (record.event.timestamp // 10_000_000 * 10, shards_of([pair], shards)[0])
            assert (piece.values[row].as_py(), piece.keys[row].as_py()) == (record.value, record.key)
            assert tuple(piece.headers.get(row, ())) == record.headers
    assert sorted(offset for offsets in found.values() for offset in offsets) == list(range(len(given_)))
