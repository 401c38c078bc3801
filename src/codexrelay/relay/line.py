"""The line to a client: the one writer, which also shows life while there is nothing to say."""

from __future__ import annotations

import math
from typing import Protocol

import attrs
import trio

from codexrelay.protocol.raw import Headers


class Prompt(Protocol):
    """Writes to a client without waiting, in no task's context: for `relay.pump`."""

    @property
    def is_free(self) -> bool:
        """Whether `send_now` may be called: nothing is kept, and nobody is writing."""

    def send_now(self, data: bytes) -> bool:
        """Send a piece of the body; False if not all of it went out.

        What did not is kept, and goes first with the next `Client.send`; `send(b"")` waits for it.
        A client that is gone takes everything: that it has left is told as it always is.
        """


class Client(Protocol):
    """Where a turn's answer goes. Writes are whole: a cancel never cuts one in two."""

    @property
    def prompt(self) -> Prompt | None:
        """What writes without waiting, once `start` has returned; None where there is no such way.

        The same one whenever it is asked for.
        """

    async def start(self, status: int, headers: Headers) -> None:
        """Send the status line and the headers."""

    async def send(self, data: bytes) -> None:
        """Send bytes of the body; returns when the client can take more."""

    async def end(self) -> None:
        """End the body properly."""


@attrs.define(eq=False)
class Line:
    """Writes to one client, and fills silences.

    Whatever is written is whole events, so between two writes a comment may always stand. Once a
    streaming client has heard nothing for `keep_alive_s`, its answer is opened (200 and headers),
    even if no output has come; from then on errors are events, while attempts may still change.
    """

    client: Client
    #: Seconds of nothing written until a comment is.
    keep_alive_s: float
    #: The comment; None for an answer that is one JSON body, which nothing may precede.
    keep_alive: bytes | None
    #: Headers of whatever is answered.
    own_headers: Headers
    #: Further headers of a 200. Replaced as long as nothing has been sent.
    headers: Headers = ()
    opened: bool = False
    #: trio's clock; when something was last written, or the turn began.
    _written_at_s: float = attrs.field(factory=trio.current_time)
    _writing: bool = False
    #: Set while a comment is on its way: the writer waits for it.
    _comment_sent: trio.Event | None = None

    async def write(self, data: bytes) -> None:
        """Write whole events, opening the line first where needed."""
        while self._comment_sent is not None:
            await self._comment_sent.wait()
        self._writing = True
        try:
            await self._open()
            await self.client.send(data)
        finally:
            self._writing = False
            self._written_at_s = trio.current_time()

    async def answer(self, status: int, headers: Headers, body: bytes) -> None:
        """Give the whole answer at once, and end; only while the line is not opened."""
        self.opened = True
        length = (b"content-length", b"%d" % len(body))
        await self.client.start(status, (*headers, *self.own_headers, length))
        await self.client.send(body)
        await self.client.end()

    async def _open(self) -> None:
        if not self.opened:
            self.opened = True
            await self.client.start(200, (*self.headers, *self.own_headers))

    async def end(self) -> None:
        """End the answer."""
        while self._comment_sent is not None:
            await self._comment_sent.wait()
        await self.client.end()

    @property
    def due_at_s(self) -> float:
        """When the client should next be shown life, on trio's clock."""
        return math.inf if self.keep_alive is None else self._written_at_s + self.keep_alive_s

    async def show_life(self) -> None:
        """Write a comment, unless something is being written right now."""
        if self.keep_alive is None:
            return
        if self._writing:  # a client that takes its time is not a silent one
            self._written_at_s = trio.current_time()
            return
        self._comment_sent = trio.Event()
        try:
            await self._open()
            await self.client.send(self.keep_alive)
        finally:
            self._written_at_s = trio.current_time()
            self._comment_sent.set()
            self._comment_sent = None
