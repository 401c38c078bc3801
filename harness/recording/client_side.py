"""The client track: what clients send to the relay, and what it sends them."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

import attrs
import trio
from hypercorn.typing import (
    ASGIFramework,
    ASGIReceiveCallable,
    ASGISendCallable,
)

from codexrelay.backends.websocket import BROKEN, NO_CODE, NORMAL
from codexrelay.server.client_socket import FRAMES
from codexrelay.server.exchange import EXCHANGE
from harness.recording.frames import note_message
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

    from harness.cassettes.model import Direction, Headers

#: What the server answers where an application closes a WebSocket that it has not accepted.
_NOT_ACCEPTED: Final = HTTPStatus.FORBIDDEN
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
        if scope["type"] == "http":
            # What goes past ASGI's messages is not seen here.
            (scope.get("extensions") or {}).pop(EXCHANGE, None)
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
                self._note("out", message.get("text"), message.get("bytes"))
            case "websocket.disconnect":
                if self._tape.status is not None:
                    code = message.get("code", NO_CODE)
                    if code == BROKEN:
                        self._tape.end("closed-by-relay")
                    else:
                        self._note_close("out", code, cast("str | None", message.get("reason")))
                        self._tape.end("eof")
                self._left = True
            case _:
                pass
        return message

    async def send(self, message: ASGISendEvent) -> None:
        """Hand on what the application answers. It is noted first: a slow client may take long."""
        if (texts := _texts_of(message)) is not None:
            for text in texts:
                self._tape.frame("in", "text", text)
            await self._send(message)
            return
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
                self._note("in", message.get("text"), message.get("bytes"))
            case "websocket.close":
                if self._tape.status is None:
                    self._tape.head(_NOT_ACCEPTED, _NOT_ACCEPTED.phrase, ())
                else:
                    self._note_close("in", message.get("code", NORMAL), message.get("reason"))
            case _:
                pass
        last = _is_last(message)
        if last and not self._left:
            # Before it is sent: the server says from inside the sending that the client is gone.
            self._tape.end("eof")
        await self._send(message)

    def _note(self, direction: Direction, text: str | None, data: bytes | None) -> None:
        note_message(self._tape, direction, (data or b"") if text is None else text)

    def _note_close(self, direction: Direction, code: int, reason: str | None) -> None:
        told = (reason or "").encode()
        self._tape.frame(direction, "close", told, code=None if code == NO_CODE else code)

    def was_cancelled(self) -> None:
        """Take note that the request was cancelled from outside, which is the relay's doing."""
        if not self._left:
            self._tape.end("reset")

    def is_over(self) -> None:
        """Take note that the application is done with the request."""
        self._tape.end("closed-by-relay" if self._left else "reset")


def _texts_of(message: ASGISendEvent) -> list[bytes] | None:
    """Return the texts of the relay's own message; None of any other."""
    ours = cast("dict[str, Any]", message)
    return ours["texts"] if ours["type"] == FRAMES else None


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
