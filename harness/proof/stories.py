"""Stories: many turns on one relay, with faults, refreshes that fail, clients that leave, and time.

A case is a text: `story STEP ; STEP ; …`.

| step | what happens |
| --- | --- |
| `turn STREAM PROTOCOL FORM FATE / FATE…` | a turn, whose attempts meet these fates (`mishaps`) |
| `leave@93 STREAM PROTOCOL FORM FATE…` | its client is gone at the 93rd step of any task |
| `expire` | from now on the backend refuses every access token that it has given out |
| `refresh cut` | the next token request fails: `cut`, `reset` or `500` |
| `wait 90s` | nothing, so long |

What must be so is looked at after each step. A step that is wrong ends the story; the last step of
each is a whole turn, which must be served if any account is sound.
"""

from __future__ import annotations

import re
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias

import attrs
import trio

from codexrelay.accounts.standing import MAX_REJECTED_TOKENS
from harness.proof import oracle
from harness.proof.client import Heard, ask
from harness.proof.loss import WAYS, asking
from harness.proof.mishaps import (
    REFRESHES,
    Mishaps,
    fate_drawn,
    is_mangled,
    may_stand,
    must_cool,
)
from harness.proof.mishaps import parse as mishaps_of
from harness.proof.stage import SETTLE_S, Level, Stage, staged
from harness.proof.streams import STREAMS
from harness.proof.sweep import HitAtStep
from harness.proof.truth import read_message
from harness.proof.virtual import rng_of, settle_order
from harness.proof.wires import cut_off

if TYPE_CHECKING:
    from pathlib import Path
    from random import Random

    from harness.proof.upstream import Asked
    from harness.proof.virtual import Clocks

_EXACT_S: Final = 1e-6
#: No answer is played for longer.
_LONGEST_S: Final = 120.0
_MOST_STEPS: Final = 7
#: A turn takes about so many steps of tasks.
_TASK_STEPS: Final = 400
_LEAVE: Final = re.compile(r"leave@(?P<at>\d+) (?P<turn>.+)")
_WAIT: Final = re.compile(r"wait (?P<for_s>\d+(\.\d+)?)s")


@attrs.frozen
class Turn:
    """A turn, whose client may leave at some step."""

    mishaps: Mishaps
    leaves_at: int | None = None

    def __str__(self) -> str:
        told = str(self.mishaps).removeprefix("mishaps ")
        return f"turn {told}" if self.leaves_at is None else f"leave@{self.leaves_at} {told}"


@attrs.frozen
class Expire:
    """No access token is good any more."""

    def __str__(self) -> str:
        return "expire"


@attrs.frozen
class FailRefresh:
    """The next token request fails."""

    fate: str = attrs.field(validator=attrs.validators.in_(REFRESHES))

    def __str__(self) -> str:
        return f"refresh {self.fate}"


@attrs.frozen
class Wait:
    """Nothing happens for some seconds."""

    for_s: float

    def __str__(self) -> str:
        return f"wait {self.for_s:g}s"


Step: TypeAlias = Turn | Expire | FailRefresh | Wait


@attrs.frozen
class Story:
    """One case."""

    steps: tuple[Step, ...]

    def __str__(self) -> str:
        return f"story {' ; '.join(map(str, self.steps))}"


def parse(text: str) -> Story:
    """Return the case that `str` wrote so.

    Raises:
        ValueError: it is none.
    """
    told = text.removeprefix("story ")
    if told == text:
        raise ValueError(f"no story: {text!r}")
    return Story(tuple(map(_step, told.split(" ; "))))


def _step(text: str) -> Step:
    if text == "expire":
        return Expire()
    if (wait := _WAIT.fullmatch(text)) is not None:
        return Wait(float(wait["for_s"]))
    if (leave := _LEAVE.fullmatch(text)) is not None:
        return Turn(mishaps_of(f"mishaps {leave['turn']}"), int(leave["at"]))
    word, _, rest = text.partition(" ")
    if word == "refresh":
        return FailRefresh(rest)
    if word == "turn":
        return Turn(mishaps_of(f"mishaps {rest}"))
    raise ValueError(f"no step of a story: {text!r}")


def drawn(seed: int, number: int) -> Story:
    """Return the case of this number among those of a seed."""
    rng = rng_of(seed, "story", number)
    return Story(tuple(_step_drawn(rng) for _ in range(rng.randint(2, _MOST_STEPS))))


def _step_drawn(rng: Random) -> Step:
    kind = rng.random()
    if kind < 0.15:
        return Expire()
    if kind < 0.3:
        return FailRefresh(rng.choice(sorted(REFRESHES)))
    if kind < 0.45:
        return Wait(rng.choice((1.0, 30.0, 400.0, 4000.0)))
    stream = rng.choice(sorted(STREAMS))
    protocol, streamed = rng.choice(WAYS)
    size = sum(map(len, STREAMS[stream]()))
    fates = tuple(fate_drawn(rng, size) for _ in range(rng.randint(0, 2))) or ("whole",)
    turn = Mishaps(stream=stream, protocol=protocol, streamed=streamed, fates=fates)
    return Turn(turn, rng.randint(1, _TASK_STEPS) if kind > 0.8 else None)


_LAST: Final = Turn(Mishaps(stream="text", protocol="responses", streamed=True, fates=("whole",)))


