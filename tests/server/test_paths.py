"""Paths as clients spell them: served if it is clear what was meant, never a redirect or a page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from codexrelay.protocol.raw import get_object, parse_object
from codexrelay.server.asgi import meant_by
from tests.fakes.relay import ask, ask_chat, post_bytes, relaying

if TYPE_CHECKING:
    from pathlib import Path

    from codexrelay.protocol.raw import JsonObject

_CLOSE: Final = b"connection: close\r\n"
_UPGRADE: Final = (
    b"connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"
    b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("/v1/responses", "/v1/responses"),
        ("/v1//responses", "/v1/responses"),
        ("//v1///responses", "/v1/responses"),
        ("/v1/responses/", "/v1/responses"),
        ("/", "/"),
        ("//", "/"),
        ("", "/"),
        ("*", "/"),
        ("http://localhost:8787/v1//responses", "/v1/responses"),
        ("http://localhost", "/"),
    ],
)
def test_a_path_is_taken_without_the_slashes_that_mean_nothing(path: str, meant: str) -> None:
    assert meant_by(path) == meant


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1//responses", ask(stream=False)),
        ("//v1/responses", ask(stream=False)),
        ("/v1/responses/", ask(stream=False)),
        ("/backend-api/codex//responses", ask(stream=False)),
        ("/v1//chat/completions", ask_chat(stream=False)),
        ("http://localhost/v1//responses", ask(stream=False)),
        ("/v1//models", None),
        ("/v1/models/", None),
        ("/v1//models/gpt-5.5", None),
        ("//healthz", None),
    ],
)
async def test_a_slash_too_many_is_overlooked(
    tmp_path: Path, path: str, body: JsonObject | None
) -> None:
    async with relaying(tmp_path) as relay, relay.connect() as client:
        if body is None:
            await client.get(path)
        else:
            await client.send(post_bytes(path, body))
        assert (await client.receive_response())[0] == 200


@pytest.mark.parametrize(
    ("request_line", "headers", "status"),
    [
        pytest.param(b"GET /", _CLOSE, 404, id="root"),
        pytest.param(b"GET //", _CLOSE, 404, id="two slashes"),
        pytest.param(b"GET /nothing/", _CLOSE, 404, id="nothing"),
        pytest.param(b"GET http://localhost/v1//nothing", _CLOSE, 404, id="as to a proxy"),
        pytest.param(b"GET /v1/models//nothing", _CLOSE, 404, id="no such model"),
        pytest.param(
            b"POST /v1//models/", _CLOSE + b"content-length: 0\r\n", 405, id="POST for GET"
        ),
        pytest.param(b"GET /v1/responses/", _CLOSE, 405, id="GET for POST"),
        pytest.param(b"OPTIONS *", _CLOSE, 404, id="OPTIONS for all"),
        pytest.param(b"OPTIONS /v1/responses", _CLOSE, 405, id="OPTIONS"),
        pytest.param(b"BREW /v1/responses", _CLOSE, 405, id="no such method"),
        pytest.param(b"GET /nothing/", _UPGRADE, 404, id="WebSocket for nothing"),
        pytest.param(b"GET /v1/models", _UPGRADE, 400, id="WebSocket for GET"),
    ],
)
async def test_what_is_not_there_is_told_without_redirect_and_web_page(
    tmp_path: Path, request_line: bytes, headers: bytes, status: int
) -> None:
    async with relaying(tmp_path) as relay, relay.connect() as client:
        await client.send(b"%b HTTP/1.1\r\nhost: localhost\r\n%b\r\n" % (request_line, headers))
        head, _, body = (await client.receive_rest()).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert b"\r\ncontent-type: application/json" in head.lower()
    assert b"\r\nlocation:" not in head.lower()
    assert get_object(parse_object(body), "error")["message"]


async def test_a_websocket_where_there_is_none_is_told_so(tmp_path: Path) -> None:
    async with relaying(tmp_path) as relay, relay.connect() as client:
        await client.send(b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\n%b\r\n" % _UPGRADE)
        _, _, body = (await client.receive_rest()).partition(b"\r\n\r\n")
    assert get_object(parse_object(body), "error")["code"] == "no_websocket"


@pytest.mark.parametrize(
    "host",
    [b"a b", b"localhost:x", b"[::1", b"/", b"", b"a..b", b"x" * 300, b"\xe4", "ä".encode()],
    ids=lambda host: repr(host[:10]),
)
@pytest.mark.parametrize("more", [b"", _UPGRADE], ids=["HTTP", "WebSocket"])
async def test_a_host_that_is_none_is_refused_like_a_foreign_one(
    tmp_path: Path, host: bytes, more: bytes
) -> None:
    async with relaying(tmp_path) as relay, relay.connect() as client:
        await client.send(b"GET /v1/responses HTTP/1.1\r\nhost: %b\r\n%b\r\n" % (host, more))
        status, body = await client.receive_response()
    assert status == 403
    assert get_object(parse_object(body), "error")["code"] == "host_not_allowed"


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v1/responses", {"POST"}),
        ("PUT", "/v1/responses", {"POST"}),
        ("OPTIONS", "/v1/responses", {"POST"}),
        ("GET", "/backend-api/codex/responses", {"POST"}),
        ("GET", "/v1/chat/completions", {"POST"}),
        ("POST", "/v1/models", {"GET", "HEAD"}),
    ],
)
async def test_a_wrong_method_is_told_the_ones_that_are_served(
    tmp_path: Path, method: str, path: str, allowed: set[str]
) -> None:
    async with relaying(tmp_path) as relay:
        answer = await relay.http.request(method, path)
    assert answer.status_code == 405
    assert set(answer.headers["allow"].split(", ")) == allowed
