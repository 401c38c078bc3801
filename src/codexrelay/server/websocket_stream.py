"""One client's WebSocket, between its TCP connection and the application.

hypercorn 0.18 has a class for this (`WSStream`), which is not used: there an over-long
message leaves the connection open for ever, a malformed frame closes without a close frame, a
malformed offer of compression is an unforeseen error, a client that leaves waits in a queue behind
its own messages, and each message sent costs a pass through wsproto.

`permessage-deflate` is accepted as offered, and what clients compress is inflated up to the limit
and no further. What *we* send is never compressed, which RFC 7692 (6.1) leaves to the sender for
each message: on a loopback, bytes are cheaper than the CPU time of deflating them.

Beside ASGI's own messages, the application may send `{"type": "codexrelay.frames", "texts": [bytes,
...]}` where the scope has that extension: one text message each, all in one write.

How a WebSocket is closed by the server:

| code | when |
| --- | --- |
| 1000 | the application has ended, all is well; or in answer to the client's own 1000 |
| 1001 | the server stops, or the WebSocket was idle for too long (decided by the application) |
| 1002 | a frame breaks RFC 6455: opcode, mask, reserved bit, fragments, length, close code |
| 1003 | a binary message, where only text is understood (decided by the application) |
| 1007 | a text or a close reason that is no UTF-8, compressed data that cannot be inflated |
| 1008 | the client does what is not allowed (decided by the application) |
| 1009 | a message of more than 16 MiB, after inflating |
| 1011 | the application was ended by an unforeseen error; its log has it |

A client's close frame is answered with its own code. Behind a close frame of either side the
connection ends: at once, or when the client has read it, `Patience.linger_s` later at the latest. A
client from which nothing came for `Patience.silence_s`, not even pongs, is cut without a word.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import enum
import hashlib
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

import attrs
import trio

from codexrelay.protocol.openai_errors import error_body, error_object
from codexrelay.server.client_socket import FRAMES
from codexrelay.server.framing import (
    BROKEN,
    INTERNAL,
    NORMAL,
    Close,
    FrameReader,
    Inflater,
    Message,
    Ping,
    Violation,
    binary_frame,
    close_frame,
    pong_frame,
    text_frames,
)
from codexrelay.server.heads import OwnHeaders, interim_head
from codexrelay.server.http_exchange import HttpExchange

if TYPE_CHECKING:
    from hypercorn.typing import ASGISendEvent

_log = logging.getLogger(__name__)

#: Of one message, after inflating. The backend's own limit is about as high.
MESSAGE_LIMIT_BYTES: Final = 16 * 2**20
#: Of a client, that wait for the application; then the client has to wait.
_WAITING_MESSAGES: Final = 2
_VERSION: Final = b"13"
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KEY_BYTES: Final = 16
_DEFLATE: Final = "permessage-deflate"
_SWITCHING_PROTOCOLS: Final = 101
_OK: Final = 200
_BAD_REQUEST: Final = 400
_UPGRADE_REQUIRED: Final = 426
_INTERNAL_SERVER_ERROR: Final = 500


class Wire(Protocol):
    """What a WebSocket needs of its TCP connection."""

    async def write(self, data: bytes) -> None:
        """Write all of `data`, or give the client up."""

    @property
    def is_blocked(self) -> bool:
        """Whether a write waits for the client to read."""

    def opened(self) -> None:
        """Take note that frames follow: a client that says nothing is to be asked for a pong."""

    def start_app(
        self,
        scope: dict[str, Any],
        receive: Callable[[], Awaitable[Any]],
        send: Callable[[Any], Awaitable[None]],
        wind_up: Callable[[], Awaitable[None]],
        *,
        alone: bool,
    ) -> trio.CancelScope:
        """Start the application for one request; `wind_up` is called when it has ended.

        Returns what cancels it; `alone` says that it must not cancel the connection's other tasks.
        """


class _State(enum.Enum):
    #: The application has not decided yet.
    ASKED = enum.auto()
    OPEN = enum.auto()
    #: The application answers with an HTTP response, whose head is out.
    REFUSING = enum.auto()
    #: Nothing more is sent.
    CLOSED = enum.auto()


class _Messages:
    """The client's messages on their way to the application.

    Those for an application that has ended are dropped. That the client has left overtakes the
    messages before it: the application is told if it listens, else it is cancelled.
    """

    def __init__(self) -> None:
        #: The application's.
        self.life: trio.CancelScope | None = None
        self._in, self._out = trio.open_memory_channel[Any](_WAITING_MESSAGES)
        self._in.send_nowait({"type": "websocket.connect"})
        self.receive = self._out.receive
        self.close = self._out.close

    async def put(self, message: dict[str, Any]) -> None:
        """Hand a message over; waits while nobody wants it."""
        with contextlib.suppress(trio.BrokenResourceError):
            await self._in.send(message)

    def tell_the_end(self, code: int, reason: str) -> None:
        """Let the application know that nothing more comes."""
        with contextlib.suppress(trio.BrokenResourceError):
            if self._in.statistics().tasks_waiting_receive:
                message = {"type": "websocket.disconnect", "code": code, "reason": reason}
                self._in.send_nowait(message)
            elif self.life is not None:
                self.life.cancel()


@attrs.define(eq=False, kw_only=True)
class WebSocketStream:
    """Takes the client's bytes and the application's messages."""

    #: Of the handshake, as if it were a request for HTTP.
    scope: dict[str, Any]
    #: The handshake: to refuse it.
    exchange: HttpExchange
    own: OwnHeaders
    #: For everything behind the handshake.
    wire: Wire
    #: Says that nothing more is sent.
    end: Callable[[], None]
    #: The client's close frame was read: it sends nothing more.
    client_has_closed: bool = attrs.field(default=False, init=False)
    _state: _State = attrs.field(default=_State.ASKED, init=False)
    #: Set when the client's frames can be read, or never will be.
    _decided: trio.Event = attrs.field(factory=trio.Event, init=False)
    _reader: FrameReader | None = attrs.field(default=None, init=False)
    #: To the application; None until it runs, and when it has ended or been told.
    _messages: _Messages | None = attrs.field(default=None, init=False)
    #: Status and headers of a response that the application has begun.
    _response: tuple[int, list[tuple[bytes, bytes]]] = attrs.field(
        default=(_INTERNAL_SERVER_ERROR, []), init=False
    )

    @property
    def is_open(self) -> bool:
        """Whether frames can be sent."""
        return self._state is _State.OPEN

    def client_left(self) -> None:
        """Take note that nobody is there any more."""
        self._state = _State.CLOSED
        self._decided.set()
        self._tell_the_end(BROKEN, "")

    async def receive(self, data: bytes) -> None:
        """Take what the client has sent behind its handshake; waits while nobody wants it."""
        await self._decided.wait()
        reader = self._reader
        if reader is None or not self.is_open:
            return
        pongs: list[bytes] = []
        try:
            for received in reader.feed(data):
                match received:
                    case Ping(payload):
                        pongs.append(pong_frame(payload))
                    case Message(message):
                        await self._write_all(pongs)
                        await self._deliver(message)
                    case Close(code, reason):
                        self.client_has_closed = True
                        await self._write_all(pongs)
                        await self._end(code, reason, close_frame(code))
        except Violation as violation:
            _log.info("a WebSocket is closed with %d: %s", violation.code, violation.reason)
            await self._end(BROKEN, violation.reason, close_frame(violation.code, violation.reason))
        await self._write_all(pongs)

    async def take_message(self, message: ASGISendEvent) -> None:
        """Send what the application says."""
        if self.is_open:
            kind: str = message["type"]
            if kind == FRAMES:
                await self.wire.write(text_frames(cast("dict[str, Any]", message)["texts"]))
                return
            await self._send_open(kind, cast("dict[str, Any]", message))
        elif self._state is _State.CLOSED:
            # Also an application that only sends must come to see that it is cancelled.
            await trio.lowlevel.checkpoint()
        else:
            await self._decide(message["type"], cast("dict[str, Any]", message))

    async def begin(self) -> None:
        """Start the application, or refuse the handshake in its stead."""
        if self._state is _State.CLOSED:  # the client has left already
            return
        request = self.exchange.request
        if (status := _fault(request.headers, request.version)) is not None:
            await self._refuse(status)
            return
        scope = self.scope
        del scope["method"]
        scope.update(
            type="websocket",
            asgi={"version": "3.0", "spec_version": "2.3"},
            scheme="ws",
            subprotocols=_tokens(request.headers, b"sec-websocket-protocol"),
            extensions={"websocket.http.response": {}, FRAMES: {}},
        )
        self._messages = messages = _Messages()
        messages.life = self.wire.start_app(
            scope, messages.receive, self.take_message, self._app_has_ended, alone=True
        )

    async def _decide(self, kind: str, message: dict[str, Any]) -> None:
        """Take what an application says before the WebSocket is open."""
        match kind:
            case "websocket.accept" if self._state is _State.ASKED:
                await self._accept(message)
            case "websocket.close" if self._state is _State.ASKED:
                await self._refuse(403)
            case "websocket.http.response.start" if self._state is _State.ASKED:
                headers = [(bytes(n).lower(), bytes(v)) for n, v in message.get("headers", [])]
                self._response = int(message["status"]), headers
            case "websocket.http.response.body":
                await self._respond(bytes(message.get("body", b"")), message.get("more_body"))
            case _:
                raise RuntimeError(f"{kind} was sent before the WebSocket was accepted")

    async def _accept(self, message: dict[str, Any]) -> None:
        asked = self.exchange.request.headers
        agreed, inflater = _agree_on_compression(_tokens(asked, b"sec-websocket-extensions"))
        key = next(value for name, value in asked if name == b"sec-websocket-key")
        digest = hashlib.sha1(key.strip() + _GUID, usedforsecurity=False).digest()
        headers = [
            (b"upgrade", b"websocket"),
            (b"connection", b"Upgrade"),
            (b"sec-websocket-accept", base64.b64encode(digest)),
        ]
        if agreed is not None:
            headers.append((b"sec-websocket-extensions", agreed.encode()))
        if (subprotocol := message.get("subprotocol")) is not None:
            headers.append((b"sec-websocket-protocol", subprotocol.encode()))
        headers += [(bytes(name), bytes(value)) for name, value in message.get("headers") or ()]
        self._reader = FrameReader(MESSAGE_LIMIT_BYTES, inflater)
        self._state = _State.OPEN
        self.wire.opened()
        await self.wire.write(interim_head(_SWITCHING_PROTOCOLS, headers, self.own))
        self._decided.set()

    async def _respond(self, body: bytes, more: object) -> None:
        if self._state is _State.ASKED:
            self._state = _State.REFUSING
            status, headers = self._response
            headers = [(name, value) for name, value in headers if name != b"connection"]
            headers.append((b"connection", b"close"))
            await self.exchange.start(status, headers)
        if more:
            await self.exchange.send(body)
        else:
            self._state = _State.CLOSED
            self._messages = None  # it knows
            await self.exchange.finish(body)

    async def _refuse(self, status: int) -> None:
        """Answer the handshake in the application's stead."""
        body = error_body(
            error_object(_REASONS[status], type="invalid_request_error", code="bad_handshake")
        )
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
        ]
        if status in (_BAD_REQUEST, _UPGRADE_REQUIRED):
            headers.append((b"sec-websocket-version", _VERSION))
        self._response = status, headers
        await self._respond(body, more=False)

    async def _send_open(self, kind: str, message: dict[str, Any]) -> None:
        match kind:
            case "websocket.send" if message.get("bytes") is not None:
                await self.wire.write(binary_frame(bytes(message["bytes"])))
            case "websocket.send":
                text: str = message["text"]
                await self.wire.write(text_frames([text.encode(errors="replace")]))
            case "websocket.close":
                code, reason = message.get("code", NORMAL), message.get("reason") or ""
                self._messages = None  # it knows
                await self._end(code, reason, close_frame(int(code), reason))
            case _:
                raise RuntimeError(f"{kind} was sent on an open WebSocket")

    async def _app_has_ended(self) -> None:
        if self._messages is not None:
            self._messages.close()
            self._messages = None
        match self._state:
            case _State.CLOSED:
                pass
            case _State.ASKED:
                await self._refuse(_INTERNAL_SERVER_ERROR)
            case _State.OPEN:
                await self._end(INTERNAL, "", close_frame(INTERNAL))
            case _State.REFUSING:
                await self.exchange.wind_up()

    async def _deliver(self, message: str | bytes) -> None:
        if (messages := self._messages) is None:
            return
        if isinstance(message, str):
            await messages.put({"type": "websocket.receive", "bytes": None, "text": message})
        else:
            await messages.put({"type": "websocket.receive", "bytes": message, "text": None})

    async def _write_all(self, frames: list[bytes]) -> None:
        if frames and self.is_open:
            await self.wire.write(b"".join(frames))
        frames.clear()

    async def _end(self, code: int, reason: str, last: bytes) -> None:
        """Tell both sides; but not a client that does not even read what was sent before."""
        self._state = _State.CLOSED
        self._tell_the_end(code, reason)
        if not self.wire.is_blocked:
            await self.wire.write(last)
        self.end()

    def _tell_the_end(self, code: int, reason: str) -> None:
        messages, self._messages = self._messages, None
        if messages is not None:
            messages.tell_the_end(code, reason)


