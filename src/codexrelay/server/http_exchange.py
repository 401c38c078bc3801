"""One HTTP request and its response, on a connection that is ours: an `Exchange`.

It is served through `Exchange`'s methods by whoever has taken it, else by ASGI's messages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol, cast
from urllib.parse import unquote

import attrs
import trio

from codexrelay.server.chunks import ChunkedReader
from codexrelay.server.exchange import EXCHANGE
from codexrelay.server.heads import (
    CHUNKED,
    UNTIL_CLOSE,
    OwnHeaders,
    RequestHead,
    interim_head,
    response_head,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hypercorn.typing import ASGIReceiveEvent, ASGISendEvent, ConnectionState

    from codexrelay.relay.line import Prompt
    from codexrelay.server.heads import Header

#: Of a request's body, received and not taken; then the client has to wait.
BODY_BYTES: Final = 65536
_ASGI: Final = {"version": "3.0", "spec_version": "2.1"}
_LAST_CHUNK: Final = b"0\r\n\r\n"
_CONTINUE: Final = 100
_INTERNAL_SERVER_ERROR: Final = 500
_CLOSING: Final = ((b"content-length", b"0"), (b"connection", b"close"))

#: In the place of one that could not be read.
_NO_REQUEST: Final = RequestHead(
    method="GET",
    target=b"*",
    version="1.1",
    headers=[],
    length=0,
    keeps_alive=True,
    expects_continue=False,
    offers_upgrade=False,
)


class Wire(Protocol):
    """Where an exchange writes."""

    async def write(self, data: bytes) -> None:
        """Write all of `data`, or give the client up."""

    def write_now(self, data: bytes) -> bool:
        """Write without waiting; False if a part of `data` is kept, to go before the next write."""

    @property
    def is_free(self) -> bool:
        """Whether `write_now` may be called: nothing is kept, and nobody is writing."""

    @property
    def can_write_now(self) -> bool:
        """Whether `is_free` is ever true."""


class Connection(Protocol):
    """What an exchange needs to know of the connection, and tells it."""

    @property
    def announces_close(self) -> bool:
        """Whether this response is the last one, whatever its headers say."""

    def has_room(self) -> None:
        """Take note that more of the request may be received."""

    def is_answered(self) -> None:
        """Take note that the response is complete, or never will be."""


@attrs.define(eq=False)
class HttpExchange:
    """Implements `exchange.Exchange`, and `relay.line.Prompt` for its own response."""

    request: RequestHead
    _wire: Wire
    _connection: Connection
    _own: OwnHeaders
    #: The application's run: cancelled when the client leaves a request that was taken.
    #: None before that.
    life: trio.CancelScope | None = attrs.field(default=None, init=False)
    started: bool = attrs.field(default=False, init=False)
    _taken: bool = attrs.field(default=False, init=False)
    #: The client has left.
    _left: bool = attrs.field(default=False, init=False)
    #: The response is complete, or was cut.
    over: bool = attrs.field(default=False, init=False)
    #: Another request may follow on this connection.
    keeps_alive: bool = attrs.field(default=False, init=False)

    # The request's body.
    _pieces: list[bytes] = attrs.field(factory=list, init=False)
    _piece_bytes: int = attrs.field(default=0, init=False)
    #: What is received and not taken stays below this and one more receive.
    _room_bytes: int = attrs.field(default=BODY_BYTES, init=False)
    #: Of a body with a length: still to come.
    _missing_bytes: int = attrs.field(default=0, init=False)
    _chunks: ChunkedReader | None = attrs.field(default=None, init=False)
    #: All of it was received.
    body_is_whole: bool = attrs.field(default=False, init=False)
    _told_whole: bool = attrs.field(default=False, init=False)
    #: Set when something has come, or never will.
    _news: trio.Event | None = attrs.field(default=None, init=False)

    # The response.
    #: Waits for the first piece of the body, to go out with it.
    _head: bytes = attrs.field(default=b"", init=False)
    #: As `heads.response_head` returned it; a length counts down.
    _framing: int = attrs.field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        length = self.request.length
        if length == CHUNKED:
            self._chunks = ChunkedReader()
        else:
            self._missing_bytes = length
            self.body_is_whole = length == 0

    def scope(
        self,
        *,
        client: tuple[str, int] | None,
        server: tuple[str, int] | None,
        root_path: str,
        state: ConnectionState,
    ) -> dict[str, Any]:
        """Return the ASGI scope."""
        request = self.request
        path, _, query = request.target.partition(b"?")
        text = path.decode("ascii")
        return {
            "type": "http",
            "http_version": request.version,
            "asgi": _ASGI,
            "method": request.method,
            "scheme": "http",
            "path": unquote(text) if "%" in text else text,
            "raw_path": path,
            "query_string": query,
            "root_path": root_path,
            "headers": request.headers,
            "client": client,
            "server": server,
            "state": state.copy(),
            "extensions": {EXCHANGE: self},
        }

    # What the connection says.

    @property
    def is_full(self) -> bool:
        """Whether the client has to wait until a part of the body was taken."""
        return self._piece_bytes >= self._room_bytes

    @property
    def wanted_bytes(self) -> int:
        """How much of the body the next receive may bring, as far as known."""
        return self._missing_bytes

    def take_body(self, data: bytes) -> bytes:
        """Take what has come behind the head; return what is not of this request.

        Raises:
            RefusedError: a chunk is malformed.
        """
        rest: bytes | None = b""
        if self._chunks is not None:
            data, rest = self._chunks.feed(data)
            self.body_is_whole = rest is not None
        else:
            missing = self._missing_bytes
            if len(data) > missing:
                data, rest = data[:missing], data[missing:]
            self._missing_bytes = missing - len(data)
            self.body_is_whole = self._missing_bytes == 0
        if data:
            self._pieces.append(data)
            self._piece_bytes += len(data)
        self._tell()
        return rest or b""

    def client_left(self) -> None:
        """Take note that nobody is there any more."""
        self._left = True
        if self._taken and not self.over and self.life is not None:
            self.life.cancel()
        self._tell()

    def _tell(self) -> None:
        if self._news is not None:
            self._news.set()
            self._news = None

    async def _wait(self) -> None:
        self._connection.has_room()
        if self._news is None:
            self._news = trio.Event()
        await self._news.wait()

    def _take_pieces(self) -> bytes:
        body = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        was_full = self._piece_bytes >= self._room_bytes
        self._piece_bytes = 0
        if was_full:
            self._connection.has_room()
        return body

    # What whoever has taken it says.

    def take(self) -> None:
        """See `Exchange`."""
        self._taken = True
        if self._left and self.life is not None:
            self.life.cancel()

    async def body(self, *, max_bytes: int) -> bytes | None:
        """See `Exchange`."""
        if self.request.length > max_bytes:
            return None
        self._room_bytes = max_bytes + 1
        while not self.body_is_whole and self._piece_bytes <= max_bytes:
            await self._wait()
        return self._take_pieces() if self._piece_bytes <= max_bytes else None

    async def start(self, status: int, headers: Sequence[Header]) -> None:
        """See `Exchange`."""
        closes = not self.body_is_whole or self._connection.announces_close
        self._head, self._framing, self.keeps_alive = response_head(
            status, headers, self.request, self._own, closes=closes
        )
        self.started = True
        if self._taken:  # whoever took it has read them, and a stream may last for long
            self.request.headers.clear()

    async def send(self, data: bytes) -> None:
        """See `Exchange`."""
        await self._wire.write(self._framed(data))

    async def end(self) -> None:
        """See `Exchange`."""
        await self.finish(b"")

    async def finish(self, data: bytes) -> None:
        """See `Exchange`."""
        last = self._framed(data)
        if self._framing == CHUNKED:
            last += _LAST_CHUNK
        elif self._framing > 0:
            raise ValueError(f"the body of a response ends {self._framing} bytes too early")
        await self._wire.write(last)
        self._is_over()

    @property
    def prompt(self) -> Prompt | None:
        """See `relay.line.Client`."""
        if self.started and self._framing == CHUNKED and self._wire.can_write_now:
            return self
        return None

    @property
    def is_free(self) -> bool:
        """See `relay.line.Prompt`."""
        return not (self.over or self._left) and self._wire.is_free

    def send_now(self, data: bytes) -> bool:
        """See `relay.line.Prompt`."""
        return self._wire.write_now(self._framed(data))

    def _framed(self, data: bytes) -> bytes:
        """Return a piece of the body as it goes out, behind the head if that still waits."""
        framing = self._framing
        if framing == CHUNKED:
            # An empty chunk would end the body.
            piece = b"%x\r\n%b\r\n" % (len(data), data) if data else b""
        elif framing >= 0:
            if len(data) > framing:
                raise ValueError(f"{len(data) - framing} bytes more than the response has told")
            self._framing = framing - len(data)
            piece = data
        else:
            piece = data if framing == UNTIL_CLOSE else b""
        if self._head:
            piece = self._head + piece
            self._head = b""
        return piece

    def _is_over(self) -> None:
        self.over = True
        self._pieces.clear()
        self._connection.is_answered()
        self._tell()

    # What an ASGI application says and is told.

    async def receive(self) -> ASGIReceiveEvent:
        """Return the client's next message."""
        while not self.over:
            if self._piece_bytes or (self.body_is_whole and not self._told_whole):
                self._told_whole = self.body_is_whole
                return {
                    "type": "http.request",
                    "body": self._take_pieces(),
                    "more_body": not self.body_is_whole,
                }
            if self._left:
                break
            await self._wait()
        return {"type": "http.disconnect"}

    async def take_message(self, message: ASGISendEvent) -> None:
        """Send what the application says."""
        if self._left:  # also one that only sends must come to see that it is cancelled
            await trio.lowlevel.checkpoint()
            return
        match cast("dict[str, Any]", message):
            case {"type": "http.response.start", "status": status} if not self.started:
                headers = [
                    (bytes(name).strip().lower(), bytes(value).strip())
                    for name, value in message.get("headers", ())  # type: ignore[attr-defined]
                ]
                await self.start(int(status), headers)
                await self.send(b"")
            case {"type": "http.response.body"} if self.started and not self.over:
                body = bytes(message.get("body", b""))  # type: ignore[call-overload]
                if message.get("more_body", False):
                    await self.send(body)
                else:
                    await self.finish(body)
            case _:
                raise RuntimeError(f"{message['type']} was sent where it has no place")

    async def wind_up(self) -> None:
        """Cut the response if it is not complete: the application has ended."""
        if self.over:
            return
        if self._left:
            self._is_over()
            return
        if not self.started:
            self._head, _, _ = response_head(
                _INTERNAL_SERVER_ERROR, _CLOSING, self.request, self._own, closes=True
            )
            self.started = True
        self.keeps_alive = False
        head, self._head = self._head, b""
        await self._wire.write(head)
        self._is_over()


def continue_head(own: OwnHeaders) -> bytes:
    """Return what tells a client that its body is awaited."""
    return interim_head(_CONTINUE, (), own)


def refusal(status: int, own: OwnHeaders) -> bytes:
    """Return the answer to what is no request."""
    return response_head(status, _CLOSING, _NO_REQUEST, own, closes=True)[0]
