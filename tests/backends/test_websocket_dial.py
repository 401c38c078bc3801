"""WebSockets on real sockets: the handshake, whichever way it ends."""

from __future__ import annotations

import gc
import os
import ssl
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import httpx
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from codexrelay.backends.transports.connection import Origin
from codexrelay.backends.transports.dialling import Dialler
from codexrelay.backends.transports.proxy import Proxy
from codexrelay.backends.transports.websocket import TrioFrames, WebSocketDial
from codexrelay.backends.websocket import Closed, Handshake, Opened, Refused, Unreachable
from tests.fakes.cancel_at_step import CancelAtStep
from tests.fakes.connect_proxy import ConnectProxy
from tests.fakes.scripted_server import Caller, answering, serving
from tests.fakes.websocket_server import (
    Peer,
    accepting,
    agreement,
    close_frame,
    echo,
    frame,
    silent,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from trio.testing import MockClock

    from tests.fakes.certificates import Certificate
    from tests.fakes.scripted_server import Script

KEY: Final = "backends.openai_codex.proxy"


def handshake(url: str, *headers: tuple[str, str], within_s: float = 10.0) -> Handshake:
    return Handshake(url=httpx.URL(url), headers=headers, within_s=within_s)


async def result_of(
    asked: Handshake, dialler: Dialler | None = None
) -> Opened | Refused | Unreachable:
    """Return what a handshake gives; the WebSocket is left at once."""
    async with WebSocketDial(dialler or Dialler())(asked) as result:
        return result


@asynccontextmanager
async def dialled(url: str, dialler: Dialler | None = None) -> AsyncIterator[TrioFrames]:
    async with WebSocketDial(dialler or Dialler())(handshake(url)) as result:
        assert isinstance(result, Opened)
        assert isinstance(result.frames, TrioFrames)
        yield result.frames


async def test_headers_go_out_and_those_of_the_answer_come_back() -> None:
    heads = []

    async def script(peer: Peer) -> None:
        heads.append(peer.head)
        await peer.left()

    asked = (("authorization", "Bearer x"), ("x-name", "J\xf6rg"), ("host", "evil"))
    with trio.fail_after(20):
        async with serving(accepting(script, b"X-Codex-Turn-State: s", b"x-more: m")) as server:
            result = await result_of(handshake(f"{server.url}/a/b?c=d", *asked))
    assert isinstance(result, Opened)
    assert result.headers == {"x-codex-turn-state": "s", "x-more": "m"}
    [head] = heads
    assert head.startswith(b"GET /a/b?c=d HTTP/1.1\r\n")
    lines = head.lower().split(b"\r\n")
    assert b"authorization: bearer x" in lines
    assert b"x-name: j\xf6rg" in lines
    hosts = [line for line in lines if line.startswith(b"host:")]
    assert hosts == [b"host: " + server.url.removeprefix("http://").encode()]
    assert not any(line.startswith(b"sec-websocket-extensions") for line in lines)


async def test_frames_in_the_same_block_as_the_answer_are_messages() -> None:
    async def script(caller: Caller) -> None:
        head = await caller.head()
        interim = b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n"
        await caller.send(interim + agreement(head) + frame(b"one") + frame(b"two"))
        await caller.left()

    with trio.fail_after(20):
        async with serving(script) as server, dialled(server.url) as frames:
            assert await frames.receive() == "one"
            assert frames.ready() == ["two"]
            assert frames.ready() == ()


@pytest.mark.parametrize(
    ("stream", "code"),
    [(close_frame(1013, "later"), 1013), (frame(b"\xff"), 1007), (b"", 1006)],
    ids=["a close frame", "a mistake", "the end"],
)
async def test_an_end_in_the_same_block_as_the_answer_is_one(stream: bytes, code: int) -> None:
    async def script(caller: Caller) -> None:
        await caller.send(agreement(await caller.head()) + frame(b"one") + stream)
        if stream:
            await caller.left()

    with trio.fail_after(20):
        async with serving(script) as server, dialled(server.url) as frames:
            assert await frames.receive() == "one"
            with pytest.raises(Closed) as caught:
                await frames.receive()
            await server.until_open(0)
    assert caught.value.code == code


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("proxied", ["direct", "http proxy", "https proxy"])
async def test_messages_pass_on_every_way(
    certificate: Certificate, tls: bool, proxied: str
) -> None:
    maker = ConnectProxy()
    proxy_tls = certificate.server if proxied == "https proxy" else None
    big = "\N{SNOWMAN}" * 1_700_000
    with trio.fail_after(60):
        async with (
            serving(accepting(echo), tls=certificate.server if tls else None) as server,
            serving(maker, tls=proxy_tls) as proxy,
        ):
            origin = Origin.of(httpx.URL(server.url))
            ways = {} if proxied == "direct" else {origin: Proxy.named(proxy.url, source=KEY)}
            dialler = Dialler(ssl_context=certificate.client, proxies=ways)
            async with dialled(server.url, dialler) as frames:
                for message in ("h\xe4llo", "", b"\x00\xff", "x" * 125, "x" * 126, big):
                    await frames.send(message)
                    assert await frames.receive() == message
                await frames.close(1000, "bye")
                assert frames.closed is not None
                assert (frames.closed.code, frames.closed.reason) == (1000, "bye")
            await server.until_open(0)
    assert len(maker.asked) == (proxied != "direct")


REFUSALS: Final = {
    "426": (
        b"HTTP/1.1 426 Upgrade Required\r\nX-A: b\r\ncontent-length: 4\r\n\r\nhttp",
        (426, b"http"),
    ),
    "401 in chunks": (
        b"HTTP/1.1 401 Unauthorized\r\nx-a: b\r\ntransfer-encoding: chunked\r\n\r\n"
        b"2\r\nno\r\n3\r\n!!!\r\n0\r\n\r\n",
        (401, b"no!!!"),
    ),
    "until the end": (b"HTTP/1.1 503 Busy\r\nx-a: b\r\n\r\nlater", (503, b"later")),
    "cut off": (b"HTTP/1.1 500 No\r\nx-a: b\r\ncontent-length: 90\r\n\r\nhalf", (500, b"half")),
    "without a body": (
        b"HTTP/1.1 404 Not Found\r\nx-a: b\r\ncontent-length: 0\r\n\r\n",
        (404, b""),
    ),
    "a 200": (b"HTTP/1.1 200 OK\r\nx-a: b\r\ncontent-length: 2\r\n\r\nok", (200, b"ok")),
    "endless": (
        b"HTTP/1.1 403 No\r\nx-a: b\r\n\r\n" + b"x" * 300_000,
        (403, b"x" * 65536),
    ),
}


@pytest.mark.parametrize(("answer", "told"), REFUSALS.values(), ids=REFUSALS)
async def test_another_status_is_a_refusal_with_its_body(
    answer: bytes, told: tuple[int, bytes]
) -> None:
    with trio.fail_after(20):
        async with serving(answering(answer)) as server:
            result = await result_of(handshake(server.url))
            await server.until_open(0)
    assert isinstance(result, Refused)
    assert (result.status, result.body) == told
    assert result.headers["x-a"] == "b"


async def resetting(caller: Caller) -> None:
    await caller.head()
    caller.reset()


def agreeing_wrongly(change: bytes, into: bytes) -> Script:
    async def script(caller: Caller) -> None:
        await caller.send(agreement(await caller.head()).replace(change, into))
        await caller.left()

    return script


BROKEN_ANSWERS: Final[dict[str, Script]] = {
    "closed at once": answering(),
    "closed without an answer": answering(b""),
    "half a head": answering(b"HTTP/1.1 101 Swi"),
    "reset": resetting,
    "no HTTP": answering(b"SSH-2.0-OpenSSH\r\n\r\n"),
    "no HTTP at all": answering(b"\x15\x03\x01\x00\x02\x02\x46"),
    "an endless head": answering(b"HTTP/1.1 101 x\r\n" + b"x-y: z\r\n" * 60_000),
    "another key's": agreeing_wrongly(b"Sec-WebSocket-Accept: ", b"Sec-WebSocket-Accept: x"),
    "no upgrade": agreeing_wrongly(b"Upgrade: websocket\r\n", b""),
    "no connection": agreeing_wrongly(b"Connection: Upgrade\r\n", b""),
    "an extension": agreeing_wrongly(
        b"\r\n\r\n", b"\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
    ),
    "a subprotocol": agreeing_wrongly(b"\r\n\r\n", b"\r\nSec-WebSocket-Protocol: \xff\r\n\r\n"),
}


@pytest.mark.parametrize("script", BROKEN_ANSWERS.values(), ids=BROKEN_ANSWERS)
async def test_what_is_no_answer_is_told(script: Script) -> None:
    with trio.fail_after(20):
        async with serving(script) as server:
            result = await result_of(handshake(server.url))
            await server.until_open(0)
    assert isinstance(result, Unreachable)
    assert result.why


@pytest.mark.parametrize("break_", ["\r", "\n", "\0", "\r\nx-evil: y"])
@pytest.mark.parametrize("where", ["name", "value"])
async def test_a_header_that_would_write_another_is_never_sent(break_: str, where: str) -> None:
    header = (f"x{break_}", "v") if where == "name" else ("x", f"v{break_}w")
    async with serving(accepting(silent)) as server:
        result = await result_of(handshake(server.url, header))
        assert server.accepted == 0
    assert isinstance(result, Unreachable)
    assert "line break or NUL" in result.why


@pytest.mark.parametrize("header", [("x", "\u2028"), ("x y", "z"), ("\xe4", "z")])
async def test_a_header_that_cannot_be_one_is_told(header: tuple[str, str]) -> None:
    with trio.fail_after(20):
        async with serving(accepting(silent)) as server:
            result = await result_of(handshake(server.url, header))
    assert isinstance(result, Unreachable)


@pytest.mark.parametrize("value", ["Bearer a-secret ", " Bearer a-secret", "Bearer\x0ba-secret"])
async def test_what_is_told_of_a_header_never_quotes_it(value: str) -> None:
    with trio.fail_after(20):
        async with serving(accepting(silent)) as server:
            result = await result_of(handshake(server.url, ("authorization", value)))
    assert isinstance(result, Unreachable)
    assert "secret" not in result.why
    assert "cannot be written" in result.why


async def test_where_nobody_listens_is_told() -> None:
    async with serving(accepting(silent)) as server:
        pass
    with trio.fail_after(20):
        result = await result_of(handshake(server.url))
    assert isinstance(result, Unreachable)
    assert server.url.removeprefix("http://") in result.why


async def test_a_server_that_nobody_vouches_for_is_told(certificate: Certificate) -> None:
    dialler = Dialler(ssl_context=ssl.create_default_context())
    with trio.fail_after(20):
        async with serving(accepting(echo), tls=certificate.server) as server:
            result = await result_of(handshake(server.url), dialler)
    assert isinstance(result, Unreachable)
    assert "CERTIFICATE_VERIFY_FAILED" in result.why


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 407 Auth\r\ncontent-length: 0\r\n\r\n", "407 Proxy Authentication Required"),
        (b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n", "502 Bad Gateway"),
        (b"", ""),
    ],
)
async def test_a_proxy_that_makes_no_tunnel_is_named(answer: bytes, words: str) -> None:
    with trio.fail_after(20):
        async with serving(answering(answer)) as proxy:
            ways = {Origin.of(httpx.URL("http://127.0.0.1:9")): Proxy.named(proxy.url, source=KEY)}
            result = await result_of(handshake("http://127.0.0.1:9/x"), Dialler(proxies=ways))
            await proxy.until_open(0)
    assert isinstance(result, Unreachable)
    assert words in result.why
    assert KEY in result.why


