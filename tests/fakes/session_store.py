"""A session store in memory, that fails and waits when it is told to."""

from __future__ import annotations

import attrs
import trio

from codexrelay.sessions.store import Kept, SessionStoreError


@attrs.define(eq=False)
class MemoryStore:
    """Keeps what it is given for as long as the test keeps it: restarts included."""

    rows: dict[str, Kept] = attrs.field(factory=dict)
    #: Whether reading, or writing, fails at the moment.
    unreadable: bool = False
    unwritable: bool = False
    #: What is waited for before anything is done; None: nothing.
    held: trio.Event | None = None
    #: Ids that were asked for, and what was given to keep, also where that has failed.
    loads: list[str] = attrs.field(factory=list)
    saves: list[Kept] = attrs.field(factory=list)

    async def load(self, session_id: str) -> Kept | None:
        """See `SessionStore.load`."""
        self.loads.append(session_id)
        await self._wait()
        if self.unreadable:
            raise SessionStoreError("unreadable")
        return self.rows.get(session_id)

    async def save(self, session_id: str, kept: Kept) -> bool:
        """See `SessionStore.save`."""
        self.saves.append(kept)
        await self._wait()
        if self.unwritable:
            raise SessionStoreError("unwritable")
        before = self.rows.get(session_id, Kept())
        self.rows[session_id] = Kept(
            uncompacted=kept.uncompacted or before.uncompacted, bound=kept.bound or before.bound
        )
        return before.uncompacted

    async def _wait(self) -> None:
        if self.held is None:
            await trio.lowlevel.checkpoint()
        else:
            await self.held.wait()
