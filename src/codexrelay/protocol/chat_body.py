"""The body of a Chat answer, however a server writes it, as whole events.

Servers of local models differ in the frame, not in the chunks: some answer with one JSON object
although a stream was asked for, some leave out the blank line behind the last event. What is no
answer at all (a page) comes out unchanged, for the hold to tell.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import attrs

from codexrelay.errors import EventTooLargeError
from codexrelay.protocol import sse
from codexrelay.protocol.chat_chunk import is_error
from codexrelay.protocol.raw import (
    Json,
    JsonObject,
    dump,
    get_list,
    get_object,
    is_object,
    parse_object,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

DONE: Final = b"data: [DONE]\n\n"
#: How an event stream begins: with a field or a comment.
_EVENTS_BEGIN: Final = re.compile(rb"\s*[:deir]")
_MARK: Final = b"\xef\xbb\xbf"


@attrs.define(eq=False)
class ChatBody:
    """Cuts the body of one answer."""

    max_bytes: int = sse.MAX_EVENT_BYTES
    _cutter: sse.EventCutter = attrs.field(init=False)
    #: Whether the body is an event stream; None: nothing has come that shows it.
    _is_stream: bool | None = attrs.field(default=None, init=False)
    #: The bytes of a body that is none, and those that do not show it yet.
    _kept: list[bytes] = attrs.field(factory=list, init=False)
    _kept_bytes: int = attrs.field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        self._cutter = sse.EventCutter(max_event_bytes=self.max_bytes)

    def feed(self, block: bytes) -> bytes:
        """Return the events that `block` completed; nothing of a body that is no event stream.

        Raises:
            EventTooLargeError: one event, or the body that is none, is larger than `max_bytes`.
        """
        if self._is_stream:
            return self._cutter.feed(block)
        self._kept.append(block)
        self._kept_bytes += len(block)
        if self._is_stream is None:
            begin = b"".join(self._kept)
            if not begin.strip() or _MARK.startswith(begin):
                return b""
            begin = begin.removeprefix(_MARK)
            self._kept = [begin]
            self._is_stream = _EVENTS_BEGIN.match(begin) is not None
            if self._is_stream:
                self._kept.clear()
                return self._cutter.feed(begin)
        if self._kept_bytes > self.max_bytes:
            raise EventTooLargeError(limit_bytes=self.max_bytes)
        return b""

    def end(self) -> bytes:
        """Return what is left at the clean end of the body.

        An event without its end gets it; an answer in one piece, or an error, becomes events;
        anything else is returned as it came.
        """
        if self._is_stream:
            pending = self._cutter.pending
            lines = pending.rstrip(b"\r\n")
            return lines + b"\n\n" if sse.read(lines) is not None else pending
        body = b"".join(self._kept)
        try:
            answer = parse_object(body)
        except ValueError:
            return body
        if is_error(answer):
            return b"data: %b\n\n" % dump(answer)
        chunks = [b"data: %b\n\n" % dump(chunk) for chunk in as_chunks(answer)]
        return b"".join([*chunks, DONE]) if chunks else body


def as_chunks(answer: JsonObject) -> Iterator[JsonObject]:
    """Yield the chunks that say what a whole completion says; none if it is no completion."""
    choices: list[Json] = [
        _as_delta(i, choice)
        for i, choice in enumerate(get_list(answer, "choices"))
        if is_object(choice) and is_object(choice.get("message"))
    ]
    if not choices:
        return
    frame: JsonObject = {**answer, "object": "chat.completion.chunk"}
    usage = frame.pop("usage", None)
    yield {**frame, "choices": choices}
    if usage is not None:
        yield {**frame, "choices": [], "usage": usage}


def _as_delta(place: int, choice: JsonObject) -> JsonObject:
    message = get_object(choice, "message")
    calls = get_list(message, "tool_calls")
    delta: JsonObject = {key: value for key, value in message.items() if key != "tool_calls"}
    if calls:
        delta["tool_calls"] = [
            {"index": i, **call} for i, call in enumerate(calls) if is_object(call)
        ]
    rest: JsonObject = {key: value for key, value in choice.items() if key != "message"}
    # A whole answer is complete, also where its server does not say why it ended.
    ended = choice.get("finish_reason") or ("tool_calls" if calls else "stop")
    return {"index": place, **rest, "delta": delta, "finish_reason": ended}
