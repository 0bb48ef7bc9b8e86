"""The file of `--kafka-config`: how Kafka is reached that asks who comes. One file for both clients.

Names are those of Java's properties; each stands for one setting of librdkafka, and certificates are PEM, which both
read. What neither knows, or what contradicts itself, is refused by name: a property that is passed over is a lock that
is not locked. What is secret is never copied from it: Java is given references that Kafka resolves where the consumer
is made, and librdkafka reads it there and then.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from transforms.kafka_login import MECHANISMS, LoginError, jaas, login_of
from transforms.properties import parse

_ALIASES: Final = {"sasl.mechanisms": "sasl.mechanism", "ssl.ca.location": "ssl.truststore.location"}
_VALUES: Final[Mapping[str, tuple[str, ...]]] = {
    "security.protocol": ("SSL", "SASL_SSL", "SASL_PLAINTEXT", "PLAINTEXT"),
    "sasl.mechanism": tuple(MECHANISMS),
    "ssl.truststore.type": ("PEM",),
    "ssl.keystore.type": ("PEM",),
    "ssl.endpoint.identification.algorithm": ("https", ""),  # "": the certificate may name another host
}
_NAMES: Final = frozenset(
    [
        *_VALUES,
        "bootstrap.servers",
        "sasl.username",
        "sasl.password",
        "sasl.jaas.config",
        "ssl.truststore.location",
        "ssl.keystore.location",  # the client's private key and its certificates, in one file
        "ssl.key.password",
    ]
)
_REMEDIES: Final = {
    "ssl.certificate.location": "put key and certificates into one PEM file and name that in ssl.keystore.location",
    "ssl.key.location": "put key and certificates into one PEM file and name that in ssl.keystore.location",
    "ssl.truststore.password": "a PEM file has none: leave it out",
    "ssl.keystore.password": "the key of a PEM file has its own, ssl.key.password",
}
_PEM: Final = "write the certificates as PEM, say type=PEM beside the location"
_TRUSTED: Final = ("CERTIFICATE",)
_OWN: Final = ("CERTIFICATE", "PRIVATE KEY")
_PROVIDER: Final = "org.apache.kafka.common.config.provider.FileConfigProvider"
_NOT_IN_A_REFERENCE: Final = (":", "}")  # Kafka's ${provider:path:key}
_OTHERS: Final = 0o007


class KafkaFileError(ValueError):
    """A file that cannot be used; names it, the property and the remedy, and no value that may be secret."""


@dataclass(frozen=True)
class KafkaFile:
    """What a file says, in Java's names, aliases resolved; made by `read`."""

    path: Path
    properties: Mapping[str, str]

    @property
    def user(self) -> str | None:
        """Who comes, as ACLs name them; None: that is made of a certificate's name, by rules of the broker's."""
        if "sasl.mechanism" in self.properties:
            return login_of(self.properties)[0]
        return None if "ssl.keystore.location" in self.properties else "ANONYMOUS"

    def librdkafka(self) -> dict[str, str]:
        """Settings of librdkafka; holds what is secret, so only for the client that is made of it."""
        given = self.properties
        plain = ("security.protocol", "sasl.mechanism", "ssl.key.password")
        settings = {name: given[name] for name in plain if name in given}
        if "sasl.mechanism" in given:
            settings["sasl.username"], settings["sasl.password"] = login_of(self.properties)
        if "ssl.truststore.location" in given:
            settings["ssl.ca.location"] = given["ssl.truststore.location"]
        if "ssl.keystore.location" in given:
            settings |= dict.fromkeys(("ssl.certificate.location", "ssl.key.location"), given["ssl.keystore.location"])
        if "ssl.endpoint.identification.algorithm" in given:
            algorithm = given["ssl.endpoint.identification.algorithm"]
            settings["ssl.endpoint.identification.algorithm"] = algorithm or "none"
        return settings

    def java(self) -> dict[str, str]:
        """Settings of Kafka's Java client, with references to the file in place of what is secret."""
        open_ = _NAMES - {"bootstrap.servers", "sasl.username", "sasl.password", "sasl.jaas.config", "ssl.key.password"}
        settings = {name: value for name, value in self.properties.items() if name in open_}
        settings |= {f"ssl.{s}.type": "PEM" for s in ("truststore", "keystore") if f"ssl.{s}.location" in settings}
        if "ssl.key.password" in self.properties:
            settings["ssl.key.password"] = self._reference("ssl.key.password")
        if "sasl.jaas.config" in self.properties:
            settings["sasl.jaas.config"] = self._reference("sasl.jaas.config")
        elif "sasl.username" in self.properties:
            name, password = self._reference("sasl.username"), self._reference("sasl.password")
            settings["sasl.jaas.config"] = jaas(self.properties["sasl.mechanism"], name, password)
        return settings | {"config.providers": "horizon", "config.providers.horizon.class": _PROVIDER}

    def _reference(self, name: str) -> str:
        return f"${{horizon:{self.path}:{name}}}"


