from __future__ import annotations

import functools

import httpx
import pytest
import trio

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
from codexrelay.backends.transports.direct import DirectTransport
from codexrelay.protocol.raw import Json, dump
from tests.fakes.issuer import FakeIssuer, Trouble
from tests.fakes.wall_clock import WallClock

TOKENS: Json = {"access_token": "a", "refresh_token": "r"}


@pytest.mark.parametrize(
    ("status", "body", "meaning"),
    [
        pytest.param(200, dump(TOKENS), Renewed, id="tokens"),
        pytest.param(201, dump({"access_token": "a"}), Renewed, id="access token only"),
        pytest.param(200, dump({"id_token": "i"}), Lost, id="no tokens"),
        pytest.param(200, dump(TOKENS)[:-4], Lost, id="cut short"),
        pytest.param(200, b"", Lost, id="empty"),
        pytest.param(302, b"", Unavailable, id="redirect"),
        pytest.param(403, b"<html>blocked</html>", Unavailable, id="page of the edge"),
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


@pytest.mark.parametrize(
    ("status", "body", "code", "terminal"),
    [
        *(
            pytest.param(401, {"error": {"code": code}}, code, True, id=code)
            for code in sorted(TERMINAL_CODES)
        ),
        pytest.param(400, {"error": "invalid_grant"}, "invalid_grant", True, id="OAuth form"),
        pytest.param(
            403, {"code": "account_suspended"}, "account_suspended", True, id="code beside"
        ),
        pytest.param(400, {"error": "invalid_scope"}, "invalid_scope", False, id="unknown code"),
        pytest.param(401, {"detail": "Unauthorized"}, "http_401", False, id="401 without a code"),
        pytest.param(400, [], "http_400", False, id="400 without a code"),
    ],
)
def test_a_refusal_has_a_code_and_only_known_ones_are_terminal(
    status: int, body: Json, code: str, terminal: bool
) -> None:
    answer = read_answer(status, dump(body))
    assert answer == Refused(code=code)
    assert isinstance(answer, Refused)
    assert answer.is_terminal is terminal


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
