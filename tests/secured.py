"""A real broker that asks who comes: SASL_SSL with SCRAM, TLS with client certificates, and ACLs, on loopback."""

import datetime
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from ipaddress import ip_address
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from cryptography import x509  # pinned, for Beam needs it
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from runners import artifacts
from runners.kafka_rights import RightsError, require
from runners.stack import kafka, process
from runners.stack.ports import free_ports
from transforms.brokers import Secured, client_settings

ADMIN = "CN=admin"
_LOGIN = "org.apache.kafka.common.security.scram.ScramLoginModule required"


class Authority:
    """A certificate authority of a test, and what it signs; files lie in `directory`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "authority")])
        constraints = x509.BasicConstraints(ca=True, path_length=None)
        own = self._unsigned(self._name, self._key.public_key()).add_extension(constraints, critical=True)
        self.file = directory / "authority.pem"
        self.file.write_bytes(own.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM))

    def issue(self, name: str) -> Path:
        """A file with a private key and its certificate, for `name` at 127.0.0.1."""
        key = ec.generate_private_key(ec.SECP256R1())
        place = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        unsigned = self._unsigned(subject, key.public_key()).add_extension(place, critical=False)
        certificate = unsigned.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM)
        file = self._directory / f"{name}.pem"
        file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + certificate)
        file.chmod(0o600)
        return file

    def _unsigned(self, subject: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
        )


@dataclass(frozen=True)
class SecuredKafka:
    """The broker: where it listens for passwords and where for certificates, and how to make users on it."""

    by_password: str
    by_certificate: str
    authority: Authority
    directory: Path

    @cached_property
    def admin(self) -> AdminClient:
        """As the super user."""
        return AdminClient(client_settings(self.certified("admin")) | {"log_level": 0})

    def certified(self, name: str) -> Secured:
        """Who has a certificate: the user CN=name."""
        return Secured(
            self.by_certificate,
            self.write(f"{name}-certificate", "security.protocol=SSL", *self._store("keystore", self._pem(name))),
        )

    def user(self, name: str, password: str) -> Secured:
        """A new user, who may do nothing, with the file of a Java client."""
        info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
        made = UserScramCredentialUpsertion(name, info, password.encode())
        for done in self.admin.alter_user_scram_credentials([made]).values():
            done.result(10)
        found = Secured(self.by_password, self.login(name, password))
        self._wait(lambda: require(found, ()))
        return found

    def login(self, name: str, password: str) -> str:
        """A file of that name and password, as Java's people write it."""
        quoted = password.replace("\\", "\\\\").replace('"', '\\"').replace("\\", "\\\\")
        return self.write(
            f"{name}-{abs(hash(password))}",
            "security.protocol=SASL_SSL",
            "sasl.mechanism=SCRAM-SHA-512",
            f'sasl.jaas.config={_LOGIN} username="{name}" password="{quoted}";',
        )

    def allow(self, user: str, *rights: tuple[ResourceType, str, AclOperation]) -> None:
        """Give rights; a name that ends with * is a prefix."""
        bindings = [
            AclBinding(
                kind,
                name.removesuffix("*"),
                ResourcePatternType.PREFIXED if name.endswith("*") else ResourcePatternType.LITERAL,
                f"User:{user}",
                "*",
                operation,
                AclPermissionType.ALLOW,
            )
            for kind, name, operation in rights
        ]
        for done in self.admin.create_acls(bindings).values() if bindings else ():
            done.result(10)
        wanted = AclBindingFilter(
            ResourceType.ANY,
            None,
            ResourcePatternType.ANY,
            f"User:{user}",
            None,
            AclOperation.ANY,
            AclPermissionType.ANY,
        )

        def are_known() -> None:
            if not set(bindings) <= set(self.admin.describe_acls(wanted).result(10)):
                raise RightsError("the broker has not heard of it yet")

        self._wait(are_known)

    def _wait(self, done: Callable[[], None]) -> None:
        """A broker hears of what its controller has noted a moment later."""
        until = time.monotonic() + 20
        while True:
            try:
                return done()
            except RightsError:
                assert time.monotonic() < until
                time.sleep(0.05)

    def write(self, name: str, *lines: str) -> str:
        """A configuration file that trusts the authority; its path."""
        file = self.directory / f"{name}.properties"
        file.write_text("\n".join([*lines, *self._store("truststore", self.authority.file)]) + "\n")
        file.chmod(0o600)
        return str(file)

    def _pem(self, name: str) -> Path:
        file = self.directory / f"{name}.pem"
        return file if file.exists() else self.authority.issue(name)

    def _store(self, store: str, file: Path) -> Sequence[str]:
        return f"ssl.{store}.type=PEM", f"ssl.{store}.location={file}"


@contextmanager
def secured_kafka(directory: Path) -> Iterator[SecuredKafka]:
    """A broker of its own below `directory` while entered."""
    authority = Authority(directory)
    server = authority.issue("server")
    password_port, certificate_port, controller_port = free_ports(3)
    broker = kafka.Broker(1, password_port, controller_port)
    java = kafka.jvm(artifacts.classpath(artifacts.read_lock(), "kafka", artifacts.default_cache_dir()), directory)
    properties = directory / "server.properties"
    settings = _settings(broker, certificate_port, authority.file, server)
    properties.write_text(kafka.server_properties(broker, (broker,), directory / "data") + settings)
    prepare = process.spawn(kafka.format_spec(broker, java, properties, kafka.new_cluster_id()), directory)
    assert process.wait_gone([prepare], 60)
    started = process.spawn(kafka.broker_spec(broker, java, properties), directory)
    try:
        found = SecuredKafka(f"127.0.0.1:{password_port}", f"127.0.0.1:{certificate_port}", authority, directory)
        _wait_for(found, started)
        yield found
    finally:
        process.stop([started, prepare], directory)


def _settings(broker: kafka.Broker, certificate_port: int, authority: Path, server: Path) -> str:
    """What differs from a broker of the stack; of a property that is there twice the later one counts."""
    listeners = f"SASL_SSL://127.0.0.1:{broker.port},SSL://127.0.0.1:{certificate_port}"
    settings = {
        "listeners": f"{listeners},CONTROLLER://127.0.0.1:{broker.controller_port}",
        "advertised.listeners": listeners,
        "listener.security.protocol.map": "SASL_SSL:SASL_SSL,SSL:SSL,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "SSL",
        "sasl.enabled.mechanisms": "SCRAM-SHA-512",
        "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config": f"{_LOGIN};",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": server,
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": authority,
        "listener.name.ssl.ssl.client.auth": "required",
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        # the controller's own listener takes whoever comes: nobody but this broker knows of it
        "super.users": f"User:ANONYMOUS;User:{ADMIN};User:CN=server",
        "allow.everyone.if.no.acl.found": "false",
    }
    return "".join(f"{name}={value}\n" for name, value in settings.items())


def _wait_for(found: SecuredKafka, started: process.Running) -> None:
    until = time.monotonic() + 60
    while True:
        try:
            found.admin.list_topics(timeout=2)
            return
        except KafkaException:
            assert process.is_alive(started), (found.directory / "logs" / "kafka-1.log").read_text()
            assert time.monotonic() < until, "the broker does not answer"