_REASONS: Final = {
    _BAD_REQUEST: "this is no valid WebSocket handshake: RFC 6455 wants HTTP/1.1 and a "
    "Sec-WebSocket-Key of 16 bytes in base64",
    403: "the WebSocket was refused",
    _UPGRADE_REQUIRED: "only version 13 of the WebSocket protocol is spoken here",
    _INTERNAL_SERVER_ERROR: "codexrelay failed in a way nobody foresaw; its log has the details",
}


def asks_for_websocket(method: str, headers: list[tuple[bytes, bytes]]) -> bool:
    """Whether a request with these headers, lower-case names, is to become a WebSocket."""
    return (
        method == "GET"
        and "websocket" in _tokens(headers, b"upgrade", lower=True)
        and "upgrade" in _tokens(headers, b"connection", lower=True)
    )


def _fault(headers: list[tuple[bytes, bytes]], http_version: str) -> int | None:
    """Return the status for a handshake that is at fault, None for a good one."""
    versions = [value.strip() for name, value in headers if name == b"sec-websocket-version"]
    if http_version != "1.1":
        return _BAD_REQUEST
    if versions != [_VERSION]:
        return _UPGRADE_REQUIRED
    keys = [value.strip() for name, value in headers if name == b"sec-websocket-key"]
    try:
        good = len(keys) == 1 and len(base64.b64decode(keys[0], validate=True)) == _KEY_BYTES
    except binascii.Error:
        good = False
    return None if good else _BAD_REQUEST


