"""A record's headers, the same whichever client reads them (Java's live, librdkafka's in a replay).

To Kafka a header's name is bytes, and a broker takes any. Java's client puts U+FFFD for what is not UTF-8 and cannot
tell that from one that was sent; librdkafka's ends a name at a NUL, fails at what is not UTF-8, and gives no header at
all of a record that has more than 100,000. So a name ends at its first NUL, one with anything in it that is not UTF-8,
or with a U+FFFD, is U+FFFD, and of more than 100,000 headers there are none (docs/facts.md). Values stay as they are.
The Java half of the rule is in runners/java/horizon/Blocks.java.
"""

import gc
from operator import methodcaller
from typing import Any, Final

from confluent_kafka import Message

from transforms.header_bytes import Header

NOT_UTF8: Final = "\ufffd"
"""The name of a header whose name is not UTF-8."""


# Called like that, and not as message.headers(), CPython looks whether the client gave a result together with an error;
# a call that its interpreter has specialised does not, and the process dies of what is missing in the result.
_headers: Final[Any] = methodcaller("headers")


def headers_of(message: Message) -> list[Header]:
    """The headers of a message, which is no error; never raises."""
    try:
        found = _headers(message)
    except SystemError:  # a name that is not UTF-8: the client has made the pairs all the same, without that name
        return [(_name(pair), pair[1]) for pair in _headers(message)]
    return [(NOT_UTF8 if NOT_UTF8 in name else name, value) for name, value in found] if found else []


def _name(pair: Header) -> str:
    """The name in a pair; what is missing must not be looked at, but who collects garbage knows what a pair holds."""
    is_there = len(gc.get_referents(pair)) > 1
    return pair[0] if is_there and NOT_UTF8 not in pair[0] else NOT_UTF8
