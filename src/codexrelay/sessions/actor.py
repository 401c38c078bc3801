"""The session actor: the one task that owns a session's state. It decides; it never streams."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import attrs
import trio

from codexrelay.errors import SessionLostError
from codexrelay.sessions import state as decisions
from codexrelay.sessions.state import SessionState, TurnFacts, TurnOutcome, TurnPlan


@attrs.frozen
class BeginTurn:
    """A turn asks for its plan."""

    facts: TurnFacts
    reply_to: trio.MemorySendChannel[TurnPlan]


@attrs.frozen
class EndTurn:
    """A turn was served."""

    outcome: TurnOutcome


@attrs.define(eq=False)
class SessionActor:
    """Owns one session's state; no other task touches it."""

    #: Of a channel of size 0: nothing can be left unread.
    _inbox: trio.MemoryReceiveChannel[BeginTurn | EndTurn]
    #: Told by how many characters the state has grown.
    _grown: Callable[[int], None]
    _state: SessionState = attrs.field(factory=SessionState)

    @property
    def characters(self) -> int:
        """Roughly what the session costs to remember."""
        return self._state.characters

    async def run(self) -> None:
        """Answer until every `Session` handle of it is closed."""
        with self._inbox:
            async for ask in self._inbox:
                match ask:
                    case BeginTurn(facts, reply_to):
                        with reply_to:  # whatever happens below, the turn's wait ends
                            plan = decisions.begin(self._state, facts)
                            with contextlib.suppress(trio.BrokenResourceError):  # it has left
                                reply_to.send_nowait(plan)  # has room for one: never waits
                    case EndTurn(outcome):
                        before = self.characters
                        self._state = decisions.end(self._state, outcome)
                        self._grown(self.characters - before)


@attrs.frozen(eq=False)
class Session:
    """What a request holds of a session."""

    _mailbox: trio.MemorySendChannel[BeginTurn | EndTurn]

    async def begin_turn(self, facts: TurnFacts) -> TurnPlan:
        """Ask for a turn's plan.

        Raises:
            SessionLostError: the actor has ended.
        """
        reply_to, reply = trio.open_memory_channel[TurnPlan](1)
        with reply_to, reply:
            try:
                await self._mailbox.send(BeginTurn(facts, reply_to))
                return await reply.receive()
            except (trio.BrokenResourceError, trio.ClosedResourceError, trio.EndOfChannel):
                raise SessionLostError from None

    async def end_turn(self, outcome: TurnOutcome) -> None:
        """Tell what a served turn left behind.

        Raises:
            SessionLostError: the actor has ended.
        """
        try:
            await self._mailbox.send(EndTurn(outcome))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise SessionLostError from None

    def close(self) -> None:
        """Let the actor end once it has answered what it was asked."""
        self._mailbox.close()


@attrs.frozen(eq=False)
class Mailbox:
    """A new session: the handle for requests, and the actor for the registry to run."""

    session: Session
    actor: SessionActor


def open_mailbox(grown: Callable[[int], None]) -> Mailbox:
    """Return a new session and its actor, connected. See `SessionActor` for `grown`."""
    mailbox, inbox = trio.open_memory_channel[BeginTurn | EndTurn](0)
    return Mailbox(Session(mailbox), SessionActor(inbox, grown))
