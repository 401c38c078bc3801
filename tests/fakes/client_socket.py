"""A client of the relay on a WebSocket, as an agent is one: trio-websocket over a real socket."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import attrs
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, open_websocket_url

from codexrelay.protocol.raw import dump, get_text, parse_object
from tests.fakes.live_server import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from codexrelay.protocol.raw import Json, JsonObject
    from tests.fakes.relay import LiveRelay

#: Messages that end what a `response.create` has asked for.
ENDS = frozenset({"response.completed", "response.failed", "response.incomplete", "error"})
#: As Codex CLI names its session.
SESSION = "01a20306-8527-7882-b0c7-db0d92d6b19d"


@attrs.define(eq=False)
class SocketTalk:
    """One WebSocket to the relay."""

    socket: WebSocketConnection

    async def say(self, message: JsonObject | str | bytes) -> None:
        """Send a message; an object as JSON."""
        with trio.fail_after(PATIENCE_S):
            await self.socket.send_message(
                dump(message).decode() if isinstance(message, dict) else message
            )

    async def create(self, text: str | list[Json] = "hello", **more: Json) -> None:
        """Ask for a response."""
        await self.say({"type": "response.create", "model": "gpt-5.5", "input": text, **more})

    async def next(self) -> JsonObject:
        """Return the next message."""
        with trio.fail_after(PATIENCE_S):
            message = await self.socket.get_message()
        assert isinstance(message, str), message
        return parse_object(message)

    async def until_end(self) -> list[JsonObject]:
        """Return all messages up to and with the one that ends a response."""
        messages = [await self.next()]
        while messages[-1]["type"] not in ENDS:
            messages.append(await self.next())
        return messages

    async def turn(self, text: str | list[Json] = "hello", **more: Json) -> list[JsonObject]:
        """Ask for a response and return all that is said to it."""
        await self.create(text, **more)
        return await self.until_end()

    async def until(self, kind: str, **fields: Json) -> JsonObject:
        """Return the first message of that type which has these fields."""
        while True:
            message = await self.next()
            if message["type"] == kind and fields.items() <= message.items():
                return message

    async def close_code(self) -> int:
        """Return what the relay closes it with; messages that come before are passed over."""
        with trio.fail_after(PATIENCE_S):
            while True:
                try:
                    await self.socket.get_message()
                except ConnectionClosed:
                    break
        await self.leave()  # trio-websocket itself leaves a socket open that the other has closed
        reason = self.socket.closed
        assert reason is not None, "it was cut"
        return int(reason.code)

    async def leave(self) -> None:
        """Drop the connection without a word, as Codex CLI does when its user interrupts it."""
        await trio.aclose_forcefully(self.socket._stream)


@asynccontextmanager
async def talking(
    relay: LiveRelay,
    path: str = "/v1/responses",
    *,
    session: str | None = SESSION,
    headers: Mapping[str, str] | None = None,
) -> AsyncIterator[SocketTalk]:
    """Open a WebSocket to the relay; `session` names the session in the handshake."""
    named = {} if session is None else {"session-id": session}
    async with open_websocket_url(
        relay.url.replace("http", "ws", 1) + path,
        extra_headers=[*{**named, **(headers or {})}.items()],
        max_message_size=64 * 2**20,
        message_queue_size=1,
        disconnect_timeout=PATIENCE_S,
    ) as socket:
        yield SocketTalk(socket)
        with trio.move_on_after(PATIENCE_S):
            await socket.aclose()
        await trio.aclose_forcefully(socket._stream)


def response_id(messages: list[JsonObject]) -> str:
    """Return the id of the response that the messages tell."""
    response = messages[-1]["response"]
    assert isinstance(response, dict)
    id_ = get_text(response, "id")
    assert id_ is not None
    return id_


def kinds(messages: list[JsonObject]) -> list[str]:
    """Return their types."""
    return [str(message["type"]) for message in messages]
