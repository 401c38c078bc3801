"""An attempt and a client over real pairs of sockets, both of which can be used without waiting.

The bytes are those of the answer, without HTTP around them: its end is the end of the connection.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

import attrs
import trio

from codexrelay.backends.backend import Head
from codexrelay.protocol import faults
from codexrelay.protocol.faults import Fault, Reached

if TYPE_CHECKING:
    from codexrelay.protocol.raw import Headers

BLOCK_BYTES = 64 * 1024


def pair(buffer_bytes: int | None = None) -> tuple[socket.socket, socket.socket]:
    """Return two ends that never block; what is sent is there at once, so time may be virtual."""
    ends = socket.socketpair()
    for end in ends:
        end.settimeout(0)
        if buffer_bytes is not None:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer_bytes)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
    return ends


@attrs.define(eq=False)
class PipedAttempt:
    """Answers at once; then its body is what upstream (`far`) sends. Its own `Source`."""

    near: socket.socket
    far: socket.socket
    #: Of one receive.
    block_bytes: int = BLOCK_BYTES
    reached: Reached = Reached.SENT
    closed: bool = False
    received_bytes: int = 0
    _end: bytes | Fault | None = None

    @property
    def is_whole(self) -> bool:
        """See `Attempt.is_whole`."""
        return self._end is not None

    @property
    def source(self) -> PipedAttempt:
        return self

    async def send(self) -> Head | Fault:
        await trio.lowlevel.checkpoint()
        return Head(status=200, headers={})

    def fileno(self) -> int:
        return self.near.fileno()

    def receive_now(self) -> bytes | None:
        assert not self.closed
        if self._end is not None:
            return None
        try:
            block = self.near.recv(self.block_bytes)
        except BlockingIOError:
            return b""
        except OSError as error:
            self._end = faults.broken(str(error))
            return None
        if not block:
            self._end = b""
            return None
        self.received_bytes += len(block)
        return block

    @property
    def is_over(self) -> bool:
        return self._end is not None

    async def receive(self) -> bytes | Fault:
        while True:
            await trio.lowlevel.checkpoint()
            block = self.receive_now()
            if block is None:
                assert self._end is not None
                return self._end
            if block:
                return block
            await trio.lowlevel.wait_readable(self.near)

    def close(self) -> None:
        self.closed = True
        self.near.close()


@attrs.define(eq=False)
class PipedClient:
    """Sends to `far`, without waiting where it can. Its own `Prompt`."""

    near: socket.socket
    far: socket.socket
    status: int | None = None
    ended: bool = False
    #: Told when a write finds the client gone.
    gone: Callable[[], None] = lambda: None
    #: How many pieces went out in which way.
    prompt_sends: int = 0
    sends: int = 0
    kept: bytes = b""
    _writing: bool = False

    @property
    def prompt(self) -> PipedClient:
        assert self.status is not None, "asked for before the start"
        return self

    @property
    def is_free(self) -> bool:
        return not self.kept and not self._writing and not self.ended

    def send_now(self, data: bytes) -> bool:
        assert self.is_free
        self.prompt_sends += 1
        self.kept = data
        self._push()
        return not self.kept

    async def start(self, status: int, _headers: Headers) -> None:
        assert self.status is None, "started twice"
        self.status = status
        await trio.lowlevel.checkpoint()

    async def send(self, data: bytes) -> None:
        assert self.status is not None
        assert not self.ended
        assert not self._writing, "two writers"
        self.sends += 1
        self.kept += data  # from here on it goes out whole, whoever is cancelled
        await self._flush()
        await trio.lowlevel.checkpoint()

    async def end(self) -> None:
        assert not self.ended, "ended twice"
        await self._flush()
        self.ended = True
        await trio.lowlevel.checkpoint()

    async def _flush(self) -> None:
        self._writing = True
        try:
            self._push()
            while self.kept:
                await trio.lowlevel.wait_writable(self.near)
                self._push()
        finally:
            self._writing = False

    def _push(self) -> None:
        try:
            self.kept = self.kept[self.near.send(self.kept) :] if self.kept else b""
        except BlockingIOError:
            pass
        except OSError:
            self.kept = b""
            self.gone()

    def read(self) -> bytes:
        """Return what has reached the client since the last call."""
        pieces = []
        with contextlib.suppress(BlockingIOError):
            while piece := self.far.recv(BLOCK_BYTES):
                pieces.append(piece)
        return b"".join(pieces)

    def close(self) -> None:
        self.near.close()
        self.far.close()
