from __future__ import annotations

import functools
import ssl
from typing import TYPE_CHECKING

import httpx
import pytest
import trio

from codexrelay.accounts import wire
from codexrelay.accounts.issuer import (
    CLIENT_ID,
    TERMINAL_CODES,
    Issuer,
    Lost,
    Refused,
    Renewed,
    Unavailable,
    read_answer,
)
from codexrelay.backends.transports.connection import Origin
from codexrelay.backends.transports.direct import DirectTransport
from codexrelay.backends.transports.proxy import Proxy
from codexrelay.backends.transports.stock import StockTransport
from codexrelay.protocol.progress import Progress
from codexrelay.protocol.raw import Json, dump
from tests.fakes.issuer import FakeIssuer, Trouble
from tests.fakes.scripted_server import serving
from tests.fakes.wall_clock import WallClock

if TYPE_CHECKING:
    from trio.testing import MockClock

    from tests.fakes.scripted_server import Caller

TOKENS: dict[str, Json] = {"access_token": "a", "refresh_token": "r"}
BLOCKED: Json = {"error": {"code": "unsupported_country_region_territory", "param": None}}


@pytest.mark.parametrize(
    ("status", "body", "meaning"),
    [
        pytest.param(200, dump(TOKENS), Renewed, id="tokens"),
        pytest.param(201, dump({"access_token": "a"}), Renewed, id="access token only"),
        pytest.param(200, dump({"id_token": "i"}), Lost, id="no tokens"),
        pytest.param(200, dump(TOKENS)[:-4], Lost, id="cut short"),
        pytest.param(200, b"", Lost, id="empty"),
        pytest.param(302, b"", Unavailable, id="redirect"),
        pytest.param(200, dump({"access_token": "a b"}), Lost, id="a blank in a token"),
        pytest.param(
            200, dump(TOKENS | {"refresh_token": "r\nx: y"}), Lost, id="a line break in a token"
        ),
        pytest.param(403, b"<html>blocked</html>", Unavailable, id="page of the edge"),
        pytest.param(403, dump(BLOCKED), Unavailable, id="region"),
        pytest.param(400, dump(BLOCKED), Unavailable, id="region under another status"),
        pytest.param(403, dump({"error": "access_denied"}), Unavailable, id="some block"),
        pytest.param(451, dump({"error": "invalid_grant"}), Unavailable, id="law"),
        pytest.param(409, dump({"error": "conflict"}), Unavailable, id="other status"),
        pytest.param(400, b"", Unavailable, id="400 that says nothing"),
        pytest.param(401, b"<html>sign in to the proxy</html>", Unavailable, id="401 of a proxy"),
        pytest.param(401, dump({"detail": "Unauthorized"}), Unavailable, id="no OAuth error"),
        pytest.param(400, b"[]", Unavailable, id="no object"),
        pytest.param(400, b'"invalid_grant"', Unavailable, id="a text"),
        pytest.param(404, dump({"detail": "Not Found"}), Unavailable, id="wrong address"),
        pytest.param(408, b"", Unavailable, id="slow request"),
        pytest.param(429, dump({"error": "invalid_grant"}), Unavailable, id="too many"),
        pytest.param(503, dump({"error": "invalid_grant"}), Unavailable, id="busy"),
        pytest.param(500, dump({"error": "invalid_grant"}), Lost, id="server error"),
        pytest.param(502, b"", Lost, id="bad gateway"),
        pytest.param(504, b"<html>", Lost, id="gateway timeout"),
    ],
)
def test_an_answer_says_whether_the_token_is_spent(status: int, body: bytes, meaning: type) -> None:
    assert isinstance(read_answer(status, body), meaning)


#: The table of the wire notes (1.2), row by row: each code in one of the places where it is seen.
TERMINAL: list[tuple[int, Json, str]] = [
    (401, {"error": {"code": "refresh_token_expired"}}, "refresh_token_expired"),
    (401, {"error": {"code": "refresh_token_reused"}}, "refresh_token_reused"),
    (401, {"error": {"code": "refresh_token_invalidated"}}, "refresh_token_invalidated"),
    (400, {"error": "invalid_grant", "error_description": "?"}, "invalid_grant"),
    (401, {"error": {"code": "token_expired"}}, "token_expired"),
    (401, {"error": {"code": "token_invalidated"}}, "token_invalidated"),
    (401, {"error": "app_session_terminated"}, "app_session_terminated"),
    (400, {"code": "account_session_expired"}, "account_session_expired"),
    (401, {"code": "account_deactivated"}, "account_deactivated"),
    (403, {"code": "account_suspended"}, "account_suspended"),
    (401, {"error": {"code": "account_deleted"}}, "account_deleted"),
]
UNKNOWN: list[tuple[int, Json, str]] = [
    (400, {"error": "invalid_scope"}, "invalid_scope"),
    (401, {"error": "invalid_client"}, "invalid_client"),
    (400, {"error": {"code": "Refresh_Token_Reused"}}, "Refresh_Token_Reused"),
    (401, {"error": {"code": None, "message": "invalid_grant"}}, "http_401"),
]


