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

    Those that carry a request are out: each one comes back exactly once, to be kept or closed.

    The latest kept is the first taken: the others get a chance to expire. Taking one costs the same
    however many there are, because each that must be dropped on the way is dropped once.
    """

    #: Most connections kept per origin; the oldest make room.
    max_idle: int
    #: A connection that was idle for this long is not used again.
    idle_s: float
    #: How many connections are out.
    out: int = 0
    #: No more are kept: the owner has closed.
    _closed: bool = False
    #: Oldest first, hence in the order in which they expire.
    _by_origin: dict[Origin, deque[_Idle]] = attrs.field(factory=dict)

    def __len__(self) -> int:
        return sum(map(len, self._by_origin.values()))

    def take(self, origin: Origin, *, now_s: float) -> Connection | None:
        """Hand out a usable connection to `origin`, None if there is none; close useless ones."""
        waiting = self._by_origin.get(origin)
        while waiting:
            idle = waiting.pop()
            if now_s < idle.expires_at_s and not idle.connection.is_stale:
                self.out += 1
                return idle.connection
            idle.connection.close()
        return None

    def put_out(self) -> None:
        """Count a fresh connection among those that are out."""
        self.out += 1

    def drop(self, connection: Connection) -> None:
        """Take one back that is of no use."""
        self.out -= 1
        connection.close()

    def keep(self, connection: Connection, *, now_s: float) -> None:
        """Take one back that can carry another request; it or others may be closed at once."""
        self.out -= 1
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
