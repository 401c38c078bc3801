"""The seam of what must outlive a session's actor, and a restart of the relay.

The relay runs without it too: whatever cannot be read or stored is told, and turns go on.
"""

from __future__ import annotations

from typing import Protocol

import attrs

from codexrelay.errors import CodexRelayError


@attrs.frozen(kw_only=True)
class Kept:
    """What is kept of one session."""

    #: It has met the openai-codex family: its history is never compacted again.
    uncompacted: bool = False
    #: Qualified id of the account that it is bound to, None if it is to none.
    bound: str | None = None


class SessionStoreError(CodexRelayError):
    """What is kept of sessions cannot be read or stored now; it may be at the next try."""


class SessionStore(Protocol):
    """Keeps a few facts by session id. Several relays may share one.

    Each call is atomic: cancelled, it has happened whole or not at all. Each comes back within
    seconds, whatever state the disk is in.
    """

    async def load(self, session_id: str) -> Kept | None:
        """Return what is kept of a session, None if nothing is. Of an empty store this is free.

        Raises:
            SessionStoreError: it cannot be read.
        """

    async def save(self, session_id: str, kept: Kept) -> bool:
        """Keep this of a session; return whether it was known as uncompacted before.

        What says nothing takes nothing back: once uncompacted, a session stays it, and without
        `bound` it stays bound as it was.

        Raises:
            SessionStoreError: it cannot be stored; what was kept before still is.
        """


class NoStore:
    """Keeps nothing: for a relay that has nowhere to."""

    async def load(self, session_id: str) -> Kept | None:  # noqa: ARG002
        """Nothing is kept."""
        return None

    async def save(self, session_id: str, kept: Kept) -> bool:  # noqa: ARG002
        """Nothing is kept."""
        return False
