"""One attempt on the Codex backend: everything that httpx can raise is a fault."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import attrs
import httpx
import pytest
import trio

from codexrelay.backends.backend import Head, UpstreamRequest
from codexrelay.backends.codex import backend as codex
from codexrelay.backends.codex.backend import CodexAttempt, CodexBackend
from codexrelay.backends.codex.headers import account_headers, passed_on
from codexrelay.backends.transports.direct import DirectTransport
from codexrelay.protocol.faults import Fault, FaultKind
from tests.fakes.scripted_server import Caller, answering, serving
from tests.fakes.tokens import an_account
from tests.fakes.virtual_time import in_virtual_time
from tests.fakes.wall_clock import NOW_UNIX_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

_REQUEST: Final = UpstreamRequest(path="/responses?a=b", body=b"{}", headers=(("x-a", "1"),))


@asynccontextmanager
async def attempting(
    url: str,
    *,
    transport: httpx.AsyncBaseTransport | None = None,
    connect_s: float = 10.0,
    token: str = "access-1",
) -> AsyncIterator[CodexAttempt]:
    async with transport or DirectTransport() as used:
        backend = CodexBackend(
            transport=used,
            base_url=httpx.URL(url),
            connect_s=connect_s,
            wall_clock=lambda: NOW_UNIX_S,
        )
        async with backend.attempt(_REQUEST, an_account("work", token=token)) as attempt:
            yield attempt


async def test_a_token_leaves_towards_the_configured_place_only() -> None:
    async with serving(answering(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")) as elsewhere:
        async with attempting("https://backend.invalid") as attempt:
            astray = httpx.URL(f"{elsewhere.url}/responses")
            attempt._backend._urls[_REQUEST.path] = astray  # as a bug might
            with pytest.raises(AssertionError, match="a token was about to leave for 127"):
                await attempt.send()
        assert elsewhere.accepted == 0


async def outcome(attempt: CodexAttempt) -> list[bytes | Fault]:
    """Send and read to the end, or to a fault."""
    head = await attempt.send()
    if isinstance(head, Fault):
        return [head]
    received: list[bytes | Fault] = []
    while True:
        received.append(await attempt.receive())
        if not isinstance(received[-1], bytes) or not received[-1]:
            return received


async def test_the_path_is_appended_to_the_base_url_with_its_query() -> None:
    asked = []

    async def script(caller: Caller) -> None:
        asked.append(await caller.request())
        await caller.send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nX-Limit: 5\r\n\r\nhi")

    async with serving(script) as server, attempting(f"{server.url}/backend-api/codex/") as attempt:
        head = await attempt.send()
        assert await attempt.receive() == b"hi"
        assert await attempt.receive() == b""
    assert isinstance(head, Head)
    assert head.headers["x-limit"] == "5"
    assert asked[0].startswith(b"POST /backend-api/codex/responses?a=b HTTP/1.1\r\n")
    assert b"\r\nauthorization: Bearer access-1\r\n" in asked[0]
    assert b"\r\nx-a: 1\r\n" in asked[0]


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (b"", FaultKind.BROKEN, "broke before it answered"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", FaultKind.BROKEN, "broke before it answered"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhi", FaultKind.BROKEN, "broke"),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhi",
            FaultKind.BROKEN,
            "broke",
        ),
        (b"HTTP/1.1 401 X\r\ncontent-length: 0\r\n\r\n", FaultKind.UNAUTHORIZED, "401"),
        (
            b'HTTP/1.1 400 X\r\ncontent-length: 19\r\n\r\n{"detail": "wrong"}',
            FaultKind.REFUSED,
            "wrong",
        ),
        (
            b"HTTP/1.1 502 X\r\ncontent-length: 999\r\n\r\n<title>Bad Gateway</title>",
            FaultKind.OVERLOADED,
            "Bad Gateway",
        ),
        (b"HTTP/1.1 302 X\r\nlocation: /\r\ncontent-length: 0\r\n\r\n", FaultKind.BROKEN, "302"),
    ],
    ids=[
        "closed",
        "no HTTP",
        "cut body",
        "cut chunk",
        "401",
        "400",
        "half an error page",
        "redirect",
    ],
)
async def test_what_goes_wrong_is_a_fault(answer: bytes, kind: FaultKind, words: str) -> None:
    async with serving(answering(answer)) as server, attempting(server.url) as attempt:
        last = (await outcome(attempt))[-1]
    assert isinstance(last, Fault)
    assert last.kind is kind
    assert words in last.message


async def test_a_port_where_nobody_listens_is_a_fault() -> None:
    async with serving(answering()) as server:
        url = server.url
    async with attempting(url) as attempt:
        [fault] = await outcome(attempt)
    assert isinstance(fault, Fault)
    assert fault.kind is FaultKind.BROKEN
    assert fault.message.startswith("the backend cannot be reached: ")


@pytest.mark.parametrize("transport", [DirectTransport, httpx.AsyncHTTPTransport])
async def test_a_token_that_no_header_can_carry_is_a_fault_that_does_not_quote_it(
    transport: Callable[[], httpx.AsyncBaseTransport],
) -> None:
    async with (
        serving(answering()) as server,
        attempting(server.url, transport=transport(), token="s3cret\n") as attempt,
    ):
        [fault] = await outcome(attempt)
    assert isinstance(fault, Fault)
    assert "line break" in fault.message
    assert "s3cret" not in repr(fault)


class _NeverConnects(httpx.AsyncBaseTransport):
    """Behaves as a transport whose SYN nobody answers."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        timeout = request.extensions["timeout"]
        await trio.sleep(timeout["connect"])
        raise httpx.ConnectTimeout("nobody answers")


