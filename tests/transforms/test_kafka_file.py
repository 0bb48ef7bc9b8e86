"""The file of --kafka-config: what it may say, what each client is told of it, and what is refused by name."""

import doctest
from pathlib import Path

import pytest

from tests.secured import Authority
from transforms import kafka_login, properties
from transforms.brokers import Secured, client_settings, java_settings
from transforms.kafka_file import KafkaFileError, read

SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule"
SASL = "security.protocol=SASL_SSL\nsasl.mechanism=SCRAM-SHA-512\n"
PAIR = "sasl.username=desk\nsasl.password=of-gold\n"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with the certificates `authority.pem` and `me.pem`."""
    Authority(tmp_path).issue("me")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(place: Path, text: str) -> Path:
    file = place / "kafka.properties"
    file.write_text(text.replace("PLACE", str(place)))
    file.chmod(0o640)
    return file


@pytest.mark.parametrize(
    "login",
    [
        PAIR,
        f'sasl.jaas.config={SCRAM} required username="desk" password="of-gold";\n',
        f'sasl.jaas.config = {SCRAM} required \\\n  password="of-gold" \\\n  username="desk" ;\n',
    ],
)
def test_user_and_password_reach_librdkafka_and_java_is_told_where_they_are(place: Path, login: str) -> None:
    file = write(place, f"{SASL}{login}ssl.truststore.type=PEM\nssl.truststore.location=PLACE/authority.pem\n")
    assert read(file).librdkafka() == {
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": "desk",
        "sasl.password": "of-gold",
        "ssl.ca.location": f"{place}/authority.pem",
    }
    java = read(file).java()
    assert java["ssl.truststore.location"] == f"{place}/authority.pem"
    assert f"${{horizon:{file}:sasl." in java["sasl.jaas.config"]
    assert not [value for value in java.values() if "of-gold" in value or "desk" in value]


def test_key_and_certificates_are_one_file_for_java_and_two_settings_of_librdkafka(place: Path) -> None:
    file = write(
        place,
        "security.protocol=SSL\nssl.ca.location=PLACE/authority.pem\nssl.keystore.type=PEM\n"
        "ssl.keystore.location=PLACE/me.pem\nssl.endpoint.identification.algorithm=\n",
    )
    assert read(file).librdkafka() == {
        "security.protocol": "SSL",
        "ssl.ca.location": f"{place}/authority.pem",
        "ssl.certificate.location": f"{place}/me.pem",
        "ssl.key.location": f"{place}/me.pem",
        "ssl.endpoint.identification.algorithm": "none",
    }
    assert {name: value for name, value in read(file).java().items() if not name.startswith("config.")} == {
        "security.protocol": "SSL",
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": f"{place}/authority.pem",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": f"{place}/me.pem",
        "ssl.endpoint.identification.algorithm": "",
    }


def test_addresses_alone_are_all_that_either_client_is_told() -> None:
    assert client_settings("a:1") == java_settings("a:1") == {"bootstrap.servers": "a:1"}


def test_password_that_changes_in_the_file_is_the_next_clients(place: Path) -> None:
    brokers = Secured("a:1", str(write(place, SASL + PAIR)))
    assert client_settings(brokers)["sasl.password"] == "of-gold"
    write(place, SASL + PAIR.replace("gold", "lead"))
    assert client_settings(brokers)["sasl.password"] == "of-lead"
    assert "lead" not in repr(brokers)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has no security.protocol; it can be SSL, SASL_SSL, "),
        ("security.protocol=TLS\n", "line 1: security.protocol is 'TLS'; can be SSL, SASL_SSL, "),
        (f"{SASL}{PAIR}linger.ms=5\n", "line 5: property linger.ms is not known; known are bootstrap.servers, "),
        ("ssl.key.location=k\n", "line 1: property ssl.key.location is not known; put key and certificates into one"),
        (
            f"{SASL}{PAIR}sasl.mechanisms=PLAIN\n",
            "line 5: property sasl.mechanisms, which sasl.mechanism means too,",
        ),
        (f"{SASL}{PAIR}{PAIR}", "line 5: property sasl.username is there twice; leave one of them"),
        ("security.protocol=SASL_SSL\n", "there is no sasl.mechanism; it can be SCRAM-SHA-512, "),
        (
            "security.protocol=SASL_SSL\nsasl.mechanism=GSSAPI\n",
            "line 2: sasl.mechanism is 'GSSAPI'; can be SCRAM",
        ),
        (f"{SASL}sasl.username=desk\n", "there is no sasl.password; give sasl.username and sasl.password, or"),
        (f"{SASL}{PAIR}sasl.jaas.config=x;\n", "there are both sasl.jaas.config and sasl.username; leave one of them"),
        (f"{SASL}sasl.jaas.config=of-gold;\n", f"sasl.jaas.config is not what SCRAM-SHA-512 takes: {SCRAM} required"),
        (f'{SASL}sasl.username=d\nsasl.password=of-gold"\n', "sasl.password holds a quote, a backslash or"),
        (
            f"security.protocol=SSL\n{PAIR}",
            "sasl.username has no part in security.protocol=SSL; make that SASL_SSL",
        ),
        ("security.protocol=PLAINTEXT\nssl.ca.location=/a\n", "ssl.truststore.location has no part in"),
        ("security.protocol=SSL\nssl.truststore.type=JKS\n", "line 2: ssl.truststore.type is 'JKS'; write the"),
        (
            "security.protocol=SSL\nssl.truststore.location=/a\n",
            "has no ssl.truststore.type=PEM; both clients read",
        ),
        ("security.protocol=SSL\nssl.ca.location=authority.pem\n", "authority.pem is relative, and the job runs"),
        ("security.protocol=SSL\nssl.ca.location=/absent\n", "ssl.truststore.location /absent: No such file"),
        (
            "security.protocol=SSL\nssl.keystore.type=PEM\nssl.keystore.location=PLACE/authority.pem\n",
            "authority.pem holds no '-----BEGIN PRIVATE KEY-----'; it must hold CERTIFICATE and PRIVATE KEY",
        ),
        (
            "security.protocol=SSL\nssl.key.password=of-gold\n",
            "has ssl.key.password and no ssl.keystore.location;",
        ),
        (
            "security.protocol=SSL\nssl.truststore.password=of-gold\n",
            "ssl.truststore.password is not known; a PEM",
        ),
    ],
)
def test_what_contradicts_itself_is_one_line_with_the_remedy_and_without_a_secret(
    place: Path, text: str, said: str
) -> None:
    with pytest.raises(KafkaFileError) as refused:
        read(write(place, text))
    message = str(refused.value)
    assert said in message
    assert str(place / "kafka.properties") in message
    assert "of-gold" not in message
    assert "\n" not in message


def test_file_that_others_can_read_is_refused_and_so_is_such_a_key(place: Path) -> None:
    file = write(place, f"{SASL}{PAIR}")
    file.chmod(0o644)
    with pytest.raises(KafkaFileError, match=r"is open to every user of this machine; `chmod o= .*kafka\.properties`"):
        read(file)
    file = write(place, "security.protocol=SSL\nssl.keystore.type=PEM\nssl.keystore.location=PLACE/me.pem\n")
    (place / "me.pem").chmod(0o604)
    with pytest.raises(KafkaFileError, match=r"me\.pem is open to every user"):
        read(file)


def test_examples_of_the_docs() -> None:
    assert doctest.testmod(properties).failed == doctest.testmod(kafka_login).failed == 0


def test_path_that_kafka_could_not_refer_to_is_refused(place: Path) -> None:
    with pytest.raises(KafkaFileError, match="holds a colon or a brace, which Kafka cannot refer to; move the file"):
        read(place / "a:b")
