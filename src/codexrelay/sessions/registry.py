"""The sessions of this process, and the nursery their actors live in."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

import attrs
import structlog
import trio

from codexrelay.sessions.actor import Session, SessionActor, open_mailbox

if TYPE_CHECKING:
    from codexrelay.sessions.identity import SessionKey

#: Sessions kept, some 20 KB each; the one used longest ago goes first.
MAX_SESSIONS: Final = 2_000
#: Bound on the encrypted reasoning kept for all sessions together, in characters.
MAX_CHARACTERS: Final = 64_000_000
#: A session that was not used for this long is forgotten.
IDLE_S: Final = 24 * 3600.0

_log = structlog.get_logger("codexrelay.sessions")


@attrs.define(eq=False)
class _Entry:
    session: Session
    actor: SessionActor
    used_at_s: float


@attrs.define(eq=False)
class SessionRegistry:
    """Finds the session of a request, or begins it."""

    #: The actors live and die with the registry's owner.
    _nursery: trio.Nursery
    max_sessions: int = MAX_SESSIONS
    idle_s: float = IDLE_S
    max_characters: int = MAX_CHARACTERS
    #: What all sessions together cost to remember.
    characters: int = attrs.field(default=0, init=False)
    #: Least recently used first.
    _entries: OrderedDict[str, _Entry] = attrs.field(factory=OrderedDict)

    def session(self, key: SessionKey) -> Session:
        """Return the session of `key`. No checkpoint here: two first turns share one session."""
        now_s = trio.current_time()
        entry = self._entries.get(key.text)
        if entry is None:
            mailbox = open_mailbox(self._grown)
            entry = _Entry(mailbox.session, mailbox.actor, now_s)
            self._entries[key.text] = entry
            self._nursery.start_soon(self._run, key.text, entry)
        entry.used_at_s = now_s
        self._entries.move_to_end(key.text)
        self._forget_old(now_s)
        return entry.session

    def __len__(self) -> int:
        return len(self._entries)

    def _forget_old(self, now_s: float) -> None:
        while self._entries:
            key, oldest = next(iter(self._entries.items()))
            too_many = len(self._entries) > self.max_sessions
            too_many = too_many or self.characters > self.max_characters
            if not too_many and now_s - oldest.used_at_s < self.idle_s:
                return
            del self._entries[key]
            oldest.session.close()
            self.characters -= oldest.actor.characters

    def _grown(self, characters: int) -> None:
        self.characters += characters
        self._forget_old(trio.current_time())

    async def _run(self, key: str, entry: _Entry) -> None:
        """Task border: an actor that fails is forgotten, its turns are told; the rest goes on."""
        try:
            await entry.actor.run()
        except Exception:  # noqa: BLE001 - task border
            _log.exception("session actor failed; the session begins anew")
        finally:
            if self._entries.get(key) is entry:
                del self._entries[key]
                self.characters -= entry.actor.characters
