from __future__ import annotations

import functools
import ssl
from typing import TYPE_CHECKING

import httpx
import pytest
import trio

from codexrelay.accounts.login.call import CALL_S
from codexrelay.accounts.login.errors import LoginError
from codexrelay.accounts.login.exchange import Exchange
from codexrelay.accounts.login.signed_in import SignedIn
from codexrelay.backends.transports.connection import Origin
from codexrelay.backends.transports.direct import DirectTransport
from codexrelay.backends.transports.proxy import Proxy
from codexrelay.backends.transports.stock import StockTransport
from tests.fakes.login import ISSUER, ScriptedIssuer, tokens
from tests.fakes.scripted_server import Caller, serving
from tests.fakes.virtual_time import in_virtual_time
from tests.fakes.wall_clock import NOW_UNIX_S

if TYPE_CHECKING:
    from codexrelay.protocol.raw import Json

EXCHANGE = Exchange(code="ac_secret", verifier="the-verifier", redirect_uri="http://localhost/x")


async def perform(
    *answers: tuple[int, Json] | Exception | float,
) -> tuple[SignedIn | LoginError, ScriptedIssuer]:
    issuer = ScriptedIssuer({"/oauth/token": list(answers)})
    return await EXCHANGE.perform(issuer, f"{ISSUER}/", now_unix_s=NOW_UNIX_S), issuer


async def failure(*answers: tuple[int, Json] | Exception | float) -> str:
    result, _ = await perform(*answers)
    assert isinstance(result, LoginError)
    return str(result)


async def test_the_code_goes_out_as_a_form_with_what_proves_it() -> None:
    _, issuer = await perform((200, tokens()))
    assert issuer.form() == {
        "grant_type": "authorization_code",
        "client_id": "app_EMoamEEZ73f0CkXaXp7hrann",
        "code": "ac_secret",
        "redirect_uri": "http://localhost/x",
        "code_verifier": "the-verifier",
    }


async def test_the_tokens_say_whose_they_are() -> None:
    result, _ = await perform((200, tokens()))
    assert isinstance(result, SignedIn)
    assert (result.workspace_id, result.user_id) == ("workspace-1", "user-1")
    assert (result.email, result.plan_type) == ("jane.doe@example.com", "plus")
    assert result.scope == "openid"
    assert result.credentials.refresh_token == "rt_1"
    assert result.credentials.expires_at_unix_s == NOW_UNIX_S + 3600
    assert result.fresh
    assert "rt_1" not in repr(result)


async def test_an_opaque_access_token_lives_as_long_as_the_answer_says() -> None:
    body = tokens() | {"access_token": "opaque", "expires_in": 60}
    result, _ = await perform((200, body))
    assert isinstance(result, SignedIn)
    assert result.credentials.expires_at_unix_s == NOW_UNIX_S + 60
    assert result.workspace_id == "workspace-1"  # the id token says so


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        pytest.param(400, {"error": "invalid_grant"}, "used before", id="spent code"),
        pytest.param(
            400,
            {"error": {"code": "invalid_grant", "message": "Wrong verifier."}},
            "invalid_grant, Wrong verifier.",
            id="its own words",
        ),
        pytest.param(401, {"error": "invalid_client"}, "oauth_issuer", id="other issuer"),
        pytest.param(403, "<html>", "port 1455", id="unregistered port"),
        pytest.param(404, {}, "oauth_issuer", id="no such path"),
        pytest.param(429, {}, "Wait a few minutes", id="too many"),
        pytest.param(502, {}, "in trouble (502)", id="gateway"),
        pytest.param(302, {}, "302", id="redirect"),
        pytest.param(200, tokens() | {"access_token": ""}, "no access token", id="no access token"),
        pytest.param(200, tokens() | {"refresh_token": None}, "no refresh", id="no refresh token"),
        pytest.param(200, tokens() | {"refresh_token": "a\nb"}, "cannot be", id="no token at all"),
        pytest.param(200, ["tokens"], "no access token", id="no object"),
        pytest.param(200, tokens() | {"more": "x" * (2 << 20)}, "no access token", id="endless"),
    ],
)
async def test_a_refusal_is_told_in_words(status: int, body: Json, words: str) -> None:
    assert words in await failure((status, body))


