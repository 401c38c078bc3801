"""One TCP connection, plain or under TLS, as a place to send and to receive bytes."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING, Final, TypeAlias

import attrs
import httpx
import trio

from codexrelay.backends.transports.tls import Tls, TlsInTls
from codexrelay.backends.transports.trust import way_out

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable, Iterator

#: Largest block of one receive.
RECEIVE_BYTES: Final = 256 * 1024

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


@attrs.frozen
class Origin:
    """Where connections lead to; those of one origin can take each other's place."""

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: httpx.URL) -> Origin:
        """Return the origin of `url`.

        Raises:
            httpx.UnsupportedProtocol: neither HTTP nor HTTPS.
        """
        if url.scheme not in _DEFAULT_PORTS:
            raise httpx.UnsupportedProtocol(f"cannot speak {url.scheme!r}: not http or https")
        return cls(url.scheme, url.raw_host.decode("ascii"), url.port or _DEFAULT_PORTS[url.scheme])

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def receive_room() -> memoryview:
    """Return a place to receive into, for all connections of one event loop.

    Shared because a fresh block of this size per receive costs 13 us (the allocator maps and unmaps
    it, measured), and one kept per connection would be most of an idle stream's memory.
    """
    return memoryview(bytearray(RECEIVE_BYTES))


@attrs.define(eq=False)
class Connection:
    """A non-blocking socket of our own, waited for through trio.

    Not a `trio.SocketStream`: that one tries before it waits, so that a paced stream pays two
    receives per event, and it allocates the block of each.
    """

    #: Where it leads to: behind a tunnel the target, not the proxy.
    origin: Origin
    _socket: socket.socket
    #: Holds received bytes between two checkpoints only, hence may be everybody's.
    _room: memoryview
    _tls: Tls | TlsInTls | None = None
    #: What the system has taken of all that was ever sent here, TLS included.
    sent_bytes: int = 0

    def fileno(self) -> int:
        """Return the socket's descriptor; negative once it is closed."""
        return self._socket.fileno()

    async def send(self, data: bytes | memoryview) -> None:
        """Send all of `data`; a checkpoint only if the socket does not take it at once.

        When cancelled, an unknown part was sent: nothing may follow it, but receiving still works.

        Raises:
            httpx.WriteError: the connection is broken.
        """
        if rest := self.send_now(data):
            await self.send_rest(rest)

    def send_now(self, data: bytes | memoryview) -> memoryview:
        """Send what the socket takes at once; return the rest, for `send_rest`. Never waits.

        Under TLS the rest is ciphertext, and must go out before anything else.

        Raises:
            httpx.WriteError: the connection is broken.
        """
        rest = memoryview(data)
        try:
            if self._tls is not None:
                rest = memoryview(self._tls.encrypt(data))
            while rest:
                size = self._socket.send(rest)
                self.sent_bytes += size
                rest = rest[size:]
        except BlockingIOError:
            pass
        except OSError as error:
            raise self._cannot_send(error) from error
        return rest

    async def send_rest(self, rest: memoryview) -> None:
        """Send what `send_now` has left; raises as that does. Cancelled, it is as `send`."""
        try:
            while rest:
                await trio.lowlevel.wait_writable(self._socket)
                try:
                    size = self._socket.send(rest)
                except BlockingIOError:  # woken for nothing
                    continue
                self.sent_bytes += size
                rest = rest[size:]
        except (OSError, trio.ClosedResourceError) as error:
            raise self._cannot_send(error) from error

    def _cannot_send(self, error: Exception) -> httpx.WriteError:
        return httpx.WriteError(f"sending to {self.origin} broke off: {error}")

    async def receive(self, sink: Callable[[memoryview], None]) -> bool:
        """Wait until something comes and hand it to `sink`; return False when the peer has closed.

        `sink` must not keep what it is given. Always a checkpoint; when cancelled, nothing is lost.

        Raises:
            httpx.ReadError: the connection is broken.
        """
        try:
            size = -1
            while size < 0:
                await trio.lowlevel.wait_readable(self._socket)
                try:
                    size = self._socket.recv_into(self._room)
                except BlockingIOError:  # woken for nothing
                    continue
            # No checkpoint from here on: the room is everybody's.
            if self._tls is not None:
                self._tls.feed(self._room[:size])
                return self._tls.decrypt(self._room, sink)
        except (OSError, trio.ClosedResourceError) as error:
            raise httpx.ReadError(f"receiving from {self.origin} broke off: {error}") from error
        if size:
            sink(self._room[:size])
        return size > 0

    def receive_now(self, sink: Callable[[memoryview], None]) -> bool:
        """Hand what has come already to `sink`, as `receive` does; never waits.

        Raises:
            httpx.ReadError: the connection is broken.
        """
        try:
            size = self._socket.recv_into(self._room)
            if self._tls is not None:
                self._tls.feed(self._room[:size])
                return self._tls.decrypt(self._room, sink)
        except BlockingIOError:
            return True
        except OSError as error:
            raise httpx.ReadError(f"receiving from {self.origin} broke off: {error}") from error
        if size:
            sink(self._room[:size])
        return size > 0

    async def shake_hands(self, host: str, context: ssl.SSLContext) -> None:
        """Put the connection under TLS with `host`; below that stays TLS that is there already.

        Raises:
            httpx.ConnectError: certificate or TLS of the peer are not acceptable.
        """
        try:
            tls = Tls.to(host, context)
            done = False
            while not done:
                to_send, done = tls.handshake()
                if to_send:
                    await self.send(to_send)
                if not done and not await self.receive(tls.feed):
                    tls.feed(memoryview(b""))
        except (OSError, UnicodeError, httpx.NetworkError) as error:
            told = f"no TLS with {self.origin}: {error}{way_out(error)}"
            raise httpx.ConnectError(told) from error
        self._tls = tls if self._tls is None else TlsInTls(self._tls, tls)

    @property
    def is_open(self) -> bool:
        """Whether we have not closed it; the peer may have."""
        return self._socket.fileno() >= 0

    @property
    def is_stale(self) -> bool:
        """Whether this idle connection is of no use: the peer closed it, or spoke unasked."""
        try:
            self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            pass
        return True

    def close(self) -> None:
        """Close at once, without a TLS farewell. May be repeated; whoever waits gets an error."""
        if self.is_open:
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()


