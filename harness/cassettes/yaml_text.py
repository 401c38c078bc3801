"""YAML as cassettes are written in it: the same bytes from every machine, readable where it can be.

PyYAML has two emitters, one in C and one in Python, and they break and escape texts differently:
what one machine writes would be a change on the next. The few forms that a cassette needs stand
here instead. Both of PyYAML's loaders, and so vcrpy, read them back bit for bit.
"""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Flow sequences are broken behind this column.
_WIDTH: Final = 100
#: Letters of base64 in a line.
_BASE64_LINE: Final = 76
#: A simple key may be 1024 characters long, quotes and escapes included; a long one is set apart.
_SIMPLE_KEY: Final = 128
#: What needs no quotes. It begins with a letter, so that it is no number and no date.
_PLAIN: Final = re.compile(r"[A-Za-z](?:[\w./;=+@%()*,-]|:(?=[^\s])| (?=[\w(/]))*", re.ASCII)
#: Words that YAML 1.1 takes for something else than a text.
_WORDS: Final = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})
#: What a line of YAML cannot hold as it is: control characters, and what YAML takes for the end of
#: a line (NEL, LS, PS) or for no character at all. Tabs and LF are looked after apart.
_UNPRINTABLE: Final = (
    "\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u2028\\u2029\\ud800-\\udfff\\ufeff\\ufffe\\uffff"
)
_NOT_IN_BLOCK: Final = re.compile(f"[{_UNPRINTABLE}]")
_NOT_IN_QUOTES: Final = re.compile(f"[\\t\\n{_UNPRINTABLE}]")
_TO_ESCAPE: Final = re.compile(f'["\\\\\\t\\n{_UNPRINTABLE}]')
_SHORT: Final = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}


def scalar(text: str) -> str:
    """Return a text on one line: plain, in single quotes, or escaped in double quotes.

    Raises:
        ValueError: it holds half a surrogate pair, which no file can.
    """
    if _PLAIN.fullmatch(text) and text.lower() not in _WORDS:
        return text
    return quoted(text)


def quoted(text: str) -> str:
    """Return a text on one line, in quotes: good in `[]` and `{}` too.

    Raises:
        ValueError: see `scalar`.
    """
    if _NOT_IN_QUOTES.search(text) is None:
        return "'" + text.replace("'", "''") + "'"
    return '"' + _TO_ESCAPE.sub(_escaped, text) + '"'


def key(text: str, pad: str) -> str:
    """Return the beginning of a line, `pad` included, up to the colon of a mapping's key."""
    name = scalar(text)
    return f"{pad}{name}:" if len(name) <= _SIMPLE_KEY else f"{pad}? {name}\n{pad}:"


def content(data: bytes, pad: str) -> str:
    """Return what stands behind the colon of a body: a block of text where that is exact.

    `pad` is the indentation of the lines of a block: two more than the key has.
    """
    try:
        text = data.decode()
    except UnicodeDecodeError:
        letters = base64.b64encode(data).decode()
        starts = range(0, len(letters), _BASE64_LINE)
        return "!!binary |\n" + "\n".join(pad + letters[at : at + _BASE64_LINE] for at in starts)
    stripped = text.rstrip("\n")
    if not stripped or _NOT_IN_BLOCK.search(text) is not None:
        return quoted(text)
    newlines = len(text) - len(stripped)
    hint = "2" if stripped[0] in " \t\n" else ""
    lines = "\n".join(pad + line if line else "" for line in stripped.split("\n"))
    return f"|{hint}{('-', '')[newlines] if newlines < 2 else '+'}\n{lines}" + "\n" * (newlines - 1)


def flow_content(data: bytes) -> str:
    """Return some bytes on one line, good in `{}` too."""
    try:
        return quoted(data.decode())
    except UnicodeDecodeError:
        return f"!!binary '{base64.b64encode(data).decode()}'"


def flow(values: Iterable[str], pad: str, *, begin: int) -> str:
    """Return a flow sequence; `begin` is the column where it begins, `pad` indents more lines."""
    lines, line = [], "["
    room = _WIDTH - begin
    for value in values:
        piece = value if line in ("[", "") else f" {value}"
        if len(line) + len(piece) >= room:
            lines.append(line)
            line, room = value, _WIDTH - len(pad)
        else:
            line += piece
        line += ","
    lines.append(line.removesuffix(",") + "]")
    return f"\n{pad}".join(lines)


def seconds(value: float) -> str:
    """Return a number of seconds with at most six decimals, and at least one."""
    text = f"{value:.6f}".rstrip("0")
    text = text + "0" if text.endswith(".") else text
    return "0.0" if text == "-0.0" else text


def flag(value: bool) -> str:  # noqa: FBT001  (the value itself)
    """Return a truth value."""
    return "true" if value else "false"


def _escaped(match: re.Match[str]) -> str:
    char = match[0]
    if char in _SHORT:
        return _SHORT[char]
    number = ord(char)
    if 0xD800 <= number <= 0xDFFF:
        raise ValueError("a text with half a surrogate pair cannot be written down")
    return f"\\x{number:02X}" if number <= 0xFF else f"\\u{number:04X}"
