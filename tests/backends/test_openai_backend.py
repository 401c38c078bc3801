"""One attempt on a backend of another kind: what goes out, what comes back, what closes."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import httpx
import pytest
import trio
import trio.testing

from codexrelay.backends.backend import Attempt, Head, UpstreamRequest
from codexrelay.backends.openai.headers import USER_AGENT, passed_on
from codexrelay.backends.openai.opening import Opened, opened
from codexrelay.backends.openai.settings import OpenAIBackendSettings
from codexrelay.backends.transports.direct import DirectTransport
from codexrelay.protocol.faults import Fault, FaultKind, Reached
from tests.fakes.scripted_server import Caller, answering, serving
from tests.fakes.tokens import an_account
from tests.fakes.virtual_time import in_virtual_time
from tests.fakes.wall_clock import NOW_UNIX_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

KEY: Final = "sk-local-0123456789"
OAUTH: Final = "an-oauth-token-of-the-family"
REQUEST: Final = UpstreamRequest(
    path="/chat/completions",
    body=b'{"stream":true}',
    delivers="chat",
    # As a careless caller might: what a client says of itself, and an account's token.
    headers=(
        ("authorization", f"Bearer {OAUTH}"),
        ("chatgpt-account-id", "workspace"),
        ("session-id", "s"),
        ("cookie", "c=1"),
    ),
)


def open_backend(
    url: str,
    transport: httpx.AsyncBaseTransport,
    *,
    key: str | None = KEY,
    headers: Mapping[str, str] | None = None,
    wire: str = "chat",
) -> Opened:
    settings = OpenAIBackendSettings(
        api_base_url=url,
        api_key_env=None if key is None else "LOCAL_KEY",
        headers=headers or {},
        wire=wire,  # type: ignore[arg-type]
    )
    return opened(
        "my-box",
        settings,
        transport=transport,
        from_variable=key,
        wall_clock=lambda: NOW_UNIX_S,
    )


@asynccontextmanager
async def attempting(
    url: str,
    *,
    transport: httpx.AsyncBaseTransport | None = None,
    request: UpstreamRequest = REQUEST,
    key: str | None = KEY,
    headers: Mapping[str, str] | None = None,
    wire: str = "chat",
) -> AsyncIterator[Attempt]:
    async with transport or DirectTransport() as used:
        backend = open_backend(url, used, key=key, headers=headers, wire=wire).backend
        async with backend.attempt(request, an_account("work", token=OAUTH)) as attempt:
            yield attempt


async def refused(answer: bytes, *, path: str = "/v1", **more: object) -> Fault:
    """Return the fault of an attempt on a server that answers so."""
    async with serving(answering(answer)) as server:
        url = server.url + path
        async with attempting(url, **more) as attempt:  # type: ignore[arg-type]
            fault = await attempt.send()
    assert isinstance(fault, Fault)
    return fault


async def received_of(answer: bytes) -> bytes:
    """Return the body that an attempt on a server receives which answers so."""
    async with serving(answering(answer)) as server, attempting(server.url) as attempt:
        assert isinstance(await attempt.send(), Head)
        body = b""
        while isinstance(block := await attempt.receive(), bytes) and block:
            body += block
    return body


def answer(status: int, body: str, *headers: str) -> bytes:
    head = "".join(f"{header}\r\n" for header in headers)
    return f"HTTP/1.1 {status} X\r\n{head}content-length: {len(body)}\r\n\r\n{body}".encode()


# What goes out.


async def head_of(
    key: str | None = KEY, headers: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return the headers that arrive."""
    asked: list[bytes] = []

    async def script(caller: Caller) -> None:
        asked.append(await caller.request())
        await caller.send(answer(200, "data: x\n\n"))

    async with (
        serving(script) as server,
        attempting(f"{server.url}/v1/", key=key, headers=headers) as attempt,
    ):
        assert isinstance(await attempt.send(), Head)
        assert await attempt.receive() == b"data: x\n\n"
        assert await attempt.receive() == b""
        assert attempt.reached is Reached.SENT
    head, _, body = asked[0].partition(b"\r\n\r\n")
    line, *rest = head.decode().split("\r\n")
    assert line == "POST /v1/chat/completions HTTP/1.1"
    assert body == REQUEST.body
    named = (one.split(": ", 1) for one in rest)
    return {name.lower(): value for name, value in named}


