"""Sharing and killing, with fewer rounds than `make stress`; and that the judges see a fault."""

from __future__ import annotations

import os
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Literal

import attrs
import pytest
import trio
from click.testing import CliRunner

from codexrelay.protocol.raw import get_text
from harness.__main__ import main
from harness.stress import killing
from harness.stress.books import Books, Call
from harness.stress.command import slow
from harness.stress.killing import Killed
from harness.stress.sharing import problems_of, share
from harness.stress.stage import Delays, Stage, legacy_stage, managed_stage

if TYPE_CHECKING:
    from pathlib import Path

    from harness.stress.participants import Told

#: To fail, never to synchronise.
PATIENCE_S = 120.0
NO_DELAY = slow(Random(0), 0.0)


async def test_programs_that_share_accounts_refresh_once_for_each_expiry(tmp_path: Path) -> None:
    expiries = {}

    async def run(stage_of: partial, name: str, count: int) -> None:  # type: ignore[type-arg]
        (tmp_path / name).mkdir()
        async with stage_of(tmp_path / name, delays=slow(Random(1), 0.01)) as stage:
            shared = await share(stage, expiries=count, rng=Random(2))
        assert shared.problems == []
        assert shared.requests == shared.served > 0
        expiries[name] = (shared.expiries, sum(shared.refreshes.values()))

    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            legacy, managed = partial(legacy_stage, relays=2), partial(managed_stage, relays=1)
            nursery.start_soon(run, legacy, "legacy", 10)
            nursery.start_soon(run, partial(managed, with_fourth=True), "managed", 2)
    assert expiries == {"legacy": (10, 10), "managed": (2, 2)}


@attrs.define(eq=False)
class Holding:
    """A sign-in service that holds one call up, at one of two points."""

    at: Literal["before", "after"]
    holds: bool = True
    held: trio.Event = attrs.field(factory=trio.Event)

    @property
    def delays(self) -> Delays:
        return Delays(before=partial(self.hook, "before"), after=partial(self.hook, "after"))

    async def hook(self, point: str, _: Call) -> None:
        if self.holds and point == self.at:
            self.holds = False
            self.held.set()
            await trio.sleep_forever()


async def killed_while_held(stage: Stage, holding: Holding) -> Told:
    """Kill the program when its call is held, start it again, and return its next turn."""
    assert stage.fourth is not None
    stage.expire()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stage.fourth.turn)
        await holding.held.wait()
        nursery.cancel_scope.cancel()
    await stage.fourth.kill()
    await stage.nursery.start(stage.fourth.run)
    return await stage.fourth.turn()


async def test_a_program_that_is_killed_before_the_issuer_decides_loses_nothing(
    tmp_path: Path,
) -> None:
    holding = Holding("before")
    with trio.fail_after(PATIENCE_S):
        async with managed_stage(
            tmp_path, relays=0, accounts=1, with_fourth=True, delays=holding.delays
        ) as stage:
            told = await killed_while_held(stage, holding)
            assert told.statuses == (200,)
            assert stage.has_newest("sim-1")
            assert not stage.must_sign_in("sim-1")
            assert stage.file_problems() == []
    assert [(call.dropped, call.renewed) for call in stage.books.calls] == [
        (True, False),
        (False, True),
    ]


async def test_of_a_program_that_is_killed_before_it_hears_the_answer_the_loss_is_told(
    tmp_path: Path,
) -> None:
    holding = Holding("after")
    with trio.fail_after(PATIENCE_S):
        async with managed_stage(
            tmp_path, relays=0, accounts=1, with_fourth=True, delays=holding.delays
        ) as stage:
            told = await killed_while_held(stage, holding)
            assert told.statuses == (401,)
            stored = stage.stored("sim-1")
            why = get_text(stored, "needs_reauth_reason")
            assert why == "answer lost, then refresh_token_reused"
            assert stage.file_problems() == []
            stage.sign_in("sim-1")
            assert stage.fourth is not None
            assert (await stage.fourth.turn()).statuses == (200,)


CALLER = "relay-1"


def call(account: str = "a", status: int | None = 200, **more: bool) -> Call:
    return Call(by=CALLER, account=account, status=status, **more)


