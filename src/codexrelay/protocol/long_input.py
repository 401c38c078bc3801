"""The `input` of a long request as its client wrote it, so that it need not be written anew.

A history of megabytes is read once, to know it; most of it goes on as it came. To write it takes
as long again as most of the reading (measured: 5 MB with a few letters beyond ASCII, 12 ms after
17), and leaves a second copy of every text behind.

Where the text of `input` begins and ends is not counted out, but tried: what stands before it, with
a number in its place, must be JSON that says the fields before, and what stands behind it likewise.
So what stands between is the value. (A client that says one field twice gets that as it said it.)
"""

from __future__ import annotations

import re
from typing import Final

import attrs

from codexrelay.protocol.raw import JsonObject, dump, is_object, parse

#: Shorter requests are written faster than they are looked through.
LONG_BYTES: Final = 65536
_INPUT: Final = "input"
#: So many places are tried: the name of a field may stand elsewhere too.
_TRIES: Final = 4
#: Blanks between two fields; nobody writes more.
_MOST_BLANKS: Final = 64
_OPENS: Final = re.compile(rb'"input"\s*:\s*(?=\[)')
_CLOSES: Final = re.compile(rb"\]\s*,\s*\Z")
_CLOSES_ALL: Final = re.compile(rb"\]\s*\}\s*\Z")


@attrs.define(eq=False)
class LongInput:
    """The text of one request, and what it says, until it has been written."""

    _read: tuple[bytes, JsonObject] | None = attrs.field(repr=False)

    @classmethod
    def of(cls, data: bytes, given: JsonObject) -> LongInput | None:
        """Return it for a request that is long enough; `given` is `data`, parsed."""
        return cls((data, given)) if len(data) >= LONG_BYTES else None

    def dump(self, body: JsonObject) -> bytes:
        """Return the JSON of `body`, its `input` as it came if that is still the client's own.

        Once: the text is let go of, and what is written after that is written anew.

        Raises:
            ValueError: see `raw.dump`.
        """
        read, self._read = self._read, None
        items = body.get(_INPUT)
        if read is None or not isinstance(items, list) or items is not read[1].get(_INPUT):
            return dump(body)
        text = _text(*read)
        return dump(body) if text is None else _written(body, text)


def _written(body: JsonObject, text: memoryview) -> bytes:
    """Return the JSON of `body` with this text as its `input`, in the order of its fields."""
    before, behind = _around(body)
    head, tail = dump(before)[:-1], dump(behind)[1:]
    pieces = [head, b"," if before else b"", b'"input":', text, b"," if behind else b"", tail]
    return b"".join(pieces)


def _text(data: bytes, given: JsonObject) -> memoryview | None:
    """Return the text of `input` in `data`, None if it was not found."""
    before, behind = _around(given)
    start = _start(data, before)
    end = None if start is None else _end(data, behind)
    return None if start is None or end is None else memoryview(data)[start:end]


def _around(body: JsonObject) -> tuple[JsonObject, JsonObject]:
    """Return the fields before `input` and those behind it."""
    names = list(body)
    place = names.index(_INPUT)
    before = {name: body[name] for name in names[:place]}
    return before, {name: body[name] for name in names[place + 1 :]}


def _start(data: bytes, before: JsonObject) -> int | None:
    at = -1
    for _ in range(_TRIES):
        if (at := data.find(b'"input"', at + 1)) < 0:
            return None
        found = _OPENS.match(data, at)
        if found and _says(data[: found.end()] + b"0}", {**before, _INPUT: 0}):
            return found.end()
    return None


def _end(data: bytes, behind: JsonObject) -> int | None:
    if not behind:
        found = _CLOSES_ALL.search(data, max(0, len(data) - _MOST_BLANKS))
        return None if found is None else found.start() + 1
    name, at = dump(next(iter(behind))), len(data)
    for _ in range(_TRIES):
        if (at := data.rfind(name, 0, at)) < 0:
            return None
        found = _CLOSES.search(data, max(0, at - _MOST_BLANKS), at)
        if found and _says(b'{"input":0,' + data[at:], {_INPUT: 0, **behind}):
            return found.start() + 1
    return None


def _says(text: bytes, expected: JsonObject) -> bool:
    """Tell whether a text says these fields, in this order."""
    try:
        value = parse(text)
    except ValueError:
        return False
    return is_object(value) and value == expected and list(value) == list(expected)
