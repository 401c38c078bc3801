"""Several instances of the backend, each with accounts of its own: which of them gets a turn."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

import pytest

from codexrelay.protocol.raw import get_list, get_text, is_object
from harness.simulator import Simulator
from harness.simulator.accounts import some_accounts
from tests.fakes.relay import Beside, ask, ask_chat, relaying, with_accounts
from tests.fakes.simulated import user

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from codexrelay.protocol.raw import Json, JsonObject
    from tests.fakes.relay import LiveRelay

#: Local id -> the simulated account behind it: the same names in both instances.
_FIRST: Final = {"a": "sim-1", "b": "sim-2"}
_SECOND: Final = {"a": "sim-3", "b": "sim-4"}
_OF_FIRST: Final = {"sim-1", "sim-2"}
_OF_SECOND: Final = {"sim-3", "sim-4"}
_TOOL: Final[JsonObject] = {
    "type": "function",
    "name": "bash",
    "parameters": {"type": "object", "properties": {"command": {"type": "string"}}},
}


def two_instances(
    folder: Path, *, weights: tuple[int, int] = (1, 1), strategy: str = "round-robin"
) -> AbstractAsyncContextManager[LiveRelay]:
    first, second = (with_accounts(weight=w, selection_strategy=strategy) for w in weights)
    return relaying(
        folder,
        Simulator(accounts=some_accounts(4)),
        backend=first,
        accounts=_FIRST,
        beside=(Beside(accounts=_SECOND, settings=second),),
    )


async def test_turns_are_shared_by_weight_and_within_an_instance_by_its_strategy(
    tmp_path: Path,
) -> None:
    async with two_instances(tmp_path, weights=(3, 1)) as relay:
        told = []
        for _ in range(40):
            answer = await relay.post("/v1/responses", ask())
            told.append(answer.headers["x-codexrelay-account"])
        counts = Counter(relay.accounts_asked)
    assert counts == {"sim-1": 15, "sim-2": 15, "sim-3": 5, "sim-4": 5}
    assert Counter(told) == {"a": 15, "b": 15, "openai-codex.2/a": 5, "openai-codex.2/b": 5}


@pytest.mark.parametrize(
    ("named", "accounts"),
    [
        ("openai-codex.2:gpt-5.5", _OF_SECOND),
        ("openai_codex.2/gpt-5.5", _OF_SECOND),
        ("openai-codex.1:gpt-5.5", _OF_FIRST),
        ("openai-codex:gpt-5.5", _OF_FIRST | _OF_SECOND),
        ("gpt-5.5", _OF_FIRST | _OF_SECOND),
    ],
)
@pytest.mark.parametrize("chat", [False, True], ids=["responses", "chat"])
async def test_a_model_name_may_ask_for_an_instance_and_the_backend_never_sees_that(
    tmp_path: Path, named: str, accounts: set[str], chat: bool
) -> None:
    path, body = ("/v1/chat/completions", ask_chat()) if chat else ("/v1/responses", ask())
    async with two_instances(tmp_path) as relay:
        for _ in range(4):
            answer = await relay.post(path, body | {"model": named})
            assert answer.status_code == 200
        assert set(relay.accounts_asked) == accounts
        models = {get_text(seen.body, "model") for seen in relay.asked if is_object(seen.body)}
    assert models == {"gpt-5.5"}


@pytest.mark.parametrize("path", ["/v1/responses", "/v1/chat/completions", "/v1/responses/compact"])
async def test_an_instance_that_is_not_configured_is_a_400_that_names_those_that_are(
    tmp_path: Path, path: str
) -> None:
    body = ask_chat() if "chat" in path else ask()
    async with two_instances(tmp_path) as relay:
        answer = await relay.post(path, body | {"model": "openai-codex.3:gpt-5.5"})
        assert relay.asked == []
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["code"], error["param"]) == ("backend_not_found", "model")
    assert "'openai-codex.3'; configured: openai-codex, openai-codex.2" in error["message"]


async def test_an_exhausted_instance_gives_way_to_the_other(tmp_path: Path) -> None:
    async with two_instances(tmp_path) as relay:
        for name in _OF_FIRST:
            relay.simulator.limit(name)
        answers = [await relay.post("/v1/responses", ask()) for _ in range(6)]
        assert {answer.status_code for answer in answers} == {200}
        refused = [seen.account for seen in relay.asked if seen.status == 429]
        assert sorted(map(str, refused)) == ["sim-1", "sim-2"]
    assert answers[0].headers["x-codexrelay-attempts"] == "3"
    assert answers[0].headers["x-codexrelay-account"].startswith("openai-codex.2/")


async def test_who_asks_for_an_instance_gets_no_other(tmp_path: Path) -> None:
    async with two_instances(tmp_path) as relay:
        for name in _OF_SECOND:
            relay.simulator.limit(name, resets_in_s=600)
        body = ask(model="openai-codex.2:gpt-5.5")
        answers = [await relay.post("/v1/responses", body) for _ in range(2)]
        assert set(relay.accounts_asked) == _OF_SECOND
    assert [answer.status_code for answer in answers] == [429, 429]


async def test_when_all_are_exhausted_every_account_of_every_instance_is_told(
    tmp_path: Path,
) -> None:
    async with two_instances(tmp_path) as relay:
        for number, name in enumerate(sorted(_OF_FIRST | _OF_SECOND), start=1):
            relay.simulator.limit(name, resets_in_s=600 * number)
        answers = [await relay.post("/v1/responses", ask()) for _ in range(2)]
        assert len(relay.asked) == 4
    for answer in answers:
        assert answer.status_code == 429
        error = answer.json()["error"]
        assert error["resets_in_seconds"] == pytest.approx(600, abs=5)
        assert {account["id"] for account in error["accounts"]} == {
            "a",
            "b",
            "openai-codex.2/a",
            "openai-codex.2/b",
        }
        assert "account a waits 10 min for its quota" in error["reasons"]
        assert "openai-codex.2: account b waits 40 min for its quota" in error["reasons"]


async def test_weight_0_serves_those_alone_that_ask_for_it(tmp_path: Path) -> None:
    async with two_instances(tmp_path, weights=(1, 0)) as relay:
        for _ in range(5):
            await relay.post("/v1/responses", ask())
        assert set(relay.accounts_asked) == _OF_FIRST
        for name in _OF_FIRST:
            relay.simulator.limit(name)
        answers = [await relay.post("/v1/responses", ask()) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [429, 429]
        assert set(relay.accounts_asked) == _OF_FIRST, "not even as a last resort"
        named = await relay.post("/v1/responses", ask(model="openai-codex.2:gpt-5.5"))
    assert named.status_code == 200


def items_of(answer: JsonObject) -> list[Json]:
    """The output of an answer, its tool calls answered."""
    output = get_list(answer, "output")
    return output + [
        {"type": "function_call_output", "call_id": item["call_id"], "output": "hi"}
        for item in output
        if is_object(item) and item.get("type") == "function_call"
    ]


def reasoning_in(body: Json) -> int:
    assert is_object(body)
    items = get_list(body, "input")
    return sum(is_object(item) and item.get("type") == "reasoning" for item in items)


async def test_encrypted_reasoning_goes_to_the_account_that_made_it(tmp_path: Path) -> None:
    headers = {"x-session-id": "ses_1"}
    async with two_instances(tmp_path) as relay:
        wish: list[Json] = [user("Run the shell command 'echo hi'")]
        for name in ("openai-codex.2:gpt-5.5", "openai-codex.1:gpt-5.5"):
            relay.simulator.seen.clear()
            body: JsonObject = {"model": name, "input": wish, "tools": [_TOOL]}
            answer = await relay.post("/v1/responses", body, headers=headers)
            made_by = answer.headers["x-codexrelay-account"]
            follow_up = {**body, "model": "gpt-5.5", "input": [*wish, *items_of(answer.json())]}
            for _ in range(3):
                answer = await relay.post("/v1/responses", follow_up, headers=headers)
                assert answer.headers["x-codexrelay-account"] == made_by
                assert "x-codexrelay-reasoning-stripped" not in answer.headers
            assert len(set(relay.accounts_asked)) == 1
            assert reasoning_in(relay.asked[-1].body) == 1


async def test_on_a_forced_move_to_another_instance_reasoning_is_left_out_and_that_is_told(
    tmp_path: Path,
) -> None:
    headers = {"x-session-id": "ses_1"}
    async with two_instances(tmp_path) as relay:
        wish: list[Json] = [user("Run the shell command 'echo hi'")]
        body: JsonObject = {"model": "openai-codex.1:gpt-5.5", "input": wish, "tools": [_TOOL]}
        first = await relay.post("/v1/responses", body, headers=headers)
        for name in _OF_FIRST:
            relay.simulator.limit(name)
        moved_body = {**body, "model": "gpt-5.5", "input": [*wish, *items_of(first.json())]}
        moved = await relay.post("/v1/responses", moved_body, headers=headers)
        assert relay.asked[-1].account in _OF_SECOND
        assert reasoning_in(relay.asked[-1].body) == 0
    assert moved.status_code == 200
    assert moved.headers["x-codexrelay-reasoning-stripped"] == "1"
    assert moved.headers["x-codexrelay-account"].startswith("openai-codex.2/")


async def test_a_session_stays_with_its_instance_and_returns_to_it(tmp_path: Path) -> None:
    async with two_instances(tmp_path, strategy="session-affinity") as relay:
        homes = {}
        for session in ("one", "two", "three"):
            headers = {"x-session-id": session}
            served = set()
            for text in ("hello", "and again", "and once more"):
                answer = await relay.post("/v1/responses", ask(text), headers=headers)
                served.add(answer.headers["x-codexrelay-account"])
            [homes[session]] = served
        assert len(set(homes.values())) == 3
    assert {home.startswith("openai-codex.2/") for home in homes.values()} == {True, False}


async def test_health_knows_the_accounts_of_all_instances(tmp_path: Path) -> None:
    async with two_instances(tmp_path) as relay:
        accounts = (await relay.http.get("/healthz")).json()["accounts"]
    assert [account["id"] for account in accounts] == [
        "a",
        "b",
        "openai-codex.2/a",
        "openai-codex.2/b",
    ]


async def test_an_account_without_codex_of_a_further_instance_is_cleared_with_its_name(
    tmp_path: Path,
) -> None:
    async with two_instances(tmp_path) as relay:
        for name in _OF_SECOND:
            relay.simulator.set_condition(name, "no_codex")
        for _ in range(2):
            answer = await relay.post("/v1/responses", ask(model="openai-codex.2:gpt-5.5"))
        told = (await relay.http.get("/healthz")).json()["accounts"][2]
    assert answer.status_code == 403
    command = "`codexrelay accounts clear-reauth a --instance openai-codex.2`"
    assert command in answer.json()["error"]["message"]
    assert told["why"].startswith("account openai-codex.2/a was turned away")


async def test_an_account_of_a_further_instance_is_signed_in_with_its_name(tmp_path: Path) -> None:
    async with two_instances(tmp_path) as relay:
        for name in _OF_SECOND:
            relay.simulator.revoke(name)
        answer = await relay.post("/v1/responses", ask(model="openai-codex.2:gpt-5.5"))
    assert answer.status_code == 401
    message = answer.json()["error"]["message"]
    assert "`codexrelay accounts update a --instance openai-codex.2`" in message
