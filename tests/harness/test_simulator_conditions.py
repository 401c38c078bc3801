"""What an account of the simulator can be in, and faults by chance."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

import pytest

from harness.simulator import CONDITIONS, Dice, SimulatedAccount, Simulator
from harness.simulator.accounts import CLIENT_ID, some_accounts
from tests.fakes.simulated import SignedIn, request, simulated, user

if TYPE_CHECKING:
    import httpx

_HELLO: Final = request(user("hello"))
_TITLE: Final = request({"role": "developer", "content": "Write a title."}, user("hello"))

#: Condition -> status and words of a model request's answer, status of another request's.
TOLD: Final[dict[str, tuple[int, str, int]]] = {
    "no_codex": (429, "usage_not_included", 200),
    "deactivated": (402, "deactivated_workspace", 402),
    "overloaded": (503, "server_is_overloaded", 200),
    "throttled": (429, "rate_limit_exceeded", 200),
    "unauthorized": (401, "Unauthorized", 401),
}


def test_every_condition_is_tried_here() -> None:
    assert TOLD.keys() == CONDITIONS


async def usage(client: SignedIn) -> httpx.Response:
    url = client.simulator.base_url + "/backend-api/wham/usage"
    return await client.http.get(url, headers=client.headers)


@pytest.mark.parametrize("condition", TOLD)
async def test_a_condition_stands_for_one_account_until_it_is_lifted(condition: str) -> None:
    status, words, usage_status = TOLD[condition]
    async with simulated(Simulator(accounts=some_accounts(2))) as client:
        client.simulator.set_condition("sim-1", condition)
        ill = [await client.post(body) for body in (_HELLO, _TITLE, _HELLO)]
        ill.append(await client.post(_HELLO, path="/responses/compact"))
        other = await client.as_account("sim-2").post(_HELLO)
        usages = [(await usage(one)).status_code for one in (client, client.as_account("sim-2"))]
        client.simulator.set_condition("sim-1", None)
        after = await client.post(_HELLO)
    assert [answer.status_code for answer in ill] == [status] * 4
    assert all(words in answer.text for answer in ill)
    assert (other.status_code, after.status_code) == (200, 200)
    assert usages == [usage_status, 200]
    seen = client.simulator.seen
    assert [one.condition for one in seen[:4]] == [condition] * 4
    assert [one.condition for one in (seen[4], seen[-1])] == [None, None]


async def test_a_condition_spends_no_turn_and_no_fault() -> None:
    account = SimulatedAccount("a", limit_after=1)
    async with simulated(Simulator(accounts=(account,))) as client:
        client.simulator.queue_faults("500")
        client.simulator.set_condition("a", "overloaded")
        ill = await client.post(_HELLO)
        client.simulator.set_condition("a", None)
        statuses = [(await client.post(_HELLO)).status_code for _ in range(3)]
    assert [ill.status_code, *statuses] == [503, 500, 200, 429]


async def test_a_refreshed_token_is_refused_too_while_the_account_is_unauthorized() -> None:
    async with simulated(Simulator()) as client:
        client.simulator.set_condition("sim-1", "unauthorized")
        renewed = await client.http.post(
            client.simulator.issuer_url + "/oauth/token",
            json={
                "grant_type": "refresh_token",
                "client_id": CLIENT_ID,
                "refresh_token": client.simulator.tokens("sim-1").refresh_token,
            },
        )
        token = renewed.json()["access_token"]
        answer = await client.http.post(
            client.simulator.api_base_url + "/responses",
            json=_HELLO,
            headers=client.headers | {"authorization": f"Bearer {token}"},
        )
    assert (renewed.status_code, answer.status_code) == (200, 401)


async def test_a_throttle_says_how_long_to_wait() -> None:
    async with simulated(Simulator()) as client:
        client.simulator.set_condition("sim-1", "throttled", wait_s=1.5)
        answer = await client.post(_HELLO)
    assert answer.headers["retry-after"] == "2"
    assert "Please try again in 1.5s." in answer.json()["error"]["message"]


def test_an_unknown_condition_or_account_is_refused() -> None:
    simulator = Simulator()
    with pytest.raises(ValueError, match="no condition is called 'ill'; known: deactivated, "):
        simulator.set_condition("sim-1", "ill")
    with pytest.raises(ValueError, match="no account is called 'nobody'"):
        simulator.set_condition("nobody", None)
    assert simulator.condition(simulator.account("sim-1")) is None


async def test_chance_spoils_main_requests_for_which_no_fault_waits() -> None:
    asked: list[str] = []

    def chance(account: SimulatedAccount) -> str | None:
        asked.append(account.name)
        return "503" if account.name == "sim-2" else None

    async with simulated(Simulator(accounts=some_accounts(2), chance=chance)) as client:
        client.simulator.queue_faults("500", account="sim-2")
        other = client.as_account("sim-2")
        answers = [await one.post(_HELLO) for one in (client, other, other)]
        answers.append(await other.post(_TITLE))
    assert [answer.status_code for answer in answers] == [200, 500, 503, 200]
    assert asked == ["sim-1", "sim-2"]
    assert [(seen.account, seen.fault) for seen in client.simulator.seen[1:3]] == [
        ("sim-2", "500"),
        ("sim-2", "503"),
    ]


def test_dice_fall_alike_for_a_seed_however_the_accounts_take_turns() -> None:
    one, other = some_accounts(2)
    odds = {"401": 0.2, "503": 0.3}
    dice, again, others = (Dice(seed, odds) for seed in (1, 1, 2))
    apart = [dice(one) for _ in range(50)], [dice(other) for _ in range(50)]
    mixed = [(again(one), again(other)) for _ in range(50)]
    assert mixed == list(zip(*apart, strict=True))
    assert apart[0] != apart[1]
    assert apart[0] != [others(one) for _ in range(50)]


def test_dice_keep_to_their_odds() -> None:
    dice = Dice(0, {"401": 0.2, "503": 0.3})
    fell = Counter(dice(SimulatedAccount("a")) for _ in range(10_000))
    assert fell["401"] == pytest.approx(2_000, abs=150)
    assert fell["503"] == pytest.approx(3_000, abs=150)
    assert fell.keys() == {"401", "503", None}


@pytest.mark.parametrize(
    ("odds", "told"),
    [
        ({"flood": 0.1}, "no fault is called 'flood'"),
        ({"401": -0.1}, "negative"),
        ({"401": 0.6, "503": 0.6}, "more than 1"),
    ],
)
def test_dice_with_wrong_odds_are_refused(odds: dict[str, float], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Dice(0, odds)
