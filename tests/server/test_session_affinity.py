"""Session-affinity through the door: sessions stay, are moved when they must be, and return."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from codexrelay.protocol.raw import get_list, is_object
from harness.simulator import Simulator
from harness.simulator.accounts import some_accounts
from tests.fakes.relay import ask, relaying, with_accounts
from tests.fakes.simulated import user
from tests.fakes.wall_clock import WallClock

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    import httpx

    from codexrelay.protocol.raw import Json, JsonObject
    from tests.fakes.relay import LiveRelay

_TOOL: Final[JsonObject] = {
    "type": "function",
    "name": "bash",
    "parameters": {"type": "object", "properties": {"command": {"type": "string"}}},
}
_TALK: Final = "[sim text=Hi]"
_RUN: Final = "Run the shell command 'echo hi'"


def sticky(
    folder: Path, count: int, clock: WallClock | None = None
) -> AbstractAsyncContextManager[LiveRelay]:
    more = {} if clock is None else {"wall_clock": clock}
    return relaying(
        folder,
        Simulator(accounts=some_accounts(count), **more),  # type: ignore[arg-type]
        backend=with_accounts(selection_strategy="session-affinity"),
    )


class Session:
    """An agent's conversation: its history, and the requests that make it longer."""

    def __init__(self, relay: LiveRelay, name: str) -> None:
        self.relay, self.name = relay, name
        self.history: list[Json] = []
        self.answer: httpx.Response

    async def says(self, text: str) -> str:
        """Begin a user turn; return the account that answered."""
        self.history.append(user(text))
        return await self._ask()

    async def goes_on(self) -> str:
        """Send the results of the tools that were called; return the account that answered."""
        self.history += [
            {"type": "function_call_output", "call_id": item["call_id"], "output": "hi"}
            for item in get_list(self.answer.json(), "output")
            if is_object(item) and item.get("type") == "function_call"
        ]
        return await self._ask()

    async def _ask(self) -> str:
        body: JsonObject = {"model": "gpt-5.5", "input": self.history, "tools": [_TOOL]}
        headers = {"x-session-id": self.name}
        self.answer = await self.relay.post("/v1/responses", body, headers=headers)
        assert self.answer.status_code == 200, self.answer.text
        self.history += get_list(self.answer.json(), "output")
        return self.answer.headers["x-codexrelay-account"]

    @property
    def stripped(self) -> str | None:
        """How many items of reasoning the last answer's account was not sent."""
        return self.answer.headers.get("x-codexrelay-reasoning-stripped")


async def test_three_sessions_over_three_accounts_stay_where_they_are(tmp_path: Path) -> None:
    async with sticky(tmp_path, 3) as relay:
        sessions = [Session(relay, name) for name in ("one", "two", "three")]
        homes = [await session.says(_RUN) for session in sessions]
        assert sorted(homes) == ["sim-1", "sim-2", "sim-3"]
        assert [await session.goes_on() for session in sessions] == homes
        for session, home in reversed(list(zip(sessions, homes, strict=True))):
            assert await session.says(_RUN) == home
            assert await session.goes_on() == home
        assert {session.stripped for session in sessions} == {None}


async def test_a_session_whose_account_runs_out_is_answered_by_another_and_returns(
    tmp_path: Path,
) -> None:
    clock = WallClock()
    async with sticky(tmp_path, 2, clock) as relay:
        session = Session(relay, "one")
        assert await session.says(_RUN) == "sim-1"
        assert await session.goes_on() == "sim-1"
        relay.simulator.limit("sim-1", resets_in_s=600)
        assert await session.says(_RUN) == "sim-2"
        assert session.answer.headers["x-codexrelay-attempts"] == "2"
        moved = await relay.journal(session.answer.headers["x-codexrelay-request-id"])
        assert [one["bound"] for one in moved["attempts"]] == ["sim-1", "sim-1"]  # type: ignore[union-attr,call-overload,index]
        clock.now_unix_s += 601
        relay.simulator.unlimit("sim-1")
        assert await session.goes_on() == "sim-2", "in mid-turn it stays"
        assert await session.says(_RUN) == "sim-1", "with the next user turn it returns"
        assert await session.goes_on() == "sim-1"
        assert relay.standing("sim-1").account.rate_limited_until_unix_s is None


async def test_while_its_account_is_spent_the_session_is_served_without_asking_it(
    tmp_path: Path,
) -> None:
    async with sticky(tmp_path, 2) as relay:
        session = Session(relay, "one")
        await session.says(_TALK)
        relay.simulator.limit("sim-1")
        assert [await session.says(_TALK) for _ in range(3)] == ["sim-2"] * 3
        assert [seen.account for seen in relay.asked if seen.status == 429] == ["sim-1"]


async def test_a_forced_move_leaves_foreign_reasoning_out_once_and_says_so(tmp_path: Path) -> None:
    clock = WallClock()
    async with sticky(tmp_path, 2, clock) as relay:
        session = Session(relay, "one")
        await session.says(_RUN)
        relay.simulator.limit("sim-1", resets_in_s=600)
        assert await session.goes_on() == "sim-2"
        assert session.stripped == "1"
        journal = await relay.journal(session.answer.headers["x-codexrelay-request-id"])
        first, second = journal["attempts"]  # type: ignore[misc]
        assert (first["reasoning_stripped"], second["reasoning_stripped"]) == (0, 1)
        assert {seen.status for seen in relay.asked} == {200, 429}, "no account refused it first"
        clock.now_unix_s += 601
        relay.simulator.unlimit("sim-1")
        assert await session.says(_TALK) == "sim-1"
        assert session.stripped is None, "what the first account made goes to it again"


async def test_new_sessions_go_on_being_spread_while_an_account_is_spent(tmp_path: Path) -> None:
    async with sticky(tmp_path, 3) as relay:
        relay.simulator.limit("sim-2")
        homes = [await Session(relay, str(number)).says(_TALK) for number in range(6)]
    assert sorted(homes) == ["sim-1"] * 3 + ["sim-3"] * 3


async def test_a_session_moves_for_good_when_its_account_must_sign_in_again(tmp_path: Path) -> None:
    async with sticky(tmp_path, 2) as relay:
        session = Session(relay, "one")
        assert await session.says(_TALK) == "sim-1"
        relay.simulator.revoke("sim-1")
        assert await session.says(_TALK) == "sim-2"
        assert await session.says(_TALK) == "sim-2"
        [instance] = relay.services.relay.instances.members
        bindings = instance.lender.pool._selector._bindings  # type: ignore[attr-defined]
        assert [binding.account_id for binding in bindings.values()] == ["sim-2"]


async def test_a_client_without_a_session_of_its_own_is_served_too(tmp_path: Path) -> None:
    async with sticky(tmp_path, 2) as relay:
        answers = [await relay.post("/v1/responses", ask(f"task {n}")) for n in range(4)]
    assert {answer.status_code for answer in answers} == {200}


async def test_a_session_is_bound_to_its_account_after_a_restart_too(tmp_path: Path) -> None:
    homes = []
    for folder in ("before", "after"):
        (tmp_path / folder).mkdir()
        if homes:
            (tmp_path / "before" / "state").rename(tmp_path / folder / "state")
        async with sticky(tmp_path / folder, 3) as relay:
            # Others come first, so that a session without a past would be bound elsewhere.
            for name in ("one", "two")[: 2 - len(homes)]:
                await Session(relay, name).says(_TALK)
            homes.append(await Session(relay, "mine").says(_TALK))
    assert homes == ["sim-3", "sim-3"]
