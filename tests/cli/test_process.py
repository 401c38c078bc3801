"""What the process is wired from, where the wiring itself can be wrong."""

from __future__ import annotations

import contextlib
import random
import select
from typing import TYPE_CHECKING, Final, Literal

import httpx
import pytest
import trio

from codexrelay.backends.codex.settings import CodexBackendSettings
from codexrelay.backends.transports.stock import StockTransport
from codexrelay.cli import process
from codexrelay.config.proxies import Named
from codexrelay.errors import ConfigError
from codexrelay.relay.mover import BodyMover
from codexrelay.relay.pump import PumpMover
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
            async with process.transport_of(
                _STOCK, instance="openai-codex", proxy_for=lambda _: None
            ) as transport:
                assert isinstance(transport, StockTransport)
                async with trio.open_nursery() as nursery:
                    # More at once than a pool has slots by default: waiting for one is what leaks.
                    for _ in range(150):
                        nursery.start_soon(cancelled_twice_somewhere, transport, server.url)
                # httpcore may keep what was cancelled before its first request, without a socket.
                kept = [one for one in transport._direct._pool.connections if one.is_idle()]
                await server.until_open(len(kept))
                assert await fetch(transport, server.url, 0) == b"event" * 5
            await server.until_open(0)


@pytest.mark.parametrize(
    ("transport", "request_line"),
    [
        ("direct", b"CONNECT backend.invalid:80 HTTP/1.1\r\n"),
        ("httpx", b"POST http://backend.invalid/x HTTP/1.1\r\n"),
    ],
)
@pytest.mark.parametrize("by_the_block", [True, False], ids=["block", "environment"])
async def test_both_transports_go_through_a_proxy_when_there_is_one(
    transport: Literal["direct", "httpx"], request_line: bytes, by_the_block: bool
) -> None:
    asked: list[bytes] = []

    async def proxy(caller: Caller) -> None:
        asked.append(await caller.request())
        await caller.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")

    url = "http://backend.invalid/x"
    with trio.fail_after(20):
        async with serving(proxy) as server:
            settings = CodexBackendSettings(
                api_base_url=url, transport=transport, proxy=server.url if by_the_block else None
            )
            named = None if by_the_block else Named(server.url, "HTTP_PROXY")
            async with process.transport_of(
                settings, instance="openai-codex", proxy_for=lambda _: named
            ) as opened:
                with contextlib.suppress(httpx.ProxyError):  # no tunnel: more than a head came
                    assert await fetch(opened, url, 0) == b"hi"
    assert asked[0].startswith(request_line)


@pytest.mark.parametrize("transport", ["direct", "httpx"])
async def test_a_proxy_that_cannot_work_stops_the_start(
    transport: Literal["direct", "httpx"],
) -> None:
    socks = Named("socks5://p:1", "ALL_PROXY")
    with pytest.raises(ConfigError) as caught:
        async with process.transport_of(
            CodexBackendSettings(transport=transport),
            instance="openai-codex.2",
            proxy_for=lambda _: socks,
        ):
            raise AssertionError("it was opened")
    [problem] = caught.value.problems
    assert problem.where == "ALL_PROXY"
    assert problem.what.endswith("; backends.openai_codex.2.proxy may name one, or none")


@pytest.mark.skipif(not hasattr(select, "epoll"), reason="there is no epoll")
async def test_streams_are_pumped_where_the_system_tells_which_are_ready() -> None:
    async with process._mover() as mover:
        assert isinstance(mover, PumpMover)


async def test_elsewhere_each_turn_moves_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(select, "epoll", raising=False)
    async with process._mover() as mover:
        assert isinstance(mover, BodyMover)
