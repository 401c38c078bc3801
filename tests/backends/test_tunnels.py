"""Backends behind a proxy, over both transports."""

from __future__ import annotations

import ssl
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, Literal

import attrs
import httpx
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from codexrelay.backends.backend import Head, UpstreamRequest
from codexrelay.backends.codex.backend import CodexAttempt, CodexBackend
from codexrelay.backends.transports.connection import Origin
from codexrelay.backends.transports.direct import DirectTransport
from codexrelay.backends.transports.proxy import Proxy
from codexrelay.backends.transports.stock import StockTransport
from codexrelay.protocol.faults import Fault, FaultKind, Reached
from tests.fakes.cancel_at_step import CancelAtStep
from tests.fakes.connect_proxy import ConnectProxy
from tests.fakes.scripted_server import Caller, always_answering, serving
from tests.fakes.tokens import an_account
from tests.fakes.wall_clock import NOW_UNIX_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.fakes.certificates import Certificate
    from tests.fakes.scripted_server import Script

Kind = Literal["direct", "httpx"]

KEY: Final = "backends.openai_codex.proxy"
HELLO: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
TUNNEL: Final = b"HTTP/1.1 200 Connection established\r\n\r\n"


@pytest.fixture(params=["direct", "httpx"])
def kind(request: pytest.FixtureRequest) -> Kind:
    return request.param


def behind(
    kind: Kind, proxy_url: str, target_url: str, context: ssl.SSLContext
) -> DirectTransport | StockTransport:
    """Return a transport that goes to the target through the proxy, and to others directly."""
    proxies = {Origin.of(httpx.URL(target_url)): Proxy.named(proxy_url, source=KEY)}
    if kind == "direct":
        return DirectTransport(ssl_context=context, proxies=proxies)
    return StockTransport(ssl_context=context, proxies=proxies)


@asynccontextmanager
async def attempting(
    url: str, transport: httpx.AsyncBaseTransport, *, connect_s: float = 10.0
) -> AsyncIterator[CodexAttempt]:
    backend = CodexBackend(
        transport=transport,
        base_url=httpx.URL(url),
        connect_s=connect_s,
        wall_clock=lambda: NOW_UNIX_S,
    )
    request = UpstreamRequest(path="/responses", body=b"{}")
    async with backend.attempt(request, an_account("work", token="bearer-1")) as attempt:
        yield attempt


async def fault_of(url: str, transport: httpx.AsyncBaseTransport) -> Fault:
    async with attempting(url, transport) as attempt:
        fault = await attempt.send()
    assert isinstance(fault, Fault)
    return fault


@pytest.mark.parametrize("proxy_under_tls", [False, True], ids=["http proxy", "https proxy"])
async def test_a_turn_streams_through_a_tunnel_whose_maker_sees_nothing_of_it(
    certificate: Certificate, kind: Kind, proxy_under_tls: bool
) -> None:
    more = trio.Event()
    asked = []

    async def script(caller: Caller) -> None:
        asked.append(await caller.request())
        await caller.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
        await more.wait()
        await caller.send(b"3\r\ntwo\r\n0\r\n\r\n")
        await caller.left()

    maker = ConnectProxy()
    with trio.fail_after(20):
        async with (
            serving(script, tls=certificate.server) as server,
            serving(maker, tls=certificate.server if proxy_under_tls else None) as proxy,
            behind(kind, proxy.url, server.url, certificate.client) as transport,
            attempting(server.url, transport) as attempt,
        ):
            assert isinstance(await attempt.send(), Head)
            assert await attempt.receive() == b"one"
            more.set()
            assert [await attempt.receive(), await attempt.receive()] == [b"two", b""]
            assert attempt.reached is Reached.SENT
    [head] = maker.asked
    where = server.url.removeprefix("https://").encode()
    assert head.startswith(b"CONNECT %s HTTP/1.1\r\nHost: %s\r\n" % (where, where))
    assert b"bearer-1" not in head
    assert b"codex" not in head
    assert asked[0].startswith(b"POST /responses HTTP/1.1\r\n")
    assert b"bearer-1" in asked[0]
    assert b"proxy-" not in asked[0].lower()