#: Takes host and port.
Opening: TypeAlias = "Callable[[str, int], Awaitable[trio.SocketStream]]"


async def open_tcp(host: str, port: int) -> trio.SocketStream:
    """Open a TCP connection.

    Raises:
        OSError: no such host, or nobody listens there.
        UnicodeError: a host that can be none.
    """
    return await trio.open_tcp_stream(host, port)  # sets TCP_NODELAY


async def connect(
    origin: Origin,
    *,
    room: memoryview,
    context: ssl.SSLContext | None,
    opening: Opening = open_tcp,
) -> Connection:
    """Connect to `origin`, under TLS if there is a `context`. Cancelled, it leaves nothing open.

    Raises:
        httpx.ConnectError: no such host, nobody listens there, or no agreement on TLS.
    """
    try:
        stream = await opening(origin.host, origin.port)
    except (OSError, UnicodeError) as error:
        raise httpx.ConnectError(f"no connection to {origin}: {error}") from error
    own_socket = socket.socket(fileno=stream.socket.detach())
    own_socket.settimeout(0)
    connection = Connection(origin, own_socket, room)
    if context is not None:
        with closed_on_error(connection):
            await connection.shake_hands(origin.host, context)
    return connection


@contextlib.contextmanager
def closed_on_error(connection: Connection) -> Iterator[None]:
    """Close `connection` when the block ends by an exception; cancellation is one."""
    with contextlib.ExitStack() as on_error:
        on_error.callback(connection.close)
        yield
        on_error.pop_all()
