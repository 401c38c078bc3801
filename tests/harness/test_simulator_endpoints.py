"""The simulator's tokens, quotas, catalogue and control endpoints."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Final

import pytest

from codexrelay.protocol.raw import get_object, parse_object
from harness.simulator import SimulatedAccount, Simulator
from harness.simulator.accounts import CLIENT_ID, some_accounts
from harness.simulator.catalogue import MODELS
from tests.fakes.simulated import SignedIn, request, simulated, user

if TYPE_CHECKING:
    from pathlib import Path

    import httpx

    from codexrelay.protocol.raw import JsonObject

_NOW_UNIX_S: Final = 1_795_000_000.0
_HELLO: Final = request(user("hello"))


class WallClock:
    """A wall clock that a test moves."""

    def __init__(self) -> None:
        self.now_unix_s = _NOW_UNIX_S

    def __call__(self) -> float:
        return self.now_unix_s


def claims(token: str) -> JsonObject:
    """Return the claims of a JWT."""
    payload = token.split(".")[1]
    return parse_object(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))


async def refresh(client: SignedIn, token: str) -> httpx.Response:
    form = {"grant_type": "refresh_token", "client_id": CLIENT_ID, "refresh_token": token}
    return await client.http.post(client.simulator.issuer_url + "/oauth/token", json=form)


async def ask_with(client: SignedIn, access_token: str) -> httpx.Response:
    return await client.http.post(
        client.simulator.api_base_url + "/responses",
        json=_HELLO,
        headers=client.headers | {"authorization": f"Bearer {access_token}"},
    )


async def test_a_refresh_gives_new_tokens_and_the_old_access_token_stays_good() -> None:
    async with simulated(Simulator()) as client:
        old = client.simulator.tokens("sim-1")
        answer = await refresh(client, old.refresh_token)
        new = answer.json()
        statuses = [
            (await ask_with(client, token)).status_code
            for token in (old.access_token, new["access_token"])
        ]
    assert answer.status_code == 200
    assert new["refresh_token"] != old.refresh_token
    assert new["access_token"] != old.access_token
    assert new["expires_in"] == 864_000
    assert statuses == [200, 200]


async def test_a_refresh_may_come_as_a_form() -> None:
    async with simulated(Simulator()) as client:
        answer = await client.http.post(
            client.simulator.issuer_url + "/oauth/token",
            data={
                "grant_type": "refresh_token",
                "client_id": CLIENT_ID,
                "refresh_token": client.simulator.tokens("sim-1").refresh_token,
                "scope": "openid profile email",
            },
        )
    assert answer.status_code == 200


async def test_a_spent_refresh_token_is_refused_and_ends_its_family() -> None:
    async with simulated(Simulator()) as client:
        spent = client.simulator.tokens("sim-1").refresh_token
        current = (await refresh(client, spent)).json()["refresh_token"]
        reused = await refresh(client, spent)
        after = await refresh(client, current)
    assert (reused.status_code, reused.json()["error"]["code"]) == (401, "refresh_token_reused")
    assert (after.status_code, after.json()["error"]["code"]) == (
        401,
        "refresh_token_invalidated",
    )


@pytest.mark.parametrize(
    ("change", "status", "error"),
    [
        ({"refresh_token": "rt_unknown"}, 400, "invalid_grant"),
        ({"grant_type": "password"}, 400, "unsupported_grant_type"),
        ({"client_id": "another"}, 401, "invalid_client"),
    ],
    ids=["unknown token", "other grant", "other client"],
)
async def test_a_bad_token_request_is_refused(
    change: dict[str, str], status: int, error: str
) -> None:
    async with simulated(Simulator()) as client:
        form = {
            "grant_type": "refresh_token",
            "client_id": CLIENT_ID,
            "refresh_token": client.simulator.tokens("sim-1").refresh_token,
        }
        answer = await client.http.post(
            client.simulator.issuer_url + "/oauth/token", json=form | change
        )
    assert (answer.status_code, answer.json()["error"]) == (status, error)


async def test_tokens_carry_the_claims_of_their_account() -> None:
    account = SimulatedAccount("work", plan="pro")
    async with simulated(Simulator(accounts=(account,), wall_clock=WallClock())) as client:
        first = claims(client.simulator.tokens("work").access_token)
        answer = await refresh(client, client.simulator.tokens("work").refresh_token)
    for told in (first, claims(answer.json()["access_token"]), claims(answer.json()["id_token"])):
        auth = get_object(told, "https://api.openai.com/auth")
        assert auth["chatgpt_account_id"] == account.account_id
        assert auth["chatgpt_plan_type"] == "pro"
        assert auth["chatgpt_user_id"] == account.user_id
    assert first["exp"] == _NOW_UNIX_S + 864_000
    assert get_object(first, "https://api.openai.com/profile")["email"] == account.email


async def test_an_access_token_expires_with_the_wall_clock() -> None:
    clock = WallClock()
    account = SimulatedAccount("a", token_lifetime_s=600)
    async with simulated(Simulator(accounts=(account,), wall_clock=clock)) as client:
        before = await client.post(_HELLO)
        clock.now_unix_s += 600
        after = await client.post(_HELLO)
    assert (before.status_code, after.status_code) == (200, 401)
    assert after.json()["error"]["code"] == "token_expired"


async def test_an_account_may_start_with_an_expired_token() -> None:
    account = SimulatedAccount("a", expired=True)
    async with simulated(Simulator(accounts=(account,), wall_clock=WallClock())) as client:
        pair = client.simulator.tokens("a")
        first = await client.post(_HELLO)
        renewed = (await refresh(client, pair.refresh_token)).json()
        then = await ask_with(client, renewed["access_token"])
    assert claims(pair.access_token)["exp"] == pair.expires_unix_s < _NOW_UNIX_S
    assert (first.status_code, then.status_code) == (401, 200)


async def test_expiring_refuses_tokens_that_look_valid_until_they_are_refreshed() -> None:
    async with simulated(Simulator()) as client:
        pair = client.simulator.tokens("sim-1")
        client.simulator.expire("sim-1")
        refused = await client.post(_HELLO)
        renewed = (await refresh(client, pair.refresh_token)).json()
        then = await ask_with(client, renewed["access_token"])
    assert refused.json()["error"]["code"] == "token_expired"
    assert then.status_code == 200


async def test_revoking_ends_access_and_refresh() -> None:
    async with simulated(Simulator()) as client:
        client.simulator.revoke("sim-1")
        refused = await client.post(_HELLO)
        renewed = await refresh(client, client.simulator.tokens("sim-1").refresh_token)
    assert refused.json()["error"]["code"] == "token_invalidated"
    assert renewed.json()["error"]["code"] == "refresh_token_invalidated"


async def test_oauth_revoke_ends_the_family_of_the_refresh_token() -> None:
    async with simulated(Simulator()) as client:
        token = client.simulator.tokens("sim-1").refresh_token
        answer = await client.http.post(
            client.simulator.issuer_url + "/oauth/revoke",
            json={"token": token, "token_type_hint": "refresh_token", "client_id": CLIENT_ID},
        )
        after = await refresh(client, token)
    assert (answer.status_code, after.status_code) == (200, 401)


async def test_a_usage_limit_is_reached_after_so_many_turns_and_passes() -> None:
    clock = WallClock()
    account = SimulatedAccount("a", limit_after=2)
    async with simulated(Simulator(accounts=(account,), wall_clock=clock)) as client:
        served = [(await client.post(_HELLO)).status_code for _ in range(2)]
        limited = await client.post(_HELLO)
        clock.now_unix_s += 3600
        after = await client.post(_HELLO)
    assert served == [200, 200]
    assert limited.status_code == 429
    assert limited.json()["error"] == {
        "type": "usage_limit_reached",
        "message": "The usage limit has been reached",
        "plan_type": "plus",
        "resets_at": int(_NOW_UNIX_S) + 3600,
        "eligible_promo": None,
        "resets_in_seconds": 3600,
    }
    assert limited.headers["x-codex-primary-used-percent"] == "100"
    assert limited.headers["x-codex-primary-reset-at"] == str(int(_NOW_UNIX_S) + 3600)
    assert after.status_code == 200


async def test_a_limit_can_be_set_and_taken_away() -> None:
    async with simulated(Simulator(accounts=some_accounts(2))) as client:
        client.simulator.limit("sim-1", resets_in_s=90)
        limited = await client.post(_HELLO)
        client.simulator.unlimit("sim-1")
        after = await client.post(_HELLO)
    assert limited.json()["error"]["resets_in_seconds"] in (89, 90)
    assert after.status_code == 200


async def test_the_usage_endpoint_says_what_the_headers_say() -> None:
    account = SimulatedAccount("a", limit_after=4)
    async with simulated(Simulator(accounts=(account,), wall_clock=WallClock())) as client:
        told = (await client.post(_HELLO)).headers
        url = client.simulator.base_url + "/backend-api/wham/usage"
        usage = (await client.http.get(url, headers=client.headers)).json()
    window = usage["rate_limit"]["primary_window"]
    assert usage["rate_limit"]["allowed"] is True
    assert window["used_percent"] == 25 == int(told["x-codex-primary-used-percent"])
    assert window["reset_at"] == int(told["x-codex-primary-reset-at"])


async def test_the_catalogue_lists_the_models_a_client_is_new_enough_for() -> None:
    async with simulated(Simulator()) as client:
        url = client.simulator.api_base_url + "/models"
        new, old = [
            await client.http.get(url, params={"client_version": version}, headers=client.headers)
            for version in ("0.169.0", "0.99.0")
        ]
        etag_of_streams = (await client.post(_HELLO)).headers["x-models-etag"]
    slugs = [[model["slug"] for model in answer.json()["models"]] for answer in (new, old)]
    assert slugs[0] == [model.slug for model in MODELS]
    assert "gpt-5.5" not in slugs[1]
    assert new.headers["etag"] == etag_of_streams != old.headers["etag"]


async def test_the_catalogue_says_which_plans_have_a_model() -> None:
    simulator = Simulator(plans={"gpt-5.4": ("pro",)})
    async with simulated(simulator) as client:
        url = client.simulator.api_base_url + "/models"
        told = await client.http.get(url, headers=client.headers)
        etag_of_streams = (await client.post(_HELLO)).headers["x-models-etag"]
    plans = {model["slug"]: model["available_in_plans"] for model in told.json()["models"]}
    assert {"free", "plus", "pro"} <= set(plans["gpt-5.5"])
    assert plans["gpt-5.4"] == ["pro"]
    assert all("plus" in listed for slug, listed in plans.items() if slug != "gpt-5.4")
    assert "free" not in plans["gpt-6.1-sol"]
    assert told.headers["etag"] == etag_of_streams != Simulator().models_etag


async def test_the_workspace_check_lists_the_bearers_account() -> None:
    async with simulated(Simulator(accounts=some_accounts(2))) as client:
        url = client.simulator.base_url + "/backend-api/wham/accounts/check"
        told = (await client.http.get(url, headers=client.headers)).json()
    assert told["default_account_id"] == client.headers["chatgpt-account-id"]
    assert [entry["workspace_backend_origin"] for entry in told["accounts"]] == ["NO_CONSTRAINT"]


async def test_compact_keeps_what_people_said_and_adds_an_opaque_item() -> None:
    body: JsonObject = {"model": "gpt-5.5", "input": [user("hello")], "instructions": "Be brief."}
    async with simulated(Simulator()) as client:
        answer = (await client.post(body, path="/responses/compact")).json()
    assert answer["object"] == "response.compaction"
    assert answer["output"][0] == user("hello")
    assert answer["output"][1]["type"] == "compaction"
    assert answer["usage"]["total_tokens"] > 0


async def test_the_control_endpoints_do_what_the_methods_do() -> None:
    async with simulated(Simulator()) as client:
        account_id = client.headers["chatgpt-account-id"]

        async def control(path: str, body: object) -> int:
            url = f"{client.simulator.base_url}/_sim/{path}"
            return (await client.http.post(url, json=body)).status_code

        assert await control("faults", ["503"]) == 200
        assert (await client.post(_HELLO)).status_code == 503
        assert await control("limit", {"account": "sim-1", "after": 1, "resets_in_s": 60}) == 200
        assert (await client.post(_HELLO)).status_code == 200
        assert (await client.post(_HELLO)).status_code == 429
        assert await control("unlimit", {"account": "sim-1"}) == 200
        assert await control("faults", {"account": "sim-1", "faults": ["500"]}) == 200
        assert (await client.post(_HELLO)).status_code == 500
        condition = {"account": "sim-1", "condition": "throttled", "wait_s": 7}
        assert await control("condition", condition) == 200
        assert (await client.post(_HELLO)).headers["retry-after"] == "7"
        assert await control("condition", {"account": "sim-1", "condition": None}) == 200
        assert (await client.post(_HELLO)).status_code == 200
        assert await control("expire", {"account": account_id}) == 200
        assert (await client.post(_HELLO)).json()["error"]["code"] == "token_expired"
        assert await control("revoke", {"account": "sim-1"}) == 200
        assert (await client.post(_HELLO)).json()["error"]["code"] == "token_invalidated"
        assert await control("faults", ["flood"]) == 400
        assert await control("faults", {}) == 400
        assert await control("faults", {"account": "nobody", "faults": ["500"]}) == 400
        assert await control("condition", {"account": "sim-1", "condition": "ill"}) == 400
        assert await control("condition", {"account": "nobody", "condition": None}) == 400
        assert await control("expire", {"account": "nobody"}) == 400


async def test_seen_over_http_tells_all_but_the_tokens() -> None:
    async with simulated(Simulator()) as client:
        pair = client.simulator.tokens("sim-1")
        await client.post(_HELLO)
        await refresh(client, pair.refresh_token)
        told = await client.http.get(client.simulator.base_url + "/_sim/seen")
    model_request, token_request = told.json()
    assert model_request["body"] == _HELLO
    assert model_request["account"] == "sim-1"
    assert model_request["finished"] is True
    assert token_request["body"]["grant_type"] == "refresh_token"
    assert pair.access_token not in told.text
    assert pair.refresh_token not in told.text


async def test_no_repr_shows_a_token() -> None:
    async with simulated(Simulator()) as client:
        await client.post(_HELLO)
        pair = client.simulator.tokens("sim-1")
        shown = repr((client.simulator, client.simulator.issuer, client.simulator.seen, pair))
    assert pair.access_token not in shown
    assert pair.refresh_token not in shown


def test_the_store_holds_one_private_account_file_per_account(tmp_path: Path) -> None:
    simulator = Simulator(accounts=some_accounts(2), wall_clock=WallClock())
    folder = tmp_path / "store"
    simulator.write_store(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["sim-1.json", "sim-2.json"]
    content = parse_object((folder / "sim-2.json").read_bytes())
    assert content["account_id"] == "sim-2"
    assert content["chatgpt_account_id"] == simulator.account("sim-2").account_id
    assert content["access_token"] == simulator.tokens("sim-2").access_token
    assert content["refresh_token"] == simulator.tokens("sim-2").refresh_token
    assert content["expiry_date"] == (_NOW_UNIX_S + 864_000) * 1000
    assert content["needs_reauth"] is False


def test_same_seeds_give_same_tokens_and_others_do_not() -> None:
    clock = WallClock()
    tokens = [
        Simulator(seed=seed, wall_clock=clock).tokens("sim-1").refresh_token for seed in (0, 0, 1)
    ]
    assert tokens[0] == tokens[1] != tokens[2]
