"""Stories: many turns on one relay, with faults, refreshes that fail, clients that leave, and time.

A case is a text: `story STEP ; STEP ; …`, behind its bridge. Over WebSockets, all turns of a story
are on one, as long as it is open.

| step | what happens |
| --- | --- |
| `turn STREAM PROTOCOL FORM FATE / FATE…` | a turn, whose attempts meet these fates (`mishaps`) |
| `leave@93 STREAM PROTOCOL FORM FATE…` | its client is gone at the 93rd step of any task |
| `expire` | from now on the backend refuses every access token that it has given out |
| `refresh cut` | the next token request fails: `cut`, `reset` or `500` |
| `wait 90s` | nothing, so long |
| `hang up` | the backend closes the WebSockets that are open |
| `come back` | the client closes its WebSocket, and opens another one for the next turn |

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
from harness.proof.bridges import PLAIN, Bridge, Client, shown, split, ways_of
from harness.proof.client import SocketHeard
from harness.proof.mishaps import (
    REFRESHES,
    Mishaps,
    fate_drawn,
    fate_of,
    is_mangled,
    may_stand,
    must_cool,
)
from harness.proof.mishaps import parse as mishaps_of
from harness.proof.stage import SETTLE_S, Level, Stage, staged
from harness.proof.streams import STREAMS
from harness.proof.sweep import HitAtStep
from harness.proof.virtual import rng_of, settle_order
from harness.proof.wires import cut_off

if TYPE_CHECKING:
    from pathlib import Path
    from random import Random

    from harness.proof.asked import Asked
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


@attrs.frozen
class HangUp:
    """The backend closes the WebSockets that are open."""

    def __str__(self) -> str:
        return "hang up"


@attrs.frozen
class ComeBack:
    """The client closes its WebSocket."""

    def __str__(self) -> str:
        return "come back"


Step: TypeAlias = Turn | Expire | FailRefresh | Wait | HangUp | ComeBack
_PLAIN_STEPS: Final[dict[str, Step]] = {
    str(step): step for step in (Expire(), HangUp(), ComeBack())
}


@attrs.frozen
class Story:
    """One case."""

    steps: tuple[Step, ...]
    bridge: Bridge = PLAIN

    def __str__(self) -> str:
        return f"{shown(self.bridge)}story {' ; '.join(map(str, self.steps))}"


def parse(text: str) -> Story:
    """Return the case that `str` wrote so.

    Raises:
        ValueError: it is none.
    """
    bridge, story = split(text)
    told = story.removeprefix("story ")
    if told == story:
        raise ValueError(f"no story: {text!r}")
    return Story(tuple(map(_step, told.split(" ; "))), bridge)


def _step(text: str) -> Step:
    if text in _PLAIN_STEPS:
        return _PLAIN_STEPS[text]
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


def drawn(seed: int, number: int, bridge: Bridge = PLAIN) -> Story:
    """Return the case of this number among those of a seed."""
    rng = rng_of(seed, f"{shown(bridge)}story", number)
    count = rng.randint(2, _MOST_STEPS)
    return Story(tuple(_step_drawn(rng, bridge) for _ in range(count)), bridge)


def _step_drawn(rng: Random, bridge: Bridge) -> Step:
    if bridge != PLAIN and rng.random() < 0.2:
        return rng.choice((HangUp(), ComeBack()))
    kind = rng.random()
    if kind < 0.15:
        return Expire()
    if kind < 0.3:
        return FailRefresh(rng.choice(sorted(REFRESHES)))
    if kind < 0.45:
        return Wait(rng.choice((1.0, 30.0, 400.0, 4000.0)))
    stream = rng.choice(sorted(STREAMS))
    protocol, streamed = rng.choice(ways_of(bridge))
    size = sum(map(len, STREAMS[stream]()))
    fates = tuple(fate_drawn(rng, size, bridge) for _ in range(rng.randint(0, 2))) or ("whole",)
    turn = Mishaps(stream=stream, protocol=protocol, streamed=streamed, fates=fates)
    return Turn(turn, rng.randint(1, _TASK_STEPS) if kind > 0.8 else None)


_LAST: Final = Turn(Mishaps(stream="text", protocol="responses", streamed=True, fates=("whole",)))


async def run_story(story: Story, folder: Path, clocks: Clocks) -> list[str]:
    """Run a case on a relay of its own, and return what must not be so."""
    async with staged(folder, clocks, bridge=story.bridge) as stage:
        await trio.sleep(SETTLE_S)
        teller = _Teller(stage, stage.level(), story.bridge)
        for number, step in enumerate((*story.steps, _LAST), start=1):
            settle_order(rng_of(number, step).getrandbits(32))
            if problems := await teller.tell(step):
                await teller.end()
                return [f"step {number}, {step}: {problem}" for problem in problems]
        return await teller.end()


@attrs.define(eq=False)
class _Teller:
    """Lets a story happen, and knows what may be so by now."""

    _stage: Stage
    _base: Level
    _bridge: Bridge
    #: The connection of the next turn, if it is there already.
    _client: Client | None = None
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
                problems = await self._wait(for_s)
            case HangUp():
                upstream.hang_up()
            case ComeBack():
                await self._leave()
        await trio.sleep(SETTLE_S)
        return problems + self._state()

    async def _wait(self, for_s: float) -> list[str]:
        """Wait as a client does that answers pings; return what it was told without asking."""
        ends_at_s = trio.current_time() + for_s
        heard = SocketHeard()
        if self._client is not None and self._client.socket is not None:
            with trio.move_on_at(ends_at_s):
                await self._client.socket.listen(heard, beyond_its_end=True)
            if heard.closed:
                await self._leave()
        await trio.sleep_until(ends_at_s)
        return [f"the client was told {text[:80]!r} without asking" for text in heard.texts]

    async def end(self) -> list[str]:
        """Let both sides go; return what is left of the story."""
        await self._leave()
        self._stage.upstream.hang_up()
        await trio.sleep(SETTLE_S)
        more = self._stage.level().above(self._base)
        return [] if more is None else [f"left open at the end: {more}"]

    async def _leave(self) -> None:
        if self._client is not None:
            await self._client.leave()
        self._client = None

    async def _turn(self, turn: Turn) -> list[str]:
        stage, case = self._stage, turn.mishaps
        sound = [
            name
            for name, stands in stage.standings().items()
            if stands == "good" and name not in self._expired
        ]
        stage.upstream.script = deque(map(case.play, case.fates))
        stage.upstream.otherwise = case.play("whole")
        asked_before = len(stage.upstream.asked)
        client = self._client = self._client or Client(self._bridge, stage.connect())
        instrument = HitAtStep(turn.leaves_at or 0, partial(cut_off, client.stream))
        trio.lowlevel.add_instrument(instrument)
        try:
            heard = await client.ask(case.protocol, streamed=case.streamed)
        finally:
            trio.lowlevel.remove_instrument(instrument)
        was_hit = instrument.hit_at_s is not None
        if was_hit or client.socket is None or not client.socket.is_usable:
            await self._leave()
        await trio.sleep(SETTLE_S)
        every = stage.upstream.asked[asked_before:]
        asked = [one for one in every if one.is_turn]
        if any(one.over_at_s is None and not one.watched for one in asked):
            await trio.sleep(_LONGEST_S)
        stage.upstream.script.clear()
        problems = self._charge(every, left=instrument.hit_at_s is not None)
        attempts = [oracle.Upstream.of(one) for one in asked]
        problems += oracle.judge_attempts(attempts)
        if instrument.hit_at_s is not None:
            return problems + _stayed(asked, instrument.hit_at_s)
        judge = oracle.judge_mangled if asked and is_mangled(fate_of(asked[-1])) else oracle.judge
        problems += judge(case.protocol, heard.message, attempts, streamed=case.streamed)
        status = heard.message.status
        if case.fates == ("whole",) and sound and status != 200:
            problems.append(f"status {status} although {', '.join(sound)} stood good")
        return problems

    def _charge(self, asked: list[Asked], *, left: bool) -> list[str]:
        """Note what each account has met; return who is not charged with what was its own."""
        asked = [one for one in asked if one.is_turn or one.way == "handshake"]
        known = [one for one in asked if one.account is not None]
        self._refusals += len(asked) - len(known)
        problems = []
        standings = self._stage.standings()
        for one in known:
            name, fate = one.account or "", fate_of(one)
            self._met.setdefault(name, []).append(fate)
            self._refusals += "401" in fate
            if must_cool(fate) and standings[name] != "cooling" and not left:
                problems.append(f"account {name} met {fate} and stands {standings[name]}")
        # The backend has taken a token of theirs; on an open WebSocket it asks for none.
        taken = (one for one in known if one.way != "message")
        self._expired.difference_update(one.account or "" for one in taken)
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
        level = stage.level()
        if self._bridge != PLAIN:
            # WebSockets that wait for another turn are no loss; they are looked at in the end.
            level = attrs.evolve(level, tasks=self._base.tasks, open_files=self._base.open_files)
        if (more := level.above(self._base)) is not None:
            problems.append(f"left open: {more}")
        return problems


def _stayed(asked: list[Asked], left_at_s: float) -> list[str]:
    return [
        f"the client left at {left_at_s:g} s and upstream was left at {one.over_at_s} s"
        for one in asked
        if one.watched and (one.over_at_s is None or one.over_at_s > left_at_s + _EXACT_S)
    ]
