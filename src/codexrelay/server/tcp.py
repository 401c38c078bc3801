"""One client's TCP connection.

hypercorn parses the requests and builds the responses; the connection around it is ours, because
hypercorn 0.18's own one, on trio, writes in a shield without deadline (a client that stops reading
pins its task for ever), keeps the task and the socket of a client that has left until the
keep-alive time is over, resets a connection whose client is still uploading (so that an early
answer may be lost), waits for ever behind an application that ended without reading its body, and
does not see a client leave that has sent anything behind its request.
"""

from __future__ import annotations

import contextlib
import logging
import select
import socket
from typing import TYPE_CHECKING, Final

import attrs
import trio
from hypercorn.config import Config
from hypercorn.events import Closed, RawData, Updated
from hypercorn.trio.task_group import TaskGroup
from hypercorn.typing import (
    AppWrapper,
    ASGIReceiveEvent,
    ConnectionState,
    LifespanState,
    WorkerContext,
)
from hypercorn.utils import parse_socket_addr

from codexrelay.server.drain import Drain
from codexrelay.server.framing import PING
from codexrelay.server.http1 import Http1Protocol
from codexrelay.server.inbox import Inbox

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from hypercorn.events import Event
    from hypercorn.typing import ASGISendEvent, Scope

_log = logging.getLogger(__name__)

#: Default of `Patience.write_s`.
WRITE_S: Final = 30.0
#: In pieces a quarter of this size, a 5 MB body costs a sixth more CPU (measured).
_RECEIVE_BYTES: Final = 262144
_INBOX_BYTES: Final = 65536
#: Messages of a WebSocket's client that wait for the application; then the client has to wait.
_WEBSOCKET_MESSAGES: Final = 2
#: Between two looks whether a client whose bytes we do not take has left.
_LOOK_AGAIN_S: Final = 1.0
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


class RequestTasks(TaskGroup):
    """The tasks of one connection: its requests, one after the other."""

    async def spawn_app(
        self,
        app: AppWrapper,
        config: Config,
        scope: Scope,
        send: Callable[[ASGISendEvent | None], Awaitable[None]],
    ) -> Callable[[ASGIReceiveEvent], Awaitable[None]]:
        """Start the application for one request; return what hands it the client's messages.

        Messages for an application that has ended are dropped. (hypercorn's own would wait for it
        to read them, and the connection with it.) That the client of a WebSocket has left overtakes
        the messages before it: the application is told if it listens, else it is cancelled.
        """
        is_websocket = scope["type"] == "websocket"
        messages_in, messages = trio.open_memory_channel[ASGIReceiveEvent](
            _WEBSOCKET_MESSAGES if is_websocket else config.max_app_queue_size
        )
        life = trio.CancelScope()
        self.spawn(_run_app, app, scope, messages, send, life)

        async def put(message: ASGIReceiveEvent) -> None:
            with contextlib.suppress(trio.BrokenResourceError):
                if message["type"] != "websocket.disconnect":
                    await messages_in.send(message)
                elif messages_in.statistics().tasks_waiting_receive:
                    messages_in.send_nowait(message)
                else:
                    life.cancel()

        return put


async def _run_app(
    app: AppWrapper,
    scope: Scope,
    messages: trio.MemoryReceiveChannel[ASGIReceiveEvent],
    send: Callable[[ASGISendEvent | None], Awaitable[None]],
    life: trio.CancelScope,
) -> None:
    try:
        with life:
            await app(scope, messages.receive, send, trio.to_thread.run_sync, trio.from_thread.run)
    except* Exception:  # noqa: BLE001 - the request border
        _log.exception("a request was ended by an unforeseen error")
    finally:
        messages.close()
        await send(None)  # a response that is not complete is cut here


