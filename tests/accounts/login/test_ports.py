from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest
import trio

from codexrelay.accounts.login.errors import LoginError
from codexrelay.accounts.login.ports import callback_port
from tests.fakes.cancel_at_step import CancelAtStep
from tests.fakes.scripted_server import always_answering, serving

if TYPE_CHECKING:
    from collections.abc import Sequence

NOT_FOUND = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"


def port_of(listeners: Sequence[trio.SocketListener]) -> int:
    port: int = listeners[0].socket.getsockname()[1]
    return port


async def has_ipv6() -> bool:
    try:
        [listener] = await trio.open_tcp_listeners(0, host="::1")
    except OSError:
        return False
    await listener.aclose()
    return True


async def is_free(port: int) -> bool:
    try:
        [listener] = await trio.open_tcp_listeners(port, host="127.0.0.1")
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        return False
    await listener.aclose()
    return True


async def test_both_addresses_of_localhost_are_listened_on() -> None:
    with trio.fail_after(20):
        async with callback_port(0) as listeners:
            hosts = {listener.socket.getsockname()[0] for listener in listeners}
            ports = {listener.socket.getsockname()[1] for listener in listeners}
    assert hosts == ({"127.0.0.1", "::1"} if await has_ipv6() else {"127.0.0.1"})
    assert len(ports) == 1


async def test_the_port_is_free_again_at_the_end() -> None:
    with trio.fail_after(20):
        async with callback_port(0) as listeners:
            port = port_of(listeners)
            assert not await is_free(port)
        assert await is_free(port)


async def test_a_taken_port_is_told_with_the_ways_without_it() -> None:
    with trio.fail_after(20):
        async with serving(always_answering(NOT_FOUND)) as server:
            port = int(server.url.rpartition(":")[2])
            with pytest.raises(LoginError, match=f"port {port} .*--device.*--no-browser"):
                async with callback_port(port):
                    pass


async def test_a_port_that_is_taken_on_the_other_address_only_is_taken() -> None:
    if not await has_ipv6():
        pytest.skip("no IPv6 on this machine")
    with trio.fail_after(20):
        [other] = await trio.open_tcp_listeners(0, host="::1")
        port = port_of([other])
        async with other:
            # Nobody is asked to leave on the first address: nobody is there.
            with pytest.raises(LoginError):
                async with callback_port(port):
                    pass
        assert await is_free(port)


async def test_another_sign_in_is_asked_once_to_leave_the_port() -> None:
    asked: list[bytes] = []
    with trio.fail_after(20):
        [other] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = port_of([other])

        async def leave_when_asked() -> None:
            async with other, await other.accept() as stream:
                asked.append(bytes(await stream.receive_some(4096)))
                await stream.send_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(leave_when_asked)
            async with callback_port(port) as listeners:
                assert port_of(listeners) == port
    assert len(asked) == 1
    assert asked[0].startswith(b"GET /cancel HTTP/1.1\r\n")


async def test_a_cancel_at_any_step_leaves_the_port_free() -> None:
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = port_of([listener])
    await listener.aclose()
    with trio.fail_after(20):
        for at in range(1, 100):
            with trio.CancelScope() as scope:
                instrument = CancelAtStep(scope, at)
                trio.lowlevel.add_instrument(instrument)
                try:
                    async with callback_port(port):
                        await trio.lowlevel.checkpoint()
                finally:
                    trio.lowlevel.remove_instrument(instrument)
            assert await is_free(port)
            if not scope.cancelled_caught:
                assert at > 2
                return
    pytest.fail("it never ended")
