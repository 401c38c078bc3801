"""The committed phase: bytes from an upstream attempt to a client's line, until the terminal event.

The seam is small so that many streams can later be moved below the web framework at once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

import attrs
import trio

from codexrelay.backends.backend import Attempt
from codexrelay.errors import EventTooLargeError
from codexrelay.protocol import faults
from codexrelay.protocol.answer import Answer
from codexrelay.relay.line import Line
from codexrelay.relay.silence import Silence

if TYPE_CHECKING:
    from codexrelay.protocol.faults import Fault

#: How long the end of the upstream body is waited for once its terminal event has come: side notes
#: may follow it, and a body read to its end leaves a connection that can be used again.
TAIL_S: Final = 0.1

#: For the block with the terminal event; longer than the server's patience with a slow client.
LAST_WRITE_S: Final = 40.0

Settle: TypeAlias = Callable[[], Awaitable[None]]


@attrs.frozen(kw_only=True, eq=False)
class Stream:
    """One committed stream: where it comes from, what it becomes, where it goes."""

    attempt: Attempt
    #: The bytes that came before the commit.
    held: bytes
    answer: Answer
    line: Line
    #: Armed while upstream is waited for; ends that wait when its budget runs out.
    silence: Silence
    #: Awaited when the terminal event is there, before the client is given it.
    settle: Settle


class Mover(Protocol):
    """Carries committed streams."""

    async def move(self, stream: Stream) -> Fault | None:
        """Move until there is the terminal event (None) or upstream fails before (the fault)."""


class BodyMover:
    """Moves in the request's own task, through the response body: one receive, one write."""

    async def move(self, stream: Stream) -> Fault | None:
        """See `Mover.move`."""
        silence = stream.silence
        with silence.scope:  # entered once: a scope for each block would double its cost
            return await _move(stream)
        # The last block may have come in the very moment in which the budget ran out.
        return None if stream.answer.terminal else _silent(silence)


def _silent(silence: Silence) -> Fault:
    return faults.slow("silence_s", silence.budget_s, block=silence.block)


async def _move(stream: Stream) -> Fault | None:
    attempt, answer, line, silence = stream.attempt, stream.answer, stream.line, stream.silence
    block = stream.held
    while True:
        try:
            out = answer.feed(block)
        except EventTooLargeError as error:
            return faults.broken(str(error))
        if answer.terminal is not None:
            # Neither a stop nor a budget may come between the terminal event and the client:
            # the answer has had it, so nobody would send another.
            with trio.move_on_after(LAST_WRITE_S, shield=True):
                await stream.settle()
                if out:
                    await line.write(out)
            await _tail(stream)
            return None
        if out:
            await line.write(out)
        silence.heard()
        received = await attempt.receive()
        silence.rest()  # while the client takes its time, upstream is not silent
        if not isinstance(received, bytes):
            return received
        if not received:
            return faults.ended_early()
        block = received


async def _tail(stream: Stream) -> None:
    """Hand on what follows the terminal event, and read the body to its end."""
    with trio.move_on_after(TAIL_S), contextlib.suppress(EventTooLargeError):
        while isinstance(received := await stream.attempt.receive(), bytes) and received:
            if out := stream.answer.feed(received):
                await stream.line.write(out)
