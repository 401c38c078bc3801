"""What the process is wired from, where the wiring itself can be wrong."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

import httpx
import trio

from codexrelay.backends.codex.settings import CodexBackendSettings
from codexrelay.cli import process
from tests.fakes.request_bodies import Pieces, posting
from tests.fakes.scripted_server import serving

if TYPE_CHECKING:
    from tests.fakes.scripted_server import Caller

_CHUNK: Final = b"5\r\nevent\r\n"
_STOCK: Final = CodexBackendSettings(transport="httpx")


async def five_events(caller: Caller) -> None:
    while await caller.request():
        await caller.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(5):
            await caller.send(_CHUNK)
        await caller.send(b"0\r\n\r\n")


async def fetch(transport: httpx.AsyncBaseTransport, url: str, size_bytes: int) -> bytes:
    request = posting(url, Pieces(bytes(size_bytes)), size_bytes)
    response = await transport.handle_async_request(request)
    try:
        return await response.aread()
    finally:
        await response.aclose()


async def test_three_hundred_random_cancels_leave_the_stock_transport_at_its_baseline() -> None:
    chance = random.Random(11)

    async def cancelled_twice_somewhere(transport: httpx.AsyncBaseTransport, url: str) -> None:
        for _ in range(2):
            async with trio.open_nursery() as nursery:
                size_bytes = chance.choice([0, 1000, 300_000])
                nursery.start_soon(fetch, transport, url, size_bytes)
                for _ in range(chance.randrange(40)):
                    await trio.lowlevel.checkpoint()
                nursery.cancel_scope.cancel()

    with trio.fail_after(60):
        async with serving(five_events) as server:
            async with process.transport_of(_STOCK, proxy=None) as transport:
                assert isinstance(transport, httpx.AsyncHTTPTransport)
                async with trio.open_nursery() as nursery:
                    # More at once than a pool has slots by default: waiting for one is what leaks.
                    for _ in range(150):
                        nursery.start_soon(cancelled_twice_somewhere, transport, server.url)
                kept = transport._pool.connections
                assert [one for one in kept if not one.is_idle()] == []
                await server.until_open(len(kept))
                assert await fetch(transport, server.url, 0) == b"event" * 5
            await server.until_open(0)


async def test_the_stock_transport_goes_through_a_proxy_when_there_is_one() -> None:
    asked: list[bytes] = []

    async def proxy(caller: Caller) -> None:
        asked.append(await caller.request())
        await caller.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")

    async with (
        serving(proxy) as server,
        process.transport_of(_STOCK, proxy=server.url) as transport,
    ):
        assert await fetch(transport, "http://backend.invalid/x", 0) == b"hi"
    assert asked[0].startswith(b"POST http://backend.invalid/x HTTP/1.1\r\n")
