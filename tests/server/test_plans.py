"""Which account may serve which model: by the backend's catalogue, and by what it has refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs
import pytest

from harness.simulator import SimulatedAccount, Simulator
from tests.fakes.relay import ask, eventually, relaying
from tests.fakes.wall_clock import WallClock

if TYPE_CHECKING:
    from pathlib import Path

    from tests.fakes.relay import LiveRelay

#: Not for free plans, by the simulator's catalogue.
_PAID: Final = "gpt-6-sol"
_PLAN_OF: Final = {"free": "free", "plus": "plus", "pro": "pro"}


def mixed(*, lacks: dict[str, str] | None = None, clock: WallClock | None = None) -> Simulator:
    """A pool with one account of each plan; `plans` of the models that differ."""
    refused = lacks or {}
    accounts = tuple(
        SimulatedAccount(name, plan=plan, lacks={refused[name]} if name in refused else ())
        for name, plan in _PLAN_OF.items()
    )
    more = {} if clock is None else {"wall_clock": clock}
    return Simulator(accounts=accounts, plans={"gpt-5.6-luna": ("pro",)}, **more)  # type: ignore[arg-type]


async def served_by(relay: LiveRelay, model: str, times: int) -> set[str]:
    accounts = set()
    for _ in range(times):
        answer = await relay.post("/v1/responses", ask(model=model))
        assert answer.status_code == 200, answer.text
        accounts.add(answer.headers["x-codexrelay-account"])
    return accounts


def catalogue_calls(relay: LiveRelay) -> int:
    return sum("/models" in seen.path for seen in relay.simulator.seen)


async def test_each_model_goes_to_accounts_whose_plan_has_it(tmp_path: Path) -> None:
    async with relaying(tmp_path, mixed()) as relay:
        await relay.http.get("/v1/models")
        assert await served_by(relay, "gpt-5.5", 6) == {"free", "plus", "pro"}
        assert await served_by(relay, _PAID, 4) == {"plus", "pro"}
        assert await served_by(relay, "gpt-5.6-luna", 3) == {"pro"}
        assert {seen.status for seen in relay.asked} == {200}, "nobody was asked in vain"
        assert catalogue_calls(relay) == len(_PLAN_OF), "each plan was asked once"


async def test_a_plan_that_the_catalogue_never_names_locks_no_account_out(tmp_path: Path) -> None:
    accounts = (SimulatedAccount("free", plan="free"), SimulatedAccount("new", plan="brand_new"))
    async with relaying(tmp_path, Simulator(accounts=accounts)) as relay:
        await relay.http.get("/v1/models")
        answer = await relay.post("/v1/responses", ask(model=_PAID))
        assert relay.accounts_asked == ["new"], "only the backend knows whether it has the model"
        again = await relay.post("/v1/responses", ask(model=_PAID))
        assert relay.accounts_asked == ["new"], "and has said so"
    for told in (answer, again):
        assert told.status_code == 400
        assert told.json()["error"]["code"] == "model_not_found"
        assert "brand_new" not in told.json()["error"]["plans"]


async def test_the_plan_that_counts_is_the_one_that_the_backend_said_last(tmp_path: Path) -> None:
    async with relaying(tmp_path, mixed()) as relay:
        await relay.http.get("/v1/models")
        standing = relay.standing("free")
        await served_by(relay, "gpt-5.5", 3)
        assert standing.account.limits is not None
        bought = attrs.evolve(standing.account.limits, plan_type="plus")
        standing.account = attrs.evolve(standing.account, limits=bought)
        answers = [await relay.post("/v1/responses", ask(model=_PAID)) for _ in range(3)]
        assert {answer.status_code for answer in answers} == {200}
        assert "free" in relay.accounts_asked[3:], "asked although its claim says otherwise"


async def test_a_mixed_pool_learns_its_plans_by_itself(tmp_path: Path) -> None:
    async with relaying(tmp_path, mixed()) as relay:
        await relay.post("/v1/responses", ask())
        await eventually(
            lambda: len(relay.services.catalogue.now.listings) == len(_PLAN_OF),
            lambda: "the catalogue was not asked for",
        )
        assert await served_by(relay, _PAID, 4) == {"plus", "pro"}
        assert {seen.status for seen in relay.asked} == {200}
        assert catalogue_calls(relay) == len(_PLAN_OF)


async def test_a_pool_of_one_plan_asks_for_the_catalogue_once_when_a_turn_shows_its_tag(
    tmp_path: Path,
) -> None:
    accounts = tuple(SimulatedAccount(name, plan="pro") for name in "ab")
    async with relaying(tmp_path, Simulator(accounts=accounts)) as relay:
        for _ in range(4):
            await relay.post("/v1/responses", ask())
        await relay.post("/v1/responses", ask("[sim fault=503]"))
        await eventually(lambda: relay.services.catalogue.now.source == "backend")
        assert catalogue_calls(relay) == 1


async def test_what_the_backend_refuses_is_learnt_for_that_account_and_model_alone(
    tmp_path: Path,
) -> None:
    clock = WallClock()
    async with relaying(tmp_path, mixed(lacks={"plus": _PAID}, clock=clock)) as relay:
        await relay.http.get("/v1/models")
        assert await served_by(relay, _PAID, 4) == {"pro"}
        refused = [seen.account for seen in relay.asked if seen.status == 400]
        assert refused == ["plus"], "asked once, and not again"
        assert await served_by(relay, "gpt-5.5", 6) == {"free", "plus", "pro"}
        assert relay.standing("plus").account.rate_limited_until_unix_s is None
        clock.now_unix_s += 3601
        await served_by(relay, _PAID, 2)
        refused = [seen.account for seen in relay.asked if seen.status == 400]
        assert refused == ["plus", "plus"], "a plan may be bought: it is asked again in an hour"


async def test_the_first_refusal_brings_the_plans(tmp_path: Path) -> None:
    accounts = (
        SimulatedAccount("a", plan="free"),
        SimulatedAccount("b", plan="free"),
        SimulatedAccount("c", plan="free"),
        SimulatedAccount("d", plan="pro"),
    )
    async with relaying(tmp_path, Simulator(accounts=accounts)) as relay:
        answer = await relay.post("/v1/responses", ask(model=_PAID))
        assert answer.status_code == 200
        assert relay.accounts_asked == ["a", "d"], "b and c have the plan that was refused"


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
async def test_a_model_that_no_plan_has_is_a_400_that_names_those_that_do(
    tmp_path: Path, stream: bool
) -> None:
    accounts = tuple(SimulatedAccount(name, plan="free") for name in "ab")
    async with relaying(tmp_path, Simulator(accounts=accounts)) as relay:
        answers = [
            await relay.post("/v1/responses", ask(model=_PAID, stream=stream)) for _ in range(2)
        ]
        assert relay.accounts_asked in (["a"], ["a", "b"])
        asked = len(relay.simulator.seen)
        await relay.post("/v1/responses", ask(model=_PAID))
        assert len(relay.simulator.seen) == asked, "nobody is asked again"
        assert (await relay.post("/v1/responses", ask())).status_code == 200
    for answer in answers:
        assert answer.status_code == 400
        error = answer.json()["error"]
        assert (error["type"], error["code"], error["param"]) == (
            "invalid_request_error",
            "model_not_found",
            "model",
        )
        assert {"plus", "pro"} <= set(error["plans"])
        assert "free" not in error["plans"]
        for words in (f"'{_PAID}'", "a (free)", "b (free)", "plus"):
            assert words in error["message"]


async def test_a_model_that_nobody_knows_asks_each_account_once_and_later_nobody(
    tmp_path: Path,
) -> None:
    async with relaying(tmp_path, mixed()) as relay:
        first = await relay.post("/v1/responses", ask(model="gpt-0"))
        assert sorted(map(str, relay.accounts_asked)) == ["free", "plus", "pro"]
        second = await relay.post("/v1/responses", ask(model="gpt-0"))
        assert len(relay.asked) == 3
    for answer in (first, second):
        assert answer.status_code == 400
        message = answer.json()["error"]["message"]
        assert message.startswith("The backend's catalogue has no model 'gpt-0'; `GET /v1/models`")
        assert "Available: gpt-6.1-sol" in message
        assert "models.aliases can give one of them this name" in message
        for beside_the_point in ("plan", "accounts add", "free", "plus"):
            assert beside_the_point not in message


@pytest.mark.parametrize("warm", [True, False], ids=["with lists", "without a list yet"])
async def test_of_a_model_that_nobody_knows_one_account_speaks_for_its_plan(
    tmp_path: Path, warm: bool
) -> None:
    accounts = tuple(
        SimulatedAccount(name, plan="free" if name in "bd" else "plus") for name in "abcdef"
    )
    async with relaying(tmp_path, Simulator(accounts=accounts)) as relay:
        if warm:
            await relay.http.get("/v1/models")
        for _ in range(3):
            answer = await relay.post("/v1/responses", ask(model="gpt-0"))
            assert answer.status_code == 400
            assert relay.accounts_asked == ["a", "b"]
        assert await served_by(relay, "gpt-5.5", 6) == set("abcdef")


async def test_a_model_that_nobody_knows_is_a_400_although_an_account_is_spent(
    tmp_path: Path,
) -> None:
    async with relaying(tmp_path, mixed()) as relay:
        relay.simulator.limit("free", resets_in_s=1800)
        for _ in range(3):
            await relay.post("/v1/responses", ask())
        answer = await relay.post("/v1/responses", ask(model="gpt-0"))
    assert answer.status_code == 400
    assert "The backend's catalogue has no model 'gpt-0'" in answer.json()["error"]["message"]


async def test_while_those_that_have_the_model_are_spent_their_reset_is_told(
    tmp_path: Path,
) -> None:
    async with relaying(tmp_path, mixed()) as relay:
        await relay.http.get("/v1/models")
        for name in ("plus", "pro"):
            relay.simulator.limit(name, resets_in_s=1800)
        answers = [await relay.post("/v1/responses", ask(model=_PAID)) for _ in range(2)]
        assert len(relay.asked) == 2
        assert await served_by(relay, "gpt-5.5", 2) == {"free"}
    for answer in answers:
        assert answer.status_code == 429
        assert answer.json()["error"]["type"] == "usage_limit_reached"
        assert "account free's plan (free) does not offer the model" in answer.text
