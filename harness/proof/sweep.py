"""The cancellation sweep: one turn, left or stopped at every step of any task, in order."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, get_args

import attrs
import trio

from harness.proof import oracle, streams
from harness.proof.client import Heard, ask
from harness.proof.loss import WAYS, asking
from harness.proof.oracle import Protocol
from harness.proof.stage import SETTLE_S, Stage, staged
from harness.proof.truth import read_message
from harness.proof.upstream import Play, performance_of_events, play_of, refusing
from harness.proof.virtual import settle_order
from harness.proof.wires import cut_off
from harness.simulator.accounts import SimulatedAccount

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from harness.proof.stage import Level
    from harness.proof.virtual import Clocks

#: What happens at the step: the client is gone; turns are told to stop, as when a drain's grace is
#: over; everything the relay runs in is cancelled.
Way: TypeAlias = Literal["leave", "stop", "kill"]
HITS: Final[tuple[Way, ...]] = get_args(Way)
#: A turn of more steps than this never ends.
MOST_STEPS: Final = 5000
#: Between two pieces of an answer.
_PACE_S: Final = 0.01
_SLOW_CLIENT_S: Final = 3.0
_SMALL_BUFFER_BYTES: Final = 4608
_BIG_BYTES: Final = 60_000
#: How long a relay that was cancelled may take for what it must not break off.
_CLOSING_S: Final = 30.0
_EXACT_S: Final = 1e-6
_GOOD: Final = frozenset({"good"})
_TEXT: Final = re.compile(
    r"(?P<scene>\S+) (?P<protocol>responses|chat) (?P<form>streamed|whole) "
    r"(?P<hit>leave|stop|kill)@(?P<step>\d+)"
)


def _paced(events: Sequence[bytes], *, begins_s: float = _PACE_S) -> Play:
    """Return an answer that comes bit by bit: the head in two, and each event in two."""
    whole = play_of(performance_of_events(events))
    pieces: list[tuple[float, bytes]] = []
    at_s = begins_s
    for _, data in whole.pieces:
        middle = len(data) // 2
        for half in (data[:middle], data[middle:]):
            pieces.append((at_s, half))
            at_s += _PACE_S
    return Play(pieces=tuple(pieces))


def _in_two(play: Play) -> Play:
    """Return a play that is sent in two parts, after a while."""
    wire = play.wire
    middle = len(wire) // 2
    return Play(pieces=((_PACE_S, wire[:middle]), (2 * _PACE_S, wire[middle:])), end=play.end)


def _nothing(_stage: Stage) -> None:
    """Prepare nothing."""


def _expire(stage: Stage) -> None:
    for account in stage.simulator.accounts:
        stage.simulator.expire(account.name)
    _slow_refreshes(stage)


def _slow_refreshes(stage: Stage) -> None:
    stage.upstream.refreshing = deque([_in_two] * 4)


def _hang(stage: Stage) -> None:
    stage.wiring.hangs = True


def _hold_the_account(stage: Stage) -> None:
    stage.upstream.script.appendleft(play_of(performance_of_events(_HELD, every_s=0.1)))


_HELD: Final = streams.text()


@attrs.frozen(kw_only=True)
class Scene:
    """What a turn goes through before it is served, if nobody disturbs it."""

    #: What its attempts get, in order.
    plays: tuple[Play, ...]
    accounts: tuple[SimulatedAccount, ...] = (SimulatedAccount("sim-1"), SimulatedAccount("sim-2"))
    max_concurrent_turns: int | None = None
    #: Done before each run.
    prepare: Callable[[Stage], None] = _nothing
    #: Needs a relay of its own for each run.
    fresh: bool = False
    #: Another client's turn holds the account meanwhile.
    held: bool = False
    #: The client reads nothing for a while, and little fits between it and the relay.
    slow_client: bool = False
    #: Connections to the backend are kept.
    keeps: bool = False
    #: It comes to no answer even if nobody disturbs it.
    fails: bool = False
    #: Behind a relay that was cancelled another one is started on the same store.
    has_heir: bool = False
    #: In which an account may stand afterwards.
    standings: frozenset[str] = _GOOD


_PLAY: Final = _paced(streams.parallel_calls())
_BIG: Final = play_of(
    performance_of_events(
        tuple(event.replace(b"lo, ", b"lo, " + b"x" * _BIG_BYTES) for event in streams.text())
    )
)
#: All of it at once.
_BURST: Final = play_of(performance_of_events(streams.text()))
SCENES: Final[dict[str, Scene]] = {
    # Connecting, before the head, before the first event, in mid-event, at the end.
    "paced": Scene(plays=(_PLAY,)),
    "burst": Scene(plays=(_BURST,)),
    "kept": Scene(plays=(_PLAY,), keeps=True),
    "reasoning": Scene(plays=(_paced(streams.reasoning()),)),
    # The access token is past its expiry from the start.
    "refresh": Scene(
        plays=(_PLAY,),
        accounts=(SimulatedAccount("sim-1", expired=True),),
        prepare=_slow_refreshes,
        fresh=True,
        has_heir=True,
    ),
    # The backend does not take the token, although it has not expired.
    "unauthorized": Scene(
        plays=(_PLAY,),
        prepare=_expire,
        fresh=True,
        has_heir=True,
        standings=frozenset({"good", "token refused"}),
    ),
    "retry": Scene(plays=(refusing(503, {"error": {"message": "full"}}), _PLAY)),
    "broken": Scene(plays=(_BURST.cut(60, "rst"), _PLAY)),
    "rotate": Scene(
        plays=(
            refusing(
                429,
                {"error": {"type": "usage_limit_reached", "message": "no", "resets_in_seconds": 9}},
            ),
            _PLAY,
        ),
        fresh=True,
        standings=frozenset({"good", "cooling"}),
    ),
    "throttled": Scene(
        plays=(
            refusing(429, {"error": {"code": "rate_limit_exceeded", "message": "try again in 2s"}}),
            _PLAY,
        ),
        accounts=(SimulatedAccount("sim-1"),),
        fresh=True,
        standings=frozenset({"good", "paused"}),
    ),
    "in-line": Scene(
        plays=(_PLAY,),
        accounts=(SimulatedAccount("sim-1"),),
        max_concurrent_turns=1,
        prepare=_hold_the_account,
        held=True,
    ),
    "slow-client": Scene(plays=(_BIG,), slow_client=True),
    "failed": Scene(plays=(_PLAY.cut(1200, "fin"),)),
    # Connecting takes for ever.
    "no-connection": Scene(plays=(_PLAY,), prepare=_hang, fails=True),
    "silent": Scene(plays=(_PLAY.cut(1200, "idle"),)),
}


@attrs.define(eq=False)  # trio keeps instruments in a dict: identity and hash needed
class HitAtStep(trio.abc.Instrument):
    """Does something just before the `at`-th task step after this instrument was added."""

    at: int
    hit: Callable[[], None]
    steps: int = 0
    #: When it was done; None if it was not.
    hit_at_s: float | None = None

    def before_task_step(self, task: trio.lowlevel.Task) -> None:  # noqa: ARG002
        """Count, and do it when it is time."""
        self.steps += 1
        if self.steps == self.at:
            self.hit_at_s = trio.current_time()
            self.hit()


@attrs.frozen(kw_only=True)
class Sweep:
    """One turn, and what happens to it at each of its steps."""

    scene: str
    protocol: Protocol
    streamed: bool
    hit: Way

    def __str__(self) -> str:
        form = "streamed" if self.streamed else "whole"
        return f"{self.scene} {self.protocol} {form} {self.hit}"


def parse(text: str) -> tuple[Sweep, int]:
    """Return what `SWEEP@STEP` says.

    Raises:
        ValueError: it says nothing.
    """
    match = _TEXT.fullmatch(text)
    if match is None or match["scene"] not in SCENES:
        raise ValueError(f"no case of the cancellation sweep: {text!r}")
    sweep = Sweep(
        scene=match["scene"],
        protocol="chat" if match["protocol"] == "chat" else "responses",
        streamed=match["form"] == "streamed",
        hit=next(hit for hit in HITS if hit == match["hit"]),
    )
    return sweep, int(match["step"])


def sweeps(*, kills: bool = True) -> tuple[Sweep, ...]:
    """Return all of them: every scene in every way, hit by everything."""
    return tuple(
        Sweep(scene=scene, protocol=protocol, streamed=streamed, hit=hit)
        for scene in SCENES
        for protocol, streamed in WAYS
        for hit in HITS
        if kills or hit != "kill"
    )


@attrs.define(kw_only=True)
class Swept:
    """What came of a sweep."""

    #: Steps at which it was hit.
    cases: int = 0
    #: Step -> what must not have happened.
    problems: dict[int, list[str]] = attrs.field(factory=dict)


async def sweep(
    it: Sweep,
    folder: Path,
    clocks: Clocks,
    *,
    first: int = 1,
    every: int = 1,
    most: int | None = None,
) -> Swept:
    """Hit the turn at step `first`, then every `every` steps on, until it ends before.

    `most` is how many cases are run at most.
    """
    scene, swept = SCENES[it.scene], Swept()
    step, number = first, 0
    while step < MOST_STEPS and swept.cases != most:
        number += 1
        at = folder / str(number)
        at.mkdir()
        async with _opened(scene, at, clocks) as stage:
            base = stage.level()
            while step < MOST_STEPS and swept.cases != most:
                problems, was_hit = await _run(it, scene, stage, base, step)
                if was_hit and it.hit == "kill" and scene.has_heir and not problems:
                    problems = await _heir(stage, at / "heir", clocks)
                swept.cases += was_hit
                if problems:
                    swept.problems[step] = problems
                if not was_hit:
                    return swept
                step += every
                if scene.fresh or it.hit == "kill" or problems:
                    break
    if swept.cases != most:
        swept.problems[MOST_STEPS] = ["the turn did not end"]
    return swept


@asynccontextmanager
async def _opened(scene: Scene, folder: Path, clocks: Clocks) -> AsyncIterator[Stage]:
    async with staged(
        folder, clocks, accounts=scene.accounts, max_concurrent_turns=scene.max_concurrent_turns
    ) as stage:
        stage.upstream.keeps = scene.keeps
        await trio.sleep(SETTLE_S)
        yield stage


async def _run(
    it: Sweep, scene: Scene, stage: Stage, base: Level, step: int
) -> tuple[list[str], bool]:
    """Hit one turn at one step; return what must not be so, and whether it came so far."""
    settle_order(step)
    upstream, active = stage.upstream, stage.services.relay.active
    upstream.script, upstream.otherwise = deque(scene.plays), scene.plays[-1]
    scene.prepare(stage)
    asked_before = len(upstream.turns)
    heard, held = Heard(), Heard()
    stream = stage.connect(buffer_bytes=_SMALL_BUFFER_BYTES if scene.slow_client else None)
    hits: dict[Way, Callable[[], None]] = {
        "leave": partial(cut_off, stream),
        "stop": active.stop,
        "kill": stage.scope.cancel,
    }
    instrument = HitAtStep(step, hits[it.hit])
    async with trio.open_nursery() as nursery:
        if scene.held:
            request = asking("responses", streamed=True)
            nursery.start_soon(ask, stage.connect(), request, held)
            await trio.sleep(_PACE_S)
        trio.lowlevel.add_instrument(instrument)
        try:
            await ask(
                stream,
                asking(it.protocol, streamed=it.streamed),
                heard,
                reads_after_s=_SLOW_CLIENT_S if scene.slow_client else 0.0,
            )
        finally:
            trio.lowlevel.remove_instrument(instrument)
    hit_at_s = instrument.hit_at_s
    if hit_at_s is None:
        return _undisturbed(it, scene, heard), False
    if it.hit == "kill":
        return await _after_kill(stage), True
    stage.wiring.hangs = False
    await trio.sleep(SETTLE_S)
    active.stopped = False
    asked = upstream.turns[asked_before + scene.held :]
    problems = [
        f"upstream was left {one.over_at_s} s and the turn was hit {hit_at_s} s"
        for one in asked
        if one.over_at_s is None or one.over_at_s > hit_at_s + _EXACT_S
    ]
    if it.hit == "stop":
        attempts = [oracle.Upstream.of(one.sent) for one in asked]
        problems += oracle.judge_stopped(it.protocol, heard.data, attempts, streamed=it.streamed)
        problems += oracle.judge_attempts(attempts)
    problems += _left_open(scene, stage, base)
    return problems + await _next_turn(scene, stage, base), True


def _undisturbed(it: Sweep, scene: Scene, heard: Heard) -> list[str]:
    """Return what is wrong with a turn that ended before it was hit."""
    message = read_message(heard.data)
    breaks = scene.plays[-1].end in ("fin", "idle")
    fails = scene.fails or (breaks and not it.streamed)
    if not message.whole or (message.status == 200) == fails:
        return [f"undisturbed it was answered {message.status}: {bytes(heard.data[-200:])!r}"]
    return []


def _left_open(scene: Scene, stage: Stage, base: Level) -> list[str]:
    problems = stage.unforeseen() + stage.unburnt()
    stands = {name: how for name, how in stage.standings().items() if how not in scene.standings}
    if stands:
        problems.append(f"accounts stand {stands}")
    if (more := stage.level().above(base)) is not None:
        problems.append(f"left open: {more}")
    return problems


async def _next_turn(scene: Scene, stage: Stage, base: Level) -> list[str]:
    """Return what is wrong with the turn after."""
    stage.upstream.script.clear()
    stage.upstream.otherwise = _BURST
    heard = Heard()
    await ask(stage.connect(), asking("responses", streamed=False), heard)
    await trio.sleep(SETTLE_S)
    problems = []
    if read_message(heard.data).status != 200:
        problems.append(f"the next turn was answered {bytes(heard.data[:300])!r}")
    return problems + _left_open(scene, stage, base)


async def _after_kill(stage: Stage) -> list[str]:
    """Return what a relay that was cancelled as a whole has left behind."""
    with trio.move_on_after(_CLOSING_S) as patience:
        await stage.stopped.wait()
    if patience.cancelled_caught:
        return [f"the relay had not ended {_CLOSING_S:g} s after it was cancelled"]
    await trio.sleep(SETTLE_S)
    level = stage.level()
    problems = stage.unforeseen() + stage.unburnt()
    held = level.turns + level.leases + level.in_line + level.busy_connections
    if held or stage.upstream.open:
        problems.append(f"left open: {level}, {stage.upstream.open} connections upstream")
    return problems


async def _heir(gone: Stage, folder: Path, clocks: Clocks) -> list[str]:
    """Return what is wrong with a turn of a relay that takes over the store of one that is gone."""
    gone.upstream.script.clear()
    gone.upstream.refreshing.clear()
    gone.upstream.otherwise = _BURST
    async with staged(folder, clocks, after=gone) as stage:
        await trio.sleep(SETTLE_S)
        heard = Heard()
        await ask(stage.connect(), asking("responses", streamed=True), heard)
        await trio.sleep(SETTLE_S)
        problems = stage.unforeseen() + stage.unburnt()
        if read_message(heard.data).status != 200:
            told = bytes(heard.data[:300])
            problems.append(f"the relay that took over answered {told!r}")
        return problems
