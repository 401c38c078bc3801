"""The WebSockets of one instance: at most one for each account and session.

The backend answers one request at a time on each, and what a session goes on from lives on its own
(wire notes 7); a second turn of a session at the same time goes over HTTP.
"""

from __future__ import annotations

import math
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import attrs
import structlog
import trio

from codexrelay.backends.codex.sockets.connection import CLOSE_S, Connection
from codexrelay.backends.websocket import Dial, Opened

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from codexrelay.backends.websocket import Handshake

#: Connections without a turn that are kept; the one that has waited longest goes first.
MAX_IDLE: Final = 128
#: No handshake is tried for so long after one that was refused with 426, by which the backend says
#: that it speaks none; and after any other that led to nothing.
NONE_SPOKEN_S: Final = 600.0
FAILED_S: Final = 60.0

_log = structlog.get_logger("codexrelay.websockets")


@attrs.define(eq=False)
class Sockets:
    """Lends WebSockets to turns. Nothing here awaits, so no two turns get the same one."""

    _dial: Dial
    _nursery: trio.Nursery
    #: The block of the configuration, for the log.
    _block: str
    #: By session and account id: the one that a turn would get, or has.
    _current: dict[str, dict[str, Connection]] = attrs.field(factory=dict, init=False)
    #: All that have not ended.
    _all: set[Connection] = attrs.field(factory=set, init=False)
    _refused_until_s: float = attrs.field(default=-math.inf, init=False)
    #: What the log was told last of a failed handshake; None: the latest one worked.
    _told: str | None = attrs.field(default=None, init=False)
    _is_closed: bool = attrs.field(default=False, init=False)

    @property
    def is_refused(self) -> bool:
        """Whether no handshake is tried at present."""
        return self._is_closed or trio.current_time() < self._refused_until_s

    @property
    def idle(self) -> int:
        """How many are open without a turn."""
        return sum(not connection.is_taken for connection in self._all)

    @property
    def busy(self) -> int:
        """How many are dialled or used by a turn."""
        return sum(connection.is_taken for connection in self._all)

    def warm(self, account_id: str, session: str, mark: tuple[str, ...]) -> Connection | None:
        """Give a turn the open connection that is there for it, if there is one."""
        found = self._of(account_id, session)
        if found is None or found.mark != mark or found.is_taken or not found.is_usable:
            return None
        found.take()
        return found

    def account_of(self, session: str) -> str | None:
        """Return the account that a session has an open connection with and no turn on it."""
        ready = (
            (connection.idle_since_s, account_id)
            for account_id, connection in self._current.get(session, {}).items()
            if isinstance(connection.result, Opened) and connection.is_usable
        )
        return max(ready, default=(0.0, None))[1]

    def is_busy(self, account_id: str, session: str, mark: tuple[str, ...]) -> bool:
        """Tell whether another turn of the session has the connection."""
        found = self._of(account_id, session)
        return found is not None and found.mark == mark and found.is_taken and not found.is_dropped

    def open(
        self, account_id: str, session: str, mark: tuple[str, ...], handshake: Handshake
    ) -> Connection:
        """Begin to dial a connection for a turn; one that was there is closed when idle."""
        connection = Connection(handshake=handshake, mark=mark, dial=self._dial)
        if (before := self._of(account_id, session)) is not None:
            before.retire()
        self._current.setdefault(session, {})[account_id] = connection
        self._all.add(connection)
        self._nursery.start_soon(self._own, account_id, session, connection)
        return connection

    def look(self) -> None:
        """Close what is too much; to be called after a connection was given back."""
        idle = [connection for connection in self._all if not connection.is_taken]
        if len(idle) > MAX_IDLE:
            min(idle, key=lambda connection: connection.idle_since_s).retire()

    def welcomed(self) -> None:
        """A handshake worked."""
        self._refused_until_s = -math.inf
        if self._told is not None:
            _log.info("turns use WebSockets again", block=self._block)
            self._told = None

    def failed(self, why: str, *, status: int | None = None) -> None:
        """A handshake led to nothing: none is tried for a while."""
        pause_s = NONE_SPOKEN_S if status == 426 else FAILED_S
        self._refused_until_s = trio.current_time() + pause_s
        if why != self._told:
            _log.warning("turns go over HTTP for a while", block=self._block, why=why, s=pause_s)
            self._told = why

    def let_go(self) -> None:
        """Close all, each as soon as no turn has it; others may be dialled again."""
        for connection in self._all:
            connection.retire()

    async def close(self) -> None:
        """Close all that are idle, with a word; no other is dialled from now on."""
        self._is_closed = True
        with trio.move_on_after(CLOSE_S, shield=True):
            self.let_go()
            for connection in tuple(self._all):
                if not connection.is_taken:
                    await connection.ended.wait()

    def _of(self, account_id: str, session: str) -> Connection | None:
        return self._current.get(session, {}).get(account_id)

    async def _own(self, account_id: str, session: str, connection: Connection) -> None:
        try:
            await connection.run()
        finally:
            self._all.discard(connection)
            if self._of(account_id, session) is connection:
                del self._current[session][account_id]
                if not self._current[session]:
                    del self._current[session]


@asynccontextmanager
async def open_sockets(dial: Dial, *, block: str) -> AsyncIterator[Sockets]:
    """Keep WebSockets until the block ends; nothing is dialled before a turn wants it.

    `block` is the block of the configuration, for the log.
    """
    async with trio.open_nursery() as nursery:
        sockets = Sockets(dial, nursery, block)
        try:
            yield sockets
        finally:
            await sockets.close()
            nursery.cancel_scope.cancel()