async def run_story(story: Story, folder: Path, clocks: Clocks) -> list[str]:
    """Run a case on a relay of its own, and return what must not be so."""
    async with staged(folder, clocks) as stage:
        await trio.sleep(SETTLE_S)
        teller = _Teller(stage, stage.level())
        for number, step in enumerate((*story.steps, _LAST), start=1):
            settle_order(rng_of(number, step).getrandbits(32))
            if problems := await teller.tell(step):
                return [f"step {number}, {step}: {problem}" for problem in problems]
        return []


@attrs.define(eq=False)
class _Teller:
    """Lets a story happen, and knows what may be so by now."""

    _stage: Stage
    _base: Level
    #: Account -> the fates that it has met.
    _met: dict[str, list[str]] = attrs.field(factory=dict)
    #: Accounts whose token the backend may refuse.
    _expired: set[str] = attrs.field(factory=set)
    #: How often an access token was refused.
    _refusals: int = 0
    #: A token request has failed or will fail, so that a refresh token may be burnt.
    _failing: bool = False

    async def tell(self, step: Step) -> list[str]:
        """Let a step happen; return what must not be so afterwards."""
        problems: list[str] = []
        simulator, upstream = self._stage.simulator, self._stage.upstream
        match step:
            case Turn():
                problems = await self._turn(step)
            case Expire():
                for account in simulator.accounts:
                    simulator.expire(account.name)
                    self._expired.add(account.name)
            case FailRefresh(fate):
                upstream.refreshing.append(REFRESHES[fate])
                self._failing = True
            case Wait(for_s):
                await trio.sleep(for_s)
        await trio.sleep(SETTLE_S)
        return problems + self._state()

    async def _turn(self, turn: Turn) -> list[str]:
        stage, case = self._stage, turn.mishaps
        sound = [
            name
            for name, stands in stage.standings().items()
            if stands == "good" and name not in self._expired
        ]
        stage.upstream.script = deque(map(case.play, case.fates))
        stage.upstream.otherwise = case.play("whole")
        asked_before, heard, stream = len(stage.upstream.turns), Heard(), stage.connect()
        instrument = HitAtStep(turn.leaves_at or 0, partial(cut_off, stream))
        trio.lowlevel.add_instrument(instrument)
        try:
            await ask(stream, asking(case.protocol, streamed=case.streamed), heard)
        finally:
            trio.lowlevel.remove_instrument(instrument)
        await trio.sleep(SETTLE_S)
        asked = stage.upstream.turns[asked_before:]
        if any(one.over_at_s is None and not one.watched for one in asked):
            await trio.sleep(_LONGEST_S)
        stage.upstream.script.clear()
        problems = self._charge(asked, case, left=instrument.hit_at_s is not None)
        attempts = [oracle.Upstream.of(one.sent) for one in asked]
        problems += oracle.judge_attempts(attempts)
        if instrument.hit_at_s is not None:
            return problems + _stayed(asked, instrument.hit_at_s)
        # The backend refuses an expired token by itself, and the fate waits for the next attempt.
        met = [one for one in asked if one.account is not None]
        fate = case.fates[len(met) - 1] if 0 < len(met) <= len(case.fates) else "whole"
        judge = oracle.judge_mangled if met and is_mangled(fate) else oracle.judge
        problems += judge(case.protocol, heard.data, attempts, streamed=case.streamed)
        status = read_message(heard.data).status
        if case.fates == ("whole",) and sound and status != 200:
            problems.append(f"status {status} although {', '.join(sound)} stood good")
        return problems

    def _charge(self, asked: list[Asked], case: Mishaps, *, left: bool) -> list[str]:
        """Note what each account has met; return who is not charged with what was its own."""
        known = [one for one in asked if one.account is not None]
        self._refusals += len(asked) - len(known)
        problems = []
        standings = self._stage.standings()
        for one, fate in zip(known, case.fates, strict=False):
            name = one.account or ""
            self._met.setdefault(name, []).append(fate)
            self._refusals += "401" in fate
            if must_cool(fate) and standings[name] != "cooling" and not left:
                problems.append(f"account {name} met {fate} and stands {standings[name]}")
        # The backend has taken a token of theirs.
        self._expired.difference_update(one.account or "" for one in known)
        return problems

    def _state(self) -> list[str]:
        stage = self._stage
        problems = stage.unforeseen()
        for name, stands in stage.standings().items():
            met = self._met.get(name, [])
            allowed = {"good"} | may_stand(met, refresh_fails=self._failing)
            if name in self._expired or self._failing:
                allowed |= may_stand(["401"], refresh_fails=self._failing)
            if self._refusals >= MAX_REJECTED_TOKENS:
                allowed.add("set_aside")  # its fresh tokens are refused one after the other
            if stands not in allowed:
                problems.append(f"account {name} met {met} and stands {stands}")
        if not self._failing:
            problems += stage.unburnt()
        if (more := stage.level().above(self._base)) is not None:
            problems.append(f"left open: {more}")
        return problems


def _stayed(asked: list[Asked], left_at_s: float) -> list[str]:
    return [
        f"the client left at {left_at_s:g} s and upstream was left at {one.over_at_s} s"
        for one in asked
        if one.watched and (one.over_at_s is None or one.over_at_s > left_at_s + _EXACT_S)
    ]
