"""Mishaps of accounts in the middle of a conversation, and reading that conversation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import httpx
import pytest
import trio

from harness.compat.conversation import first_served, has_tools, is_turn, without_reasoning
from harness.compat.mishaps import let_happen
from harness.compat.scenarios import SCENARIOS, Mishap
from harness.simulator import Seen, SimulatedAccount, Simulator
from tests.fakes.no_tls import NO_TLS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.compat.scenarios import Scenario

GENEROUS_S = 30.0
TOOLS = [{"type": "function", "name": "bash", "parameters": {"type": "object"}}]
BODY = {
    "model": "gpt-5.5",
    "input": [{"role": "user", "content": "please"}],
    "tools": TOOLS,
    "stream": True,
    "store": False,
}


@attrs.define
class Clock:
    """A wall clock that somebody sets."""

    now_unix_s: float = 1_800_000_000.25

    def __call__(self) -> float:
        return self.now_unix_s


def scenario(mishap: Mishap) -> Scenario:
    return next(scenario for scenario in SCENARIOS if scenario.mishap is mishap)


async def ask(simulator: Simulator, name: str, **changes: object) -> int:
    headers = {
        "authorization": f"Bearer {simulator.tokens(name).access_token}",
        "chatgpt-account-id": simulator.account(name).account_id,
    }
    async with httpx.AsyncClient(trust_env=False, verify=NO_TLS) as http:
        url = f"{simulator.api_base_url}/responses"
        return (await http.post(url, headers=headers, json=BODY | changes)).status_code


async def after(mishap: Mishap, *, clock: Clock, forward_s: float = 0.0) -> list[int]:
    """Return how both accounts are answered once the mishap has happened to a turn of "two"."""
    accounts = [SimulatedAccount("one"), SimulatedAccount("two")]
    with trio.fail_after(GENEROUS_S):
        async with trio.open_nursery() as nursery:
            simulator = Simulator(accounts=accounts, wall_clock=clock)
            await nursery.start(simulator.serve)
            nursery.start_soon(ask, simulator, "two")
            await let_happen(scenario(mishap), simulator)
            clock.now_unix_s += forward_s
            statuses = [await ask(simulator, account.name) for account in accounts]
            nursery.cancel_scope.cancel()
    return statuses


@pytest.mark.parametrize(
    ("mishap", "statuses"),
    [
        (Mishap.SPENT, [200, 429]),
        (Mishap.ALL_SPENT, [429, 429]),
        (Mishap.REVOKED, [200, 401]),
        (Mishap.EXPIRED, [200, 401]),
    ],
    ids=lambda value: value.value if isinstance(value, Mishap) else "",
)
async def test_a_mishap_meets_what_the_conversation_began_on(
    mishap: Mishap, statuses: list[int]
) -> None:
    assert await after(mishap, clock=Clock()) == statuses


async def test_quota_that_is_spent_for_seconds_comes_back_by_itself() -> None:
    assert await after(Mishap.ALL_SPENT, clock=Clock(), forward_s=4.5) == [429, 429]
    # A quarter of a second is gone already, and the backend tells whole seconds.
    assert await after(Mishap.ALL_SPENT, clock=Clock(), forward_s=4.75) == [200, 200]


async def test_a_mishap_waits_for_a_request_that_carries_tools() -> None:
    with trio.fail_after(GENEROUS_S):
        async with trio.open_nursery() as nursery:
            simulator = Simulator(accounts=[SimulatedAccount("one")])
            await nursery.start(simulator.serve)
            nursery.start_soon(let_happen, scenario(Mishap.REVOKED), simulator)
            assert await ask(simulator, "one", tools=[]) == 200
            assert await ask(simulator, "one", tools=[]) == 200
            assert await ask(simulator, "one") == 200
            await trio.testing.wait_all_tasks_blocked()
            assert await ask(simulator, "one") == 401
            nursery.cancel_scope.cancel()


def seen(path: str, body: object, *, status: int | None) -> Seen:
    return Seen(method="POST", path=path, headers=[], body=body, arrived_at_s=1.0, status=status)


def requests() -> Iterator[Seen]:
    yield seen("/oauth/token", {"tools": TOOLS}, status=200)
    yield seen("/v1/responses", {"input": []}, status=200)
    yield seen("/v1/responses", {"tools": TOOLS}, status=429)
    yield seen("/v1/responses", {"tools": TOOLS}, status=None)


def test_the_first_turn_is_the_first_answered_one_that_carries_tools() -> None:
    found = seen("/v1/responses?a=b", {"tools": TOOLS}, status=200)
    assert first_served([*requests(), found, found]) is found
    assert first_served(requests()) is None


def test_tools_in_the_input_are_tools_too() -> None:
    item = {"type": "additional_tools", "tools": TOOLS}
    assert has_tools(seen("/v1/responses", {"input": [item]}, status=200))
    assert not has_tools(seen("/v1/responses", None, status=200))


def test_only_requests_for_answers_are_turns() -> None:
    assert not is_turn(seen("/v1/responses/compact", {}, status=200))


def test_a_body_without_reasoning_keeps_everything_else() -> None:
    kept = {"type": "message", "role": "user"}
    body = {"model": "m", "input": [kept, {"type": "reasoning"}, "odd"]}
    assert without_reasoning(body) == {"model": "m", "input": [kept, "odd"]}
    assert without_reasoning(None) is None
