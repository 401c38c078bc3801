"""The client track: what clients send to the relay, and what it sends them."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Final, Protocol

import attrs
import trio
from hypercorn.typing import (
    ASGIFramework,
    ASGIReceiveCallable,
    ASGISendCallable,
)

from harness.recording.place import RELAY, at, uri_at_relay
from harness.recording.tape import Tape, headers_of

if TYPE_CHECKING:
    from hypercorn.typing import (
        ASGIReceiveEvent,
        ASGISendEvent,
        HTTPScope,
        Scope,
        WebsocketScope,
    )

    from harness.cassettes.model import Headers

#: What ASGI says where the connection of a WebSocket broke.
_NO_CLOSE_FRAME: Final = 1006
#: The method whose answer has no body, although applications answer it as they do a GET.
_HEAD: Final = "HEAD"


class Clients(Protocol):
    """What is asked of a recorder."""

    def client_asks(self, method: str, uri: str, headers: Headers) -> Tape:
        """Begin a tape for a request of a client; what this task goes on to ask is part of it."""

    def client_is_done(self, tape: Tape) -> None:
        """Take note that no more will be asked for its sake."""


@attrs.frozen
class RecordedApp:
    """An application, and a recorder before it that sees its messages and changes none."""

    _inner: ASGIFramework
    _clients: Clients

    async def __call__(
        self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable
    ) -> None:
        """Serve one request, or what belongs to none."""
        if scope["type"] == "lifespan":
            await self._inner(scope, receive, send)
            return
        tape = self._clients.client_asks(*_asked(scope))
        listening = _Listening(tape, receive, send, tape.method == _HEAD)
        try:
            await self._inner(scope, listening.receive, listening.send)
        except trio.Cancelled:
            listening.was_cancelled()
            raise
        finally:
            listening.is_over()
            self._clients.client_is_done(tape)


def _asked(scope: HTTPScope | WebsocketScope) -> tuple[str, str, Headers]:
    method = scope["method"] if scope["type"] == "http" else "GET"
    uri = uri_at_relay(scope["raw_path"], scope["query_string"])
    return method, uri, at(RELAY, headers_of(scope["headers"]))


@attrs.define(eq=False)
class _Listening:
    """Notes what passes between the server and the application, for one request."""

    _tape: Tape
    _receive: ASGIReceiveCallable
    _send: ASGISendCallable
    #: The server keeps the answer's body to itself.
    _is_head: bool
    #: The client has left, or so the server says.
    _left: bool = attrs.field(default=False, init=False)

    async def receive(self) -> ASGIReceiveEvent:
        """Hand on what the client sends."""
        message = await self._receive()
        match message["type"]:
            case "http.request":
                self._tape.send(message["body"])
            case "http.disconnect":
                # Not behind a whole answer: the server says so then, whoever closes.
                self._left = True
            case "websocket.receive":
                text, data = message.get("text"), message.get("bytes")
                if text is not None:
                    self._tape.frame("out", "text", text.encode("utf-8", "surrogatepass"))
                else:
                    self._tape.frame("out", "bin", data or b"")
            case "websocket.disconnect":
                if self._tape.status is not None:
                    code = message.get("code")
                    self._tape.frame("out", "close", code=code)
                    self._tape.end("reset" if code == _NO_CLOSE_FRAME else "eof")
                self._left = True
            case _:
                pass
        return message

    async def send(self, message: ASGISendEvent) -> None:
        """Hand on what the application answers. It is noted first: a slow client may take long."""
        match message["type"]:
            case "http.response.start" | "websocket.http.response.start":
                status = int(message["status"])
                self._tape.head(status, phrase(status), headers_of(message["headers"]))
            case "http.response.body" | "websocket.http.response.body":
                if not self._is_head:
                    self._tape.receive(message.get("body", b""))
            case "websocket.accept":
                status = HTTPStatus.SWITCHING_PROTOCOLS
                self._tape.head(status, status.phrase, headers_of(message["headers"]))
            case "websocket.send":
                text, data = message.get("text"), message.get("bytes")
                if text is not None:
                    self._tape.frame("in", "text", text.encode("utf-8", "surrogatepass"))
                else:
                    self._tape.frame("in", "bin", data or b"")
            case "websocket.close":
                if self._tape.status is not None:
                    self._tape.frame("in", "close", code=message.get("code"))
            case _:
                pass
        last = _is_last(message)
        if last and not self._left:
            # Before it is sent: the server says from inside the sending that the client is gone.
            self._tape.end("eof")
        await self._send(message)

    def was_cancelled(self) -> None:
        """Take note that the request was cancelled from outside, which is the relay's doing."""
        if not self._left:
            self._tape.end("reset")

    def is_over(self) -> None:
        """Take note that the application is done with the request."""
        self._tape.end("closed-by-relay" if self._left else "reset")


def _is_last(message: ASGISendEvent) -> bool:
    if message["type"] in ("http.response.body", "websocket.http.response.body"):
        return not message.get("more_body", False)
    return message["type"] == "websocket.close"


def phrase(status: int) -> str:
    """Return the usual words for a status."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
