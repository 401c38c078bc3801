"""How the server stops: politely first, firmly in the end.

`begin()` ends the accepting and closes the connections that wait for a request; requests under way
go on. After the grace `expired` tells turns to end with a terminal event of their own, and
`finish_s` later whatever is left is cut. Nobody waits longer than needed: the server returns as
soon as its last connection is gone.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Protocol

import attrs
import trio

if TYPE_CHECKING:
    from collections.abc import Iterator


class Drainable(Protocol):
    """What a connection does for a drain. Neither call waits."""

    def close_if_idle(self) -> None:
        """Close when no request is under way, else go on."""

    def cut(self) -> None:
        """Close now, and cancel the request under way."""


@attrs.define(eq=False)
class Drain:
    """The end of one server's life, from the wish to stop until nothing is left."""

    #: Seconds that requests under way may go on as if nothing had happened.
    grace_s: float
    #: Between `expired` and the cut: the time for a terminal event to reach the client.
    finish_s: float = 5.0
    #: New requests are to be refused (503, `connection: close`).
    draining: bool = attrs.field(default=False, init=False)
    #: Set by `begin`: the server wants to stop.
    begun: trio.Event = attrs.field(factory=trio.Event, init=False)
    #: The grace is over: turns end themselves now, or are cut `finish_s` later.
    expired: trio.Event = attrs.field(factory=trio.Event, init=False)
    #: Nothing is left: set by the server as its last act.
    ended: trio.Event = attrs.field(factory=trio.Event, init=False)
    _connections: set[Drainable] = attrs.field(factory=set, init=False)

    def begin(self) -> None:
        """Start the drain; a second call changes nothing."""
        self.draining = True
        self.begun.set()
        for connection in tuple(self._connections):
            connection.close_if_idle()

    @contextlib.contextmanager
    def holds(self, connection: Drainable) -> Iterator[None]:
        """Let `connection` be part of the drain while the context is open."""
        self._connections.add(connection)
        if self.draining:  # it was accepted in the last moment
            connection.close_if_idle()
        try:
            yield
        finally:
            self._connections.discard(connection)

    async def see_out(self) -> None:
        """Wait for `begin`, then let the grace and the cut happen on time.

        Cancelled when nothing is left, or when the server itself is cancelled: then what is left is
        cut too, because a write to a client that does not read is shielded and would outlive it.
        """
        try:
            await self.begun.wait()
            await trio.sleep(self.grace_s)
            self.expired.set()
            await trio.sleep(self.finish_s)
        finally:
            for connection in tuple(self._connections):
                connection.cut()
