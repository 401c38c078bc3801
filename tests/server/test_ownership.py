"""Encrypted reasoning goes to the account that made it, and to no other.

The simulated backend refuses another account's, as the real one does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from codexrelay.protocol.raw import Json, JsonObject, get_list, is_object
from harness.simulator import Simulator
from harness.simulator.accounts import some_accounts
from tests.fakes.relay import LiveRelay, relaying

if TYPE_CHECKING:
    from pathlib import Path

_BASH: JsonObject = {
    "type": "function",
    "name": "bash",
    "parameters": {
        "type": "object",
        "properties": {"command": {"type": "string"}},
        "required": ["command"],
    },
}
_SESSION = {"x-session-id": "ses_1"}


def user(text: str) -> JsonObject:
    return {"type": "message", "role": "user", "content": text}


async def ask(
    relay: LiveRelay, items: list[Json], *, tools: bool = True, session: str = "ses_1"
) -> list[Json]:
    """Send a turn, not streamed; return the history with its answer, tool calls answered."""
    body: JsonObject = {"model": "gpt-5.5", "input": items}
    if tools:
        body["tools"] = [_BASH]
    answer = await relay.post("/v1/responses", body, headers={"x-session-id": session})
    assert answer.status_code == 200, answer.text
    output = get_list(answer.json(), "output")
    results: list[Json] = [
        {"type": "function_call_output", "call_id": item["call_id"], "output": "hi"}
        for item in output
        if is_object(item) and item.get("type") == "function_call"
    ]
    return [*items, *output, *results]


def reasoning_in(relay: LiveRelay, number: int) -> int:
    """How many reasoning items the backend was sent with its `number`-th model request."""
    body = relay.asked[number].body
    assert is_object(body)
    items = get_list(body, "input")
    return sum(is_object(item) and item.get("type") == "reasoning" for item in items)


def simulator() -> Simulator:
    return Simulator(accounts=some_accounts(2))


async def test_a_title_request_on_another_account_costs_the_task_nothing(tmp_path: Path) -> None:
    async with relaying(tmp_path, simulator()) as relay:
        history = await ask(relay, [user("Run the shell command 'echo hi'")])
        await ask(relay, [user("Make a title for this")], tools=False)
        await ask(relay, history)
        task, title, follow_up = relay.asked
        assert task.account != title.account, "they take turns"
        assert follow_up.account == task.account
        assert reasoning_in(relay, 2) == 1


async def test_after_a_move_each_account_is_sent_what_it_can_read(tmp_path: Path) -> None:
    async with relaying(tmp_path, simulator()) as relay:
        history = await ask(relay, [user("Run the shell command 'echo hi'")])
        first = relay.asked[0].account
        assert first is not None
        relay.simulator.limit(first)
        history = await ask(relay, [*history, user("Run the shell command 'echo hi'")])
        refused, moved = relay.asked[1:]
        assert (refused.account, refused.status) == (first, 429)
        assert moved.account not in (None, first)
        assert (reasoning_in(relay, 1), reasoning_in(relay, 2)) == (1, 0)
        await ask(relay, history)
        assert relay.asked[3].account == moved.account
        assert reasoning_in(relay, 3) == 1, "its own, and not the first account's"


# Another session stands for a relay that was restarted: it knows nothing of the first.


async def test_reasoning_of_unknown_origin_finds_the_account_that_made_it(tmp_path: Path) -> None:
    async with relaying(tmp_path, simulator()) as relay:
        history = await ask(relay, [user("Run the shell command 'echo hi'")])
        maker = relay.asked[0].account
        for _ in range(3):
            await ask(relay, history, session="ses_2")
            assert relay.asked[-1].account == maker
            assert reasoning_in(relay, -1) == 1
        refused = [seen for seen in relay.asked if seen.status == 400]
        assert len(refused) <= 1, "after the first turn the owner is known"


async def test_reasoning_that_no_account_can_read_is_left_out(tmp_path: Path) -> None:
    async with relaying(tmp_path, Simulator(accounts=some_accounts(3))) as relay:
        history = await ask(relay, [user("Run the shell command 'echo hi'")])
        maker = relay.asked[0].account
        assert maker is not None
        relay.simulator.limit(maker)
        await ask(relay, history, session="ses_2")
        assert relay.asked[-1].account != maker
        assert reasoning_in(relay, -1) == 0


async def test_a_compaction_of_the_old_kind_goes_to_its_account_too(tmp_path: Path) -> None:
    async with relaying(tmp_path, Simulator(accounts=some_accounts(3))) as relay:
        body: JsonObject = {"model": "gpt-5.5", "input": [user("hello")]}
        answer = await relay.post("/v1/responses/compact", body, headers=_SESSION)
        [made] = [seen for seen in relay.simulator.seen if seen.path.endswith("/compact")]
        compacted = get_list(answer.json(), "output")
        for _ in range(3):
            await ask(relay, [*compacted, user("go on")], tools=False)
        assert {seen.account for seen in relay.asked} == {made.account}


async def test_a_compaction_goes_to_the_account_that_made_it(tmp_path: Path) -> None:
    async with relaying(tmp_path, simulator()) as relay:
        trigger: JsonObject = {"type": "compaction_trigger"}
        body: JsonObject = {"model": "gpt-5.5", "input": [user("hello"), trigger]}
        answer = await relay.post("/v1/responses", body, headers=_SESSION)
        compacted = get_list(answer.json(), "output")
        for _ in range(3):
            await ask(relay, [user("hello"), *compacted, user("go on")], tools=False)
        accounts = {seen.account for seen in relay.asked}
        assert len(accounts) == 1


@pytest.mark.parametrize("path", ["/v1/responses", "/v1/chat/completions"])
async def test_turns_without_anything_encrypted_are_spread_over_the_accounts(
    tmp_path: Path, path: str
) -> None:
    body: JsonObject = {"model": "gpt-5.5", "input": "hello"}
    if path.endswith("completions"):
        body = {"model": "gpt-5.5", "messages": [{"role": "user", "content": "hello"}]}
    async with relaying(tmp_path, Simulator(accounts=some_accounts(3))) as relay:
        for _ in range(9):
            assert (await relay.post(path, body)).status_code == 200
        served = [seen.account for seen in relay.asked]
        assert all(served.count(account) == 3 for account in set(served))
        assert len(set(served)) == 3
