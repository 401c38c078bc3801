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
from harness.proof.answers import named
from harness.proof.bridges import (
    BEFORE,
    PLAIN,
    Bridge,
    Client,
    creating,
    shown,
    split,
    ways_of,
)
from harness.proof.client import Heard, SocketHeard
from harness.proof.oracle import Protocol
from harness.proof.plays import (
    LIMIT,
    NOT_FOUND,
    Pieces,
    Play,
    SocketPlay,
    on_socket_alone,
    performance_of_events,
    play_of,
    refusing,
)
from harness.proof.stage import SETTLE_S, Stage, staged
from harness.proof.virtual import settle_order
from harness.proof.wires import cut_off
from harness.simulator.accounts import SimulatedAccount

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from harness.proof.stage import Level
    from harness.proof.virtual import Clocks

#: What happens at the step: the client is gone; it has reset the connection, with an answer in it
#: that it had not read; it has sent a close frame; turns are told to stop, as when a drain's grace
#: is over; everything the relay runs in is cancelled.
Way: TypeAlias = Literal["leave", "reset", "close", "stop", "kill"]
_HITS: Final[dict[Bridge, tuple[Way, ...]]] = {
    "sse-http": ("leave", "stop", "kill"),
    "sse-ws": ("leave", "reset", "stop", "kill"),
    "ws-http": ("leave", "reset", "close", "stop", "kill"),
    "ws-ws": ("leave", "reset", "close", "stop", "kill"),
}
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
    r"(?P<hit>leave|reset|close|stop|kill)@(?P<step>\d+)"
)


def _paced(events: Sequence[bytes], *, begins_s: float = _PACE_S) -> Play:
    """Return an answer that comes bit by bit: the head in two, and each event or frame in two."""
    whole = play_of(performance_of_events(events))
    pieces = _in_halves(whole.pieces, begins_s)
    socket = attrs.evolve(
        _over_socket(whole), pieces=_in_halves(_over_socket(whole).pieces, begins_s)
    )
    return Play(pieces=pieces, over_socket=socket)


def _in_halves(whole: Pieces, begins_s: float) -> Pieces:
    pieces: list[tuple[float, bytes]] = []
    at_s = begins_s
    for _, data in whole:
        middle = len(data) // 2
        for half in (data[:middle], data[middle:]):
            pieces.append((at_s, half))
            at_s += _PACE_S
    return tuple(pieces)


def _over_socket(play: Play) -> SocketPlay:
    return play.over_socket or SocketPlay(pieces=())


def _shaking(handshake: Callable[[bytes], Play]) -> Play:
    """Return a play whose handshake is answered so."""
    return attrs.evolve(_PLAY, over_socket=attrs.evolve(_over_socket(_PLAY), handshake=handshake))


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
    #: A turn was served before on the same connection, and this one goes on from its answer.
    goes_on: bool = False
    #: The client has asked for another turn already, which waits.
    queued: bool = False
    #: On which bridges there is something to it; None: on all.
    bridges: frozenset[Bridge] | None = None


_PLAY: Final = _paced(streams.parallel_calls())
_BIG: Final = play_of(
    performance_of_events(
        tuple(event.replace(b"lo, ", b"lo, " + b"x" * _BIG_BYTES) for event in streams.text())
    )
)
#: What turns get that nothing happens to.
_BEFORE: Final = play_of(performance_of_events(named(BEFORE)))
#: All of it at once.
_BURST: Final = play_of(performance_of_events(streams.text()))
_FULL: Final = refusing(503, {"error": {"message": "full"}})
_TO_SOCKETS: Final[frozenset[Bridge]] = frozenset({"sse-ws", "ws-ws"})
_FROM_SOCKETS: Final[frozenset[Bridge]] = frozenset({"ws-http", "ws-ws"})
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
    "retry": Scene(plays=(_FULL, _PLAY)),
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
    "warm": Scene(plays=(_PLAY,), goes_on=True, bridges=_TO_SOCKETS | _FROM_SOCKETS),
    "queued": Scene(plays=(_PLAY, _PLAY), queued=True, bridges=_FROM_SOCKETS),
    # The answer to the handshake takes its time; it is another than wanted; there is none.
    "handshake": Scene(
        plays=(_shaking(lambda answer: _in_two(Play(pieces=((0.0, answer),)))), _PLAY),
        bridges=_TO_SOCKETS,
        fresh=True,
    ),
    "no-upgrade": Scene(
        plays=(_shaking(lambda _: _in_two(refusing(426, {"detail": "no"}))), _PLAY),
        bridges=_TO_SOCKETS,
        fresh=True,
    ),
    "mute": Scene(
        plays=(_shaking(lambda _: Play(pieces=(), end="idle")), _PLAY),
        bridges=_TO_SOCKETS,
        fresh=True,
    ),
    # It was closed while nobody used it; it closes on the message.
    "closed": Scene(
        plays=(attrs.evolve(_PLAY, over_socket=_over_socket(_PLAY).closed(0, 1011)), _PLAY),
        goes_on=True,
        bridges=_TO_SOCKETS,
    ),
    # The answer that the turn goes on from is not known, or it is time for another connection.
    "not-found": Scene(
        plays=(on_socket_alone(NOT_FOUND), _PLAY), goes_on=True, bridges=_TO_SOCKETS
    ),
    "limit": Scene(plays=(on_socket_alone(LIMIT), _PLAY), goes_on=True, bridges=_TO_SOCKETS),
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

    bridge: Bridge = PLAIN
    scene: str
    protocol: Protocol
    streamed: bool
    hit: Way

    def __str__(self) -> str:
        form = "streamed" if self.streamed else "whole"
        return shown(self.bridge) + f"{self.scene} {self.protocol} {form} {self.hit}"


