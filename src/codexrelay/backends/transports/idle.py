"""Connections that wait for their next request."""

from __future__ import annotations

from collections import deque

import attrs

from codexrelay.backends.transports.connection import Connection, Origin


@attrs.frozen
class _Idle:
    connection: Connection
    expires_at_s: float


@attrs.define(eq=False)
class IdleConnections:
    """Keeps idle connections per origin; all of it is synchronous, so nothing can be half done.

    The latest kept is the first taken: the others get a chance to expire. Taking one costs the same
    however many there are, because each that must be dropped on the way is dropped once.
    """

    #: Most connections kept per origin; the oldest make room.
    max_idle: int
    #: A connection that was idle for this long is not used again.
    idle_s: float
    #: No more are kept: the owner has closed.
    _closed: bool = False
    #: Oldest first, hence in the order in which they expire.
    _by_origin: dict[Origin, deque[_Idle]] = attrs.field(factory=dict)

    def __len__(self) -> int:
        return sum(map(len, self._by_origin.values()))

    def take(self, origin: Origin, *, now_s: float) -> Connection | None:
        """Hand over a usable connection to `origin`, None if there is none; close useless ones."""
        waiting = self._by_origin.get(origin)
        while waiting:
            idle = waiting.pop()
            if now_s < idle.expires_at_s and not idle.connection.is_stale:
                return idle.connection
            idle.connection.close()
        return None

    def keep(self, connection: Connection, *, now_s: float) -> None:
        """Keep `connection`, which is now ours; it or others may be closed at once."""
        waiting = self._by_origin.setdefault(connection.origin, deque())
        waiting.append(_Idle(connection, now_s + self.idle_s))
        room_for = 0 if self._closed else self.max_idle
        while waiting and (len(waiting) > room_for or waiting[0].expires_at_s <= now_s):
            waiting.popleft().connection.close()

    def close(self) -> None:
        """Close all of them, and from now on whatever is to be kept."""
        self._closed = True
        for waiting in self._by_origin.values():
            while waiting:
                waiting.popleft().connection.close()
