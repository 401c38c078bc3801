"""Whether a recorded answer is whole.

An event stream ends with the event that says so, and not where its connection ends: a backend that
breaks down may still close properly.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from codexrelay.protocol import events, sse
from codexrelay.protocol.raw import get_text, is_object, parse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.cassettes.model import End, Frame, Headers

#: The last data of a Chat stream, which is no JSON.
_DONE: Final = b"[DONE]"
#: The message that asks for an answer.
_ASKS: Final = "response.create"
_MESSAGES: Final = frozenset({"text", "bin"})
#: The real backend sends its events without any content type.
_LIKE_EVENTS: Final = re.compile(rb"(?:\xef\xbb\xbf)?[\r\n]*(?:event|data|id|retry)?:")


def header(headers: Headers, name: str) -> str | None:
    """Return the first value of the header `name` (lower case), or None."""
    return next((value for key, value in headers if key == name), None)


def is_event_stream(headers: Headers, body: bytes) -> bool:
    """Return whether an answer is a stream of server-sent events, by its type or by its looks."""
    kind = (header(headers, "content-type") or "").partition(";")[0].strip().lower()
    if kind == "text/event-stream":
        return not body.lstrip().startswith(b"{")  # a JSON error under the type of the stream
    return kind != "application/json" and _LIKE_EVENTS.match(body) is not None


def is_whole(headers: Headers, body: bytes, *, ended: End = "eof") -> bool:
    """Return whether an answer came to its proper end.

    Args:
        headers: of the answer, names in lower case.
        body: without any content coding.
        ended: how the connection, or the body, ended.

    Returns:
        Of an event stream: it ends with its terminal event, however the connection ended. Of any
        other body: it ended by `eof`, and is as long as it was announced.
    """
    if is_event_stream(headers, body):
        return _has_terminal_event(body)
    if ended != "eof":
        return False
    announced = header(headers, "content-length")
    if not body or announced is None or not announced.isdecimal():
        return True  # an answer to HEAD announces what it does not send
    return len(body) == int(announced)


def is_whole_websocket(frames: Sequence[Frame], *, ended: End) -> bool:
    """Return whether a WebSocket's last turn came to its proper end.

    Where its messages are events, however it was closed: the last one that came is a terminal one,
    and nothing was asked for behind it. Else: it was closed properly.
    """
    told = [
        (one.direction, _type_of(one.data)) for one in reversed(frames) if one.kind in _MESSAGES
    ]
    for direction, kind in told:
        if kind is None:
            return ended == "eof"
        # What else is sent, such as `response.processed`, asks for no answer.
        if direction == "in" or kind == _ASKS:
            return direction == "in" and kind in events.TERMINAL
    return not told and ended == "eof"


def _type_of(data: bytes) -> str | None:
    try:
        value = parse(data)
    except ValueError:
        return None
    return get_text(value, "type") if is_object(value) else None


def _has_terminal_event(body: bytes) -> bool:
    """Return whether the last event is a terminal one. One that lacks its end is no event."""
    cutter = sse.EventCutter(max_event_bytes=len(body) + 1)
    found = [one for raw in sse.split(cutter.feed(body)) if (one := sse.read(raw)) is not None]
    done = False
    while found and found[-1].data.strip() == _DONE:
        done = True
        found.pop()
    if not found:
        return done
    last = found[-1]
    try:
        value = parse(last.data)
    except ValueError:
        value = None
    told = (get_text(value, "type") if is_object(value) else None) or last.name
    if told in events.TERMINAL:
        return True
    if is_object(value) and value.get("error") is not None and not told.startswith("response."):
        return True
    # Some gateways end everything with [DONE], also what broke off before its terminal event.
    return done and not told.startswith("response.")
