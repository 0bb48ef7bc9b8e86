"""One example of each record, used by the goldens and the round trips."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

AT = datetime(2021, 4, 17, 16, 43, 30, 244075, UTC)
SECOND = datetime(2021, 4, 17, 16, 43, 30, tzinfo=UTC)

PLACE: dict[str, Any] = {"topic": "md.events.raw", "partition": 3, "offset": 881_613, "log_time": AT}

EVENT_ROW: dict[str, Any] = {
    "exchange": "coinbase",
    "symbol": "BAND-GBP",
    "event_type": 0,
    "event_time": AT,
    "price": 14.7775,
    "volume": 0.014596000000000001,
    "trade_id": "881613",
    "side": "BUY",
    "sequence": 333_938_798,
    "received_at": None,
    "event_id": None,
    "source": "capture",
    **PLACE,
    "identity": bytes(range(16)),
}

BAR_ROW: dict[str, Any] = {
    "exchange": "binance",
    "symbol": "BTC-USDT",
    "interval_s": 1,
    "window_start": SECOND,
    "window_end": SECOND.replace(second=31),
    "open": 36_000.01,
    "high": 36_001.0,
    "low": 35_999.99,
    "close": 36_000.5,
    "volume": Decimal("1000000000000.000000000000000001"),
    "notional": Decimal("36000010000000000.000000000000036000010000000000000000"),
    "vwap": 36_000.01,
    "trade_count": 2,
    "zero_volume_count": 1,
    "buy_volume": Decimal("1000000000000.000000000000000000"),
    "sell_volume": Decimal("0.000000000000000001"),
    "first_event_time": AT,
    "last_event_time": AT,
    "delayed_count": 0,
    "duplicate_count": 1,
    "version": 4,
    "lineage": [
        {"partition": 0, "first_offset": 10, "last_offset": 12},
        {"partition": 7, "first_offset": 5, "last_offset": 5},
    ],
    "identity_digest": bytes(range(16, 32)),
}

STAT_ROW: dict[str, Any] = {
    "kind": "book",
    "exchange": "binance",
    "symbol": "BTC-USDT",
    "interval_s": 10,
    "window_start": SECOND,
    "window_end": SECOND.replace(second=40),
    "event_count": 4,
    "first_event_time": AT,
    "last_event_time": AT,
    "first_price": None,
    "last_price": None,
    "min_price": None,
    "max_price": None,
    "max_bid_update_price": 36_000.01,
    "min_ask_update_price": 35_999.99,
    "update_price_gap": -0.02,
    "bid_update_volume": Decimal("1000000000000.000000000000000001"),
    "ask_update_volume": Decimal("0.000000000000000001"),
    "update_imbalance": 1.0,
    "unknown_side_count": 1,
    "level_delete_count": 1,
    "volume": None,
    "notional": None,
    "vwap": None,
    "return_count": None,
    "return_volatility": None,
    "delayed_count": 0,
    "duplicate_count": 1,
    "version": 6,
    "lineage": [{"partition": 7, "first_offset": 5, "last_offset": 12}],
    "identity_digest": bytes(range(16, 32)),
}

ROWS: dict[str, dict[str, Any]] = {
    "Event": {**EVENT_ROW, "copies": [{"partition": 3, "offset": 881_620}]},
    "Bar": BAR_ROW,
    "Stat": STAT_ROW,
    "Late": {**EVENT_ROW, "reason": "beyond_horizon", "missed_bar_start": SECOND, "lag_us": 125_000_000},
    "Reject": {
        **PLACE,
        "key": None,
        "value": b"\x00\xffnot protobuf",
        "headers": [{"key": "horizon-event-id", "value": b"x1"}, {"key": "empty", "value": None}],
        "step": "decode",
        "reason": "undecodable",
        "detail": "truncated at byte 12",
        "code_version": "0.1.0",
    },
}


@pytest.fixture
def rows() -> dict[str, dict[str, Any]]:
    """A full row per record name."""
    return ROWS
