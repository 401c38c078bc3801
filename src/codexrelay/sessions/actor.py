"""The session actor: the one task that owns a session's state. It decides; it never streams."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Final, TypeAlias, TypeVar

import attrs
import structlog
import trio

from codexrelay.errors import SessionLostError
from codexrelay.sessions import state as decisions
from codexrelay.sessions.history import Conversation
from codexrelay.sessions.identity import SessionKey
from codexrelay.sessions.state import (
    Counters,
    SessionState,
    Switch,
    TurnFacts,
    TurnOutcome,
    TurnPlan,
)
from codexrelay.sessions.store import Kept, SessionStore, SessionStoreError

#: A session in use tells the disk so this often, which forgets those that are not.
TOUCH_S: Final = 6 * 3600.0
#: What an answer meets whose asker has left: it closes both ends of the way back.
_LEFT: Final = (trio.BrokenResourceError, trio.ClosedResourceError)

_log = structlog.get_logger("codexrelay.sessions")


@attrs.frozen
class BeginTurn:
    """A turn asks for its plan."""

    facts: TurnFacts
    reply_to: trio.MemorySendChannel[TurnPlan]


@attrs.frozen
class MeetFamily:
    """A turn that has begun elsewhere goes to the openai-codex family."""

    compaction: bool
    reply_to: trio.MemorySendChannel[None]


@attrs.frozen
class EndTurn:
    """A turn was served."""

    outcome: TurnOutcome


@attrs.frozen
class Answered:
    """The relay has given an answer itself."""

    response_id: str
    conversation: Conversation


@attrs.frozen
class Recall:
    """A client goes on from an earlier answer."""

    response_id: str
    reply_to: trio.MemorySendChannel[Conversation | None]


Ask: TypeAlias = BeginTurn | MeetFamily | EndTurn | Answered | Recall
_Answer = TypeVar("_Answer")


@attrs.define(eq=False, kw_only=True)
class SessionActor:
    """Owns one session's state; no other task touches it."""

    key: SessionKey
    #: Of a channel of size 0: nothing can be left unread.
    _inbox: trio.MemoryReceiveChannel[Ask]
    _store: SessionStore
    #: Told by how many characters the state has grown.
    _grown: Callable[[int], None]
    #: Told the id of each answer.
    _answered: Callable[[str], None]
    _state: SessionState = attrs.field(factory=SessionState)
    #: What the disk has kept of the session; None while it could not be asked.
    _kept: Kept | None = attrs.field(default=None, init=False)
    _stored_at_s: float = attrs.field(default=0.0, init=False)
    #: The owner was told that the disk does not learn of the switch.
    _told_of_failure: bool = attrs.field(default=False, init=False)

    @property
    def characters(self) -> int:
        """Roughly what the session costs to remember."""
        return self._state.characters

    @property
    def counters(self) -> Counters:
        """What was counted of the session."""
        return self._state.counters

    @property
    def switch(self) -> Switch:
        """How far the session is on its way to an uncompacted history."""
        return self._state.switch

    def take_over(self, switch: Switch) -> None:
        """Begin with what the memory still knows of an earlier actor of the session."""
        self._state = attrs.evolve(self._state, switch=switch)

    async def run(self) -> None:
        """Answer until every `Session` handle of it is closed."""
        with self._inbox:
            async for ask in self._inbox:
                match ask:
                    case BeginTurn(facts, reply_to):
                        with reply_to:  # whatever happens below, the turn's wait ends
                            plan = await self._begin(facts)
                            with contextlib.suppress(*_LEFT):  # it has left
                                reply_to.send_nowait(plan)  # has room for one: never waits
                    case MeetFamily(compaction, reply_to):
                        with reply_to:
                            await self._go_to_family(compaction=compaction)
                            with contextlib.suppress(*_LEFT):
                                reply_to.send_nowait(None)
                    case EndTurn(outcome):
                        await self._end(outcome)
                    case Answered(response_id, conversation):
                        self._answer(response_id, conversation)
                    case Recall(response_id, reply_to):
                        with reply_to:
                            found = self._state.history.after(response_id)
                            with contextlib.suppress(*_LEFT):
                                reply_to.send_nowait(found)

    async def _begin(self, facts: TurnFacts) -> TurnPlan:
        if facts.compaction or facts.binds:  # else nothing that the disk knows would matter
            await self._recall()
        if facts.family:
            await self._go_to_family(compaction=facts.compaction)
        elif decisions.must_switch(self._state, family=False, compaction=facts.compaction):
            await self._persist_switch()
        plan = decisions.begin(self._state, facts)
        # What the disk may know is not known: to compact nothing is never wrong.
        return plan if self._kept is not None else attrs.evolve(plan, compacts=False)

    async def _go_to_family(self, *, compaction: bool) -> None:
        """Turn history compaction off for the rest of the session, before a request is built."""
        if compaction:
            await self._recall()
        self._state = decisions.meet_family(self._state)
        if decisions.must_switch(self._state, family=True, compaction=compaction):
            await self._persist_switch()

    async def _end(self, outcome: TurnOutcome) -> None:
        before = self.characters
        self._state = decisions.end(self._state, outcome)
        self._grown(self.characters - before)
        if outcome.response_id:
            self._answered(outcome.response_id)
        await self._keep_binding()

    def _answer(self, response_id: str, conversation: Conversation) -> None:
        before = self.characters
        self._state = decisions.answer(self._state, response_id, conversation)
        self._grown(self.characters - before)
        self._answered(response_id)

    async def _recall(self) -> None:
        """Ask the disk what it has kept of the session, once."""
        if self._kept is not None:
            return
        try:
            kept = await self._store.load(self.key.cache_key)
        except SessionStoreError:
            return  # the store has told its owner; the next turn asks again
        self._stored_at_s = trio.current_time()
        self._kept = kept or Kept()
        self._state = decisions.restore(
            self._state, uncompacted=self._kept.uncompacted, bound=self._kept.bound
        )

    async def _persist_switch(self) -> None:
        """Let the disk know that the session's history stays uncompacted, and the owner, once.

        Where the disk takes it not, it is as before and the next turn tries again; what the memory
        knows is enough until then.
        """
        told = self._state.switch is Switch.TOLD
        try:
            known = await self._save(uncompacted=True)
        except SessionStoreError as error:
            self._tell_of_switch(told=told)
            self._state = attrs.evolve(self._state, switch=Switch.TOLD)
            if not self._told_of_failure:
                self._told_of_failure = True
                _log.warning(
                    "that a session's history stays whole could not be stored: its next turn tries "
                    "again, a restart before that forgets it",
                    session=self.key.cache_key,
                    why=str(error),
                )
            return
        # Another relay on the same disk may have told it.
        self._tell_of_switch(told=told or known)
        self._state = attrs.evolve(self._state, switch=Switch.KEPT)
        self._told_of_failure = False

    def _tell_of_switch(self, *, told: bool) -> None:
        if told:
            return
        named = self.key.shown_name
        _log.warning(
            "history compaction is off for the rest of this session: it goes to openai-codex, "
            "whose requests are never compacted",
            session=self.key.cache_key,
            **({} if named is None else {"client_session": named}),
        )

    async def _keep_binding(self) -> None:
        """Let the disk know which account the session is bound to, and that it is alive."""
        if self._kept is None:
            return
        fresh = trio.current_time() - self._stored_at_s < TOUCH_S
        if self._state.bound == self._kept.bound and (fresh or self._kept == Kept()):
            return
        with contextlib.suppress(SessionStoreError):  # the next turn tries again
            await self._save(uncompacted=self._kept.uncompacted)

    async def _save(self, *, uncompacted: bool) -> bool:
        kept = Kept(uncompacted=uncompacted, bound=self._state.bound)
        known = await self._store.save(self.key.cache_key, kept)
        self._kept, self._stored_at_s = kept, trio.current_time()
        return known


