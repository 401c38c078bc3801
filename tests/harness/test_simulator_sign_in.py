"""The simulator's sign-in page and device codes, as a client meets them."""

from __future__ import annotations

import base64
import hashlib
import urllib.parse
from typing import TYPE_CHECKING, Final

import pytest

from harness.simulator import Simulator
from harness.simulator.accounts import CLIENT_ID, some_accounts
from tests.fakes.simulated import SignedIn, simulated
from tests.fakes.wall_clock import WallClock

if TYPE_CHECKING:
    import httpx

VERIFIER: Final = "a" * 43
CHALLENGE: Final = (
    base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
)
REDIRECT: Final = "http://localhost:1455/auth/callback"
ASKED: Final = {
    "response_type": "code",
    "client_id": CLIENT_ID,
    "redirect_uri": REDIRECT,
    "scope": "openid",
    "code_challenge": CHALLENGE,
    "code_challenge_method": "S256",
    "state": "the state",
}


async def authorize(client: SignedIn, **change: str) -> httpx.Response:
    url = client.simulator.issuer_url + "/oauth/authorize"
    return await client.http.get(url, params=ASKED | change)


async def a_code(client: SignedIn, **change: str) -> str:
    location = (await authorize(client, **change)).headers["location"]
    return urllib.parse.parse_qs(location.partition("?")[2])["code"][0]


async def redeem(client: SignedIn, used_code: str, /, **change: str) -> httpx.Response:
    form = {
        "grant_type": "authorization_code",
        "client_id": CLIENT_ID,
        "code": used_code,
        "redirect_uri": REDIRECT,
        "code_verifier": VERIFIER,
    }
    return await client.http.post(client.simulator.issuer_url + "/oauth/token", data=form | change)


async def post(client: SignedIn, path: str, body: dict[str, str]) -> httpx.Response:
    return await client.http.post(client.simulator.issuer_url + path, json=body)


async def start_device(client: SignedIn) -> dict[str, str]:
    answer = await post(client, "/api/accounts/deviceauth/usercode", {"client_id": CLIENT_ID})
    assert answer.status_code == 200
    started: dict[str, str] = answer.json()
    return started


async def ask_for_device(client: SignedIn, started: dict[str, str]) -> httpx.Response:
    body = {name: started[name] for name in ("device_auth_id", "user_code")}
    return await post(client, "/api/accounts/deviceauth/token", body)


async def test_the_page_sends_the_browser_back_with_a_code_and_the_state() -> None:
    async with simulated(Simulator()) as client:
        answer = await authorize(client)
    address, _, query = answer.headers["location"].partition("?")
    fields = urllib.parse.parse_qs(query)
    assert (answer.status_code, address) == (302, REDIRECT)
    assert fields["state"] == ["the state"]
    assert fields["code"][0].startswith("ac_")


async def test_a_code_gives_tokens_that_the_backend_takes_and_that_refresh() -> None:
    async with simulated(Simulator(accounts=some_accounts(2))) as client:
        given = (await redeem(client, await a_code(client, login_hint="sim-2"))).json()
        usage = await client.http.get(
            client.simulator.base_url + "/backend-api/wham/usage",
            headers={
                "authorization": f"Bearer {given['access_token']}",
                "chatgpt-account-id": client.simulator.account("sim-2").account_id,
            },
        )
        again = await post(
            client,
            "/oauth/token",
            {
                "grant_type": "refresh_token",
                "client_id": CLIENT_ID,
                "refresh_token": given["refresh_token"],
            },
        )
    assert usage.status_code == 200
    assert again.status_code == 200


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"client_id": "another"}, "invalid_client"),
        ({"redirect_uri": "http://evil.example/auth/callback"}, "invalid_redirect_uri"),
        ({"redirect_uri": "http://localhost:1455/other"}, "invalid_redirect_uri"),
        ({"redirect_uri": "https://localhost:1455/auth/callback"}, "invalid_redirect_uri"),
        ({"redirect_uri": "http://["}, "invalid_redirect_uri"),
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge": ""}, "invalid_request"),
        ({"state": ""}, "invalid_request"),
        ({"login_hint": "nobody"}, "login_required"),
    ],
)
async def test_a_wrong_question_is_refused_without_sending_anybody_anywhere(
    change: dict[str, str], error: str
) -> None:
    async with simulated(Simulator()) as client:
        answer = await authorize(client, **change)
    assert (answer.status_code, answer.json()) == (400, {"error": error})
    assert "location" not in answer.headers


@pytest.mark.parametrize(
    "change",
    [
        {"code": "ac_unknown"},
        {"code_verifier": "b" * 43},
        {"redirect_uri": "http://127.0.0.1:1455/auth/callback"},
    ],
)
async def test_a_code_is_refused_to_whom_it_was_not_made_for(change: dict[str, str]) -> None:
    async with simulated(Simulator()) as client:
        code = await a_code(client)
        answer = await redeem(client, code, **change)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")


async def test_a_code_is_good_once_and_for_a_while() -> None:
    clock = WallClock()
    async with simulated(Simulator(wall_clock=clock)) as client:
        code, other = await a_code(client), await a_code(client)
        statuses = [(await redeem(client, code)).status_code for _ in range(2)]
        clock.now_unix_s += 601
        statuses.append((await redeem(client, other)).status_code)
    assert statuses == [200, 400, 400]


async def test_a_device_waits_until_it_is_approved_and_then_has_a_code_for_once() -> None:
    async with simulated(Simulator()) as client:
        started = await start_device(client)
        waiting = await ask_for_device(client, started)
        approved = await post(
            client, "/_sim/approve", {"account": "sim-1", "user_code": started["user_code"]}
        )
        given = (await ask_for_device(client, started)).json()
        tokens = await redeem(
            client,
            given["authorization_code"],
            code_verifier=given["code_verifier"],
            redirect_uri=client.simulator.issuer_url + "/deviceauth/callback",
        )
        again = await ask_for_device(client, started)
    assert (waiting.status_code, approved.status_code) == (403, 200)
    assert (tokens.status_code, again.status_code) == (200, 400)


async def test_without_a_user_code_the_last_device_is_approved() -> None:
    async with simulated(Simulator()) as client:
        first, last = await start_device(client), await start_device(client)
        client.simulator.approve("sim-1")
        statuses = [(await ask_for_device(client, one)).status_code for one in (first, last)]
    assert statuses == [403, 200]


@pytest.mark.parametrize(
    "body",
    [{}, {"account": "nobody"}, {"account": "sim-1", "user_code": "WRONG"}],
    ids=["nothing", "no account", "no device"],
)
async def test_an_approval_of_nothing_is_refused(body: dict[str, str]) -> None:
    async with simulated(Simulator()) as client:
        started = await start_device(client)
        answer = await post(client, "/_sim/approve", body)
        still = await ask_for_device(client, started)
    assert (answer.status_code, still.status_code) == (400, 403)


async def test_a_device_code_runs_out() -> None:
    clock = WallClock()
    async with simulated(Simulator(wall_clock=clock)) as client:
        started = await start_device(client)
        clock.now_unix_s += 901
        answer = await ask_for_device(client, started)
    assert (answer.status_code, answer.json()) == (400, {"error": "expired_token"})


async def test_devices_can_be_forbidden() -> None:
    simulator = Simulator()
    simulator.issuer.sign_ins.device_codes = False
    async with simulated(simulator) as client:
        answer = await post(client, "/api/accounts/deviceauth/usercode", {"client_id": CLIENT_ID})
    assert answer.status_code == 404
