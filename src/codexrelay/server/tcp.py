"""One client's TCP connection: its bytes, its two tasks, and how long it waits for its client.

While no request is under way there is one task, the reader, in the server's own task for the
connection. The application runs in a second one, so that the reader sees at once that the client
leaves; it parses, too, and so needs no third.

None of hypercorn's classes for this are used. On trio its connection (0.18) writes in a shield
without deadline (a client that stops reading pins its task for ever), keeps the task and the socket
of a client that has left until the keep-alive time is over, resets a connection whose client is
still uploading (so that an early answer may be lost), waits for ever behind an application that
ended without reading its body, and does not see a client leave that has sent anything behind its
request.
"""

from __future__ import annotations

import contextlib
import logging
import select
import socket
from typing import TYPE_CHECKING, Any, Final, cast

import attrs
import trio
from hypercorn.config import Config
from hypercorn.typing import AppWrapper, ConnectionState, LifespanState
from hypercorn.utils import parse_socket_addr

from codexrelay.server.drain import Drain
from codexrelay.server.framing import PING
from codexrelay.server.heads import OwnHeaders
from codexrelay.server.http1 import Http1

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from hypercorn.typing import Scope

_log = logging.getLogger(__name__)

#: Default of `Patience.write_s`.
WRITE_S: Final = 30.0
#: Between two looks whether a client whose bytes we do not take has left.
_LOOK_AGAIN_S: Final = 1.0
_FLOWING_BYTES: Final = 65536
_WRITE_BLOCK_BYTES: Final = 262144
#: How many writes may succeed at once before other tasks get a turn.
_FAST_WRITES_PER_CHECKPOINT: Final = 16


@attrs.frozen(kw_only=True)
class Patience:
    """How long a connection waits for its client, in seconds."""

    #: For the next request, from the accept or from the end of the last response.
    keep_alive_s: float = 75.0
    #: For the client to take a block of `_WRITE_BLOCK_BYTES`; then it is given up.
    write_s: float = WRITE_S
    #: For the client to stop sending once its last response is out. Closing with unread bytes makes
    #: the kernel reset the connection, and a reset destroys what the client has not read yet: the
    #: very answer that told it to stop uploading.
    linger_s: float = 2.0
    #: Between two pings to the client of a WebSocket that says nothing by itself. They also keep
    #: proxies between us from taking the connection for a dead one.
    ping_s: float = 15.0
    #: A WebSocket from which nothing came for so long, not even a pong, has lost its client.
    silence_s: float = 45.0


@attrs.frozen(kw_only=True)
class Service:
    """What all connections of a server share."""

    app: AppWrapper
    config: Config
    drain: Drain
    state: LifespanState
    patience: Patience
    own: OwnHeaders