# In these the clock jumps to the next deadline whenever everybody waits: the budget comes sooner.


async def no_tls(caller: Caller) -> None:
    await caller.left()


async def no_answer(caller: Caller) -> None:
    await caller.head()
    await caller.left()


async def half_an_answer(caller: Caller) -> None:
    await caller.head()
    await caller.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgr")
    await caller.left()


SLOW: Final = {
    "connecting": ("https", no_tls),
    "no answer": ("http", no_answer),
    "half an answer": ("http", half_an_answer),
}


@pytest.mark.parametrize(("scheme", "script"), SLOW.values(), ids=SLOW)
async def test_connection_and_answer_have_one_budget_together(
    certificate: Certificate, autojump_clock: MockClock, scheme: str, script: Script
) -> None:
    async with serving(script) as server:
        url = server.url.replace("http", scheme)
        began_at_s = trio.current_time()
        dialler = Dialler(ssl_context=certificate.client)
        result = await result_of(handshake(url, within_s=7.0), dialler)
        assert trio.current_time() - began_at_s == pytest.approx(7.0)
        await server.until_open(0)
    assert isinstance(result, Unreachable)
    assert "within 7.0 s" in result.why


async def test_a_slow_connection_leaves_the_answer_the_rest(autojump_clock: MockClock) -> None:
    async def slow(host: str, port: int) -> trio.SocketStream:
        await trio.sleep(5)
        return await trio.open_tcp_stream(host, port)

    async with serving(no_answer) as server:
        began_at_s = trio.current_time()
        result = await result_of(handshake(server.url, within_s=7.0), Dialler(opening=slow))
        assert trio.current_time() - began_at_s == pytest.approx(7.0)
    assert isinstance(result, Unreachable)


