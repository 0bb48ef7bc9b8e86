"""Java's properties files, read as java.util.Properties reads them from UTF-8: so that one file serves both clients."""

import re
from collections.abc import Iterator
from typing import Final

_KEY_AND_REST: Final = re.compile(r"((?:\\.|[^\\=:\s])*)\s*[=:]?\s*(.*)", re.DOTALL)
_ESCAPE: Final = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
_SIGNS: Final = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}


def parse(text: str) -> Iterator[tuple[int, str, str]]:
    r"""Number of its first line, name and value of each property, one that comes twice as often as it comes.

    >>> list(parse("# of the desk\na = b = c\nlong: one \\\n   two\n\\u0061\\ b c\\\\d"))
    [(2, 'a', 'b = c'), (3, 'long', 'one two'), (5, 'a b', 'c\\d')]
    """
    for number, line in _whole_lines(text):
        found = _KEY_AND_REST.fullmatch(line)
        if found is not None and line[0] not in "#!":
            yield number, _unescaped(found[1]), _unescaped(found[2])


def _whole_lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines that hold something, those that a backslash ends joined with the next, and the number of the first."""
    whole, first = "", 0
    for number, line in enumerate(re.split(r"\r\n|\n|\r", text), 1):
        line = line.lstrip(" \t\f")
        if not whole:
            first = number
        whole += line
        goes_on = (len(whole) - len(whole.rstrip("\\"))) % 2 == 1 and whole[0] not in "#!"
        if goes_on:
            whole = whole[:-1]
            continue
        if whole:
            yield first, whole
        whole = ""
    if whole:
        yield first, whole


def _unescaped(text: str) -> str:
    def sign(found: re.Match[str]) -> str:
        code = found[1]
        return chr(int(code[1:], 16)) if len(code) == 5 else _SIGNS.get(code, code)

    return _ESCAPE.sub(sign, text)
