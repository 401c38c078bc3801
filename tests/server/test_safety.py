"""Who may talk to the relay, and what of a client never leaves it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from codexrelay.config.settings import ServerSettings
from codexrelay.server.app import create_app
from tests.fakes.relay import ask, relaying

if TYPE_CHECKING:
    from pathlib import Path

_KEYED: Final = ServerSettings(client_keys=("key-of-sixteen-characters", "another-good-key-here"))
_PATHS: Final = (
    ("POST", "/v1/responses"),
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/responses/compact"),
    ("GET", "/v1/models"),
    ("GET", "/healthz"),
    ("GET", "/nope"),
)


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"host": "evil.example"}, "host_not_allowed"),
        ({"host": "127.0.0.1.evil.example:8787"}, "host_not_allowed"),
        ({"host": ""}, "host_not_allowed"),
        ({"origin": "https://evil.example"}, "origin_not_allowed"),
        ({"origin": "http://localhost:1"}, "origin_not_allowed"),
        ({"origin": "null"}, "origin_not_allowed"),
    ],
    ids=["host", "host that looks local", "no host", "origin", "another port", "opaque origin"],
)
async def test_a_foreign_host_or_origin_is_refused_everywhere(
    tmp_path: Path, headers: dict[str, str], code: str
) -> None:
    async with relaying(tmp_path) as relay:
        for method, path in _PATHS:
            answer = await relay.http.request(method, path, json=ask(), headers=headers)
            assert answer.status_code == 403, path
            error = answer.json()["error"]
            assert set(error) == {"message", "type", "code", "param"}
            assert error["code"] == code
        assert relay.simulator.seen == []


@pytest.mark.parametrize(
    ("doubled", "status"),
    [
        (b"host: localhost\r\nhost: evil.example\r\n", 400),
        (b"host: evil.example\r\nhost: localhost\r\n", 400),
        (b"host: localhost\r\norigin: http://evil.example\r\norigin: http://localhost\r\n", 403),
        (b"host: localhost\r\norigin: http://localhost\r\norigin: http://evil.example\r\n", 403),
    ],
    ids=["host last", "host first", "origin first", "origin last"],
)
async def test_a_foreign_host_or_origin_does_not_hide_behind_ours(
    tmp_path: Path, doubled: bytes, status: int
) -> None:
    async with relaying(tmp_path) as relay, relay.connect() as client:
        await client.send(b"GET /v1/models HTTP/1.1\r\n%b\r\n" % doubled)
        assert (await client.receive_response())[0] == status


async def test_a_page_served_from_the_relays_own_origin_is_let_in(tmp_path: Path) -> None:
    async with relaying(tmp_path) as relay:
        answer = await relay.post("/v1/responses", ask(), headers={"origin": relay.url})
    assert answer.status_code == 200


async def test_a_name_that_its_owner_allows_is_let_in(tmp_path: Path) -> None:
    server = ServerSettings(allowed_hosts=("relay.lan",))
    async with relaying(tmp_path, server=server) as relay:
        answer = await relay.post("/v1/responses", ask(), headers={"host": "relay.lan:8787"})
    assert answer.status_code == 200


async def test_a_foreign_websocket_is_refused_too(tmp_path: Path) -> None:
    upgrade = {
        "connection": "Upgrade",
        "upgrade": "websocket",
        "sec-websocket-version": "13",
        "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
        "origin": "https://evil.example",
    }
    async with relaying(tmp_path) as relay:
        answer = await relay.http.get("/v1/responses", headers=upgrade)
    assert answer.status_code == 403


async def test_no_web_page_is_given_permission_to_read(tmp_path: Path) -> None:
    preflight = {
        "origin": "https://evil.example",
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization",
    }
    async with relaying(tmp_path) as relay:
        answers = [
            await relay.http.options("/v1/responses", headers=preflight),
            await relay.http.options("/v1/responses"),
            await relay.post("/v1/responses", ask(), headers={"origin": relay.url}),
            await relay.http.get("/v1/models", headers={"origin": "https://evil.example"}),
        ]
    for answer in answers:
        assert [name for name in answer.headers if name.startswith("access-control-")] == []


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer wrong"},
        {"authorization": "Bearer"},
        {"authorization": "Basic key-of-sixteen-characters"},
        {"x-api-key": "wrong"},
        {"authorization": "Bearer key-of-sixteen-character"},
    ],
    ids=["none", "wrong", "empty", "another scheme", "wrong x-api-key", "a part of one"],
)
async def test_without_a_right_key_there_is_a_401_everywhere(
    tmp_path: Path, headers: dict[str, str]
) -> None:
    async with relaying(tmp_path, server=_KEYED) as relay:
        for method, path in _PATHS:
            answer = await relay.http.request(method, path, json=ask(), headers=headers)
            assert answer.status_code == 401, path
            assert answer.json()["error"]["code"] == "invalid_api_key"
        assert relay.simulator.seen == []


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": "Bearer key-of-sixteen-characters"},
        {"authorization": "bearer another-good-key-here"},
        {"x-api-key": "key-of-sixteen-characters"},
    ],
    ids=["bearer", "the second key", "x-api-key"],
)
async def test_a_right_key_passes_and_is_not_forwarded(
    tmp_path: Path, headers: dict[str, str]
) -> None:
    async with relaying(tmp_path, server=_KEYED) as relay:
        answer = await relay.post("/v1/responses", ask(), headers=headers)
        [seen] = relay.asked
    assert answer.status_code == 200
    values = " ".join(value for _, value in seen.headers)
    assert [key for key in _KEYED.client_keys if key in values] == []


async def test_health_names_accounts_and_tells_no_token(tmp_path: Path) -> None:
    async with relaying(tmp_path) as relay:
        answer = await relay.http.get("/healthz")
        pair = relay.simulator.tokens("sim-1")
    body = answer.json()
    assert (body["status"], body["turns"], body["problems"]) == ("ok", 0, [])
    assert [account["id"] for account in body["accounts"]] == ["sim-1"]
    assert pair.access_token not in answer.text
    assert pair.refresh_token not in answer.text


async def test_no_budget_of_the_web_framework_cuts_a_long_stream(tmp_path: Path) -> None:
    # Its defaults are 60 s for a response, 60 s and 16 MiB for a body; what is left is the turn's.
    async with relaying(tmp_path) as relay:
        app = create_app(relay.services)
    assert {
        name: app.config[name]
        for name in ("RESPONSE_TIMEOUT", "BODY_TIMEOUT", "MAX_CONTENT_LENGTH")
    } == {"RESPONSE_TIMEOUT": None, "BODY_TIMEOUT": None, "MAX_CONTENT_LENGTH": None}