@pytest.mark.parametrize(
    ("calls", "statuses", "words"),
    [
        pytest.param([call("a"), call("b")], [200, 200], [], id="as it should be"),
        pytest.param([call("a")], [200], ["b was refreshed 0 times"], id="not refreshed"),
        pytest.param(
            [call("a"), call("b"), call("a")], [200], ["a was refreshed 2 times"], id="twice"
        ),
        pytest.param(
            [call("a"), call("b"), call("b", 401)], [200], ["was refused (401"], id="refused"
        ),
        pytest.param([call("a"), call("b")], [200, 503], ["answered with 503"], id="no answer"),
    ],
)
def test_a_round_is_judged_by_calls_and_answers(
    calls: list[Call], statuses: list[int], words: list[str]
) -> None:
    problems = problems_of(("a", "b"), calls, statuses)
    assert len(problems) == len(words)
    assert all(word in problem for word, problem in zip(words, problems, strict=True))


@pytest.mark.parametrize(
    ("calls", "point"),
    [
        ([], killing.NO_CALL),
        ([Call(by="another", account="a")], killing.NO_CALL),
        ([call(status=None)], killing.UNDECIDED),
        ([call(), call(status=None)], killing.UNDECIDED),
        ([call()], killing.UNDER_WAY),
        ([call(answered=True)], killing.ANSWERED),
    ],
)
def test_a_kill_is_counted_by_how_far_its_relay_was(calls: list[Call], point: str) -> None:
    assert killing.point_of(CALLER, calls) == point
    assert point in killing.POINTS


@pytest.mark.parametrize(
    ("happens", "by", "counts"),
    [
        pytest.param("nothing", CALLER, (0, 0, 0, 0), id="all is well"),
        pytest.param("lost", CALLER, (1, 0, 0, 0), id="lost by the relay that was killed"),
        pytest.param("lost and marked", CALLER, (1, 1, 0, 0), id="and given up"),
        pytest.param("lost", "relay-2", (0, 0, 1, 0), id="lost by a relay that lives"),
        pytest.param("marked", CALLER, (0, 0, 0, 1), id="given up without a loss"),
    ],
)
async def test_a_loss_is_excused_only_by_the_kill(
    tmp_path: Path, happens: str, by: str, counts: tuple[int, ...]
) -> None:
    killed = Killed()
    async with managed_stage(
        tmp_path, relays=0, accounts=1, with_fourth=False, delays=NO_DELAY
    ) as stage:
        if "lost" in happens:
            made = stage.books.arrive(by, stage.books.newest["sim-1"])
            stage.books.decide(made, 200, {"refresh_token": "rt_lost"})
        if "marked" in happens:
            _mark(stage)
        lost = killing.judge_files(stage, killed, CALLER, stage.books.calls)
    assert (killed.lost, killed.given_up, killed.lost_wrongly, killed.given_up_wrongly) == counts
    assert lost == (set() if happens == "nothing" else {"sim-1"})
    assert bool(killed.problems) is (counts[2:] != (0, 0))
    assert stage.has_newest("sim-1")  # signed in again


def _mark(stage: Stage) -> None:
    path = stage.folder / "sim-1.json"
    path.write_bytes(path.read_bytes().replace(b'"needs_reauth":false', b'"needs_reauth":true'))


async def test_files_that_others_can_read_or_that_are_not_whole_are_seen(tmp_path: Path) -> None:
    async with managed_stage(
        tmp_path, relays=0, accounts=1, with_fourth=False, delays=NO_DELAY
    ) as stage:
        assert stage.file_problems() == []
        path = stage.folder / "half.json"
        path.write_bytes(b"{")
        path.chmod(0o644)
        problems = stage.file_problems()
    assert "half.json is not whole" in problems
    assert ("half.json can be read by others" in problems) is (os.name != "nt")


def test_the_books_know_whose_token_is_whose() -> None:
    books = Books()
    books.sign_in("a", "rt_1")
    books.decide(books.arrive(CALLER, "rt_1"), 200, {"refresh_token": "rt_2"})
    books.decide(books.arrive(CALLER, "rt_1"), 401, {"error": {"code": "refresh_token_reused"}})
    assert [(each.account, each.code) for each in books.calls] == [
        ("a", None),
        ("a", "refresh_token_reused"),
    ]
    assert books.newest == {"a": "rt_2"}
    assert "rt_" not in repr(books)


_NOTHING = ("--expiries", "0", "--kills", "0", "--leaves", "0")


def test_the_command_says_what_it_does_and_ends_with_0_when_nothing_is_wrong() -> None:
    ended = CliRunner().invoke(main, ["stress", *_NOTHING, "--seed", "7"])
    assert (ended.exit_code, ended.output.splitlines()[-1]) == (
        0,
        "ok: nothing happened that must not",
    )
    assert "seed 7" in ended.output
