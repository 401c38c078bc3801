"""The committed phase: bytes from an upstream attempt to a client's line, until the terminal event.

The seam is small so that many streams can be moved at once, without a task's wake-up for each
event: see `pump`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from typing import Final, Protocol, TypeAlias

import attrs
import trio

from codexrelay.backends.backend import Attempt
from codexrelay.errors import EventTooLargeError
from codexrelay.protocol import faults
from codexrelay.protocol.answer import Answer
from codexrelay.protocol.faults import Fault
from codexrelay.relay.line import Line
from codexrelay.relay.reply import Reply
from codexrelay.relay.silence import Silence

#: How long the end of the upstream body is waited for once its terminal event has come: side notes
#: may follow it, and a body read to its end leaves a connection that can be used again.
TAIL_S: Final = 0.1

#: For the block with the terminal event; longer than the server's patience with a slow client.
LAST_WRITE_S: Final = 40.0

#: How often it is looked, without waiting, what has come behind the terminal event.
_LOOKS: Final = 2

Settle: TypeAlias = Callable[[], Awaitable[None]]


@attrs.define(kw_only=True, eq=False)  # not frozen: that would double the cost of making one
class Stream:
    """One committed stream: where it comes from, what it becomes, where it goes."""

    attempt: Attempt
    #: The bytes that came before the commit.
    held: bytes
    reply: Reply
    line: Line
    #: Armed while upstream is waited for; ends that wait when its budget runs out.
    silence: Silence
    #: Awaited when the terminal event is there, before the client is given it.
    settle: Settle
    #: What upstream's bytes are fed to; the reply's.
    answer: Answer


class Mover(Protocol):
    """Carries committed streams."""

    async def move(self, stream: Stream) -> Fault | None:
        """Move until there is the terminal event (None) or upstream fails before (the fault)."""


class BodyMover:
    """Moves in the request's own task, through the response body: one receive, one write."""

    async def move(self, stream: Stream) -> Fault | None:
        """See `Mover.move`."""
        return await move(stream, receive)


#: Gets what comes next of a stream, what it becomes for the client (None: nothing yet), or what
#: went wrong. Raises EventTooLargeError.
Next: TypeAlias = Callable[[Stream], Awaitable[bytes | Fault | None]]


async def move(stream: Stream, next_of: Next) -> Fault | None:
    """Move a stream as `Mover.move` says, by one way of getting what comes next."""
    line = stream.line
    try:
        out = await _up_to_the_terminal_event(stream, next_of)
    except EventTooLargeError as error:
        return faults.broken(str(error))
    if isinstance(out, Fault):
        return out
    # Neither a stop nor a budget may come between the terminal event and the client: the answer has
    # had it, so nobody would send another.
    with trio.CancelScope(deadline=trio.current_time() + LAST_WRITE_S, shield=True):
        await stream.settle()
        rest, is_over = await _what_is_there(stream)
        if last := (out or b"") + rest:
            if is_over:
                # In one write. What is given at once, a whole answer, is given at the end instead:
                # a client that takes its time does not keep the account until then.
                line.owe(last)
                await stream.reply.finish(line, None)
                return None
            await line.write(last)
    if not is_over:
        await _tail(stream)
    return None


async def _up_to_the_terminal_event(stream: Stream, next_of: Next) -> bytes | Fault | None:
    """Move until the terminal event has been fed, and return what is not written yet."""
    answer, silence = stream.answer, stream.silence
    out: bytes | Fault | None = answer.feed(stream.held) or None
    stream.held = b""
    was_all = answer.terminal is not None
    if was_all:
        return out
    # Entered once: a scope for each block would double its cost.
    with trio.CancelScope() as silence.scope:
        while not isinstance(out, Fault):
            if out is not None:
                await stream.line.write(out)
                out = None  # many streams wait for upstream, and none keeps a block meanwhile
            out = await next_of(stream)
            # The last block may have come in the very moment in which the budget ran out.
            if answer.terminal is not None:
                break
        return out
    return faults.slow("silence_s", silence.budget_s, block=silence.block)


async def receive(stream: Stream) -> bytes | Fault | None:
    """Wait for upstream's next block; see `Next`."""
    stream.silence.heard(trio.current_time())
    received = await stream.attempt.receive()
    stream.silence.rest()  # while the client takes its time, upstream is not silent
    if not isinstance(received, bytes):
        return received
    if not received:
        return faults.ended_early()
    return stream.answer.feed(received) or None


async def _what_is_there(stream: Stream) -> tuple[bytes, bool]:
    """Return what has come already behind the terminal event, and whether that is all there is.

    It waits for nothing: what awaits here has come.
    """
    attempt, answer, out = stream.attempt, stream.answer, b""
    try:
        if attempt.is_whole:
            while isinstance(block := await attempt.receive(), bytes) and block:
                out += answer.feed(block)
            return out, True
        if (source := attempt.source) is not None:
            for _ in range(_LOOKS):
                if (more := source.receive_now()) is None:
                    return out, True
                out += answer.feed(more)
    except EventTooLargeError:  # the client has its terminal event
        pass
    return out, False


async def _tail(stream: Stream) -> None:
    """Hand on what follows the terminal event, and read the body to its end."""
    with trio.move_on_after(TAIL_S), contextlib.suppress(EventTooLargeError):
        while isinstance(received := await stream.attempt.receive(), bytes) and received:
            if out := stream.answer.feed(received):
                await stream.line.write(out)
