"""What a run wrote, held against the oracle and against the records that were sent."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pipelines.options import MarketDataConfig
from schemas.units import US_PER_S
from tests.oracle import Expected, Place, Sent, digest, expect, utc
from tests.stat_oracle import expect_stats
from tests.testing import Log, Written, place_of

_STEPS = dict.fromkeys(("undecodable", "empty_value", "value_too_large"), "decode") | {"identity_conflict": "cell"}
_YEAR_10000_US = 253_402_300_800_000_000


def expected_of(log: Log, config: MarketDataConfig, leave_out: list[tuple[int, int]] | None = None) -> Expected:
    cell, names = config.cell, config.id_headers
    sent = log.sent(leave_out or (), (names.trade_id, names.event_id))
    return expect(sent, horizon_us=cell.horizon_us, grace_us=cell.grace_us)


def harmless(reasons: Mapping[tuple[int, int], str]) -> list[tuple[int, int]]:
    """Refused records that change nothing else: one in conflict counts in its bar's version."""
    return [place for place, reason in reasons.items() if reason != "identity_conflict"]


def assert_as_expected(written: Written, expected: Expected, session_gap_s: int | None = None) -> None:
    """Events, late events, bars and stats of a run, field for field."""
    identities = assert_events(written, expected)
    late = written.rows("late")
    assert sorted(map(place_of, late)) == sorted(expected.late)
    for row in late:
        sent = expected.sent[place_of(row)]
        assert row["reason"] == "beyond_horizon"
        assert row["lag_us"] == sent.lag_us
        assert row["missed_bar_start"] == utc(sent.second * US_PER_S)
    assert_bars(written, expected, identities)
    assert_stats(written, expected, identities, session_gap_s)


def assert_events(written: Written, expected: Expected) -> dict[tuple[int, int], bytes]:
    """The unique events, each as it was sent; gives their identities by place."""
    rows = {place_of(row): row for row in written.rows("events")}
    assert rows.keys() == expected.unique.keys()
    for place, row in rows.items():
        sent = expected.sent[place]
        event = sent.event
        assert [(copy["partition"], copy["offset"]) for copy in row["copies"]] == expected.unique[place]
        assert {name: row[name] for name in row if name not in ("copies", "identity")} == {
            "exchange": event.exchange,
            "symbol": event.symbol,
            "event_type": event.event_type,
            "event_time": utc(event.timestamp),
            "price": event.price,
            "volume": event.volume,
            "trade_id": sent.trade_id or None,
            "side": {1: "BUY", 2: "SELL"}.get(event.side),
            "sequence": event.sequence if event.HasField("sequence") else None,
            "received_at": _received_at(sent),
            "event_id": sent.event_id or None,
            "source": event.source or None,
            "topic": sent.topic,
            "partition": sent.partition,
            "offset": sent.offset,
            "log_time": utc(sent.log_time_us),
        }
    return {place: row["identity"] for place, row in rows.items()}


def _received_at(sent: Sent) -> datetime | None:
    """As sent, unless it is more than 20 years before the log time or 5 s after it."""
    time_us = sent.event.received_at
    since_us = sent.log_time_us - time_us
    is_time = sent.event.HasField("received_at") and -5 * US_PER_S <= since_us <= 20 * 365 * 86_400 * US_PER_S
    return utc(time_us) if is_time else None


def assert_bars(written: Written, expected: Expected, identities: dict[tuple[int, int], bytes]) -> None:
    rows = written.rows("bars")
    found = {(r["exchange"], r["symbol"], r["interval_s"], _us(r["window_start"])): r for r in rows}
    assert len(found) == len(rows), "a bar was written twice"
    assert found.keys() == expected.bars.keys()
    for key, row in found.items():
        assert row.pop("identity_digest") == digest(identities[place] for place in expected.trades_of[key])
        assert row == expected.bars[key]


def assert_stats(
    written: Written,
    expected: Expected,
    identities: dict[tuple[int, int], bytes],
    session_gap_s: int | None = None,
) -> None:
    rows = written.rows("stats")
    found = {(r["kind"], r["exchange"], r["symbol"], r["interval_s"], _us(r["window_start"])): r for r in rows}
    assert len(found) == len(rows), "a stat was written twice"
    stats, events_of = expect_stats(expected, session_gap_s=session_gap_s)
    assert found.keys() == stats.keys()
    for key, row in found.items():
        assert row.pop("identity_digest") == digest(identities[place] for place in events_of[key])
        assert row == stats[key]


def _us(time: Any) -> int:
    return int((time - utc(0)).total_seconds()) * US_PER_S


def assert_same_rows(left: Written, right: Written) -> None:
    for dataset in ("events", "bars", "stats", "late", "rejects"):
        assert left.sorted_rows(dataset) == right.sorted_rows(dataset)


def assert_rejects(written: Written, log: Log, reasons: dict[Place, str]) -> None:
    """Every bad record with its reason and as it was sent, and no other."""
    rows = {place_of(row): row for row in written.rows("rejects")}
    assert {place: row["reason"] for place, row in rows.items()} == reasons
    records = {record.place: record for record in log.records}
    for place, row in rows.items():
        record = records[place]
        assert (row["key"], row["value"]) == (record.key, record.value)
        assert [(header["key"], header["value"]) for header in row["headers"]] == list(record.headers)
        assert row["log_time"] == utc(record.log_time_us if record.log_time_us < _YEAR_10000_US else 0)
        assert row["step"] == _STEPS.get(row["reason"], "check")
        assert len(row["detail"]) <= 200
