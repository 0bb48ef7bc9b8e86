"""Which Kafka a broker is, asked in Kafka's own protocol: no client tells.

An ApiVersions request (key 18, version 3) is answered with the cluster's finalized features, and the level of the
feature metadata.version names the release. Source: Kafka's protocol guide, KIP-482 and KIP-584.
"""

import socket
import ssl
import struct
from typing import Final

from transforms.brokers import Brokers

_TIMEOUT_S: Final = 5.0
_FINALIZED_FEATURES: Final = 2  # the tag of the field in the answer
_MAX_BYTES: Final = 1_000_000
_RELEASES: Final = {21: "3.9", **dict.fromkeys(range(22, 26), "4.0"), 26: "4.1", 27: "4.1"}


class VersionError(RuntimeError):
    """The broker at that address does not say; says why."""


def broker_version(brokers: Brokers) -> str:
    """The Kafka release of the first of them, such as "4.1 (metadata version 27)". VersionError if unknown."""
    address = str(brokers).split(",")[0]
    try:
        with _connected(brokers, address) as connection:
            connection.sendall(_request())
            (size,) = struct.unpack(">i", _exactly(connection, 4))
            if not 0 < size < _MAX_BYTES:
                raise ValueError(f"an answer of {size} bytes")
            features = finalized_features(_exactly(connection, size))
    except (OSError, ValueError, IndexError, struct.error) as error:
        raise VersionError(f"broker {address} does not tell its version: {error}") from error
    level = features.get("metadata.version")
    if level is None:
        raise VersionError(f"broker {address} names no metadata.version: older than Kafka 3.3, or with ZooKeeper")
    return f"{_RELEASES.get(level, 'release unknown here')} (metadata version {level})"


def _connected(brokers: Brokers, address: str) -> socket.socket:
    """A connection to the broker. Before it asks for a password it tells what it is; before TLS it does not."""
    host, _, port = address.rpartition(":")
    plain = socket.create_connection((host, int(port)), _TIMEOUT_S)
    given = {} if isinstance(brokers, str) else brokers.read().properties
    if "SSL" not in given.get("security.protocol", "").split("_"):
        return plain
    tls = ssl.create_default_context(cafile=given.get("ssl.truststore.location"))
    tls.check_hostname = given.get("ssl.endpoint.identification.algorithm") != ""
    if "ssl.keystore.location" in given:
        tls.load_cert_chain(given["ssl.keystore.location"], password=given.get("ssl.key.password", ""))
    return tls.wrap_socket(plain, server_hostname=host)


def _request() -> bytes:
    client = b"horizon"
    header = struct.pack(">hhih", 18, 3, 1, len(client)) + client + b"\x00"
    name = bytes([len(client) + 1]) + client
    body = header + name + b"\x02" + b"0" + b"\x00"
    return struct.pack(">i", len(body)) + body


def _exactly(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = connection.recv(count - len(data))
        if not more:
            raise ValueError("the broker closed the connection; does it want TLS or a password?")
        data += more
    return data


def finalized_features(answer: bytes) -> dict[str, int]:
    """The features of an ApiVersions answer (version 3, from the correlation id on) and their levels."""
    at = 6  # correlation id, error code
    count, at = _varint(answer, at)
    for _ in range(count - 1):
        _, at = _tags(answer, at + 6)  # key, lowest and highest version
    tags, _ = _tags(answer, at + 4)  # throttle time
    features: dict[str, int] = {}
    data, at = tags.get(_FINALIZED_FEATURES, b"\x01"), 0
    count, at = _varint(data, at)
    for _ in range(count - 1):
        length, at = _varint(data, at)
        name = str(data[at : at + length - 1], "utf-8")
        (features[name],) = struct.unpack_from(">h", data, at + length - 1)
        _, at = _tags(data, at + length - 1 + 4)
    return features


def _tags(data: bytes, at: int) -> tuple[dict[int, bytes], int]:
    """Tagged fields, and where they end."""
    found = {}
    count, at = _varint(data, at)
    for _ in range(count):
        tag, at = _varint(data, at)
        size, at = _varint(data, at)
        found[tag] = data[at : at + size]
        at += size
    return found, at


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