def read(path: Path) -> KafkaFile:
    """Read and check a file. KafkaFileError names the first thing that is wrong with it."""
    if any(sign in str(path) for sign in _NOT_IN_A_REFERENCE):
        raise KafkaFileError(f"the path {path} holds a colon or a brace, which Kafka cannot refer to; move the file")
    try:
        _check_private(path)
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        raise KafkaFileError(f"{path} cannot be read: {_why(error)}; name a properties file in UTF-8") from error
    file = KafkaFile(path, _properties(path, text))
    _check_protocol(file)
    _check_login(file)
    _check_certificates(file)
    return file


def _why(error: OSError | UnicodeError) -> str:
    return str(error.strerror) if isinstance(error, OSError) else "it is not UTF-8"


def _check_private(path: Path) -> None:
    if path.stat().st_mode & _OTHERS:
        raise KafkaFileError(f"{path} is open to every user of this machine; `chmod o= {path}` closes it")


def _properties(path: Path, text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for line, name, value in parse(text):
        where, known = f"{path}, line {line}", _ALIASES.get(name, name)
        if known not in _NAMES:
            remedy = _REMEDIES.get(name, f"known are {', '.join(sorted([*_NAMES, *_ALIASES]))}")
            raise KafkaFileError(f"{where}: property {name} is not known; {remedy}")
        if known in found:
            also = f", which {known} means too," if known != name else ""
            raise KafkaFileError(f"{where}: property {name}{also} is there twice; leave one of them")
        allowed = _VALUES.get(known)
        if allowed is not None and value not in allowed:
            remedy = _PEM if known.endswith("store.type") else f"can be {', '.join(filter(None, allowed))}"
            raise KafkaFileError(f"{where}: {name} is {value!r}; {remedy}")
        found[known] = value
        if name == "ssl.ca.location":
            found.setdefault("ssl.truststore.type", "PEM")
    return found


def _check_protocol(file: KafkaFile) -> None:
    """Every property must have a part in the protocol: one that has none was meant for another."""
    protocol = file.properties.get("security.protocol")
    if protocol is None:
        protocols = ", ".join(_VALUES["security.protocol"])
        raise KafkaFileError(f"{file.path} has no security.protocol; it can be {protocols}")
    for prefix, part, remedy in (("sasl.", "SASL", "SASL_SSL"), ("ssl.", "SSL", "SASL_SSL or SSL")):
        for name in file.properties:
            if name.startswith(prefix) and part not in protocol.split("_"):
                raise KafkaFileError(
                    f"{file.path}: {name} has no part in security.protocol={protocol}; make that {remedy}, "
                    f"or leave {name} out"
                )


def _check_login(file: KafkaFile) -> None:
    if "SASL" in file.properties["security.protocol"]:
        try:
            login_of(file.properties)
        except LoginError as error:
            raise KafkaFileError(f"{file.path}: {error}") from error


def _check_certificates(file: KafkaFile) -> None:
    for store, wanted in (("ssl.truststore", _TRUSTED), ("ssl.keystore", _OWN)):
        location = file.properties.get(f"{store}.location")
        if (location is None) != (f"{store}.type" not in file.properties):
            lacking = f"{store}.location" if location is None else f"{store}.type=PEM"
            raise KafkaFileError(f"{file.path} has no {lacking}; both clients read PEM files, and no others")
        if location is not None:
            _check_pem(f"{file.path}: {store}.location {location}", Path(location), wanted)
    if "ssl.keystore.location" in file.properties:
        _check_private(Path(file.properties["ssl.keystore.location"]))
    elif "ssl.key.password" in file.properties:
        raise KafkaFileError(f"{file.path} has ssl.key.password and no ssl.keystore.location; name the file of the key")


def _check_pem(where: str, pem: Path, wanted: tuple[str, ...]) -> None:
    if not pem.is_absolute():
        raise KafkaFileError(f"{where} is relative, and the job runs elsewhere; give the whole path")
    try:
        text = pem.read_text(encoding="ascii", errors="replace")
    except OSError as error:
        raise KafkaFileError(f"{where}: {error.strerror}; name a PEM file") from error
    for what in wanted:
        if not re.search(rf"-----BEGIN (ENCRYPTED )?{what}-----", text):
            raise KafkaFileError(
                f"{where} holds no '-----BEGIN {what}-----'; it must hold {' and '.join(wanted)}, the key as PKCS #8"
            )