@attrs.define(eq=False)
class ClientConnection:
    """Serves one connection. Implements `drain.Drainable` and `http1.Wire`."""

    service: Service
    stream: trio.SocketStream
    #: Owns the tasks of this connection, the reader's included.
    _tasks: trio.Nursery = attrs.field(init=False)
    #: The reading; made anew whenever its deadline was too early, which costs less than to move
    #: it twice for each request.
    _reading: trio.CancelScope = attrs.field(factory=trio.CancelScope, init=False)
    #: The reading is not to go on.
    _stopping: bool = attrs.field(default=False, init=False)
    #: Since when the next request is awaited.
    _idle_since_s: float = attrs.field(default=0.0, init=False)
    #: When the client of a WebSocket last sent anything; None while this is none.
    _heard_at_s: float | None = attrs.field(default=None, init=False)
    #: Keeps the writes of a request and of a WebSocket's control frames apart.
    _writing: trio.Lock = attrs.field(factory=trio.Lock, init=False)
    #: How many writes wait for the client to read, the one under way among them.
    _patient: int = attrs.field(default=0, init=False)
    #: The last receive brought so much that more may be there.
    _flows: bool = attrs.field(default=False, init=False)
    #: To be written before anything else.
    _kept: bytes = attrs.field(default=b"", init=False)
    #: The socket below trio's, None if trio hides it (then every write takes the long way).
    _socket: socket.socket | None = attrs.field(init=False)
    _http: Http1 = attrs.field(init=False)
    #: How often the application runs: once, and for what ends behind its response.
    _running: int = attrs.field(default=0, init=False)
    #: Our last byte is out; what the client still sends is dropped.
    _closing: bool = attrs.field(default=False, init=False)
    #: The socket is closed: nobody is there.
    _gone: bool = attrs.field(default=False, init=False)
    _fast_writes: int = attrs.field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        below = getattr(self.stream.socket, "_sock", None)
        self._socket = below if isinstance(below, socket.socket) else None

    async def run(self) -> None:
        """Serve until either side closes; when it returns, no task and no socket is left."""
        try:
            await self._serve()
        except* Exception:  # noqa: BLE001 - the request border: one connection never ends others
            _log.exception("a connection was ended by an unforeseen error")
        finally:
            self.stream.socket.close()

    def close_if_idle(self) -> None:
        """Close when no request is under way; one that is still arriving has not begun."""
        if self._http.is_idle or self._http.request_is_arriving:
            self._stop_reading()

    def cut(self) -> None:
        """Close now; a write that waits for the client ends too, although it is shielded."""
        self._tasks.cancel_scope.cancel()
        self._hang_up()

    async def _serve(self) -> None:
        service, trio_socket = self.service, self.stream.socket
        try:
            client = parse_socket_addr(trio_socket.family, trio_socket.getpeername())
            server = parse_socket_addr(trio_socket.family, trio_socket.getsockname())
        except OSError:  # the client has left already
            return
        self._http = Http1(
            config=service.config,
            own=service.own,
            state=ConnectionState(service.state),
            client=client,
            server=server,
            drain=service.drain,
            wire=self,
        )
        with service.drain.holds(self):
            async with trio.open_nursery() as self._tasks:
                self.is_idle()
                await self._read()
                # Nobody is there to be answered: also a write that still waits for the client ends,
                # although it is shielded, and a request that came behind this one never begins.
                self._give_up()

    # The reading.

    async def _read(self) -> None:
        """Receive until the client leaves, or has to go."""
        deadline_s: float | None = self._idle_since_s + self.service.patience.keep_alive_s
        while deadline_s is not None and not self._stopping:
            self._reading = trio.CancelScope(deadline=deadline_s)
            with self._reading:
                # Asked first: this begins anew at every deadline, and a client may be waiting then.
                while not self._http.is_full or await self._may_read_on():
                    if not (data := await self._receive()):
                        return
                    if self._heard_at_s is not None:
                        self._heard_at_s = trio.current_time()
                    self._http.receive(data)
                    del data  # not kept until more comes
                return
            deadline_s = self._next_deadline_s()

    async def _may_read_on(self) -> bool:
        """Wait while we take nothing; tell whether the client is still there."""
        while self._http.is_full:
            with trio.move_on_after(_LOOK_AGAIN_S) as waiting:
                await self._http.until_room()
            if waiting.cancelled_caught and _has_left(self._socket):
                return False
        return True

    async def _receive(self) -> bytes:
        """Return what the client sent, `b""` when it has closed its side or is gone."""
        own_socket, size = self._socket, self._http.receive_bytes
        try:
            if own_socket is None:
                return bytes(await self.stream.receive_some(size))
            while not self._gone:
                # Waiting comes first: unless this is an upload, nothing is there yet.
                if self._flows:
                    await trio.lowlevel.checkpoint()
                else:
                    await trio.lowlevel.wait_readable(own_socket)
                try:
                    data = own_socket.recv(size)
                except BlockingIOError:
                    self._flows = False
                    continue
                self._flows = len(data) >= _FLOWING_BYTES
                return data
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        return b""

    def _next_deadline_s(self) -> float | None:
        """Return how long the reading may go on, None if no longer: its deadline is over."""
        if self._stopping or self._closing:
            return None
        now_s, patience = trio.current_time(), self.service.patience
        if self._heard_at_s is not None:
            return self._next_ping_s(now_s, self._heard_at_s)
        if not self._http.is_idle:
            return now_s + patience.keep_alive_s
        over_at_s = self._idle_since_s + patience.keep_alive_s
        return over_at_s if now_s < over_at_s else None

    def _next_ping_s(self, now_s: float, heard_at_s: float) -> float | None:
        """Ask the client of a WebSocket whether it is there; None if it is not."""
        patience = self.service.patience
        if now_s < heard_at_s + patience.ping_s:
            return heard_at_s + patience.ping_s
        # Not if it is we who do not listen.
        if now_s - heard_at_s >= patience.silence_s and not self._http.is_full:
            _log.info(
                "a WebSocket is cut: nothing came from its client for %g s", patience.silence_s
            )
            return None
        if self._http.websocket_is_open and not self.is_blocked:
            self._tasks.start_soon(self.write, PING)
        return now_s + patience.ping_s

    def _stop_reading(self) -> None:
        self._stopping = True
        self._reading.cancel()

    # What HTTP wants done.

    def is_idle(self) -> None:
        """See `http1.Wire`."""
        self._idle_since_s = trio.current_time()

    def opened(self) -> None:
        """See `http1.Wire`."""
        self._heard_at_s = trio.current_time()
        self._reading.deadline = self._heard_at_s + self.service.patience.ping_s

    def start(self, run: Callable[..., Awaitable[None]], *arguments: object) -> None:
        """See `http1.Wire`."""
        self._tasks.start_soon(run, *arguments)

    def start_app(
        self,
        scope: dict[str, Any],
        receive: Callable[[], Awaitable[Any]],
        send: Callable[[Any], Awaitable[None]],
        wind_up: Callable[[], Awaitable[None]],
        *,
        alone: bool,
    ) -> trio.CancelScope:
        """See `http1.Wire`."""
        # A scope costs as much as the rest of the start, and mostly the nursery's does.
        shared = not (alone or self._running)
        life = self._tasks.cancel_scope if shared else trio.CancelScope()
        self._running += 1
        self._tasks.start_soon(
            self._run_app, scope, receive, send, wind_up, None if shared else life
        )
        return life

    async def _run_app(
        self,
        scope: dict[str, Any],
        receive: Callable[[], Awaitable[Any]],
        send: Callable[[Any], Awaitable[None]],
        wind_up: Callable[[], Awaitable[None]],
        life: trio.CancelScope | None,
    ) -> None:
        threads = trio.to_thread.run_sync, trio.from_thread.run
        try:
            if life is None:
                await self.service.app(cast("Scope", scope), receive, send, *threads)
            else:
                with life:
                    await self.service.app(cast("Scope", scope), receive, send, *threads)
        except* Exception:  # noqa: BLE001 - the request border
            _log.exception("a request was ended by an unforeseen error")
        finally:
            self._running -= 1
            await wind_up()

    def close(self, *, client_may_be_sending: bool) -> None:
        """See `http1.Wire`."""
        self._closing = True
        # A client that does not even read what was written before is not waited for.
        if self.is_blocked:
            self._stop_reading()
            return
        with contextlib.suppress(OSError):  # it is gone
            self.stream.socket.shutdown(socket.SHUT_WR)
        if client_may_be_sending:
            self._reading.deadline = trio.current_time() + self.service.patience.linger_s
        else:
            self._stop_reading()

    # The writing.

    @property
    def is_blocked(self) -> bool:
        """Whether a write waits for the client to read."""
        return self._patient > 0

    @property
    def can_write_now(self) -> bool:
        """See `http_exchange.Wire`."""
        return self._socket is not None

    @property
    def is_free(self) -> bool:
        """See `http_exchange.Wire`."""
        return not (self._kept or self._gone or self._closing or self._patient)

    def write_now(self, data: bytes) -> bool:
        """See `http_exchange.Wire`."""
        if self._gone or self._closing:
            return True
        sent = 0
        if self._socket is not None and not (self._kept or self._patient):
            try:
                sent = self._socket.send(data)
            except BlockingIOError:
                pass
            except OSError:
                self._give_up()
                return True
        if sent == len(data):
            return True
        self._kept += data[sent:]
        return False

    async def write(self, data: bytes) -> None:
        """Write all of `data`, or give the client up.

        Mostly the kernel has room, and asking it directly costs a tenth of the way through trio.
        """
        if self._kept:
            data = self._kept + data
            self._kept = b""
        if not data:
            return
        sent = 0
        if self._gone or self._closing:
            await trio.lowlevel.checkpoint()
            return
        if self._socket is not None and not self._patient:
            try:
                sent = self._socket.send(data)
            except BlockingIOError:
                pass
            except OSError:
                await self._end_by_itself()
                return
        if sent < len(data):
            await self._write_patiently(memoryview(data)[sent:])
            return
        self._fast_writes += 1
        if self._fast_writes % _FAST_WRITES_PER_CHECKPOINT == 0:
            await trio.lowlevel.checkpoint()

    async def _write_patiently(self, data: memoryview) -> None:
        # The shield is outside the lock: no cancel may come between the parts of a chunk, or a
        # later write (the error event of the very turn that was cancelled) would land inside it.
        write_s = self.service.patience.write_s
        self._patient += 1
        with trio.CancelScope(shield=True) as patience:
            try:
                patience.deadline = trio.current_time() + write_s
                async with self._writing:
                    for start in range(0, len(data), _WRITE_BLOCK_BYTES):
                        patience.deadline = trio.current_time() + write_s
                        await self.stream.send_all(data[start : start + _WRITE_BLOCK_BYTES])
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass
            else:
                return
            finally:
                self._patient -= 1
        if patience.cancelled_caught:
            # Part of a chunk may be out; nothing that could follow it would be understood.
            _log.info("a client took no bytes for %g s; its connection is closed", write_s)
        await self._end_by_itself()

    async def _end_by_itself(self) -> None:
        """Give the client up, out of a write."""
        self._give_up()
        # A request that does nothing but write would never let the others run, nor its own cancel.
        await trio.lowlevel.checkpoint()

    def _give_up(self) -> None:
        """The client is gone: cancel the request under way, which may be the caller."""
        self._hang_up()
        self._http.client_left()

    def _hang_up(self) -> None:
        self._gone = True
        self.stream.socket.close()


def _has_left(connection: socket.socket | None) -> bool:
    """Whether the client has closed or reset, although there are bytes before that to be read.

    Where the platform does not tell (Windows; a mere close, except on Linux), False.
    """
    if connection is None or not hasattr(select, "poll"):
        return False
    if connection.fileno() < 0:  # given up by us
        return True
    look = select.poll()
    look.register(connection, getattr(select, "POLLRDHUP", 0))
    return bool(look.poll(0))
