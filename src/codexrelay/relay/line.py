"""The line to a client: the one writer, which also shows life while there is nothing to say."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeAlias

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
    """Where a turn's answer goes. Writes are whole: a cancel never cuts one in two.

    One that can send a piece of the body and end it in one write has a method `finish` beside
    these, which takes the piece.
    """

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


_Finish: TypeAlias = Callable[[bytes], Awaitable[None]]


@attrs.define(eq=False)
class _Comment:
    """A comment on its way, in a task beside the turn's own."""

    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    #: The writer waits for it.
    over: trio.Event = attrs.field(factory=trio.Event)


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
    own_headers: Headers = ()
    #: Further headers of a 200. Replaced as long as nothing has been sent.
    headers: Headers = ()
    opened: bool = False
    #: The client was given the end of its answer.
    ended: bool = False
    #: trio's clock; when something was last written, or the turn began.
    written_at_s: float = attrs.field(factory=trio.current_time)
    _writing: bool = False
    _comment: _Comment | None = None
    #: Goes first with the next write: what a cancelled one could not even begin to write, too.
    _owed: bytes = b""
    #: See `Client.prompt`; None as long as the client has not been started.
    _prompt: Prompt | None = None

    async def write(self, data: bytes) -> None:
        """Write whole events, opening the line first where needed.

        `b""` waits until the client has what `write_now` has left.
        """
        if self._comment is not None:
            data = await self._behind_the_comment(data)
        elif self._owed:
            data, self._owed = self._owed + data, b""
        self._writing = True
        try:
            await self._open()
            await self.client.send(data)
        finally:
            self._writing = False
            self.written_at_s = trio.current_time()

    def write_now(self, data: bytes, now_s: float) -> bytes | None:
        """Write whole events without waiting; return what `write` must be given, None: nothing.

        `now_s` is trio's clock.
        """
        prompt = self._prompt
        if prompt is None or self._writing or self._comment is not None or not prompt.is_free:
            return data
        self.written_at_s = now_s
        return None if prompt.send_now(data) else b""

    @property
    def is_prompt(self) -> bool:
        """Whether `write_now` would write at this moment."""
        prompt = self._prompt
        return prompt is not None and not self._writing and self._comment is None and prompt.is_free

    def owe(self, data: bytes) -> None:
        """Let whole events go with the next write; no checkpoint."""
        self._owed += data

    async def finish(self, data: bytes) -> None:
        """Write the last of the answer and end it, in one write where the client can."""
        if self._comment is not None:
            data = await self._behind_the_comment(data)
        elif self._owed:
            data, self._owed = self._owed + data, b""
        self._writing = True
        # Also of an end that the client does not take: it cannot be given twice.
        self.ended = True
        await self._open()
        finish: _Finish | None = getattr(self.client, "finish", None)
        if finish is not None:
            await finish(data)
            return
        if data:
            await self.client.send(data)
        await self.client.end()

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
            self.headers = self.own_headers = ()  # told, and not kept
            self._prompt = self.client.prompt

    async def _behind_the_comment(self, data: bytes) -> bytes:
        """Wait for the comment that is on its way; return what is to be written then."""
        self._owed += data
        while self._comment is not None:
            await self._comment.over.wait()
        data, self._owed = self._owed, b""
        return data

    @property
    def due_at_s(self) -> float:
        """When the client should next be shown life, on trio's clock."""
        if self.keep_alive is None or self.ended:
            return math.inf
        return self.written_at_s + self.keep_alive_s

    def show_life(self, now_s: float) -> Callable[[], Awaitable[None]] | None:
        """Write a comment, unless something is being written right now.

        Returns what must be run for it, in a task of its own; None: nothing. `now_s` is trio's
        clock. Only when due.
        """
        assert self.keep_alive is not None
        # Of a client that takes its time too: it is not a silent one.
        self.written_at_s = now_s
        if self._writing or self._comment is not None:
            return None
        if not self.write_now(self.keep_alive, now_s):
            return None
        self._comment = _Comment()
        return self._send_comment

    async def _send_comment(self) -> None:
        comment = self._comment
        assert comment is not None
        assert self.keep_alive is not None
        try:
            with comment.scope:
                await self._open()
                await self.client.send(self.keep_alive)
        finally:
            self.written_at_s = trio.current_time()
            self._comment = None
            comment.over.set()

    @property
    def has_comment(self) -> bool:
        """Whether a comment is on its way in a task of its own."""
        return self._comment is not None

    async def hush(self) -> None:
        """Cancel the comment that is on its way, and wait until its task has nothing left to do."""
        if self._comment is not None:
            self._comment.scope.cancel()
            # As the end of a nursery, it waits for a task that was told to end, whatever happens.
            with trio.CancelScope(shield=True):
                await self._comment.over.wait()
