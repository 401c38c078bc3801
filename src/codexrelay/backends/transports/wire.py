"""A connection that carries a WebSocket, shared between its messages' reader and trio-websocket.

Messages go past trio-websocket: `server_frames` takes them out of what comes, `client_frames` makes
those that go out, and trio-websocket sees a connection on which there are a handshake, pings, pongs
and close frames alone. Those it answers itself, in a task of its own.

Why: it hands each message from its reader task through a channel to whoever waits. On a stream of
single events that is one more task and one more turn of trio's loop for each, and wsproto's
generators; see `websocket` for the figures. Here whoever wants a message reads the socket itself,
as over HTTP. Only when nobody has wanted one for `GRACE_S` trio-websocket's task reads in the
background, so that pings are answered and a close is noticed. That handing over is what costs a
task switch, hence the grace: between two events nobody reads, and nothing needs to.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

import attrs
import httpx
import trio
from wsproto.frame_protocol import FrameProtocol

from codexrelay.backends.transports.client_frames import message_frame
from codexrelay.backends.transports.connection import Connection
from codexrelay.backends.transports.server_frames import ServerFrames
from codexrelay.backends.websocket import BROKEN, Closed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from codexrelay.backends.websocket import Message

#: How long nobody must have wanted a message before they are read in the background.
GRACE_S: Final = 1.0
#: Nothing is read in the background while more than this waits; one block and the frame it ends in
#: can come on top.
MAX_WAITING_BYTES: Final = 1024 * 1024
#: The reason of an end without a close frame.
ENDED: Final = "the connection ended without a close frame"


@attrs.define(eq=False)
class Wire(trio.abc.Stream):
    """The stream that trio-websocket runs on, and beside it the messages.

    At first all that comes is for whoever shakes hands (`read_raw`); `open` begins the frames.
    """

    _connection: Connection
    frames: ServerFrames
    _is_open: bool = False
    #: How the connection ended, if not by a close frame.
    _end: Closed | None = None
    #: What we say, or said, to close it.
    farewell: Closed | None = None
    #: What trio-websocket has yet to get of the handshake.
    _answer: bytes = b""
    #: Held while something goes out: no pong lands inside a message.
    _sending: trio.Lock = attrs.field(factory=trio.Lock)
    #: Somebody reads the socket for a message, or for the handshake's answer.
    _reading: bool = False
    #: How often somebody has, and how often when they were found to have stopped.
    _reads: int = 0
    _idle_after: int = -1
    #: The background's reading, while it does, and what tells that it no longer does.
    _background: trio.CancelScope | None = None
    _background_left: trio.Event = attrs.field(factory=trio.Event)
    #: Wakes the background.
    _stir: trio.Event = attrs.field(factory=trio.Event)
    #: It wants to be woken when the reader has come back.
    _awaits_reader: bool = False
    #: Blocks that end when the WebSocket does.
    _until_closed: set[trio.CancelScope] = attrs.field(factory=set)

    @property
    def closed(self) -> Closed | None:
        """How the WebSocket was closed; None while it is open, as far as is known here."""
        return self._end or self.frames.closed

    def drop(self, why: Closed) -> None:
        """Close the connection at once. `why` is remembered unless it was closed already."""
        if self.closed is None:
            self._end = why
        self._connection.close()
        self._closing()

    def _closing(self) -> None:
        for scope in self._until_closed:
            scope.cancel()
        self._stir.set()

    def look(self) -> None:
        """Read what has come already, unless somebody is reading anyway; never waits."""
        if not self._is_open or self._reading or self.closed is not None:
            return
        try:
            goes_on = self._connection.receive_now(self.frames.feed)
        except httpx.ReadError as error:
            self.drop(Closed(BROKEN, str(error)))
            return
        if not goes_on:
            self.drop(Closed(BROKEN, ENDED))
        elif self.frames.failed:
            self._connection.close()
        if self.frames.closed is not None:
            self._closing()
        elif self.frames.control:
            self._stir.set()

    # For whoever shakes hands and reads messages. One task at a time.

    async def read_raw(self) -> bytes:
        """Return bytes that come before the WebSocket is open, `b""` at the end.

        Raises:
            httpx.ReadError: the connection is broken.
        """
        block = bytearray()
        await self._connection.receive(block.extend)
        return bytes(block)

    async def open(self, answer: bytes, rest: bytes) -> None:
        """Give trio-websocket the answer that opens the WebSocket; `rest` came behind it."""
        self._answer = answer
        self._is_open = True
        self.frames.feed(memoryview(rest))
        await self._heed()

    async def read(self) -> None:
        """Wait until something comes, or the end, and read it into `frames`.

        It may be less than a message, or none. Always a checkpoint; when cancelled, nothing is
        lost.

        Raises:
            Closed: it was closed already.
            trio.BusyResourceError: another task is reading.
        """
        if self.closed is not None:
            raise Closed(self.closed.code, self.closed.reason)
        if self._reading:
            raise trio.BusyResourceError("another task is waiting for a message of this WebSocket")
        self._reading = True
        try:
            if self._background is not None:
                self._background.cancel()
                await self._background_left.wait()
                if self.frames.messages or self.closed is not None:
                    return  # the background's last
            await self._receive()
        finally:
            self._reading = False
            self._reads += 1
            if self._awaits_reader:
                self._awaits_reader = False
                self._stir.set()

    @contextlib.contextmanager
    def until_closed(self) -> Iterator[None]:
        """End the block when the WebSocket is closed; whatever comes is read without a grace."""
        with trio.CancelScope() as scope:
            self._until_closed.add(scope)
            self._stir.set()
            if self.closed is not None:
                scope.cancel()
            try:
                yield
            finally:
                self._until_closed.remove(scope)

    async def _receive(self) -> None:
        frames = self.frames
        try:
            goes_on = await self._connection.receive(frames.feed)
        except httpx.ReadError as error:
            self.drop(Closed(BROKEN, str(error)))
            return
        if not goes_on:
            self.drop(Closed(BROKEN, ENDED))
        elif frames.control or frames.closed is not None:
            await self._heed()

    async def _heed(self) -> None:
        """Act on what came that was no message."""
        if self.frames.failed:
            await self._reproach()
            self._connection.close()
        elif self.frames.closed is not None and self._sending.locked():
            # The server takes no more of it, and trio-websocket's answer would wait behind it.
            self._connection.close()
        if self.frames.closed is not None:
            self._closing()
        self._stir.set()

    async def _reproach(self) -> None:
        """Send the close frame for a mistake, if the socket takes it now: nothing is owed here."""
        closed = self.frames.closed
        assert closed is not None
        if self._sending.locked():
            return
        frame = FrameProtocol(client=True, extensions=[]).close(closed.code, closed.reason)
        with trio.move_on_after(0):
            try:
                await self._connection.send(bytes(frame))
            except httpx.WriteError:
                return

    async def send_message(self, message: Message) -> None:
        """Send a message; when cancelled in the middle of it, the connection is dropped.

        Raises:
            Closed: it is closed, or about to be.
            trio.BrokenResourceError: the connection is broken. What came before may still be read.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        frame = message_frame(message)
        await self._begin_sending()
        try:
            if (closed := self.closed or self.farewell) is not None:
                raise Closed(closed.code, closed.reason)
            await self._send(frame)
        finally:
            self._sending.release()

    # For trio-websocket.

    async def receive_some(self, max_bytes: int | None = None) -> bytes:  # noqa: ARG002
        """Return the next bytes that are no messages', `b""` at the end of them.

        More than `max_bytes` may come: a handshake's answer is not torn apart.
        """
        while True:
            if self._answer:
                answer, self._answer = self._answer, b""
                return answer
            if self.frames.control:
                return self.frames.take_control()
            if self.closed is not None:
                return b""
            await self._watch()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send; when cancelled, an unknown part was sent, and the connection is dropped.

        Raises:
            trio.BrokenResourceError: the connection is broken. What came before may still be read.
        """
        await self._begin_sending()
        try:
            await self._send(memoryview(data))
        finally:
            self._sending.release()

    async def wait_send_all_might_not_block(self) -> None:
        """Wait for nothing: `send_all` does."""
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        """Close the connection at once."""
        self.drop(self.farewell or Closed(BROKEN, "closed here"))
        await trio.lowlevel.checkpoint()

    async def _begin_sending(self) -> None:
        try:
            self._sending.acquire_nowait()  # waiting would be a checkpoint even if it is free
        except trio.WouldBlock:
            await self._sending.acquire()

    async def _send(self, data: bytes | memoryview) -> None:
        try:
            await self._connection.send(data)
        except httpx.WriteError as error:
            raise trio.BrokenResourceError(str(error)) from error
        except trio.Cancelled:
            self.drop(Closed(BROKEN, "a message was sent in part"))
            raise

    async def _watch(self) -> None:
        """Let time pass until there may be something for trio-websocket, or read it."""
        if not self._is_open:
            await self._stirred()
            return
        if self._reading:
            self._awaits_reader = True
            await self._stirred()
            if self.frames.control or self.closed is not None:
                return
        # The reader has come back from one event, and goes for the next most probably: waiting for
        # that at once would mean to be woken for each.
        if not self._until_closed and self._reads != self._idle_after:
            reads = self._reads
            with trio.move_on_after(GRACE_S):
                await self._stirred()
                return
            if self._reads == reads and not self._reading:
                self._idle_after = reads
            return
        if self._reading:
            return
        if self.frames.messages and self.frames.waiting_bytes > MAX_WAITING_BYTES:
            await trio.sleep(GRACE_S)
            return
        await self._read_in_background()

    async def _stirred(self) -> None:
        self._stir = trio.Event()
        await self._stir.wait()

    async def _read_in_background(self) -> None:
        self._background_left = trio.Event()
        try:
            with trio.CancelScope() as self._background:
                await self._receive()
        finally:
            self._background = None
            self._background_left.set()