async def test_a_request_has_our_headers_and_nothing_of_the_client_or_an_account() -> None:
    head = await head_of()
    del head["host"]
    assert head == {
        "accept": "text/event-stream",
        "accept-encoding": "identity",
        "authorization": f"Bearer {KEY}",
        "content-length": str(len(REQUEST.body)),
        "content-type": "application/json",
        "user-agent": USER_AGENT,
    }


async def test_without_a_key_no_authorization_is_sent_at_all() -> None:
    assert "authorization" not in await head_of(key=None)


async def test_configured_headers_are_sent_and_may_say_who_asks_but_not_how_it_is_framed() -> None:
    head = await head_of(
        headers={
            "User-Agent": "my agent",
            "X-Team": "blue",
            "Content-Length": "1",
            "Transfer-Encoding": "chunked",
            "Host": "elsewhere",
            "Connection": "close",
        }
    )
    assert (head["user-agent"], head["x-team"]) == ("my agent", "blue")
    assert head["content-length"] == str(len(REQUEST.body))
    assert head["host"].startswith("127.0.0.1:")
    assert {"connection", "transfer-encoding"}.isdisjoint(head)


def test_neither_key_nor_configured_values_are_in_a_repr() -> None:
    made = open_backend("http://x/v1", DirectTransport(), headers={"api-key": "s3cret-value"})
    assert KEY in str(made.backend.headers(REQUEST, an_account()))
    assert KEY not in repr(made)
    assert "s3cret-value" not in repr(made)


# What comes back.


async def test_an_error_that_repeats_the_key_is_told_without_it() -> None:
    told = f'{{"error": {{"message": "bad key {KEY} and s3cret-value", "type": "x"}}}}'
    fault = await refused(answer(400, told), headers={"api-key": "s3cret-value"})
    assert fault.message == "bad key [hidden] and [hidden]"


@pytest.mark.parametrize(
    "told",
    [
        '{"error": {"message": "bad key %s"}}',
        'data: {"error": "bad key %s"}\n\n',
        'data: {"object": "error", "message": "bad key %s"}\n\n',
        "event: error\ndata: bad key %s\n\n",
        'data: {"type":"response.failed","response":{"error":{"message":"%s"}}}\n\n',
        "Invalid token %s",
    ],
)
async def test_an_error_under_200_that_repeats_the_key_is_told_without_it(told: str) -> None:
    received = await received_of(answer(200, told % KEY))
    assert received.decode() == told % "[hidden]"


async def test_what_a_model_says_of_the_key_is_its_own_affair() -> None:
    """An agent may be at work on the file that the key stands in."""
    told = (
        'data: {"error":null,"choices":[{"delta":{"content":"\\"error\\": \\"%s\\""}}]}\n\n'
        'data: {"type":"response.completed","response":{"error":null,"output":["%s"]}}\n\n'
    )
    received = await received_of(answer(200, told.replace("%s", KEY)))
    assert received.decode() == told.replace("%s", KEY)


@pytest.mark.parametrize("key", [KEY, None], ids=["with a key", "without"])
async def test_a_refused_key_is_told_with_the_setting_to_look_at(key: str | None) -> None:
    body = '{"error": {"message": "Incorrect API key provided", "code": "invalid_api_key"}}'
    fault = await refused(answer(401, body), key=key)
    hint = (
        "(backend my-box does not take the key of backends.my_box.api_key_env (LOCAL_KEY))"
        if key
        else "(backend my-box wants an API key; backends.my_box.api_key_env or "
        "backends.my_box.api_key_file can name one)"
    )
    assert (fault.kind, fault.status, fault.code) == (
        FaultKind.UNAUTHORIZED,
        401,
        "invalid_api_key",
    )
    assert fault.message == f"Incorrect API key provided {hint}"


async def test_a_redirect_is_not_followed() -> None:
    async with serving(answering(answer(200, "data: {}\n\n"))) as elsewhere:
        fault = await refused(answer(307, "", f"location: {elsewhere.url}/"))
        assert elsewhere.accepted == 0
    assert fault.kind is FaultKind.BROKEN
    assert "write the address into backends.my_box.api_base_url" in fault.message