def parse(text: str) -> tuple[Sweep, int]:
    """Return what `SWEEP@STEP` says.

    Raises:
        ValueError: it says nothing.
    """
    bridge, told = split(text)
    match = _TEXT.fullmatch(told)
    if match is None or match["scene"] not in SCENES:
        raise ValueError(f"no case of the cancellation sweep: {text!r}")
    sweep = Sweep(
        bridge=bridge,
        scene=match["scene"],
        protocol="chat" if match["protocol"] == "chat" else "responses",
        streamed=match["form"] == "streamed",
        hit=next(hit for hit in get_args(Way) if hit == match["hit"]),
    )
    return sweep, int(match["step"])


def sweeps(bridge: Bridge = PLAIN) -> tuple[Sweep, ...]:
    """Return all of them on a bridge: every scene in every way, hit by everything."""
    return tuple(
        Sweep(bridge=bridge, scene=name, protocol=protocol, streamed=streamed, hit=hit)
        for name, scene in SCENES.items()
        if scene.bridges is None or bridge in scene.bridges
        for protocol, streamed in ways_of(bridge)
        for hit in _HITS[bridge]
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
        async with _opened(scene, at, clocks, it.bridge) as stage:
            base = stage.level()
            while step < MOST_STEPS and swept.cases != most:
                problems, was_hit = await _run(it, scene, stage, base, step)
                if was_hit and it.hit == "kill" and scene.has_heir and not problems:
                    problems = await _heir(it.bridge, stage, at / "heir", clocks)
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
async def _opened(
    scene: Scene, folder: Path, clocks: Clocks, bridge: Bridge
) -> AsyncIterator[Stage]:
    async with staged(
        folder,
        clocks,
        # A turn that goes on has to have the account of the one before.
        accounts=scene.accounts[:1] if scene.goes_on else scene.accounts,
        max_concurrent_turns=scene.max_concurrent_turns,
        bridge=bridge,
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
    client = Client(
        it.bridge, stage.connect(buffer_bytes=_SMALL_BUFFER_BYTES if scene.slow_client else None)
    )
    if scene.goes_on:
        problems = await _before(it, stage, client)
        if problems:
            return problems, True
        if client.socket is None:
            client = Client(it.bridge, stage.connect())
    upstream.script, upstream.otherwise = deque(scene.plays), scene.plays[-1]
    scene.prepare(stage)
    asked_before, handshakes_before = len(upstream.turns), len(upstream.handshakes)
    heard = client.listener()
    asking_at_all = trio.CancelScope()
    instrument = HitAtStep(step, partial(_hit, it.hit, stage, client, asking_at_all))
    async with trio.open_nursery() as nursery:
        if scene.held:
            other = Client(it.bridge, stage.connect())
            nursery.start_soon(partial(_ask_and_leave, other))
            await trio.sleep(_PACE_S)
        trio.lowlevel.add_instrument(instrument)
        try:
            with asking_at_all:
                await _asked(it, scene, client, heard)
        finally:
            trio.lowlevel.remove_instrument(instrument)
    hit_at_s = instrument.hit_at_s
    if hit_at_s is None:
        problems = _undisturbed(it, scene, heard)
        await client.leave()
        return problems, False
    if it.hit == "kill":
        problems = await _after_kill(stage)
        await client.leave()
        return problems, True
    stage.wiring.hangs = False
    await trio.sleep(SETTLE_S)
    active.stopped = False
    asked = upstream.turns[asked_before + scene.held :]
    problems = [
        f"upstream was left {one.over_at_s} s and the turn was hit {hit_at_s} s"
        for one in (*asked, *upstream.handshakes[handshakes_before:])
        if one.over_at_s is None or (not scene.queued and one.over_at_s > hit_at_s + _EXACT_S)
    ]
    if it.hit == "stop" and not scene.queued:
        attempts = [oracle.Upstream.of(one) for one in asked]
        problems += oracle.judge_stopped(it.protocol, heard.message, attempts, streamed=it.streamed)
        problems += oracle.judge_attempts(attempts)
    if it.hit in _LEAVES and scene.queued and len(asked) > 1:
        late = [one for one in asked if one.at_s > hit_at_s + _EXACT_S]
        problems += ["another turn began behind the one that was left"] if late else []
    problems += _borne(stage, base)
    problems += await _next_turn(it, stage, client)
    await client.leave()
    upstream.hang_up()
    await trio.sleep(_SHUNS_S if upstream.handshakes[handshakes_before:] else SETTLE_S)
    return problems + _left_open(scene, stage, base), True


_LEAVES: Final = frozenset({"leave", "reset", "close"})
#: Longer than a relay shuns WebSockets behind a handshake that failed.
_SHUNS_S: Final = 61.0


def _hit(hit: Way, stage: Stage, client: Client, asking_at_all: trio.CancelScope) -> None:
    match hit:
        case "close" if client.socket is not None and client.socket.is_open:
            client.socket.close_frame()
        case "leave" | "close":
            cut_off(client.stream)
        case "reset":
            client.stream.socket.close()
            asking_at_all.cancel()
        case "stop":
            stage.services.relay.active.stop()
        case "kill":
            stage.scope.cancel()


async def _asked(it: Sweep, scene: Scene, client: Client, heard: Heard) -> None:
    """Ask as the scene wants it, and listen to the end."""
    reads_after_s = _SLOW_CLIENT_S if scene.slow_client or it.hit == "reset" else 0.0
    queued = client.socket if scene.queued else None
    if queued is not None and isinstance(heard, SocketHeard):
        await queued.open(heard)
        await queued.say(creating())
    await client.ask(
        it.protocol,
        streamed=it.streamed,
        goes_on=scene.goes_on,
        heard=heard,
        reads_after_s=reads_after_s,
    )
    if queued is not None and isinstance(heard, SocketHeard) and not heard.closed:
        # What was heard is the first answer; this is the second.
        heard.texts.clear()
        await queued.listen(heard)


async def _ask_and_leave(client: Client) -> None:
    await client.ask("responses", streamed=True)
    await client.leave()


async def _before(it: Sweep, stage: Stage, client: Client) -> list[str]:
    """Let a turn be served before; return what is wrong with it."""
    stage.upstream.script.clear()
    stage.upstream.otherwise = _BEFORE
    heard = await client.ask(it.protocol, streamed=it.streamed)
    await trio.sleep(SETTLE_S)
    if heard.message.status == 200 and heard.message.whole:
        return []
    return [f"the turn before was answered {heard.message.status}"]


def _undisturbed(it: Sweep, scene: Scene, heard: Heard) -> list[str]:
    """Return what is wrong with a turn that ended before it was hit."""
    message = heard.message
    breaks = scene.plays[-1].end in ("fin", "idle")
    fails = scene.fails or (breaks and not it.streamed)
    if not message.whole or (message.status == 200) == fails:
        return [f"undisturbed it was answered {message.status}: {message.body[-200:]!r}"]
    return []


def _left_open(scene: Scene, stage: Stage, base: Level) -> list[str]:
    problems = stage.unforeseen() + stage.unburnt()
    stands = {name: how for name, how in stage.standings().items() if how not in scene.standings}
    if stands:
        problems.append(f"accounts stand {stands}")
    if (more := stage.level().above(base)) is not None:
        problems.append(f"left open: {more}")
    return problems


def _borne(stage: Stage, base: Level) -> list[str]:
    """Return what is left of the turn, though its connections may still be there."""
    level = attrs.evolve(stage.level(), tasks=base.tasks, open_files=base.open_files)
    problems = stage.unforeseen() + stage.unburnt()
    more = level.above(base)
    return problems + ([f"left open: {more}"] if more is not None else [])


async def _next_turn(it: Sweep, stage: Stage, client: Client) -> list[str]:
    """Return what is wrong with the session's turn after: it gets its own answer and no other."""
    upstream = stage.upstream
    upstream.script.clear()
    upstream.otherwise = _BEFORE
    asked_before = len(upstream.turns)
    if it.hit in _LEAVES or client.socket is None or not client.socket.is_usable:
        client = Client(it.bridge, stage.connect())
    heard = await client.ask("responses", streamed=True, lingers_s=SETTLE_S)
    await trio.sleep(SETTLE_S)
    # An account whose token has expired may be asked for first.
    asked = [one for one in upstream.turns[asked_before:] if one.account is not None]
    attempts = list(map(oracle.Upstream.of, asked))
    problems = oracle.judge("responses", heard.message, attempts, streamed=True)
    if heard.message.status != 200:
        problems.append(f"status {heard.message.status}: {heard.message.body[:200]!r}")
    if len(attempts) != 1:
        problems.append(f"upstream was asked {len(attempts)} times")
    await client.leave()
    return [f"the next turn: {problem}" for problem in problems]


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


async def _heir(bridge: Bridge, gone: Stage, folder: Path, clocks: Clocks) -> list[str]:
    """Return what is wrong with a turn of a relay that takes over the store of one that is gone."""
    gone.upstream.script.clear()
    gone.upstream.refreshing.clear()
    gone.upstream.otherwise = _BURST
    async with staged(folder, clocks, after=gone, bridge=bridge) as stage:
        await trio.sleep(SETTLE_S)
        client = Client(bridge, stage.connect())
        heard = await client.ask("responses", streamed=True)
        await client.leave()
        await trio.sleep(SETTLE_S)
        problems = stage.unforeseen() + stage.unburnt()
        if heard.message.status != 200:
            told = heard.message.body[:300]
            problems.append(f"the relay that took over answered {told!r}")
        return problems