@pytest.mark.parametrize(("status", "body", "code"), TERMINAL, ids=[row[2] for row in TERMINAL])
def test_a_known_code_means_that_asking_again_is_of_no_use(
    status: int, body: Json, code: str
) -> None:
    answer = read_answer(status, dump(body))
    assert answer == Refused(code=code)
    assert isinstance(answer, Refused)
    assert answer.is_terminal


def test_the_table_of_known_codes_is_closed() -> None:
    assert {code for _, _, code in TERMINAL} == TERMINAL_CODES


@pytest.mark.parametrize(("status", "body", "code"), UNKNOWN)
def test_any_other_code_says_nothing_for_sure(status: int, body: Json, code: str) -> None:
    answer = read_answer(status, dump(body))
    assert answer == Refused(code=code)
    assert isinstance(answer, Refused)
    assert not answer.is_terminal


def test_a_block_is_told_with_its_code_and_what_to_check() -> None:
    answer = read_answer(403, dump(BLOCKED))
    assert answer == Unavailable(
        why="the sign-in service answered 403 (unsupported_country_region_territory); "
        "check the network, the VPN or proxy, and the region it comes out in"
    )


@pytest.mark.parametrize(
    ("told", "life_s"),
    [(1, 1.0), ("3600", 3600.0), (315_576_000, 315_576_000.0)]
    + [(odd, None) for odd in (0, -1, 1e30, "1e30", "nan", "inf", True, None, [])],
)
def test_a_life_that_no_token_has_is_not_believed(told: Json, life_s: float | None) -> None:
    answer = read_answer(200, dump(TOKENS | {"expires_in": told}))
    assert isinstance(answer, Renewed)
    assert answer.expires_in_s == life_s


def test_an_id_token_that_cannot_be_one_costs_no_pair() -> None:
    answer = read_answer(200, dump(TOKENS | {"id_token": "i\n"}))
    assert isinstance(answer, Renewed)
    assert (answer.access_token, answer.refresh_token, answer.id_token) == ("a", "r", None)


@pytest.mark.parametrize("status", [408, 425, 429, 451, 500, 502, 503, 504])
def test_a_status_that_does_not_speak_of_the_token_outweighs_a_code(status: int) -> None:
    assert not isinstance(read_answer(status, dump({"error": "invalid_grant"})), Refused)


def test_tokens_never_show_in_an_answer() -> None:
    assert "s3cret" not in repr(read_answer(200, dump({"access_token": "s3cret"})))


async def test_the_call_is_the_one_codex_cli_makes() -> None:
    fake = FakeIssuer(WallClock())
    pair = fake.sign_in("w")
    assert pair.refresh_token is not None
    issuer = Issuer(url="http://issuer.invalid/", transport=fake)
    answer = await issuer.renew(pair.refresh_token, reason="proactive_expiry")
    assert isinstance(answer, Renewed)
    assert fake.calls == [
        {
            "client_id": CLIENT_ID,
            "grant_type": "refresh_token",
            "refresh_reason": "proactive_expiry",
            "refresh_token": pair.refresh_token,
        }
    ]


@pytest.mark.parametrize(
    ("trouble", "meaning"),
    [
        (Trouble.UNREACHABLE, Unavailable),
        (Trouble.BUSY, Unavailable),
        (Trouble.ANSWER_LOST, Lost),
        (Trouble.GATEWAY_TIMEOUT, Lost),
    ],
)
async def test_trouble_on_the_way_is_a_value(trouble: Trouble, meaning: type) -> None:
    fake = FakeIssuer(WallClock(), troubles=[trouble])
    issuer = Issuer(url="http://issuer.invalid", transport=fake)
    assert isinstance(await issuer.renew("rt_1", reason="proactive_expiry"), meaning)


async def test_a_refresh_token_is_never_sent_again_by_a_transport_that_mends_connections() -> None:
    # The direct transport sends a request again when a kept connection breaks before the answer.
    requests: list[bytes] = []

    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            while request := await stream.receive_some():
                requests.append(request)
                if request.startswith(b"POST"):
                    return
                await stream.send_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    transport = DirectTransport()
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery, transport:
            listeners = await nursery.start(
                functools.partial(trio.serve_tcp, serve, 0, host="127.0.0.1")
            )
            url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
            response = await transport.handle_async_request(httpx.Request("GET", url))
            await response.aread()
            assert transport.idle_connections == 1
            answer = await Issuer(url=url, transport=transport).renew(
                "rt_1", reason="proactive_expiry"
            )
            nursery.cancel_scope.cancel()
    assert isinstance(answer, Lost)
    posts = b"".join(requests).count(b"POST /oauth/token ")
    assert posts == 1