@in_virtual_time
async def test_a_connection_that_does_not_come_about_names_its_budget() -> None:
    began_at_s = trio.current_time()
    async with attempting("http://x", transport=_NeverConnects(), connect_s=7.0) as attempt:
        [fault] = await outcome(attempt)
    assert isinstance(fault, Fault)
    assert (fault.kind, fault.code) == (FaultKind.SLOW, "upstream_timeout_connect")
    assert trio.current_time() - began_at_s == 7.0


class _ErrorThatNeverEnds(httpx.AsyncBaseTransport):
    """Answers 500 with a body that begins and does not end."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return httpx.Response(500, stream=_Endless())


class _Endless(httpx.AsyncByteStream):
    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b"half an error"
        await trio.sleep_forever()


@in_virtual_time
async def test_an_error_body_is_not_waited_for_for_ever() -> None:
    began_at_s = trio.current_time()
    async with attempting("http://x", transport=_ErrorThatNeverEnds()) as attempt:
        [fault] = await outcome(attempt)
    assert isinstance(fault, Fault)
    assert fault.message == "the backend answered 500: half an error"
    assert trio.current_time() - began_at_s == codex.ERROR_BODY_S


async def test_an_attempt_that_is_left_early_closes_its_connection() -> None:
    async def script(caller: Caller) -> None:
        await caller.request()
        await caller.send(b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\nhi")
        await caller.left()

    async with serving(script) as server, DirectTransport() as transport:
        async with attempting(server.url, transport=transport) as attempt:
            assert isinstance(await attempt.send(), Head)
            assert transport.busy_connections == 1
        assert (transport.busy_connections, transport.idle_connections) == (0, 0)
        await server.until_open(0)


def test_the_headers_of_an_account_come_from_one_value() -> None:
    account = an_account("work", token="t-1")
    assert account_headers(account) == (
        ("authorization", "Bearer t-1"),
        ("chatgpt-account-id", "workspace-of-work"),
    )
    gov = attrs.evolve(account, fedramp=True)
    assert ("x-openai-fedramp", "true") in account_headers(gov)


def test_of_an_answers_headers_clients_get_those_that_mean_something_to_them() -> None:
    headers = {
        "x-codex-plan-type": "plus",
        "openai-model": "gpt-5.5",
        "x-request-id": "r",
        "set-cookie": "secret",
        "server": "edge",
        "content-encoding": "gzip",
    }
    assert passed_on(Head(status=200, headers=headers)) == [
        (b"x-codex-plan-type", b"plus"),
        (b"openai-model", b"gpt-5.5"),
        (b"x-request-id", b"r"),
    ]
