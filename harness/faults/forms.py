"""How each operator is written.

| term | what it does |
| --- | --- |
| `cut@1234` | the answer stops there; the end is the one that is named next, else `fin` |
| `fin` | the connection is closed, the body is not ended (a WebSocket: no close frame) |
| `rst` | the connection is reset |
| `idle` | silence for ever, the connection stays open |
| `eof` | the body is ended as HTTP wants it |
| `nohead` | no status, no headers, no body: only the end, which is `fin` if none is named |
| `delay@0=2.5s` | everything from there on comes so much later; from byte 0 on, the head as well |
| `stall@e2=30s` | silence for so long, then what has piled up, the rest at its own time |
| `dup@e3`, `dup@100-200`, `dup@f3` | the event, the bytes or the message comes twice |
| `swap@e3`, `swap@f3` | the event or message comes behind the one that follows it (or: `reorder`) |
| `drop@e3`, `drop@100-200`, `drop@f3` | it never comes |
| `corrupt@120`, `corrupt@120=41` | that byte becomes ff, which UTF-8 never has, or the one named |
| `insert@e2=: hello%0A%0A` | these bytes come in between |
| `split`, `split@100-200`, `split@e3` | every byte, or every byte of that, is a chunk of its own |
| `coalesce` | the body comes as one chunk, when its last byte would |
| `status=503` | the answer is of that status; from 400 on with the error body that belongs to it |
| `limit=3600s` | 429, the usage limit of the account is reached, for so long |
| `header:retry-after=2` | the header has that value |
| `noheader:content-type` | the header is missing |
| `body=TEXT`, `json={"a":1}` | the body is that; `json` sets `content-type` too |
| `close=1011`, `close@f3=1012` | WebSocket: closed with that code, at the end or there |
| `half-open@f3` | WebSocket: nothing more comes behind that message, the socket stays open |
| `oversize@f3=17MiB` | WebSocket: the message is filled up with spaces to that size |

`1234` is a place in the body, `e3` the third event of a stream (as a place: behind it), `f3` the
third WebSocket message that comes in; `e-1` and `f-1` are the last ones. In a value, `+` is written
`%2B`, `%` is `%25`, a line feed `%0A`.

Terms are joined by `+` and applied from left to right. In front of them may stand whom they meet:
`2:` the second turn alone, `refresh:` the renewals of tokens, `any:` every request; `refresh:1:`
the first renewal. Without it they meet every turn, that is every request to a model.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from typing import Final

import attrs

from codexrelay.protocol import raw
from harness.faults.operators import (
    Body,
    Close,
    Coalesce,
    Corrupt,
    Cut,
    Delay,
    Drop,
    Dup,
    Ended,
    HalfOpen,
    Header,
    Insert,
    Limit,
    NoHead,
    NoHeader,
    Operator,
    Oversize,
    Split,
    Stall,
    Status,
    Swap,
)
from harness.faults.positions import Event, Message, Offset, Place, Span, piece, place
from harness.faults.terms import FaultTextError, Term, seconds, size_bytes

#: What may stand in front of the terms, with a colon.
SCOPES: Final = ("turn", "refresh", "any")
_NAME: Final = re.compile(r"[a-z0-9!#$&'*.^_`|~-]+")


@attrs.frozen
class _Form:
    """How a term is written, and what it makes. `[…]` may be missing."""

    written: str
    make: Callable[[Term], Operator]

    def complaint(self, term: Term) -> str | None:
        """Return what is missing or too much in the term; None if nothing is."""
        for sign, part in ((":", term.key), ("@", term.at), ("=", term.value)):
            optional = f"[{sign}" in self.written
            wanted = sign in self.written
            if part is None and wanted and not optional:
                return f"{sign!r} is missing"
            if part is not None and not wanted:
                return f"{sign!r} is too much"
        return None


def _place(term: Term) -> Place:
    return place(term.at or "")


def _body_place(term: Term) -> Offset | Event:
    at = place(term.at or "")
    if isinstance(at, Message):
        raise ValueError("a message is no place in a body")  # noqa: TRY004
    return at


def _message(term: Term) -> Message:
    at = place(term.at or "")
    if not isinstance(at, Message):
        raise ValueError(f"{term.at!r} is no message, such as f3")  # noqa: TRY004
    return at


def _event_or_message(term: Term) -> Event | Message:
    what = piece(term.at or "")
    if isinstance(what, Span):
        raise ValueError("only an event or a message has a follower")  # noqa: TRY004
    return what


def _split_piece(term: Term) -> Event | Span | None:
    if term.at is None:
        return None
    what = piece(term.at)
    if isinstance(what, Message):
        raise ValueError("a message has no chunks")  # noqa: TRY004
    return what


def _some_message(term: Term) -> Message:
    what = _message(term)
    if not what.number:
        raise ValueError("messages are counted from 1")
    return what


def _corrupt(term: Term) -> Corrupt:
    at = _place(term)
    if isinstance(at, Message) and not at.number:
        raise ValueError("messages are counted from 1")
    if term.value is None:
        return Corrupt(at)
    if not re.fullmatch("[0-9a-fA-F]{2}", term.value_text):
        raise ValueError(f"{term.value_text!r} is no byte of two hexadecimal digits")
    return Corrupt(at, int(term.value_text, 16))


def _number(term: Term, low: int, high: int) -> int:
    if not re.fullmatch("[0-9]{1,5}", term.value_text) or not low <= int(term.value_text) <= high:
        raise ValueError(f"{term.value_text!r} is no number from {low} to {high}")
    return int(term.value_text)


def _name(term: Term) -> str:
    name = (term.key or "").lower()
    if not _NAME.fullmatch(name):
        raise ValueError(f"{term.key!r} is no name of a header")
    return name


def _header(term: Term) -> Header:
    value = term.value_text
    if not value.isprintable() or not value.isascii():
        raise ValueError("a header's value is printable ASCII")
    return Header(_name(term), value)


def _json(term: Term) -> Body:
    raw.parse(term.value or b"")
    return Body(term.value or b"", is_json=True)


def _close(term: Term) -> Close:
    at = None if term.at is None else _message(term)
    return Close(_number(term, 1000, 4999), at)


_FORMS: Final[Mapping[str, _Form]] = {
    "cut": _Form("cut@PLACE", lambda term: Cut(_place(term))),
    **{way: _Form(way, lambda term: Ended(term.name)) for way in Ended.WAYS},
    "nohead": _Form("nohead", lambda _: NoHead()),
    "delay": _Form(
        "delay@PLACE=DURATION", lambda term: Delay(_place(term), seconds(term.value_text))
    ),
    "stall": _Form(
        "stall@PLACE=DURATION", lambda term: Stall(_place(term), seconds(term.value_text))
    ),
    "dup": _Form("dup@PIECE", lambda term: Dup(piece(term.at or ""))),
    "swap": _Form("swap@EVENT", lambda term: Swap(_event_or_message(term))),
    "reorder": _Form("reorder@EVENT", lambda term: Swap(_event_or_message(term))),
    "drop": _Form("drop@PIECE", lambda term: Drop(piece(term.at or ""))),
    "corrupt": _Form("corrupt@PLACE[=XX]", _corrupt),
    "insert": _Form("insert@PLACE=TEXT", lambda term: Insert(_body_place(term), term.value or b"")),
    "split": _Form("split[@PIECE]", lambda term: Split(_split_piece(term))),
    "coalesce": _Form("coalesce", lambda _: Coalesce()),
    "status": _Form("status=NUMBER", lambda term: Status(_number(term, 200, 599))),
    "limit": _Form("limit=DURATION", lambda term: Limit(seconds(term.value_text))),
    "header": _Form("header:NAME=VALUE", _header),
    "noheader": _Form("noheader:NAME", lambda term: NoHeader(_name(term))),
    "body": _Form("body=TEXT", lambda term: Body(term.value or b"")),
    "json": _Form("json=JSON", _json),
    "close": _Form("close[@MESSAGE]=CODE", _close),
    "half-open": _Form("half-open@MESSAGE", lambda term: HalfOpen(_message(term))),
    "oversize": _Form(
        "oversize@MESSAGE=SIZE",
        lambda term: Oversize(_some_message(term), size_bytes(term.value_text)),
    ),
}


def read(text: str) -> Operator:
    """Return the operator that a term names.

    Raises:
        FaultTextError: it names none, or something of it is missing, wrong or too much.
    """
    term = Term.read(text)
    form = _FORMS.get(term.name)
    if form is None:
        scope = f" (but a scope {term.name}:)" if term.name in SCOPES else ""
        raise FaultTextError(
            f"{text!r}: there is no fault {term.name!r}{scope}; there are: {', '.join(_FORMS)}"
        )
    if complaint := form.complaint(term):
        raise FaultTextError(f"{text!r}: {complaint}; it is written {form.written}")
    try:
        return form.make(term)
    except ValueError as error:
        raise FaultTextError(f"{text!r}: {error}; it is written {form.written}") from error


def listing() -> str:
    """Return the table of all operators, for people."""
    return inspect.cleandoc(__doc__ or "")
