"""The committed phase: bytes from an upstream attempt to a client's line, until the terminal event.

The seam is small so that many streams can later be moved below the web framework at once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

import trio

from codexrelay.errors import EventTooLargeError
from codexrelay.protocol import faults

if TYPE_CHECKING:
    from codexrelay.backends.backend import Attempt
    from codexrelay.protocol.answer import Answer
    from codexrelay.protocol.faults import Fault
    from codexrelay.relay.line import Line
    from codexrelay.relay.silence import Silence

#: How long the end of the upstream body is waited for once its terminal event has come: side notes
#: may follow it, and a body read to its end leaves a connection that can be used again.
TAIL_S: Final = 0.1

#: For the block with the terminal event; longer than the server's patience with a slow client.
LAST_WRITE_S: Final = 40.0

Settle: TypeAlias = Callable[[], Awaitable[None]]


class Mover(Protocol):
    """Carries one committed stream."""

    async def move(
        self,
        held: bytes,
        attempt: Attempt,
        answer: Answer,
        line: Line,
        silence: Silence,
        settle: Settle,
    ) -> Fault | None:
        """Move until `answer` has its terminal event (None) or upstream fails before (the fault).

        `held` are the bytes that came before the commit. `silence` is armed while upstream is
        waited for, and ends that wait when its budget runs out. `settle` is awaited when the
        terminal event is there, before the client is given it.
        """


class BodyMover:
    """Moves in the request's own task, through the response body: one receive, one write."""

    async def move(
        self,
        held: bytes,
        attempt: Attempt,
        answer: Answer,
        line: Line,
        silence: Silence,
        settle: Settle,
    ) -> Fault | None:
        """See `Mover.move`."""
        with silence.scope:  # entered once: a scope for each block would double its cost
            return await self._move(held, attempt, answer, line, silence, settle)
        # The last block may have come in the very moment in which the budget ran out.
        return None if answer.terminal else faults.slow("silence_s", silence.budget_s)

    async def _move(
        self,
        held: bytes,
        attempt: Attempt,
        answer: Answer,
        line: Line,
        silence: Silence,
        settle: Settle,
    ) -> Fault | None:
        block = held
        while True:
            try:
                out = answer.feed(block)
            except EventTooLargeError as error:
                return faults.broken(str(error))
            if answer.terminal is not None:
                # Neither a stop nor a budget may come between the terminal event and the client:
                # the answer has had it, so nobody would send another.
                with trio.move_on_after(LAST_WRITE_S, shield=True):
                    await settle()
                    if out:
                        await line.write(out)
                await self._tail(attempt, answer, line)
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

    async def _tail(self, attempt: Attempt, answer: Answer, line: Line) -> None:
        """Hand on what follows the terminal event, and read the body to its end."""
        with trio.move_on_after(TAIL_S), contextlib.suppress(EventTooLargeError):
            while isinstance(received := await attempt.receive(), bytes) and received:
                if out := answer.feed(received):
                    await line.write(out)