async def test_a_slow_refusal_is_told_as_far_as_it_came(autojump_clock: MockClock) -> None:
    async def script(caller: Caller) -> None:
        await caller.head()
        await caller.send(b"HTTP/1.1 429 No\r\ncontent-length: 90\r\n\r\nwait")
        await caller.left()

    async with serving(script) as server:
        result = await result_of(handshake(server.url, within_s=7.0))
    assert result == Refused(status=429, headers={"content-length": "90"}, body=b"wait")


# Leaving.


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


async def steps_of_a_conversation(certificate: Certificate, at: int) -> bool:
    """Cancel a conversation at its `at`-th step; return whether it had that many."""

    async def script(peer: Peer) -> None:
        await peer.send(frame(b"one"))
        await echo(peer)

    async with serving(accepting(script), tls=certificate.server) as server:
        await wait_all_tasks_blocked()
        tasks = trio.lowlevel.current_statistics().tasks_living
        with trio.CancelScope() as scope:
            cancelling = CancelAtStep(scope, at)
            trio.lowlevel.add_instrument(cancelling)
            try:
                dialler = Dialler(ssl_context=certificate.client)
                async with dialled(server.url, dialler) as frames:
                    assert await frames.receive() == "one"
                    await frames.ping()
                    await frames.send("two")
                    assert await frames.receive() == "two"
                    await frames.close()
            finally:
                trio.lowlevel.remove_instrument(cancelling)
        await server.until_open(0)
        await wait_all_tasks_blocked()
        assert trio.lowlevel.current_statistics().tasks_living <= tasks
    return scope.cancel_called


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts descriptors there")
async def test_cancelled_at_any_step_it_leaves_neither_tasks_nor_connections(
    certificate: Certificate,
) -> None:
    at = 1
    with trio.fail_after(60):
        await steps_of_a_conversation(certificate, 10**9)
        gc.collect()
        files = open_files()
        while await steps_of_a_conversation(certificate, at):
            at += 1
        assert at > 20, "there are that many steps at least"
        gc.collect()
        assert open_files() <= files


async def test_exceptions_of_the_block_come_out_as_they_are() -> None:
    with trio.fail_after(20):
        async with serving(accepting(silent)) as server:
            with pytest.raises(ZeroDivisionError):
                async with dialled(server.url):
                    raise ZeroDivisionError
            async with dialled(server.url) as frames:
                await frames.aclose()
                with pytest.raises(Closed):
                    await frames.receive()


async def test_leaving_waits_for_nobody(autojump_clock: MockClock) -> None:
    async with serving(accepting(silent)) as server:
        began_at_s = trio.current_time()
        async with dialled(server.url):
            pass
        assert trio.current_time() == began_at_s


async def test_a_dial_holds_no_connection(certificate: Certificate) -> None:
    async def closing(peer: Peer) -> None:
        await peer.send(close_frame(1001, "going"))
        await peer.left()

    with trio.fail_after(20):
        async with serving(accepting(closing)) as server:
            dial = WebSocketDial(Dialler())
            for _ in range(3):
                async with dial(handshake(server.url)) as result:
                    assert isinstance(result, Opened)
                    with pytest.raises(Closed):
                        await result.frames.receive()
            await server.until_open(0)