@attrs.define(eq=False, kw_only=True)
class ClientConnection:
    """Serves one connection. Implements `drain.Drainable` and `websocket_stream.Wire`."""

    app: AppWrapper
    config: Config
    context: WorkerContext
    drain: Drain
    state: LifespanState
    patience: Patience
    stream: trio.SocketStream
    #: Everything that happens on this connection; cancelled by `cut`.
    _life: trio.CancelScope = attrs.field(factory=trio.CancelScope, init=False)
    #: The reading. Its deadline is the keep-alive time while idle, and the lingering at the end.
    _reading: trio.CancelScope = attrs.field(factory=trio.CancelScope, init=False)
    #: Inside the reading. Its deadline is the next look at a WebSocket that says nothing.
    _listening: trio.CancelScope = attrs.field(factory=trio.CancelScope, init=False)
    #: When the client of a WebSocket last sent anything; None while this is none.
    _heard_at_s: float | None = attrs.field(default=None, init=False)
    #: From the reading to the parsing.
    _inbox: Inbox = attrs.field(factory=lambda: Inbox(_INBOX_BYTES), init=False)
    #: Keeps the writes of a request and of a WebSocket's control frames apart.
    _writing: trio.Lock = attrs.field(factory=trio.Lock, init=False)
    #: The socket below trio's, None if trio hides it (then every write takes the long way).
    _socket: socket.socket | None = attrs.field(init=False)
    _protocol: Http1Protocol = attrs.field(init=False)
    #: No request is under way.
    _idle: bool = attrs.field(default=True, init=False)
    #: Our last byte is out; what the client still sends is dropped.
    _closing: bool = attrs.field(default=False, init=False)
    _fast_writes: int = attrs.field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        below = getattr(self.stream.socket, "_sock", None)
        self._socket = below if isinstance(below, socket.socket) else None

    async def run(self) -> None:
        """Serve until either side closes; when it returns, no task and no socket is left."""
        try:
            with self.drain.holds(self), self._life:
                await self._serve()
        except* Exception:  # noqa: BLE001 - the request border: one connection never ends others
            _log.exception("a connection was ended by an unforeseen error")
        finally:
            await trio.aclose_forcefully(self.stream)

    def close_if_idle(self) -> None:
        """Close when no request is under way; one that is still arriving has not begun."""
        if self._idle or self._protocol.request_is_arriving:
            self._reading.cancel()

    def cut(self) -> None:
        """Close now; a write that waits for the client ends too, although it is shielded."""
        self._life.cancel()
        self.stream.socket.close()

    async def _serve(self) -> None:
        trio_socket = self.stream.socket
        try:
            client = parse_socket_addr(trio_socket.family, trio_socket.getpeername())
            server = parse_socket_addr(trio_socket.family, trio_socket.getsockname())
        except OSError:  # the client has left already
            return
        async with RequestTasks() as tasks:
            self._protocol = Http1Protocol(
                self.app,
                self.config,
                self.context,
                tasks,
                ConnectionState(self.state),
                False,  # noqa: FBT003 - no TLS; hypercorn takes it by position
                client,
                server,
                self._send,
                wire=self,
            )
            await self._protocol.initiate()
            self._await_request()
            async with trio.open_nursery() as parsing:
                parsing.start_soon(self._parse)
                with self._reading:
                    await self._read(tasks)
                # Nobody is there to be answered: also a write that still waits for the client ends,
                # although it is shielded, and a request that came behind this one never begins.
                self.stream.socket.close()
                self._inbox.close()
                parsing.cancel_scope.cancel()
            await self._protocol.handle(Closed())  # cancels the request under way

    @property
    def is_blocked(self) -> bool:
        """Whether a write waits for the client to read."""
        return self._writing.locked()

    def opened(self) -> None:
        """Take note that this is a WebSocket from here on."""
        self._heard()

    async def _read(self, tasks: TaskGroup) -> None:
        """Receive until the client leaves, however long the parsing is held up."""
        while True:
            with self._listening:
                await self._read_on()
                return
            if self._is_silent():
                _log.info(
                    "a WebSocket is cut: nothing came from its client for %g s",
                    self.patience.silence_s,
                )
                return
            if self._protocol.websocket_is_open and not self.is_blocked:
                tasks.spawn(self.write, PING)
            self._listening = trio.CancelScope(deadline=trio.current_time() + self.patience.ping_s)

    async def _read_on(self) -> None:
        while True:
            while self._inbox.is_full:
                with trio.move_on_after(_LOOK_AGAIN_S) as waiting:
                    await self._inbox.until_room()
                if waiting.cancelled_caught and _has_left(self._socket):
                    return
            if not (data := await self._receive()):
                return
            self._inbox.add(data)
            if self._heard_at_s is not None:
                self._heard()

    def _heard(self) -> None:
        self._heard_at_s = trio.current_time()
        self._listening.deadline = self._heard_at_s + self.patience.ping_s

    def _is_silent(self) -> bool:
        """Whether the client of a WebSocket is gone. Not if it is we who do not listen."""
        if self._heard_at_s is None or self._inbox.is_full:
            return False
        return trio.current_time() - self._heard_at_s >= self.patience.silence_s

    async def _parse(self) -> None:
        # The keep-alive time may run out in the very moment in which a request arrives: then it is
        # not begun, as if it had come a moment later.
        while (data := await self._inbox.take()) and not self._reading.cancel_called:
            await self._protocol.handle(RawData(data))

    async def _receive(self) -> bytes:
        """Return what the client sent, `b""` when it has closed its side or is gone."""
        try:
            return bytes(await self.stream.receive_some(_RECEIVE_BYTES))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return b""

    async def _send(self, event: Event) -> None:
        """Do what the protocol wants done with the connection."""
        if isinstance(event, RawData):
            await self.write(event.data)
        elif isinstance(event, Closed):
            await self._close()
        elif isinstance(event, Updated):
            if event.idle:
                self._await_request()
            else:
                self._idle = False
                self._reading.deadline = float("inf")

    def _await_request(self) -> None:
        self._idle = True
        self._reading.deadline = trio.current_time() + self.patience.keep_alive_s

    async def _close(self) -> None:
        """Tell the client that nothing more comes, and let the reader end."""
        if self._closing:
            return
        self._closing = True
        self._inbox.close()
        # A client that does not even read what was written before is not waited for.
        may_linger = self._protocol.client_may_be_sending and not self.is_blocked
        linger_s = self.patience.linger_s if may_linger else 0.0
        self._reading.deadline = trio.current_time() + linger_s
        with contextlib.suppress(
            trio.BrokenResourceError, trio.ClosedResourceError, trio.BusyResourceError
        ):
            await self.stream.send_eof()
        await self._protocol.handle(Closed())

    async def write(self, data: bytes) -> None:
        """Write all of `data`, or give the client up.

        Mostly the kernel has room, and asking it directly costs a tenth of the way through trio.
        """
        if not data:
            return
        sent = 0
        if self._socket is not None and not self._writing.locked():
            try:
                sent = self._socket.send(data)
            except BlockingIOError:
                pass
            except OSError:
                await self._give_up()
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
        with trio.CancelScope(shield=True) as patience:
            try:
                patience.deadline = trio.current_time() + self.patience.write_s
                async with self._writing:
                    for start in range(0, len(data), _WRITE_BLOCK_BYTES):
                        patience.deadline = trio.current_time() + self.patience.write_s
                        await self.stream.send_all(data[start : start + _WRITE_BLOCK_BYTES])
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass
            else:
                return
        if patience.cancelled_caught:
            _log.info(
                "a client took no bytes for %g s; its connection is closed", self.patience.write_s
            )
            # Part of a chunk may be out; nothing that could follow it would be understood.
            self.stream.socket.close()
        await self._give_up()

    async def _give_up(self) -> None:
        """The client is gone: cancel the request under way, which may be the caller."""
        await self._protocol.handle(Closed())
        # A request that does nothing but write would never let the others run, nor its own cancel.
        await trio.lowlevel.checkpoint()


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
