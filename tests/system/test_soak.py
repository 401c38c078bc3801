"""Two hundred turns at once over five accounts that misbehave: nobody is failed, nobody blamed.

What each turn meets is decided by its number, so whether it can be served is known beforehand. Its
faults stay within what the ladder bears: of those that the turn climbs over together (overload)
two, of those that repeat a request that was sent one, and each account refuses few tokens. Two of
the accounts run out, a third is asked too fast, and each turn may lose one more to overload: one is
left for every turn, however the turns are interleaved, so every turn must be served.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from typing import TYPE_CHECKING, Final

import attrs
import pytest
import trio

from codexrelay.protocol import sse
from codexrelay.protocol.raw import dump
from harness.simulator import Simulator
from harness.simulator.accounts import some_accounts
from tests.fakes.relay import ask, ask_chat, eventually, relaying

if TYPE_CHECKING:
    from pathlib import Path

    import httpx

    from harness.simulator import SimulatedAccount
    from tests.fakes.relay import LiveRelay

TURNS: Final = 200
#: Accounts, and what is wrong with them.
_RUN_OUT: Final = {"sim-1": 12, "sim-2": 25}
_TOO_FAST: Final = "sim-5"
_WELL: Final = ("sim-3", "sim-4")
#: What a turn may meet one after the other, wherever it goes; then it is well.
_SCRIPTS: Final = (
    (),
    (),
    ("503",),
    ("failed_early",),
    ("503", "failed_early"),
    ("error_early", "503"),
    ("401",),
    ("401", "503"),
    ("503", "401", "failed_early"),
    ("reset_early",),
    ("reset_early", "503"),
    ("401", "reset_early", "503"),
)
#: More tokens in a row are taken for a backend that is not well (`MAX_REJECTED_TOKENS`), and the
#: account is set aside.
_REFUSED_TOKENS: Final = 2
_THROTTLES: Final = 2
_TASK: Final = re.compile(rb"task (\d+)\.")


def script_of(turn: int) -> tuple[str, ...]:
    """What a turn meets, by chance and the same with every run."""
    return random.Random(f"turn {turn}").choice(_SCRIPTS)


@attrs.define(eq=False)
class BadDay:
    """Decides what each request meets, by its turn's number and how often that turn has asked."""

    simulator: Simulator = attrs.field(init=False)
    met: Counter[int] = attrs.field(factory=Counter)
    given: Counter[tuple[str, str]] = attrs.field(factory=Counter)

    def __call__(self, account: SimulatedAccount) -> str | None:
        # Asked while the latest request is being answered.
        found = _TASK.search(dump(self.simulator.seen[-1].body))  # type: ignore[arg-type]
        assert found is not None
        if account.name == _TOO_FAST and self.given[account.name, "throttle"] < _THROTTLES:
            self.given[account.name, "throttle"] += 1
            return "throttle_event"
        turn = int(found[1])
        script = script_of(turn)
        while self.met[turn] < len(script):
            fault = script[self.met[turn]]
            self.met[turn] += 1
            if fault == "401":
                if self.given[account.name, "401"] >= _REFUSED_TOKENS:
                    continue
                self.given[account.name, "401"] += 1
            return fault
        return None


def terminals(answer: httpx.Response) -> list[str]:
    """The terminal events of a Responses stream, or `[DONE]` and errors of a Chat stream."""
    events = [event for raw in sse.split(answer.content) if (event := sse.read(raw)) is not None]
    ends = ("response.completed", "response.failed", "response.incomplete", "error")
    named = [event.name for event in events if event.name in ends]
    return named + [event.data.decode() for event in events if event.data == b"[DONE]"]


async def test_every_turn_that_could_be_served_was_and_the_books_are_right(tmp_path: Path) -> None:
    day = BadDay()
    simulator = day.simulator = Simulator(accounts=some_accounts(5), chance=day, pace_s=0.001)
    for name, after in _RUN_OUT.items():
        simulator.limit(name, after=after, resets_in_s=3600)
    answers: dict[int, httpx.Response] = {}

    async def client(relay: LiveRelay, number: int) -> None:
        text = f"task {number}."
        if number % 2:
            answers[number] = await relay.post("/v1/chat/completions", ask_chat(text))
        else:
            answers[number] = await relay.post("/v1/responses", ask(text))

    with trio.fail_after(60):
        async with relaying(tmp_path, simulator) as relay:
            async with trio.open_nursery() as nursery:
                for number in range(TURNS):
                    nursery.start_soon(client, relay, number)
            await relay.until_at_rest()
            _assert_all_were_served(answers)
            _assert_each_was_told_its_own_way(relay, answers)
            await _assert_the_books_are_right(relay)
    # What could go wrong did, or this has shown nothing.
    faults = Counter(seen.fault for seen in relay.asked)
    assert {"503", "failed_early", "error_early", "401", "reset_early"} <= set(faults)
    assert faults["throttle_event"] == _THROTTLES


def _assert_all_were_served(answers: dict[int, httpx.Response]) -> None:
    failed = {n: answer.text for n, answer in answers.items() if answer.status_code != 200}
    assert failed == {}
    assert len(answers) == TURNS
    for number, answer in answers.items():
        assert terminals(answer) == (["[DONE]"] if number % 2 else ["response.completed"])


def _assert_each_was_told_its_own_way(relay: LiveRelay, answers: dict[int, httpx.Response]) -> None:
    """Of each turn the backend has seen as many requests as its client is told, the last served."""
    asked: dict[int, list[str]] = {number: [] for number in answers}
    for seen in relay.asked:
        found = _TASK.search(dump(seen.body))  # type: ignore[arg-type]
        assert found is not None
        asked[int(found[1])].append(str(seen.account))
    for number, answer in answers.items():
        if answer.content.startswith(b":"):
            # Where all takes long, a sign of life came first, and with it the head: it knows
            # nothing of what its turn has met since.
            continue
        attempts = int(answer.headers["x-codexrelay-attempts"])
        # A kept connection that turns out to be closed is replaced beneath an attempt.
        replaced = "reset_early" in script_of(number) and len(asked[number]) == attempts + 1
        assert attempts == len(asked[number]) or replaced, f"turn {number}"
        assert answer.headers["x-codexrelay-account"] == asked[number][-1]


async def _assert_the_books_are_right(relay: LiveRelay) -> None:
    simulator = relay.simulator
    for account in simulator.accounts:
        standing = relay.standing(account.name)
        assert (standing.leases, standing.probes) == (0, 0), account.name
        stored = standing.account
        assert (stored.needs_reauth, stored.attention, standing.set_aside) == (None, None, None)
        assert standing.no_model == {}
        limited_until = stored.rate_limited_until_unix_s
        if account.name in _RUN_OUT:
            resets_at_unix_s = simulator.quota(account).resets_at_unix_s
            assert limited_until == pytest.approx(resets_at_unix_s, abs=1), account.name
            met = [seen for seen in relay.asked if seen.account == account.name]
            assert 429 in {seen.status for seen in met}
        else:
            assert limited_until is None, account.name
        if account.name != _TOO_FAST:
            assert standing.pause is None, account.name
    assert relay.in_line() == 0
    health = (await relay.http.get("/healthz")).json()
    states = {account["id"]: account["state"] for account in health["accounts"]}
    assert {name for name, state in states.items() if state == "rate_limited"} == set(_RUN_OUT)
    assert {states[name] for name in _WELL} == {"valid"}
    # What others must know is on the disk.
    await eventually(
        lambda: all((relay.store / f"{name}.state.json").exists() for name in _RUN_OUT),
        lambda: sorted(path.name for path in relay.store.iterdir()),
    )
