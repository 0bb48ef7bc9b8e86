"""The newest bars on a topic, for the screen."""

from collections.abc import Hashable
from typing import Any, Final

from confluent_kafka import Consumer

from schemas import avro
from schemas.bar import BAR
from schemas.newest import newest
from transforms.brokers import Brokers, client_settings

_MAX: Final = 10_000


class NewestBars:
    """Follows a bar topic from now on, without a group's offsets."""

    def __init__(self, bootstrap_servers: Brokers, topic: str) -> None:
        self._consumer = Consumer(
            {
                **client_settings(bootstrap_servers),
                "group.id": "horizon-newest-bars",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
            }
        )
        self._consumer.subscribe([topic])
        self._last: dict[Hashable, dict[str, Any]] = {}  # by instrument

    def poll(self) -> list[dict[str, Any]]:
        """BAR rows, the newest of each instrument, those with most trades first."""
        rows = list(self._last.values())
        for message in self._consumer.consume(_MAX, timeout=0.2):
            value = message.value()
            if message.error() or value is None:
                continue
            try:
                rows.append(avro.decode(value)[1])
            except avro.UnknownSchemaError:  # a bar of another version
                continue
        bars = sorted(newest(rows, BAR.key).values(), key=lambda row: row["window_start"])
        self._last = {(row["exchange"], row["symbol"]): row for row in bars}
        return sorted(self._last.values(), key=lambda row: -int(row["trade_count"]))

    def close(self) -> None:
        """Leave the group."""
        self._consumer.close()
