"""Events as WebSocket messages and as server-sent events: the same JSON in two wrappings.

Inside the relay an answer is server-sent events, whatever carried it here; at a WebSocket's end
each event is one text message, whose text is the event's own (wire notes 7).
"""

from __future__ import annotations

import re
from itertools import repeat
from typing import TYPE_CHECKING, Final

import attrs

from codexrelay.protocol import sse
from codexrelay.protocol.raw import dump, get_text, is_object, parse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from codexrelay.protocol.raw import JsonObject

#: As the backend writes its events: the type stands first.
_TYPE: Final = re.compile(rb'\{"type":\s?"([\w.]++)"')
_BEGINNING: Final = re.compile(r'\{"type":[ ]?"([\w.]++)"', re.ASCII)
_BEGIN: Final = re.compile(rb"event: [^\n]*+\ndata: ")
_END: Final = b"\n\n"
#: An event as the backend writes it over HTTP.
_PLAIN: Final = re.compile(rb"event: [^\n\r]*+\ndata: ([^\n\r]++)\n\n")


def type_of(text: bytes) -> str:
    """Return the type that a message names; empty if it is no JSON object or names none."""
    if found := _TYPE.match(text):
        return found[1].decode("ascii")
    try:
        value = parse(text)
    except ValueError:
        return ""
    return (get_text(value, "type") or "") if is_object(value) else ""


def as_event(text: bytes, name: str | None = None) -> bytes:
    """Return a message as a server-sent event; `messages` gives the same text back.

    `name` is its type, where that is known already.

    A line break in it, which JSON allows between its tokens, makes a second data line; one written
    with a carriage return comes back without that.
    """
    name = type_of(text) if name is None else name
    if b"\n" not in text and b"\r" not in text:
        return (
            b"event: %s\ndata: %s\n\n" % (name.encode(), text) if name else b"data: %s\n\n" % text
        )
    lines = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    head = b"event: %s\n" % name.encode() if name else b""
    return head + b"".join(b"data: %s\n" % line for line in lines) + b"\n"


@attrs.frozen
class Kind:
    """A type of event, as its messages and its server-sent events begin."""

    #: Up to the end of the type.
    begin: str
    #: What stands before a message, and between two.
    head: str
    between: str

    @classmethod
    def of(cls, text: str) -> Kind | None:
        """Return the kind of a message; None: it does not begin as the backend's do."""
        if (found := _BEGINNING.match(text)) is None:
            return None
        head = f"event: {found[1]}\ndata: "
        return cls(found[0], head, f"\n\n{head}")

    def as_events(self, texts: Sequence[str]) -> bytes:
        """Return messages of this kind as `as_event` would: so they cost a quarter."""
        whole = f"{self.head}{self.between.join(texts)}\n\n"
        # Three for each event, hence none inside a text.
        if whole.count("\n") == 3 * len(texts) and "\r" not in whole:
            return whole.encode()
        return b"".join(as_event(text.encode()) for text in texts)


def messages(whole: bytes) -> list[bytes]:
    """Return the texts of whole server-sent events, one message each; comments make none."""
    texts = _run_of_one_kind(whole)
    if texts is None:
        texts = _in_three_lines_each(whole)
    if texts is not None:
        return texts
    texts = []
    at = 0
    while (plain := _PLAIN.match(whole, at)) is not None:
        texts.append(plain[1])
        at = plain.end()
    if at < len(whole):
        texts += [event.data for raw in sse.split(whole[at:]) if (event := sse.read(raw))]
    return texts


def _run_of_one_kind(whole: bytes) -> list[bytes] | None:
    """Return the texts of events that have one name and are written as the backend writes them.

    Nearly every block is a run of deltas; a pattern for each event costs four times as much.
    """
    begin = _BEGIN.match(whole)
    if begin is None or not whole.endswith(_END) or b"\r" in whole:
        return None
    texts = whole[begin.end() : -len(_END)].split(_END + begin[0])
    # Three for each event, hence none inside a text.
    return texts if whole.count(b"\n") == 3 * len(texts) else None


def _in_three_lines_each(whole: bytes) -> list[bytes] | None:
    """Return the texts of events that are all written as the backend writes them."""
    if not whole.endswith(_END) or b"\r" in whole:
        return None
    lines = whole.split(b"\n")
    heads, texts, ends = lines[:-1:3], lines[1::3], lines[2::3]
    plain = (
        not any(ends)
        and all(map(bytes.startswith, heads, repeat(b"event: ")))
        and all(map(bytes.startswith, texts, repeat(b"data: ")))
    )
    # A shorter one has no text.
    return [text[6:] for text in texts] if plain and len(min(texts, key=len)) > 6 else None


def create(
    body: JsonObject, *, previous_response_id: str | None = None, generate: bool = True
) -> bytes:
    """Return the message that asks for a response; `body` is that of a request over HTTP.

    Raises:
        ValueError: it cannot be serialised.
    """
    asked: JsonObject = {"type": "response.create", **body}
    if previous_response_id is not None:
        asked["previous_response_id"] = previous_response_id
    if not generate:
        asked["generate"] = False
    return dump(asked)


def error(status: int, error: JsonObject, headers: dict[str, str]) -> bytes:
    """Return the message that refuses what was asked; the WebSocket stays usable behind it.

    With `status` and `status_code` in one message Codex CLI 0.169 cannot read it, and waits until
    its idle timeout (measured).
    """
    return dump({"type": "error", "status": status, "error": error, "headers": {**headers}})