class BreaksOff(httpx.AsyncByteStream):
    """A body whose connection breaks in the middle."""

    closed = False

    async def __aiter__(self):  # noqa: ANN204
        yield b'{"access_token": '
        raise httpx.ReadError("reset")

    async def aclose(self) -> None:
        self.closed = True


async def test_an_answer_that_breaks_off_is_lost_and_its_connection_closed() -> None:
    body = BreaksOff()
    transport = httpx.MockTransport(lambda _: httpx.Response(200, stream=body))
    issuer = Issuer(url="http://issuer.invalid", transport=transport)
    assert isinstance(await issuer.renew("rt_1", reason="proactive_expiry"), Lost)
    assert body.closed


async def test_an_answer_without_end_is_cut_in_memory() -> None:
    huge = dump({"access_token": "a" * (2 << 20)})
    transport = httpx.MockTransport(lambda _: httpx.Response(200, content=huge))
    issuer = Issuer(url="http://issuer.invalid", transport=transport)
    assert isinstance(await issuer.renew("rt_1", reason="proactive_expiry"), Lost)


# What the way to the service says of itself. The clock jumps to the next deadline.


async def _hangs(caller: Caller) -> None:
    await caller.left()


def way(kind: str, url: str, proxy_url: str | None) -> httpx.AsyncBaseTransport:
    """Return a transport that goes to `url`, through the proxy if there is one."""
    proxies = {}
    if proxy_url is not None:
        proxies = {Origin.of(httpx.URL(url)): Proxy.named(proxy_url, source="HTTPS_PROXY")}
    nobody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if kind == "direct":
        return DirectTransport(ssl_context=nobody, proxies=proxies)
    return StockTransport(ssl_context=nobody, proxies=proxies)


@pytest.mark.parametrize("kind", ["direct", "httpx"])
async def test_a_proxy_that_hangs_has_let_no_token_out_and_is_named(
    kind: str, autojump_clock: MockClock
) -> None:
    url = "https://issuer.invalid"
    with trio.fail_after(1000):
        async with serving(_hangs) as proxy, way(kind, url, proxy.url) as transport:
            began_at_s = trio.current_time()
            issuer = Issuer(url=url, transport=transport)
            answer = await issuer.renew("rt_1", reason="proactive_expiry")
            assert trio.current_time() - began_at_s == pytest.approx(wire.CONNECT_S)
    assert isinstance(answer, Unavailable)
    where = proxy.url.removeprefix("http://")
    assert answer.why.startswith("the sign-in service cannot be reached")
    assert f"the proxy {where} (HTTPS_PROXY)" in answer.why


@pytest.mark.parametrize("kind", ["direct", "httpx"])
async def test_whoever_cuts_a_call_short_can_see_that_the_token_had_not_left(
    kind: str, autojump_clock: MockClock
) -> None:
    url, progress = "https://issuer.invalid", Progress()
    async with serving(_hangs) as proxy, way(kind, url, proxy.url) as transport:
        with trio.move_on_after(wire.CONNECT_S / 2):
            await Issuer(url=url, transport=transport).renew(
                "rt_1", reason="proactive_expiry", progress=progress
            )
    assert progress.is_unsent


@pytest.mark.parametrize("kind", ["direct", "httpx"])
async def test_whoever_cuts_a_call_short_can_see_that_the_token_had_left(
    kind: str, autojump_clock: MockClock
) -> None:
    progress = Progress()
    async with serving(_hangs) as server, way(kind, server.url, None) as transport:
        with trio.move_on_after(wire.CONNECT_S * 2) as limit:
            await Issuer(url=server.url, transport=transport).renew(
                "rt_1", reason="proactive_expiry", progress=progress
            )
    assert limit.cancelled_caught
    assert not progress.is_unsent


async def test_of_a_transport_that_tells_nothing_nobody_knows_whether_the_token_had_left() -> None:
    fake = FakeIssuer(WallClock(), troubles=[Trouble.UNREACHABLE])
    progress = Progress()
    issuer = Issuer(url="http://issuer.invalid", transport=fake)
    await issuer.renew("rt_1", reason="proactive_expiry", progress=progress)
    assert not progress.is_unsent


@pytest.mark.parametrize("kind", ["direct", "httpx"])
async def test_a_way_that_cannot_be_gone_is_told_in_its_own_words(kind: str) -> None:
    url = "http://auth..example"
    async with way(kind, url, None) as transport:
        answer = await Issuer(url=url, transport=transport).renew("rt_1", reason="proactive_expiry")
    assert isinstance(answer, Unavailable)
    assert "no connection to auth..example:80: " in answer.why
    assert "rt_1" not in answer.why