async def test_a_path_that_is_not_there_hints_at_the_version_and_at_the_wire() -> None:
    body = '{"detail": "Not Found"}'
    without = await refused(answer(404, body), path="/")
    with_it = await refused(answer(404, body), wire="responses")
    assert (without.kind, without.status) == (FaultKind.UNSUPPORTED, 404)
    assert without.message.startswith("Not Found (http://127.0.0.1:")
    assert "backends.my_box.api_base_url mostly ends with /v1" in without.message
    assert "if it has no /chat/completions, backends.my_box.wire must be responses" in (
        without.message
    )
    assert "api_base_url" not in with_it.message
    assert "if it has no /responses, backends.my_box.wire must be chat" in with_it.message


async def test_where_nobody_listens_the_url_and_its_setting_are_told() -> None:
    async with serving(answering()) as server:
        host = server.url.removeprefix("http://")
    async with attempting(f"http://user:s3cret@{host}/v1") as attempt:
        fault = await attempt.send()
    assert isinstance(fault, Fault)
    assert (fault.kind, fault.reached) == (FaultKind.BROKEN, Reached.NOT_SENT)
    assert f"backend my-box cannot be reached at http://{host}/v1: " in fault.message
    assert fault.message.endswith("does it run, and is backends.my_box.api_base_url right?")
    assert "s3cret" not in fault.message


@pytest.mark.parametrize(
    ("head", "retry_after_s"),
    [("retry-after: 7", 7.0), ("x-a: b", None)],
    ids=["with a time", "without"],
)
async def test_a_throttle_keeps_its_words_and_its_time(
    head: str, retry_after_s: float | None
) -> None:
    body = '{"error": {"message": "Slow down", "type": "rate_limit"}}'
    fault = await refused(answer(429, body, head))
    assert fault.kind is FaultKind.THROTTLED
    assert fault.message.startswith("Slow down")
    assert fault.retry_after_s == retry_after_s


@in_virtual_time
async def test_a_connection_that_does_not_come_about_names_the_backends_own_budget() -> None:
    async with attempting("http://x/v1", transport=_NeverConnects()) as attempt:
        fault = await attempt.send()
    assert isinstance(fault, Fault)
    assert fault.code == "upstream_timeout_connect"
    assert "configure backends.my_box.budgets.connect_s" in fault.message


class _NeverConnects(httpx.AsyncBaseTransport):
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await trio.sleep(request.extensions["timeout"]["connect"])
        raise httpx.ConnectTimeout("nobody answers")


def test_of_an_answers_headers_clients_get_those_that_mean_something_to_them() -> None:
    headers = {
        "x-request-id": "r",
        "openai-processing-ms": "12",
        "x-ratelimit-remaining-tokens": "5",
        "set-cookie": "secret",
        "server": "uvicorn",
        "retry-after": "3",
    }
    assert passed_on(Head(status=200, headers=headers)) == [
        (b"x-request-id", b"r"),
        (b"openai-processing-ms", b"12"),
        (b"x-ratelimit-remaining-tokens", b"5"),
    ]


# Who leaves.


@pytest.mark.parametrize(
    "sent",
    [b"", b"HTTP/1.1 200 OK\r\nconte", answer(200, "x")[:-1]],
    ids=["before the head", "in the head", "in the body"],
)
async def test_a_cancelled_attempt_closes_its_connection_at_once(sent: bytes) -> None:
    arrived = trio.Event()

    async def script(caller: Caller) -> None:
        await caller.request()
        await caller.send(sent)
        arrived.set()
        await caller.left()

    async def run(url: str, transport: DirectTransport) -> None:
        backend = open_backend(f"{url}/v1", transport).backend
        async with backend.attempt(REQUEST, an_account()) as attempt:
            assert isinstance(await attempt.send(), Head)
            await attempt.receive()

    async with serving(script) as server, DirectTransport() as transport:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run, server.url, transport)
            await arrived.wait()
            nursery.cancel_scope.cancel()
        assert (transport.busy_connections, transport.idle_connections) == (0, 0)
        await server.until_open(0)


class _Hangs(httpx.AsyncBaseTransport):
    """Connects for ever."""

    asked = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.asked += 1
        await trio.sleep_forever()
        raise AssertionError


async def test_an_attempt_that_is_cancelled_while_it_connects_has_sent_nothing() -> None:
    transport = _Hangs()
    async with attempting("http://x/v1", transport=transport) as attempt:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(attempt.send)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        assert (transport.asked, attempt.reached) == (1, Reached.NOT_SENT)