def _tokens(headers: list[tuple[bytes, bytes]], name: bytes, *, lower: bool = False) -> list[str]:
    """Return the elements of a header that is a comma-separated list."""
    tokens = [
        token.strip()
        for header, value in headers
        if header == name
        for token in value.decode("latin-1").split(",")
    ]
    return [token.lower() if lower else token for token in tokens if token]


def _agree_on_compression(offers: list[str]) -> tuple[str | None, Inflater | None]:
    """Return the answer to the first offer of permessage-deflate that can be kept, and an inflater.

    Every window that the offer mentions is one we can live with: ours is the largest, and we send
    nothing compressed. An offer with anything unknown or malformed in it is declined, as RFC 7692
    (7) asks; without any, there is no compression.
    """
    for offer in offers:
        name, *parameters = (part.strip() for part in offer.split(";"))
        if name.lower() != _DEFLATE:
            continue
        answer, seen = [_DEFLATE], set[str]()
        for parameter in parameters:
            key, equals, value = parameter.partition("=")
            key, value = key.strip().lower(), value.strip().strip('"')
            takes_bits = key in ("server_max_window_bits", "client_max_window_bits")
            is_flag = key in ("server_no_context_takeover", "client_no_context_takeover")
            bits = value in _WINDOW_BITS
            if key in seen or not (
                (is_flag and not equals)
                or (takes_bits and bits)
                or (key == "client_max_window_bits" and not equals)
            ):
                break
            seen.add(key)
            if is_flag or bits:
                answer.append(f"{key}={value}" if bits else key)
        else:
            return "; ".join(answer), Inflater(forgets="client_no_context_takeover" in seen)
    return None, None


_WINDOW_BITS: Final = frozenset(str(bits) for bits in range(8, 16))
