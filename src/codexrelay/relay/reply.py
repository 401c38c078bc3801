"""How an answer reaches its client: event by event, over HTTP or a WebSocket, or as one body."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, Protocol

from codexrelay.protocol import frames
from codexrelay.protocol.call_filter import FilteredStream
from codexrelay.protocol.faults import INTERRUPTED
from codexrelay.protocol.openai_errors import error_body

if TYPE_CHECKING:
    from codexrelay.protocol.answer import Answer, StreamedAnswer, WholeAnswer
    from codexrelay.protocol.call_filter import CallFilter
    from codexrelay.protocol.faults import Fault
    from codexrelay.protocol.raw import Headers
    from codexrelay.protocol.responses_stream import ResponsesStream
    from codexrelay.relay.line import Line

#: Longest wait that is told as it is: one wait, and the client's turn goes on.
MAX_RETRY_AFTER_S: Final = 60
#: Told in the place of longer ones. OpenCode and pi obey any value literally, in silence, and ask 6
#: and 12 times in all: with 60 s that was 5 and 8 minutes of silence before they told their user,
#: with 15 s 76 s and, as pi obeys `x-should-retry` too, 14 s (measured).
LONG_RETRY_AFTER_S: Final = 15
_NO_USE: Final = (b"x-should-retry", b"false")

EVENT_STREAM: Final[Headers] = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # nginx in front must hand on each event at once
)
JSON: Final[Headers] = ((b"content-type", b"application/json"),)


class Reply(Protocol):
    """An answer and the way it is sent."""

    #: Headers of a 200.
    headers: Headers
    #: Sent while there is nothing to say; None where nothing may precede the body.
    keep_alive: bytes | None

    @property
    def answer(self) -> Answer:
        """What upstream's bytes are fed to."""

    async def finish(self, line: Line, fault: Fault | None) -> None:
        """Give the client what is still missing, and end.

        `fault` is what ended the turn without a terminal event of upstream's, else None. Not after
        the line has ended.
        """


class StreamedReply:
    """Server-sent events."""

    headers = EVENT_STREAM

    def __init__(self, answer: StreamedAnswer) -> None:
        self.answer = answer
        self.keep_alive: bytes | None = answer.keep_alive

    async def finish(self, line: Line, fault: Fault | None) -> None:
        """See `Reply.finish`. Before the line is opened a fault is an HTTP error."""
        if fault is not None and not line.opened:
            await refuse(line, fault)
            return
        last = b"" if fault is None else self.answer.fail(fault)
        await line.finish(last + self.answer.finish())


class FramedReply:
    """Messages on a WebSocket: an event each. There are no headers, and the line stays open."""

    headers: Headers = ()
    #: Pings are the connection's business.
    keep_alive: bytes | None = None

    def __init__(self, answer: ResponsesStream, calls: CallFilter | None = None) -> None:
        self._stream = answer
        self.answer: StreamedAnswer = answer if calls is None else FilteredStream(answer, calls)

    async def finish(self, line: Line, fault: Fault | None) -> None:
        """See `Reply.finish`. Before the first event a fault is one message with its status."""
        last = b"" if fault is None else self._told(line, fault)
        await line.finish(last + self.answer.finish())

    def _told(self, line: Line, fault: Fault) -> bytes:
        if fault.code == INTERRUPTED:
            return self._stream.interrupt()
        if line.opened:
            return self.answer.fail(fault)
        # What an HTTP client would see in the head.
        headers = {
            name.decode("ascii"): value.decode("latin-1")
            for name, value in (*retry_after(fault), *line.own_headers)
        }
        return frames.as_event(frames.error(fault.status, fault.error, headers))


class WholeReply:
    """One JSON body."""

    headers = JSON
    keep_alive: bytes | None = None

    def __init__(self, answer: WholeAnswer) -> None:
        self.answer = answer

    async def finish(self, line: Line, fault: Fault | None) -> None:
        """See `Reply.finish`. Nothing has been sent before, so every fault is an HTTP error."""
        terminal = self.answer.terminal
        if terminal is not None:
            fault = terminal.fault
        if fault is not None:
            await refuse(line, fault)
            return
        await line.answer(200, line.headers, self.answer.body())


async def refuse(line: Line, fault: Fault) -> None:
    """Answer with `fault` as an HTTP error in the OpenAI shape."""
    await line.answer(fault.status, [*JSON, *retry_after(fault)], error_body(fault.error))


def retry_after(fault: Fault) -> Headers:
    """Return the headers that say when to come back, for a fault that passes.

    Codex CLI comes back after a 429 only if there is a `Retry-After` (measured). Where waiting is
    of no use, `x-should-retry` says so: the OpenAI SDK and pi obey it, and tell their user at once.
    """
    if fault.retry_after_s is None:
        return ((b"retry-after", b"1"),) if fault.status == 429 else ()
    seconds = max(1, math.ceil(fault.retry_after_s))
    if seconds > MAX_RETRY_AFTER_S:
        return ((b"retry-after", b"%d" % LONG_RETRY_AFTER_S), _NO_USE)
    return ((b"retry-after", b"%d" % seconds),)