@pytest.mark.parametrize(
    "body",
    [
        {"error": "invalid_grant", "error_description": "ac_secret is spent"},
        {"error": "ac_secret"},
        {"error": {"code": "x", "message": "the-verifier does not fit"}},
        {"refresh_token": "rt_9", "error": {"code": "x"}},
    ],
)
async def test_no_secret_is_told(body: Json) -> None:
    told = await failure((400, body))
    assert not any(secret in told for secret in ("ac_secret", "the-verifier", "rt_9"))


@pytest.mark.parametrize("error", [httpx.ConnectError("x"), httpx.ReadError("x")])
async def test_a_network_that_is_down_is_told_with_the_address(error: Exception) -> None:
    assert ISSUER in await failure(error)


@pytest.mark.parametrize("kind", ["direct", "httpx"])
async def test_a_proxy_in_the_way_is_told_with_the_key_that_names_it(kind: str) -> None:
    async def refusing(caller: Caller) -> None:
        await caller.head()
        await caller.send(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")

    url, key = "https://issuer.invalid", "backends.openai_codex.proxy"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    with trio.fail_after(20):
        async with serving(refusing) as proxy:
            named = {Origin.of(httpx.URL(url)): Proxy.named(proxy.url, source=key)}
            transport = (
                DirectTransport(ssl_context=context, proxies=named)
                if kind == "direct"
                else StockTransport(ssl_context=context, proxies=named)
            )
            async with transport:
                error = await EXCHANGE.perform(transport, url, now_unix_s=NOW_UNIX_S)
    assert isinstance(error, LoginError)
    where = proxy.url.removeprefix("http://")
    assert f"{url} cannot be reached: the proxy {where} ({key}) makes no tunnel" in str(error)
    assert f"write a user and password into {key}" in str(error)
    assert "ac_secret" not in str(error)


async def test_what_may_quote_the_call_or_its_answer_is_told_by_its_kind_alone() -> None:
    told = await failure(httpx.RemoteProtocolError("illegal header line: ac_secret"))
    assert "RemoteProtocolError" in told
    assert "illegal" not in told


@in_virtual_time
async def test_an_issuer_that_does_not_answer_is_given_up() -> None:
    assert "not answered" in await failure(CALL_S + 1)


async def test_a_code_is_sent_once_even_when_a_kept_connection_breaks_under_it() -> None:
    requests: list[bytes] = []

    async def script(caller: Caller) -> None:
        while request := await caller.request():
            requests.append(request)
            if request.startswith(b"POST"):
                return
            await caller.send(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    with trio.fail_after(20):
        async with serving(script) as server:
            transport = DirectTransport()
            response = await transport.handle_async_request(httpx.Request("GET", server.url))
            await response.aread()
            assert transport.idle_connections == 1
            result = await EXCHANGE.perform(transport, server.url, now_unix_s=NOW_UNIX_S)
            await transport.aclose()
    assert isinstance(result, LoginError)
    assert sum(request.startswith(b"POST /oauth/token ") for request in requests) == 1


async def test_a_call_that_is_cancelled_closes_its_answer() -> None:
    class Endless(httpx.AsyncByteStream):
        closed = False

        async def __aiter__(self):  # noqa: ANN204
            yield b"{"
            await trio.sleep_forever()

        async def aclose(self) -> None:
            await trio.lowlevel.checkpoint()
            self.closed = True

    body = Endless()
    transport = httpx.MockTransport(lambda _: httpx.Response(200, stream=body))
    perform = functools.partial(EXCHANGE.perform, transport, ISSUER, now_unix_s=NOW_UNIX_S)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(perform)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert body.closed
