"""A sample of the proof: a whole relay, cut and cancelled, in virtual time.

All of it: `python -m harness prove --full`.
"""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING, Final

import attrs
import pytest
import trio
from click.testing import CliRunner

from harness.proof import loss, mishaps, sweep, virtual, wires
from harness.proof.bridges import asking
from harness.proof.client import Heard, ask
from harness.proof.command import prove
from harness.proof.loss import Cut
from harness.proof.running import Batch
from harness.proof.stage import SETTLE_S, staged
from harness.proof.sweep import HitAtStep

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from harness.proof.virtual import Clocks

pytestmark = pytest.mark.skipif(wires.UNSUPPORTED is not None, reason=str(wires.UNSUPPORTED))

_SEED: Final = 8787
_CUTS: Final = 12
#: The server's own, by the real clock.
_DATE: Final = re.compile(rb"^date: .*$", re.MULTILINE)


def failures_of(batch: Batch) -> list[object]:
    return [(failure.case, failure.problems) for failure in batch.run().failures]


@pytest.mark.parametrize("stream", ["text", "parallel-calls", "reasoning", "custom-call"])
def test_a_cut_answer_is_a_true_beginning_with_one_end(stream: str) -> None:
    cases = [str(case) for case in loss.cuts(stream, every_way=False)]
    some = virtual.rng_of(_SEED, stream).sample(cases, _CUTS)
    assert failures_of(Batch(part="loss", cases=tuple(some))) == []


def test_several_mishaps_in_one_turn_leave_one_end_and_charge_the_right_account() -> None:
    cases = tuple(str(mishaps.drawn(_SEED, number)) for number in range(8))
    assert failures_of(Batch(part="mishaps", cases=cases)) == []


@pytest.mark.parametrize(
    ("turn", "every"),
    [
        ("paced responses streamed leave", 23),
        ("burst chat streamed stop", 17),
        ("refresh chat streamed leave", 61),
        ("unauthorized responses streamed leave", 61),
        ("rotate responses whole leave", 61),
        ("in-line chat streamed leave", 61),
        ("slow-client responses streamed leave", 31),
        ("retry chat whole stop", 47),
        ("refresh responses streamed kill", 83),
        ("unauthorized chat streamed kill", 83),
        ("no-connection responses streamed leave", 13),
        ("no-connection chat whole stop", 13),
    ],
)
def test_a_turn_that_is_hit_at_any_step_leaves_nothing_behind(turn: str, every: int) -> None:
    batch = Batch(part="cancel", cases=(turn,), first=1 + _SEED % every, every=every)
    assert failures_of(batch) == []


def test_a_case_goes_the_same_way_each_time(tmp_path: Path) -> None:
    folders = (tmp_path / str(number) for number in itertools.count())

    async def trace(clocks: Clocks) -> Sequence[object]:
        case = Cut.parse("parallel-calls chat streamed wire@700+rst")
        async with staged(next(folders), clocks) as stage:
            await trio.sleep(SETTLE_S)
            virtual.settle_order(1)
            stage.upstream.script.extend(case.plays())
            heard, steps = Heard(), HitAtStep(0, lambda: None)
            trio.lowlevel.add_instrument(steps)
            await ask(stage.connect(), asking("chat", streamed=True), heard)
            return heard.at_s, _DATE.sub(b"", heard.data), steps.steps

    first = virtual.run(trace)
    assert [virtual.run(trace) for _ in range(3)] == [first] * 3


def test_time_stands_still_while_a_thread_works() -> None:
    async def wait(_: Clocks) -> float:
        began_at_s = trio.current_time()
        with trio.move_on_after(1.0) as scope:
            await trio.to_thread.run_sync(sum, range(2_000_000))
        assert not scope.cancelled_caught
        return trio.current_time() - began_at_s

    assert virtual.run(wait) == 0.0


@pytest.mark.parametrize(
    "case",
    [
        "text chat whole wire@300+fin",
        "refresh chat streamed leave@93",
        "mishaps text chat streamed 429 / cut@40+rst / 401",
        # An event with encrypted reasoning that is no JSON passes as it came.
        "mishaps reasoning responses streamed corrupt@820",
        "story expire ; refresh cut ; leave@93 text chat streamed whole ; wait 400s",
        "long-mixed chat whole wire@70000+rst",
    ],
)
def test_the_command_runs_one_case_again(case: str) -> None:
    ran = CliRunner().invoke(prove, ["--case", case])
    assert (ran.exit_code, ran.output) == (0, "ok\n")


def test_the_command_knows_what_it_cannot_run() -> None:
    runner = CliRunner()
    assert runner.invoke(prove, ["--case", "nonsense"]).exit_code == 2
    assert runner.invoke(prove, ["--only", "nonsense"]).exit_code == 2


def test_a_sweep_ends_where_the_turn_does() -> None:
    it, _ = sweep.parse("burst responses whole leave@1")
    outcome = Batch(part="cancel", cases=(str(it),), first=4000, every=1).run()
    assert (outcome.cases, outcome.failures) == (0, ())


def test_what_a_case_leaves_open_is_told(tmp_path: Path) -> None:
    async def run(clocks: Clocks) -> list[str]:
        async with staged(tmp_path / "relay", clocks) as stage:
            await trio.sleep(SETTLE_S)
            lower = attrs.evolve(stage.level(), tasks=0)
            case = Cut.parse("text chat streamed wire@600+idle")
            return await loss.run_cut(case, stage, lower)

    (problem,) = virtual.run(run)
    assert problem.startswith("left open: tasks")
