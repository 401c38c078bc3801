"""A request that is handed to an application, as an `Exchange` and by ASGI's messages alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
import trio

from codexrelay.server.exchange import EXCHANGE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from codexrelay.protocol.raw import Headers
    from codexrelay.server.asgi import RelayApp


@attrs.frozen(kw_only=True)
class Sent:
    """What a client sends."""

    path: str = "/v1/responses"
    body: bytes = b""
    method: str = "POST"
    headers: tuple[tuple[bytes, bytes], ...] = ((b"host", b"localhost"),)

    @property
    def scope(self) -> dict[str, Any]:
        length = (b"content-length", b"%d" % len(self.body))
        return {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": self.method,
            "scheme": "http",
            "path": self.path,
            "raw_path": self.path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": (*self.headers, length),
            "client": ("127.0.0.1", 50000),
            "server": ("127.0.0.1", 8787),
            "extensions": {},
        }


@attrs.frozen
class Answer:
    """What a client gets."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


@attrs.define(eq=False)
class FakeExchange:
    """A client in memory that may be slow to send, or vanish in the middle of its answer."""

    data: bytes
    #: The body comes when this is set.
    arrives: trio.Event = attrs.field(factory=trio.Event)
    #: What all that is sent behind the head meets.
    breaks: Exception | None = None
    taken: bool = False
    started: bool = False
    ended: bool = False
    status: int = 0
    headers: tuple[tuple[bytes, bytes], ...] = ()
    sent: bytearray = attrs.field(factory=bytearray)

    @property
    def prompt(self) -> None:
        """See `relay.line.Client`."""

    def take(self) -> None:
        assert not self.taken
        self.taken = True

    async def body(self, *, max_bytes: int) -> bytes | None:
        assert self.taken
        if len(self.data) > max_bytes:
            return None
        await self.arrives.wait()
        return self.data

    async def start(self, status: int, headers: Headers | Sequence[tuple[bytes, bytes]]) -> None:
        assert self.taken
        assert not self.started, "started twice"
        self.started, self.status, self.headers = True, status, tuple(headers)
        await trio.lowlevel.checkpoint()

    async def send(self, data: bytes) -> None:
        assert self.started
        assert not self.ended
        if self.breaks is not None:
            raise self.breaks
        self.sent += data
        await trio.lowlevel.checkpoint()

    async def end(self) -> None:
        assert self.started
        assert not self.ended, "ended twice"
        if self.breaks is not None:
            raise self.breaks
        self.ended = True
        await trio.lowlevel.checkpoint()


async def serve(app: RelayApp, sent: Sent, exchange: FakeExchange) -> None:
    """Let the application serve a request; it may not see any of ASGI's messages."""
    scope = sent.scope
    scope["extensions"][EXCHANGE] = exchange

    async def nothing(*_message: object) -> None:
        raise AssertionError("an ASGI message beside an exchange")

    await app(scope, nothing, nothing)  # type: ignore[arg-type]


async def answer_below_quart(app: RelayApp, sent: Sent) -> Answer:
    """Return the answer to a request that is handed over as an `Exchange`."""
    exchange = FakeExchange(sent.body)
    exchange.arrives.set()
    await serve(app, sent, exchange)
    assert exchange.ended
    return Answer(exchange.status, exchange.headers, bytes(exchange.sent))


async def answer_through_quart(
    app: RelayApp, sent: Sent, *, beside: FakeExchange | None = None
) -> Answer:
    """Return the answer to the same request by ASGI's messages; an exchange may lie `beside`."""
    given: list[dict[str, Any]] = []
    asked = iter([{"type": "http.request", "body": sent.body, "more_body": False}])

    async def receive() -> dict[str, Any]:
        await trio.lowlevel.checkpoint()
        for message in asked:
            return message
        await trio.sleep_forever()
        raise AssertionError

    async def send(message: dict[str, Any]) -> None:
        await trio.lowlevel.checkpoint()
        given.append(message)

    scope = sent.scope
    if beside is not None:
        scope["extensions"][EXCHANGE] = beside
    await app(scope, receive, send)  # type: ignore[arg-type]
    head, *pieces = given
    assert not pieces[-1].get("more_body", False)
    return Answer(
        head["status"], tuple(head["headers"]), b"".join(piece["body"] for piece in pieces)
    )
