"""A client of the simulator's WebSocket, over a connection in memory or a socket."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import attrs
import trio
import trio_websocket
from trio.testing import memory_stream_pair

from codexrelay.protocol.events import TERMINAL
from codexrelay.protocol.raw import dump, get_object, get_text, parse_object
from harness.simulator.endpoints import BETA
from tests.fakes.simulated import request, signed_in_headers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from codexrelay.protocol.raw import Json, JsonObject
    from harness.simulator import Simulator

PATH = "/backend-api/codex/responses"
#: Larger than any event of the simulator.
_MAX_BYTES = 2**24


def asking(*items: JsonObject, **more: Json) -> JsonObject:
    """Return a message that asks for a response to this input."""
    return {"type": "response.create", **request(*items, **more)}


@attrs.frozen
class Talk:
    """An open WebSocket to the simulator."""

    connection: trio_websocket.WebSocketConnection

    async def send(self, message: JsonObject) -> None:
        await self.connection.send_message(dump(message).decode())

    async def next(self) -> JsonObject:
        """Return the next event."""
        text = await self.connection.get_message()
        assert isinstance(text, str)
        return parse_object(text.encode())

    async def rest(self) -> list[JsonObject]:
        """Return the events up to the terminal one."""
        events = [await self.next()]
        while events[-1]["type"] not in TERMINAL:
            events.append(await self.next())
        return events

    async def ask(self, *items: JsonObject, **more: Json) -> list[JsonObject]:
        """Ask for a response and return its events."""
        await self.send(asking(*items, **more))
        return await self.rest()

    async def closed(self) -> trio_websocket.CloseReason | None:
        """Read until the connection ends; return what its close frame says, if there is one."""
        try:
            while True:
                await self.connection.get_message()
        except trio_websocket.ConnectionClosed as closed:
            return closed.reason


def response_id(events: list[JsonObject]) -> str:
    """Return the id of the response that some events are of."""
    return get_text(get_object(events[-1], "response"), "id") or ""


@asynccontextmanager
async def socket_to(
    simulator: Simulator,
    *,
    account: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> AsyncIterator[Talk]:
    """Open a WebSocket in memory, as an account that is signed in; leave it without a word."""
    ours, theirs = memory_stream_pair()
    named = {
        "openai-beta": BETA,
        **signed_in_headers(simulator, account or simulator.accounts[0].name),
        **(headers or {}),
    }
    extra = [(name.encode(), value.encode()) for name, value in named.items()]
    async with trio.open_nursery() as server, trio.open_nursery() as client:
        server.start_soon(simulator.serve_connection, theirs)
        connection = await trio_websocket.wrap_client_stream(
            client,
            ours,
            "backend",
            PATH,
            extra_headers=extra,
            # So that pongs are read behind messages that nobody reads.
            message_queue_size=1000,
            max_message_size=_MAX_BYTES,
        )
        yield Talk(connection)
        await trio.aclose_forcefully(ours)
        client.cancel_scope.cancel()
