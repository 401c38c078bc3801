"""The sessions of this process, and the nursery their actors live in."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

import attrs
import structlog
import trio

from codexrelay.errors import SessionLostError
from codexrelay.sessions.actor import Session, SessionActor, open_mailbox
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

_log = structlog.get_logger("codexrelay.sessions")


@attrs.define(eq=False)
class _Entry:
    key: SessionKey
    session: Session
    actor: SessionActor
    used_at_s: float
    #: Set when its actor has ended.
    ended: trio.Event = attrs.field(factory=trio.Event, init=False)


@attrs.define(eq=False)
class SessionRegistry:
    """Finds the session of a request, or begins it."""

    #: The actors live and die with the registry's owner.
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
    _entries: OrderedDict[str, _Entry] = attrs.field(factory=OrderedDict, init=False)
    #: Set when the latest of a session's actors that were sent away has ended: two of them at once
    #: would know two things.
    _leaving: dict[str, trio.Event] = attrs.field(factory=dict, init=False)
    #: By session, least recently left first.
    _unkept: OrderedDict[str, Switch] = attrs.field(factory=OrderedDict, init=False)
    #: Response id -> the session that was given it; least recently used first.
    _responses: OrderedDict[str, SessionKey] = attrs.field(factory=OrderedDict, init=False)

    def session(self, key: SessionKey) -> Session:
        """Return the session of `key`. No checkpoint here: two first turns share one session."""
        now_s = trio.current_time()
        entry = self._entries.get(key.text) or self._enter(key, now_s)
        entry.used_at_s = now_s
        self._entries.move_to_end(key.text)
        self._forget_old(now_s)
        return entry.session

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
        entry = self._entries.get(key.text)
        if entry is None:
            return None
        try:
            return await entry.session.recall(response_id)
        except SessionLostError:
            return None

    async def begin_turn(self, key: SessionKey, facts: TurnFacts) -> tuple[Session, TurnPlan]:
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
        for entry in self._entries.values():
            if (counters := entry.actor.counters).saved_something:
                yield entry.key, counters

    def counters(self, key: SessionKey) -> Counters | None:
        """Return what was counted of a session, None if it is not in memory."""
        entry = self._entries.get(key.text)
        return None if entry is None else entry.actor.counters

    def adopt(self, settings: SessionsSettings) -> None:
        """Go by other settings; what is too much by them leaves the memory."""
        self.max_sessions, self.idle_s = settings.max_sessions, settings.idle_seconds
        self._forget_old(trio.current_time())

    def __len__(self) -> int:
        return len(self._entries)

    def _enter(self, key: SessionKey, now_s: float) -> _Entry:
        def grown(characters: int) -> None:
            # What has left does not count any more, even if it still had something to do.
            if self._entries.get(key.text) is entry:
                self.characters += characters
                self._forget_old(trio.current_time())

        def answered(response_id: str) -> None:
            self._note_response(response_id, key)

        mailbox = open_mailbox(key, self.store, grown=grown, answered=answered)
        entry = _Entry(key, mailbox.session, mailbox.actor, now_s)
        self._entries[key.text] = entry
        self._nursery.start_soon(self._run, entry, self._leaving.get(key.text))
        return entry

    def _forget_old(self, now_s: float) -> None:
        while self._entries:
            key, oldest = next(iter(self._entries.items()))
            too_many = len(self._entries) > self.max_sessions
            too_many = too_many or self.characters > self.max_characters
            if not too_many and now_s - oldest.used_at_s < self.idle_s:
                return
            del self._entries[key]
            self._leaving[key] = oldest.ended
            oldest.session.close()
            self.characters -= oldest.actor.characters

    def _note_response(self, response_id: str, key: SessionKey) -> None:
        self._responses[response_id] = key
        self._responses.move_to_end(response_id)
        if len(self._responses) > MAX_RESPONSES:
            self._responses.popitem(last=False)

    async def _run(self, entry: _Entry, before: trio.Event | None) -> None:
        """Task border: an actor that fails is forgotten, its turns are told; the rest goes on."""
        key = entry.key.text
        try:
            if before is not None:
                await before.wait()
            entry.actor.take_over(self._unkept.pop(key, Switch.OPEN))
            await entry.actor.run()
        except Exception:  # noqa: BLE001 - task border
            _log.exception("session actor failed; the session begins anew")
        finally:
            self._leave(entry)

    def _leave(self, entry: _Entry) -> None:
        """Keep of a session whose actor has ended what the disk does not know."""
        key, switch = entry.key.text, entry.actor.switch
        if switch in (Switch.UNTOLD, Switch.TOLD):
            self._unkept[key] = switch
            self._unkept.move_to_end(key)
            if len(self._unkept) > MAX_UNKEPT:
                self._unkept.popitem(last=False)
        if self._entries.get(key) is entry:
            del self._entries[key]
            self.characters -= entry.actor.characters
        if self._leaving.get(key) is entry.ended:
            del self._leaving[key]
        entry.ended.set()
