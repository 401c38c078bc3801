"""What a client has sent and nobody has parsed yet."""

from __future__ import annotations

import attrs
import trio


@attrs.define(eq=False)
class Inbox:
    """Bytes between the task that receives and the task that parses.

    The parser rests while a request is under way and another one is behind it; receiving goes on,
    because only the receiver sees a client leave. It stops while the inbox is full.
    """

    #: Full from here on; what is in it is less than this and one more receive.
    limit_bytes: int
    _unread: bytearray = attrs.field(factory=bytearray, init=False)
    #: Nothing in it matters any more.
    _closed: bool = attrs.field(default=False, init=False)
    #: One of the two tasks at most: it is never empty and full at once.
    _waiting: trio.lowlevel.ParkingLot = attrs.field(factory=trio.lowlevel.ParkingLot, init=False)

    @property
    def is_full(self) -> bool:
        """Whether the receiver must wait."""
        return len(self._unread) >= self.limit_bytes

    def add(self, data: bytes) -> None:
        """Put `data` behind the rest; a closed inbox drops it."""
        if not self._closed:
            self._unread += data
            self._waiting.unpark()

    async def take(self) -> bytes:
        """Return everything, `b""` when the inbox is closed; waits while there is nothing."""
        while not (self._unread or self._closed):
            await self._waiting.park()
        data = bytes(self._unread)
        self._unread.clear()
        self._waiting.unpark()
        return data

    async def until_room(self) -> None:
        """Wait while the inbox is full."""
        while self.is_full:
            await self._waiting.park()

    def close(self) -> None:
        """Drop what is unread, now and from now on."""
        self._closed = True
        self._unread.clear()
        self._waiting.unpark()