async def test_big_bodies_pass_through_tls_in_tls_both_ways(certificate: Certificate) -> None:
    body = bytes(range(256)) * 12_000
    received = []

    async def script(caller: Caller) -> None:
        received.append(await caller.request())
        await caller.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    with trio.fail_after(60):
        async with (
            serving(script, tls=certificate.server) as server,
            serving(ConnectProxy(), tls=certificate.server) as proxy,
            behind("direct", proxy.url, server.url, certificate.client) as transport,
            httpx.AsyncClient(transport=transport, timeout=None, trust_env=False) as client,
        ):
            assert (await client.post(server.url, content=body)).content == body
    assert received[0].endswith(body)


async def test_a_tunnel_is_kept_for_the_next_request(certificate: Certificate, kind: Kind) -> None:
    with trio.fail_after(20):
        async with (
            serving(always_answering(HELLO), tls=certificate.server) as server,
            serving(ConnectProxy()) as proxy,
            behind(kind, proxy.url, server.url, certificate.client) as transport,
            httpx.AsyncClient(transport=transport, timeout=None, trust_env=False) as client,
        ):
            for _ in range(3):
                assert (await client.get(server.url)).content == b"hello"
            assert (proxy.accepted, server.accepted) == (1, 1)
            await transport.aclose()
            await proxy.until_open(0)


async def test_only_the_targets_that_have_a_proxy_go_through_it(
    certificate: Certificate, kind: Kind
) -> None:
    with trio.fail_after(20):
        async with (
            serving(always_answering(HELLO), tls=certificate.server) as server,
            serving(always_answering(HELLO), tls=certificate.server) as other,
            serving(ConnectProxy()) as proxy,
            behind(kind, proxy.url, server.url, certificate.client) as transport,
            httpx.AsyncClient(transport=transport, timeout=None, trust_env=False) as client,
        ):
            for url in (server.url, other.url, server.url, other.url):
                assert (await client.get(url)).content == b"hello"
            assert (proxy.accepted, server.accepted, other.accepted) == (1, 1, 1)


async def test_a_target_without_tls_gets_a_tunnel_too() -> None:
    maker = ConnectProxy()
    with trio.fail_after(20):
        async with (
            serving(always_answering(HELLO)) as server,
            serving(maker) as proxy,
            behind("direct", proxy.url, server.url, _nobody()) as transport,
            httpx.AsyncClient(transport=transport, timeout=None, trust_env=False) as client,
        ):
            assert (await client.get(server.url)).content == b"hello"
    assert [head.split()[0] for head in maker.asked] == [b"CONNECT"]


