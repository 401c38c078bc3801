"""What the stock transport does beyond httpx."""

from __future__ import annotations

import gc
import ssl
import warnings

import httpx
import pytest
import trio
import trio.testing

from codexrelay.backends.transports.stock import StockTransport
from tests.fakes.scripted_server import Caller, always_answering, serving

NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


async def test_a_body_that_is_cut_off_leaves_nothing_to_the_garbage_collector() -> None:
    began, ends = trio.Event(), trio.Event()

    async def script(caller: Caller) -> None:
        began.set()
        await ends.wait()  # takes nothing, so that the body does not get through
        await caller.left()

    async with serving(script) as server, StockTransport(ssl_context=NO_TLS, proxies={}) as way:
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            async with trio.open_nursery() as nursery:
                request = httpx.Request("POST", server.url, content=bytes(64 << 20))
                nursery.start_soon(way.handle_async_request, request)
                await began.wait()
                await trio.testing.wait_all_tasks_blocked()
                nursery.cancel_scope.cancel()
            ends.set()
            del request
            gc.collect()
            await trio.lowlevel.checkpoint()
    assert [str(one.message) for one in seen if "generator" in str(one.message)] == []


@pytest.mark.parametrize("body", [b"", b"hello"])
async def test_a_request_may_be_sent_again(body: bytes) -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    async with (
        serving(always_answering(answer)) as server,
        StockTransport(ssl_context=NO_TLS, proxies={}) as way,
    ):
        request = httpx.Request("POST", server.url, content=body)
        for _ in range(2):
            response = await way.handle_async_request(request)
            assert await response.aread() == b"ok"
