"""The newest bars on a topic, for the screen."""

from typing import Any, Final

from confluent_kafka import Consumer

from schemas import avro
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
        self._newest: dict[tuple[str, str], dict[str, Any]] = {}

    def poll(self) -> list[dict[str, Any]]:
        """BAR rows, the newest of each instrument, those with most trades first."""
        for message in self._consumer.consume(_MAX, timeout=0.2):
            value = message.value()
            if message.error() or value is None:
                continue
            try:
                _, row = avro.decode(value)
            except avro.UnknownSchemaError:  # a bar of another version
                continue
            key = (row["exchange"], row["symbol"])
            before = self._newest.get(key)
            if before is None or (row["window_start"], row["version"]) > (before["window_start"], before["version"]):
                self._newest[key] = row
        return sorted(self._newest.values(), key=lambda row: -int(row["trade_count"]))

    def close(self) -> None:
        """Leave the group."""
        self._consumer.close()