def _nobody() -> ssl.SSLContext:
    """Return a context that trusts nobody, which is quickly made."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


# What goes wrong.


@pytest.mark.parametrize(
    ("shown", "words"),
    [
        ("me:p%40ss", None),
        ("me:s3cret", "it does not take the user and password that stand in"),
        ("", "write a user and password into"),
    ],
    ids=["right", "wrong", "none"],
)
async def test_a_proxy_may_want_a_user_and_a_password(
    certificate: Certificate, kind: Kind, shown: str, words: str | None
) -> None:
    maker = ConnectProxy(wants="me:p@ss")
    with trio.fail_after(20):
        async with (
            serving(always_answering(HELLO), tls=certificate.server) as server,
            serving(maker) as proxy,
        ):
            at = f"{shown}@" if shown else ""
            url = proxy.url.replace("://", f"://{at}")
            async with (
                behind(kind, url, server.url, certificate.client) as transport,
                attempting(server.url, transport) as attempt,
            ):
                result = await attempt.send()
    if words is None:
        assert isinstance(result, Head)
        return
    assert isinstance(result, Fault)
    assert f"407 Proxy Authentication Required; {words} {KEY}" in result.message
    assert "s3cret" not in repr(result)
    assert (result.status, result.reached) == (502, Reached.NOT_SENT)


def _closing_after(answer: bytes) -> Script:
    async def script(caller: Caller) -> None:
        await caller.head()
        if answer:
            await caller.send(answer)

    return script


async def _resetting(caller: Caller) -> None:
    await caller.head()
    caller.reset()


async def _endless_head(caller: Caller) -> None:
    await caller.head()
    await caller.send(b"HTTP/1.1 200 OK\r\n")
    while True:
        await caller.send(b"x-more: %s\r\n" % (b"y" * 8000))


async def _no_tls_behind_it(caller: Caller) -> None:
    await caller.head()
    await caller.send(TUNNEL)
    await wait_all_tasks_blocked()
    await caller.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")


TROUBLES: Final[dict[str, tuple[Script, str]]] = {
    "refused": (
        _closing_after(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno"),
        "403 Forbidden",
    ),
    "refused without a reason": (_closing_after(b"HTTP/1.1 502\r\n\r\n"), "502"),
    "redirected": (
        _closing_after(b"HTTP/1.1 302 Found\r\nlocation: http://login/\r\n\r\n"),
        "302 Found",
    ),
    "garbage": (_closing_after(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), ""),
    "half a head": (_closing_after(b"HTTP/1.1 200 Connection esta"), ""),
    "closed at once": (_closing_after(b""), ""),
    "reset": (_resetting, ""),
    "a head without end": (_endless_head, ""),
    "more than a head": (_closing_after(TUNNEL + b"HTTP/1.1 200 OK\r\n\r\n"), ""),
    "closed when TLS begins": (_closing_after(TUNNEL), ""),
    "no TLS behind it": (_no_tls_behind_it, ""),
}


@pytest.mark.parametrize(("script", "words"), TROUBLES.values(), ids=TROUBLES)
async def test_a_proxy_that_makes_no_tunnel_is_named_and_nothing_was_sent(
    certificate: Certificate, kind: Kind, script: Script, words: str
) -> None:
    target = "https://127.0.0.1:9"
    with trio.fail_after(20):
        async with serving(script) as proxy:
            url = proxy.url.replace("://", "://me:s3cret@")
            async with behind(kind, url, target, certificate.client) as transport:
                fault = await fault_of(target, transport)
                await proxy.until_open(0)
    assert (fault.kind, fault.status, fault.reached) == (FaultKind.BROKEN, 502, Reached.NOT_SENT)
    assert fault.message.startswith("the backend cannot be reached: ")
    where = proxy.url.removeprefix("http://")
    assert f"the proxy {where} ({KEY})" in fault.message
    assert words in fault.message
    assert "s3cret" not in repr(fault)
    assert "bWU6czNjcmV0" not in repr(fault), "the same in base64"


async def test_what_a_proxy_sends_behind_its_answer_is_not_taken_for_the_targets() -> None:
    target = "http://127.0.0.1:9"
    with trio.fail_after(20):
        async with (
            serving(_closing_after(TUNNEL + HELLO)) as proxy,
            behind("direct", proxy.url, target, _nobody()) as transport,
        ):
            fault = await fault_of(target, transport)
    assert "sent more than the head of an answer to CONNECT" in fault.message
    assert fault.reached is Reached.NOT_SENT


@pytest.mark.parametrize(
    "answer",
    [TUNNEL + b"\r\n\r\n", TUNNEL + b"HTTP/1.1 200 OK\r\n\r\n", TUNNEL * 2],
    ids=["blank lines", "a head", "the same again"],
)
async def test_not_even_what_ends_as_a_head_does(answer: bytes) -> None:
    target = "http://127.0.0.1:9"
    with trio.fail_after(20):
        async with (
            serving(_closing_after(answer)) as proxy,
            behind("direct", proxy.url, target, _nobody()) as transport,
        ):
            fault = await fault_of(target, transport)
    assert "sent more than the head of an answer to CONNECT" in fault.message


async def test_interim_answers_before_a_tunnel_are_none() -> None:
    async def script(caller: Caller) -> None:
        await caller.head()
        await caller.send(b"HTTP/1.1 102 Processing\r\nx: y\r\n\r\n" + TUNNEL)
        await caller.request()
        await caller.send(HELLO)

    target = "http://127.0.0.1:9"
    with trio.fail_after(20):
        async with (
            serving(script) as proxy,
            behind("direct", proxy.url, target, _nobody()) as transport,
            attempting(target, transport) as attempt,
        ):
            assert isinstance(await attempt.send(), Head)


async def test_a_proxy_where_nobody_listens_is_named(certificate: Certificate, kind: Kind) -> None:
    async with serving(always_answering(HELLO)) as proxy:
        pass
    with trio.fail_after(20):
        async with behind(kind, proxy.url, "https://x.invalid", certificate.client) as transport:
            fault = await fault_of("https://x.invalid", transport)
    assert (fault.status, fault.reached) == (502, Reached.NOT_SENT)
    assert f"{proxy.url.removeprefix('http://')} ({KEY})" in fault.message


async def test_a_target_that_nobody_vouches_for_is_told_with_the_key_that_mends_it(
    certificate: Certificate, kind: Kind
) -> None:
    with trio.fail_after(20):
        async with (
            serving(always_answering(HELLO), tls=certificate.server) as server,
            serving(ConnectProxy()) as proxy,
            behind(kind, proxy.url, server.url, ssl.create_default_context()) as transport,
        ):
            fault = await fault_of(server.url, transport)
            await proxy.until_open(0)
    assert (fault.status, fault.reached) == (502, Reached.NOT_SENT)
    assert "CERTIFICATE_VERIFY_FAILED" in fault.message
    assert KEY in fault.message
    assert "the key `ca_file` adds certificates" in fault.message


async def test_a_proxy_under_tls_that_nobody_vouches_for_is_not_shown_the_password(
    certificate: Certificate, kind: Kind
) -> None:
    maker = ConnectProxy()
    with trio.fail_after(20):
        async with serving(maker, tls=certificate.server) as proxy:
            url = proxy.url.replace("://", "://me:s3cret@")
            context = ssl.create_default_context()
            async with behind(kind, url, "https://127.0.0.1:9", context) as transport:
                fault = await fault_of("https://127.0.0.1:9", transport)
            await proxy.until_open(0)
    assert (fault.status, fault.reached) == (502, Reached.NOT_SENT)
    assert maker.asked == []


# In these the clock jumps to the next deadline whenever everybody waits: the budget comes sooner.


async def _silent(caller: Caller) -> None:
    await caller.left()


async def _half_a_head(caller: Caller) -> None:
    await caller.head()
    await caller.send(TUNNEL[:-4])
    await caller.left()


async def _silent_behind_the_tunnel(caller: Caller) -> None:
    await caller.head()
    await caller.send(TUNNEL)
    await caller.left()


SLOW: Final = {
    "no answer": _silent,
    "half an answer": _half_a_head,
    "no TLS": _silent_behind_the_tunnel,
}


@pytest.mark.parametrize("script", SLOW.values(), ids=SLOW)
async def test_a_slow_proxy_runs_into_the_connect_budget(
    certificate: Certificate, autojump_clock: MockClock, script: Script
) -> None:
    target = "https://127.0.0.1:9"
    with trio.fail_after(1000):
        async with (
            serving(script) as proxy,
            behind("direct", proxy.url, target, certificate.client) as transport,
            attempting(target, transport, connect_s=7.0) as attempt,
        ):
            began_at_s = trio.current_time()
            fault = await attempt.send()
            assert trio.current_time() - began_at_s == pytest.approx(7.0)
            await proxy.until_open(0)
    assert isinstance(fault, Fault)
    assert (fault.kind, fault.code) == (FaultKind.SLOW, "upstream_timeout_connect")
    assert fault.reached is Reached.NOT_SENT
    assert "budget connect_s" in fault.message
    assert f"the proxy {proxy.url.removeprefix('http://')} ({KEY})" in fault.message


@pytest.mark.parametrize("script", SLOW.values(), ids=SLOW)
async def test_over_httpx_too_a_slow_proxy_runs_into_that_budget(
    certificate: Certificate, autojump_clock: MockClock, script: Script
) -> None:
    target = "https://127.0.0.1:9"
    with trio.fail_after(1000):
        async with (
            serving(script) as proxy,
            behind("httpx", proxy.url, target, certificate.client) as transport,
            attempting(target, transport, connect_s=7.0) as attempt,
        ):
            began_at_s = trio.current_time()
            fault = await attempt.send()
            assert trio.current_time() - began_at_s == pytest.approx(7.0)
            await proxy.until_open(0)
    assert isinstance(fault, Fault)
    assert (fault.kind, fault.code) == (FaultKind.SLOW, "upstream_timeout_connect")
    assert fault.reached is Reached.NOT_SENT
    assert KEY in fault.message


async def test_that_budget_ends_when_the_request_leaves(
    certificate: Certificate, kind: Kind, autojump_clock: MockClock
) -> None:
    async def slow(caller: Caller) -> None:
        await caller.request()
        await trio.sleep(100)
        await caller.send(HELLO)

    with trio.fail_after(1000):
        async with (
            serving(slow, tls=certificate.server) as server,
            serving(ConnectProxy()) as proxy,
            behind(kind, proxy.url, server.url, certificate.client) as transport,
            attempting(server.url, transport, connect_s=7.0) as attempt,
        ):
            assert isinstance(await attempt.send(), Head)


# Hosts that can be none: a slip of the pen, which no library refuses before it connects.

TOO_LONG: Final = f"{'a' * 64}.example"


@pytest.mark.parametrize("host", ["chatgpt..example", ".example", TOO_LONG])
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_host_that_can_be_none_is_no_connection(kind: Kind, scheme: str, host: str) -> None:
    transports: dict[Kind, httpx.AsyncBaseTransport] = {
        "direct": DirectTransport(ssl_context=_nobody()),
        "httpx": StockTransport(ssl_context=_nobody(), proxies={}),
    }
    with trio.fail_after(20):
        async with transports[kind] as transport:
            fault = await fault_of(f"{scheme}://{host}", transport)
    assert (fault.kind, fault.status, fault.reached) == (FaultKind.BROKEN, 502, Reached.NOT_SENT)
    port = {"http": 80, "https": 443}[scheme]
    assert f"no connection to {host}:{port}: " in fault.message


@pytest.mark.parametrize("host", ["proxy..corp", TOO_LONG])
async def test_a_proxys_host_that_can_be_none_is_told_with_the_proxy(kind: Kind, host: str) -> None:
    target = "https://127.0.0.1:9"
    with trio.fail_after(20):
        async with behind(kind, f"http://{host}:1", target, _nobody()) as transport:
            fault = await fault_of(target, transport)
    assert (fault.kind, fault.status, fault.reached) == (FaultKind.BROKEN, 502, Reached.NOT_SENT)
    assert f"the proxy {host}:1 ({KEY})" in fault.message


async def test_behind_a_tunnel_a_host_that_can_be_none_gets_no_tls(
    kind: Kind,
) -> None:
    target = "https://chatgpt..example"
    with trio.fail_after(20):
        async with (
            serving(_closing_after(TUNNEL)) as proxy,
            behind(kind, proxy.url, target, _nobody()) as transport,
        ):
            fault = await fault_of(target, transport)
            await proxy.until_open(0)
    assert (fault.kind, fault.status, fault.reached) == (FaultKind.BROKEN, 502, Reached.NOT_SENT)
    assert "chatgpt..example:443" in fault.message
    assert KEY in fault.message


# Cancelling.


@attrs.frozen
class _Hangs:
    """A proxy that hangs at one point, and tells when it has come there."""

    answer: bytes
    here: trio.Event = attrs.field(factory=trio.Event)

    async def __call__(self, caller: Caller) -> None:
        await caller.head()
        if self.answer:
            await caller.send(self.answer)
            if self.answer == TUNNEL:
                await caller._exactly(1)  # the client begins TLS
        self.here.set()
        await caller.left()


class _Unresolved(trio.abc.HostnameResolver):
    """Never finds an address; tells when it looks for one."""

    def __init__(self) -> None:
        self.here = trio.Event()

    async def getaddrinfo(self, *_: object) -> list[Any]:  # type: ignore[override]
        self.here.set()
        await trio.sleep_forever()
        return []

    async def getnameinfo(self, sockaddr: object, flags: int) -> tuple[str, str]:
        raise NotImplementedError


async def test_a_cancel_before_the_proxy_is_reached_leaves_nothing(
    certificate: Certificate, kind: Kind
) -> None:
    resolver = _Unresolved()
    trio.socket.set_custom_hostname_resolver(resolver)
    target = "https://127.0.0.1:9"
    with trio.fail_after(20):
        async with (
            behind(kind, "http://proxy.invalid:1", target, certificate.client) as transport,
            attempting(target, transport) as attempt,
        ):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(attempt.send)
                await resolver.here.wait()
                nursery.cancel_scope.cancel()
            assert attempt.reached is Reached.NOT_SENT
            assert not keeps_idle(transport)


@pytest.mark.parametrize("answer", [b"", TUNNEL[:-9], TUNNEL], ids=["CONNECT", "a head", "TLS"])
async def test_a_cancel_leaves_no_socket_in_any_phase(
    certificate: Certificate, kind: Kind, answer: bytes
) -> None:
    hangs = _Hangs(answer)
    target = "https://127.0.0.1:9"
    with trio.fail_after(20):
        async with (
            serving(hangs) as proxy,
            behind(kind, proxy.url, target, certificate.client) as transport,
            attempting(target, transport) as attempt,
        ):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(attempt.send)
                await hangs.here.wait()
                nursery.cancel_scope.cancel()
            await proxy.until_open(0)
            assert attempt.reached is Reached.NOT_SENT
            assert not keeps_idle(transport)


def keeps_idle(transport: DirectTransport | StockTransport) -> bool:
    if isinstance(transport, DirectTransport):
        assert transport.busy_connections == 0
        return transport.idle_connections > 0
    pools = [way._pool for way in transport._through.values()]
    return any(connection.is_idle() for pool in pools for connection in pool.connections)


@pytest.mark.parametrize("proxy_under_tls", [False, True], ids=["http proxy", "https proxy"])
async def test_a_cancel_at_any_step_leaves_no_socket(
    certificate: Certificate, kind: Kind, proxy_under_tls: bool
) -> None:
    finished, at = False, 0
    with trio.fail_after(60):
        async with (
            serving(always_answering(HELLO), tls=certificate.server) as server,
            serving(ConnectProxy(), tls=certificate.server if proxy_under_tls else None) as proxy,
        ):
            while not finished:
                at += 1
                transport = behind(kind, proxy.url, server.url, certificate.client)
                with trio.CancelScope() as scope:
                    canceller = CancelAtStep(scope, at)
                    trio.lowlevel.add_instrument(canceller)
                    try:
                        request = httpx.Request("GET", server.url)
                        response = await transport.handle_async_request(request)
                        await response.aread()
                    finally:
                        trio.lowlevel.remove_instrument(canceller)
                finished = not scope.cancel_called
                if keeps_idle(transport):  # as it should, when all was read
                    await transport.aclose()
                await proxy.until_open(0)
                await server.until_open(0)
                await transport.aclose()
    assert at > 20
