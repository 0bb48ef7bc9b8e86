r"""User and password of SASL, as Java's JAAS line or as two properties.

A JAAS line quotes both, with \" and \\ for these two signs. Errors name the property and no value: it may be secret.
"""

import re
from collections.abc import Mapping
from typing import Final

_PACKAGE: Final = "org.apache.kafka.common.security"
MECHANISMS: Final[Mapping[str, str]] = {
    "SCRAM-SHA-512": f"{_PACKAGE}.scram.ScramLoginModule",
    "SCRAM-SHA-256": f"{_PACKAGE}.scram.ScramLoginModule",
    "PLAIN": f"{_PACKAGE}.plain.PlainLoginModule",
}
"""The mechanisms that both clients have with a user and a password, and Java's class of each."""
_PAIR: Final = ("sasl.username", "sasl.password")
_QUOTED: Final = r'"((?:[^"\\]|\\["\\])*)"'
_OPTION: Final = rf"\s+(\w+)\s*=\s*{_QUOTED}"
_JAAS: Final = re.compile(rf"\s*(\S+)\s+required{_OPTION}{_OPTION}\s*;\s*")
_CANNOT_BE_QUOTED: Final = re.compile(r'["\\\x00-\x1f]')


class LoginError(ValueError):
    """Properties that name no user and password; says which and the remedy."""


def jaas(mechanism: str, username: str, password: str) -> str:
    """Java's line for a user and a password that need no escapes."""
    return f'{MECHANISMS[mechanism]} required username="{username}" password="{password}";'


def login_of(properties: Mapping[str, str]) -> tuple[str, str]:
    """User and password. LoginError where there are none, or two.

    >>> login_of({"sasl.mechanism": "PLAIN", "sasl.jaas.config": jaas("PLAIN", "desk", "of")})
    ('desk', 'of')
    """
    if "sasl.mechanism" not in properties:
        raise LoginError(f"there is no sasl.mechanism; it can be {', '.join(MECHANISMS)}")
    given = [name for name in _PAIR if name in properties]
    if "sasl.jaas.config" in properties:
        if given:
            raise LoginError(f"there are both sasl.jaas.config and {given[0]}; leave one of them")
        return _of_jaas(properties["sasl.mechanism"], properties["sasl.jaas.config"])
    for name in _PAIR:
        if name not in given:
            raise LoginError(f"there is no {name}; give {' and '.join(_PAIR)}, or sasl.jaas.config")
        if _CANNOT_BE_QUOTED.search(properties[name]):
            raise LoginError(
                f"{name} holds a quote, a backslash or a control character, which Java's line must escape; "
                "write it yourself as sasl.jaas.config"
            )
    return properties[_PAIR[0]], properties[_PAIR[1]]


def _of_jaas(mechanism: str, line: str) -> tuple[str, str]:
    found = _JAAS.fullmatch(line)
    options = {} if found is None else {found[2]: _plain(found[3]), found[4]: _plain(found[5])}
    if found is None or found[1] != MECHANISMS[mechanism] or options.keys() != {"username", "password"}:
        raise LoginError(f"sasl.jaas.config is not what {mechanism} takes: {jaas(mechanism, '…', '…')}")
    return options["username"], options["password"]


def _plain(quoted: str) -> str:
    return re.sub(r"\\(.)", r"\1", quoted)
