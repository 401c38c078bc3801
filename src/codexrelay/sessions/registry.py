"""The sessions of this process, and the nursery that their actors' tasks run in."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

import attrs
import trio

from codexrelay.errors import SessionLostError
from codexrelay.sessions.actor import SessionActor
from codexrelay.sessions.identity import SessionKey
from codexrelay.sessions.settings import SessionsSettings
from codexrelay.sessions.state import Counters, Switch
from codexrelay.sessions.store import NoStore, SessionStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from codexrelay.sessions.history import Conversation
    from codexrelay.sessions.state import TurnFacts, TurnPlan

_DEFAULTS: Final = SessionsSettings()
#: Bound on what is kept of all sessions together, in characters: encrypted reasoning, and the
#: histories of clients on WebSockets, of which the longest have some 2 MB (the largest context
#: window of the backend): a hundred of those at once, which is more than one machine's agents.
MAX_CHARACTERS: Final = 256_000_000
#: Answers whose session is known; the one used longest ago goes first.
MAX_RESPONSES: Final = 20_000
#: Sessions that met the openai-codex family without the disk knowing, remembered when they leave.
MAX_UNKEPT: Final = 20_000
#: How often a session whose actor ends under a turn's hands is begun anew.
_TRIES: Final = 3


@attrs.define(eq=False)
class SessionRegistry:
    """Finds the session of a request, or begins it."""

    #: What actors have to do with the disk lives and dies with the registry's owner.
    _nursery: trio.Nursery
    max_sessions: int = _DEFAULTS.max_sessions
    #: A session that was not used for this long leaves the memory.
    idle_s: float = _DEFAULTS.idle_seconds
    max_characters: int = MAX_CHARACTERS
    #: What must outlive an actor.
    store: SessionStore = attrs.field(factory=NoStore, kw_only=True)
    #: What all sessions together cost to remember.
    characters: int = attrs.field(default=0, init=False)
    #: Least recently used first.
    _actors: OrderedDict[str, SessionActor] = attrs.field(factory=OrderedDict, init=False)
    #: The latest of a session's actors that were sent away and have not ended: two of them at once
    #: would know two things.
    _leaving: dict[str, SessionActor] = attrs.field(factory=dict, init=False)
    #: By session, least recently left first.
    _unkept: OrderedDict[str, Switch] = attrs.field(factory=OrderedDict, init=False)
    #: Response id -> the session that was given it; least recently used first.
    _responses: OrderedDict[str, SessionKey] = attrs.field(factory=OrderedDict, init=False)

    def session(self, key: SessionKey) -> SessionActor:
        """Return the session of `key`. No checkpoint here: two first turns share one session."""
        now_s = trio.current_time()
        actor = self._actors.get(key.text) or self._enter(key)
        actor.used_at_s = now_s
        self._actors.move_to_end(key.text)
        self._forget_old(now_s)
        return actor

    def continued(self, response_id: str) -> SessionKey | None:
        """Return the session that a response id was given to, None if that is not known."""
        key = self._responses.get(response_id)
        if key is not None:
            self._responses.move_to_end(response_id)
        return key

    async def recall(self, key: SessionKey, response_id: str) -> Conversation | None:
        """Return what a session said up to and with an answer, None if that is not known.

        No session is begun for it: one that is not in memory knows nothing.
        """
        actor = self._actors.get(key.text)
        if actor is None:
            return None
        try:
            return await actor.recall(response_id)
        except SessionLostError:
            return None

    async def begin_turn(self, key: SessionKey, facts: TurnFacts) -> tuple[SessionActor, TurnPlan]:
        """Find the session of `key` and ask for a turn's plan, twice where its actor just ended.

        Raises:
            SessionLostError: its actors fail, one after the other.
        """
        for _ in range(_TRIES - 1):
            session = self.session(key)
            try:
                return session, await session.begin_turn(facts)
            except SessionLostError:
                continue
        session = self.session(key)
        return session, await session.begin_turn(facts)

    async def meets_family(self, key: SessionKey, *, compaction: bool) -> None:
        """Say that a turn of the session goes to the family, also if it left the memory meanwhile.

        Raises:
            SessionLostError: its actors fail, one after the other.
        """
        for _ in range(_TRIES - 1):
            try:
                return await self.session(key).meets_family(compaction=compaction)
            except SessionLostError:
                continue
        return await self.session(key).meets_family(compaction=compaction)

    def savings(self) -> Iterator[tuple[SessionKey, Counters]]:
        """Yield what was counted of the sessions in memory whose requests became smaller."""
        for actor in self._actors.values():
            if (counters := actor.counters).saved_something:
                yield actor.key, counters

    def counters(self, key: SessionKey) -> Counters | None:
        """Return what was counted of a session, None if it is not in memory."""
        actor = self._actors.get(key.text)
        return None if actor is None else actor.counters

    def adopt(self, settings: SessionsSettings) -> None:
        """Go by other settings; what is too much by them leaves the memory."""
        self.max_sessions, self.idle_s = settings.max_sessions, settings.idle_seconds
        self._forget_old(trio.current_time())

    def __len__(self) -> int:
        return len(self._actors)

    # What actors tell: see `Home`.

    def start(self, actor: SessionActor) -> None:
        """See `Home.start`."""
        self._nursery.start_soon(actor.work)

    def grown(self, actor: SessionActor, characters: int) -> None:
        """See `Home.grown`. What has left does not count, even if it had still something to do."""
        if self._actors.get(actor.key.text) is actor:
            self.characters += characters
            self._forget_old(trio.current_time())

    def answered(self, actor: SessionActor, response_id: str) -> None:
        """See `Home.answered`."""
        self._note_response(response_id, actor.key)

    def ended(self, actor: SessionActor) -> None:
        """See `Home.ended`. What the disk does not know of the session is kept."""
        key, switch = actor.key.text, actor.switch
        if switch in (Switch.UNTOLD, Switch.TOLD):
            self._unkept[key] = switch
            self._unkept.move_to_end(key)
            if len(self._unkept) > MAX_UNKEPT:
                self._unkept.popitem(last=False)
        if self._actors.get(key) is actor:
            self._let_go(actor)
        if self._leaving.get(key) is actor:
            del self._leaving[key]

    def _enter(self, key: SessionKey) -> SessionActor:
        actor = SessionActor(key=key, home=self, store=self.store)
        self._actors[key.text] = actor
        if (earlier := self._leaving.get(key.text)) is not None:
            actor.begin_behind(earlier, lambda: self._unkept.pop(key.text, Switch.OPEN))
        elif self._unkept:
            actor.take_over(self._unkept.pop(key.text, Switch.OPEN))
        return actor

    def _forget_old(self, now_s: float) -> None:
        while self._actors:
            oldest = next(iter(self._actors.values()))
            too_many = len(self._actors) > self.max_sessions
            too_many = too_many or self.characters > self.max_characters
            if not too_many and now_s - oldest.used_at_s < self.idle_s:
                return
            self._let_go(oldest)
            if oldest.close():
                self._leaving[oldest.key.text] = oldest

    def _let_go(self, actor: SessionActor) -> None:
        del self._actors[actor.key.text]
        self.characters -= actor.characters

    def _note_response(self, response_id: str, key: SessionKey) -> None:
        self._responses[response_id] = key
        self._responses.move_to_end(response_id)
        if len(self._responses) > MAX_RESPONSES:
            self._responses.popitem(last=False)
