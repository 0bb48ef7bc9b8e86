"""Which Kafka, and how it is talked to: addresses alone, or with the file that says who we are.

A graph, a note or a command line holds no more than these: the file is read by whoever makes a client, where it makes
it. So nothing secret lies anywhere but in the file, and a password that changes there is the one that is used next.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transforms.kafka_file import KafkaFile, read


@dataclass(frozen=True)
class Secured:
    """Brokers, separated by commas, and the absolute path of the file of `--kafka-config`."""

    addresses: str
    file: str

    def __str__(self) -> str:
        return self.addresses

    def read(self) -> KafkaFile:
        """What the file says now. KafkaFileError when it cannot be used."""
        return read(Path(self.file))


Brokers = str | Secured


def client_settings(brokers: Brokers) -> dict[str, Any]:
    """How a client of librdkafka reaches them; holds what is secret. KafkaFileError when the file cannot be used."""
    secured = {} if isinstance(brokers, str) else brokers.read().librdkafka()
    return {"bootstrap.servers": str(brokers), **secured}


def java_settings(brokers: Brokers) -> dict[str, str]:
    """How a client of Java's reaches them; in place of what is secret it is told where the file is."""
    secured = {} if isinstance(brokers, str) else brokers.read().java()
    return {"bootstrap.servers": str(brokers), **secured}