@attrs.define(eq=False)
class Session:
    """What a request holds of a session."""

    _mailbox: trio.MemorySendChannel[Ask]
    #: Turns that wait for an answer, or to be heard.
    _waiting: int = attrs.field(default=0, init=False)
    _is_closing: bool = attrs.field(default=False, init=False)

    async def begin_turn(self, facts: TurnFacts) -> TurnPlan:
        """Ask for a turn's plan.

        Where the turn goes to the openai-codex family, the session's history stays uncompacted from
        now on, and that is on the disk before this returns, or its owner was told that it is not.
        Cancelled, the turn leaves nothing behind; the session may have done its part all the same.

        Raises:
            SessionLostError: the actor has ended.
        """
        reply_to, reply = trio.open_memory_channel[TurnPlan](1)
        with reply_to, reply:
            return await self._ask(BeginTurn(facts, reply_to), reply)

    async def meets_family(self, *, compaction: bool) -> None:
        """Say that a turn which has begun elsewhere goes to the openai-codex family now.

        To be called before the request is built; as for `begin_turn` with such facts.

        Args:
            compaction: history compaction is on, server-wide.

        Raises:
            SessionLostError: the actor has ended; say it to the session that begins in its place.
        """
        reply_to, reply = trio.open_memory_channel[None](1)
        with reply_to, reply:
            await self._ask(MeetFamily(compaction, reply_to), reply)

    async def end_turn(self, outcome: TurnOutcome) -> None:
        """Tell what a served turn left behind.

        Raises:
            SessionLostError: the actor has ended.
        """
        with self._heard():
            await self._mailbox.send(EndTurn(outcome))

    async def answered(self, response_id: str, conversation: Conversation) -> None:
        """Tell of an answer that the relay has given itself; see `LeftBehind.conversation`.

        Raises:
            SessionLostError: the actor has ended.
        """
        with self._heard():
            await self._mailbox.send(Answered(response_id, conversation))

    async def recall(self, response_id: str) -> Conversation | None:
        """Return all that was said up to and with an answer, None if it is not known.

        Raises:
            SessionLostError: the actor has ended.
        """
        reply_to, reply = trio.open_memory_channel["Conversation | None"](1)
        with reply_to, reply:
            return await self._ask(Recall(response_id, reply_to), reply)

    async def _ask(self, ask: Ask, reply: trio.MemoryReceiveChannel[_Answer]) -> _Answer:
        with self._heard():
            await self._mailbox.send(ask)
            return await reply.receive()

    @contextlib.contextmanager
    def _heard(self) -> Iterator[None]:
        """Keep the mailbox open meanwhile: who has asked is answered, however many are new."""
        if self._is_closing:
            raise SessionLostError
        self._waiting += 1
        try:
            yield
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.EndOfChannel):
            raise SessionLostError from None
        finally:
            self._waiting -= 1
            self._close_if_done()

    def close(self) -> None:
        """Take no more asks, and let the actor end once it has answered those that wait."""
        self._is_closing = True
        self._close_if_done()

    def _close_if_done(self) -> None:
        if self._is_closing and not self._waiting:
            self._mailbox.close()


@attrs.frozen(eq=False)
class Mailbox:
    """A new session: the handle for requests, and the actor for the registry to run."""

    session: Session
    actor: SessionActor


def open_mailbox(
    key: SessionKey,
    store: SessionStore,
    *,
    grown: Callable[[int], None],
    answered: Callable[[str], None],
) -> Mailbox:
    """Return a new session and its actor, connected. See `SessionActor` for the callbacks."""
    mailbox, inbox = trio.open_memory_channel[Ask](0)
    actor = SessionActor(
        key=key,
        inbox=inbox,
        store=store,
        grown=grown,
        answered=answered,
    )
    return Mailbox(Session(mailbox), actor)
