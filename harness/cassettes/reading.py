"""A parsed document, read strictly: every problem is noted with its place, and reading goes on."""

from __future__ import annotations

import datetime
import re
from typing import TYPE_CHECKING, Final, TypeGuard, TypeVar
from urllib.parse import urlsplit

import attrs

from codexrelay.errors import Problem
from harness.cassettes.errors import problem

if TYPE_CHECKING:
    from collections.abc import Sequence


_Word = TypeVar("_Word", bound=str)
_SIMPLE: Final = re.compile(r"[A-Za-z_][\w-]*", re.ASCII)
#: As h11 sends it, a letter for each byte.
_HEADER_VALUE: Final = re.compile(
    r"(?:[\x01-\x08\x0e-\x1f!-\xff]+(?:[ \t]+[\x01-\x08\x0e-\x1f!-\xff]+)*)?"
)
#: More seconds than any moment has since 1970; infinity is more.
_MOST_S: Final = 1e11
#: A list says no more of its own entries than this.
_MOST_ENTRIES: Final = 3
_KINDS: Final = {
    "dict": "a mapping",
    "list": "a list",
    "str": "a text",
    "bytes": "binary data",
    "bool": "true or false",
    "NoneType": "empty",
}


class _Missing:
    """There is nothing under that key."""


_MISSING: Final = _Missing()


@attrs.frozen
class Place:
    """A value of the document and where it stands. Whatever it is asked for, it answers."""

    value: object = attrs.field(repr=False)
    where: str
    problems: list[Problem] = attrs.field(repr=False)

    def wrong(self, what: str) -> None:
        """Note a problem with this value."""
        self.problems.append(problem(self.where, what))

    def has(self, key: str) -> bool:
        """Return whether it is a mapping with something but null under `key`."""
        return isinstance(self.value, dict) and self.value.get(key) is not None

    def at(self, key: str) -> Place:
        """Return what stands under `key`."""
        found = self.value.get(key, _MISSING) if isinstance(self.value, dict) else _MISSING
        return Place(found, joined(self.where, key), self.problems)

    def mapping(self, *known: str) -> bool:
        """Return whether it is a mapping; with `known`, note every other key."""
        if not isinstance(self.value, dict):
            self.is_no("a mapping")
            return False
        for key in self.value if known else ():
            if key not in known:
                name = key if isinstance(key, str) else told(key)
                self.wrong(f"has no key {name[:40]!r}; it may have {', '.join(known)}")
        return True

    def names(self) -> Sequence[str]:
        """Return the keys of a mapping that are texts; note all others."""
        if not self.mapping():
            return ()
        keys = list(self.value) if isinstance(self.value, dict) else []
        for key in keys:
            if not isinstance(key, str):
                self.wrong(f"has {told(key)} for a key; put it in quotes")
        return [key for key in keys if isinstance(key, str)]

    def entries(self) -> Sequence[Place]:
        """Return the entries of a list."""
        if not isinstance(self.value, list):
            self.is_no("a list")
            return ()
        return [
            Place(entry, f"{self.where}[{number}]", self.problems)
            for number, entry in enumerate(self.value)
        ]

    def text(self) -> str:
        """Return a text."""
        if isinstance(self.value, str):
            return self.value
        unquoted = isinstance(self.value, int | float | datetime.date)
        self.is_no("a text" + (" (put it in quotes)" if unquoted else ""))
        return ""

    def header_value(self) -> str:
        """Return a text that can stand behind a header's name."""
        text = self.text()
        if _HEADER_VALUE.fullmatch(text) is None:
            self.wrong(
                "is no value of a header: it holds a control character or one beyond U+00FF, or "
                "has a space at an end"
            )
        return text

    def uri(self) -> str:
        """Return a text that can be taken apart as a URI."""
        text = self.text()
        try:
            urlsplit(text)
        except ValueError:
            self.wrong("is no URI")
            return ""
        return text

    def word(self, *words: _Word) -> _Word:
        """Return one of `words`."""
        for word in words:
            if self.value == word:
                return word
        self.is_no(f"one of {', '.join(words)}")
        return words[0]

    def content(self) -> bytes:
        """Return a text or binary data as bytes."""
        if isinstance(self.value, bytes):
            return self.value
        try:
            return self.text().encode()
        except UnicodeEncodeError:
            self.wrong("holds half a surrogate pair; write it as binary data (!!binary)")
            return b""

    def flag(self) -> bool:
        """Return true or false."""
        if not isinstance(self.value, bool):
            self.is_no("true or false")
        return self.value is True

    def integer(self, *, least: int = 0, most: int | None = None) -> int:
        """Return an integer that is not below `least` and not above `most`."""
        if (
            not _is_integer(self.value)
            or self.value < least
            or (most is not None and self.value > most)
        ):
            self.is_no(f"an integer from {least}" + ("" if most is None else f" to {most}"))
            return least
        return self.value

    def seconds(self) -> float:
        """Return a number of seconds that is not negative."""
        if not _is_seconds(self.value):
            self.is_no("a number of seconds, 0 or more")
            return 0.0
        return float(self.value)

    def rising_seconds(self) -> tuple[float, ...]:
        """Return a list of seconds that do not fall."""
        good: list[float] = []
        bad = []
        for number, value in enumerate(self._values()):
            if _is_seconds(value) and (not good or value >= good[-1]):
                good.append(float(value))
            else:
                bad.append(number)
        self._note(bad, "a number of seconds, 0 or more and not below the one in front of it")
        return tuple(good)

    def rising_offsets(self) -> tuple[int, ...]:
        """Return a list of offsets in bytes, each above the one in front of it."""
        good: list[int] = []
        bad = []
        for number, value in enumerate(self._values()):
            if _is_integer(value) and value > (good[-1] if good else 0):
                good.append(value)
            else:
                bad.append(number)
        self._note(bad, "an offset in bytes above the one in front of it")
        return tuple(good)

    def _values(self) -> list[object]:
        if isinstance(self.value, list):
            return self.value
        self.is_no("a list")
        return []

    def _note(self, bad: Sequence[int], what: str) -> None:
        """Note that the entries numbered `bad` are not `what`; of many, only the first."""
        entries = self.entries() if bad else ()
        for number in bad[:_MOST_ENTRIES]:
            entries[number].is_no(what)
        if len(bad) > _MOST_ENTRIES:
            self.wrong(f"{len(bad) - _MOST_ENTRIES} more of its entries are not {what}")

    def is_no(self, what: str) -> None:
        """Note that the value is not `what` it should be."""
        if self.value is _MISSING:
            self.wrong(f"is missing; it should be {what}")
        else:
            self.wrong(f"is {told(self.value)}; it should be {what}")


def _is_integer(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_seconds(value: object) -> TypeGuard[float]:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return 0 <= value < _MOST_S


def joined(where: str, key: str) -> str:
    """Return the path of `key` in `where`; a strange key stands in brackets."""
    if not _SIMPLE.fullmatch(key):
        return f"{where}[{key!r}]"
    return f"{where}.{key}" if where else key


def told(value: object) -> str:
    """Return what a value is, without its content where that may be long or secret."""
    kind = type(value).__name__
    if kind in _KINDS:
        return _KINDS[kind]
    return f"{value}" if isinstance(value, int | float) else f"a {kind}"
