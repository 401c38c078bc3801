from __future__ import annotations

import pytest
import trio

from codexrelay.accounts.login.errors import LoginError, timed_out
from codexrelay.accounts.login.redirect import Code, Denied
from codexrelay.accounts.login.waiting import Waiting


@pytest.mark.parametrize("late", [Code("second"), Denied("no"), LoginError("no")])
async def test_the_first_answer_counts(late: Code | Denied | LoginError) -> None:
    waiting = Waiting("state")
    waiting.offer(Code("first"))
    waiting.offer(late)
    assert await waiting.answer() == Code("first")


async def test_a_refusal_is_an_answer() -> None:
    waiting = Waiting("state")
    waiting.offer(Denied("access_denied"))
    waiting.offer(Code("late"))
    answer = await waiting.answer()
    assert isinstance(answer, LoginError)
    assert "access_denied" in str(answer)


async def test_browsers_are_waited_for_until_each_has_been_told() -> None:
    waiting = Waiting("state")
    told: list[int] = []
    ending = LoginError("over")

    async def browse(number: int, leave: trio.Event) -> None:
        with waiting.browser():
            assert await waiting.ending() is ending
            await leave.wait()
            told.append(number)

    events = [trio.Event(), trio.Event()]
    with trio.fail_after(20):
        await waiting.all_told()
        async with trio.open_nursery() as nursery:
            for number, event in enumerate(events):
                nursery.start_soon(browse, number, event)
            await trio.testing.wait_all_tasks_blocked()
            waiting.end(ending)
            events[1].set()
            await trio.testing.wait_all_tasks_blocked()
            assert told == [1]
            events[0].set()
            await waiting.all_told()
            assert told == [1, 0]


def test_a_secret_state_does_not_show() -> None:
    assert "state-1" not in repr(Waiting("state-1"))


def test_a_timeout_says_what_else_can_be_done() -> None:
    assert "within 3 min" in str(timed_out(180))
    assert "--device" in str(timed_out(180))
