"""Several things that go wrong in one turn: refusals, faults of cassettes, half a refresh.

A case is a text: `mishaps STREAM PROTOCOL FORM FATE / FATE…`, one fate for each attempt. A fate is
a name below, `whole`, or a fault as `harness.faults` writes it (`cut@40+rst`). `refresh:FATE` among
them is for the next token request: `cut`, `reset` or `500`. `shake426` is for a handshake; `limit`
and `not-found` are what only WebSockets answer.

What is promised of a stream that upstream itself has mangled (`dup`, `swap`, `drop`, `corrupt`,
`insert`): Responses passes on what upstream said, up to an event that is no JSON. In both protocols
there is exactly one terminal event, and nothing is marked complete that upstream did not complete.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

import attrs
import trio

from harness.faults.text import parse as fault_of
from harness.proof import oracle, streams
from harness.proof.answers import named
from harness.proof.bridges import (
    PLAIN,
    Bridge,
    Client,
    has_upstream_socket,
    judge_bodies,
    shown,
    split,
    ways_of,
)
from harness.proof.oracle import Protocol
from harness.proof.plays import (
    LIMIT,
    NOT_FOUND,
    Play,
    SocketPlay,
    on_socket_alone,
    performance_of_events,
    play_of,
    refusing,
)
from harness.proof.stage import SETTLE_S, staged
from harness.proof.virtual import rng_of, settle_order

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path
    from random import Random

    from codexrelay.protocol.raw import JsonObject
    from harness.proof.asked import Asked
    from harness.proof.stage import Stage
    from harness.proof.virtual import Clocks

_LIMIT: Final[JsonObject] = {
    "type": "usage_limit_reached",
    "message": "The usage limit has been reached",
    "resets_in_seconds": 3600,
}
_FULL: Final[JsonObject] = {"code": "server_is_overloaded", "message": "full"}


def _in_stream(error: JsonObject) -> Play:
    failed: JsonObject = {
        "id": streams.RESPONSE_ID,
        "status": "failed",
        "output": [],
        "error": error,
    }
    events = (
        streams.text()[0],
        streams.event("response.failed", response=failed),
    )
    return play_of(performance_of_events(events))


#: Fates that are refusals: name -> what is played.
REFUSALS: Final[Mapping[str, Play]] = {
    "401": refusing(401, {"error": {"code": "token_expired", "message": "expired"}}),
    "429": refusing(429, {"error": _LIMIT}),
    "429plain": refusing(
        429, {"error": {"code": "rate_limit_exceeded", "message": "try again in 2s"}}
    ),
    "400": refusing(400, {"detail": "Instructions are not valid"}),
    "403": refusing(403, {"detail": "forbidden"}),
    "500": refusing(500, {"error": {"code": "server_error", "message": "oh"}}),
    "503": refusing(503, {"error": _FULL}),
    "failed": _in_stream(_FULL),
    "limit-event": _in_stream(_LIMIT),
}
_SHAKE: Final = "shake"
#: Fates of handshakes for WebSockets: name -> what is played instead of the answer. Whatever else
#: meets them is answered whole.
SHAKES: Final[Mapping[str, Callable[[bytes], Play]]] = {
    "shake401": lambda _: REFUSALS["401"],
    "shake403": lambda _: REFUSALS["403"],
    "shake404": lambda _: refusing(404, {"detail": "Not Found"}),
    "shake426": lambda _: refusing(426, {"detail": "Upgrade Required"}),
    "shake429": lambda _: REFUSALS["429"],
    "shake500": lambda _: REFUSALS["500"],
    "shakecut": lambda answer: Play(pieces=((0.0, answer[:70]),), end="fin"),
    "shakemute": lambda _: Play(pieces=(), end="idle"),
}
#: Fates of messages on WebSockets: name -> the error that is the answer. Over HTTP the connection
#: is reset.
ON_SOCKETS: Final[Mapping[str, JsonObject]] = {"limit": LIMIT, "not-found": NOT_FOUND}
#: How a token request can fail: name -> what becomes of the answer that the issuer has given.
REFRESHES: Final[Mapping[str, Callable[[Play], Play]]] = {
    "cut": lambda play: play.cut(len(play.wire) // 2, "fin"),
    "reset": lambda play: play.cut(0, "rst"),
    "500": lambda _: refusing(500, {"error": "oh"}),
}
_LIMITS: Final = frozenset({"429", "limit-event"})
_MANGLING: Final = ("dup", "swap", "drop", "corrupt", "insert")
#: Terms that make an answer a refusal of the account's, unless a later one breaks it again.
_REFUSING: Final[Mapping[str, frozenset[str]]] = {
    "limit=": frozenset({"cooling", "paused"}),
    "status=429": frozenset({"cooling", "paused"}),
    "status=401": frozenset({"token refused"}),
}
_MOST_PLACES: Final = 9
_REFRESH: Final = "refresh:"


@attrs.frozen(kw_only=True)
class Mishaps:
    """One case."""

    bridge: Bridge = PLAIN
    stream: str
    protocol: Protocol
    streamed: bool
    #: Of attempts, in order; what comes after them is whole.
    fates: tuple[str, ...]
    #: Of token requests.
    refreshes: tuple[str, ...] = ()

    def __str__(self) -> str:
        form = "streamed" if self.streamed else "whole"
        fates = (*self.fates, *(f"{_REFRESH}{fate}" for fate in self.refreshes))
        told = f"{self.stream} {self.protocol} {form} {' / '.join(fates)}"
        return f"{shown(self.bridge)}mishaps {told}"

    def play(self, fate: str) -> Play:
        """Return what an attempt with this fate gets."""
        return attrs.evolve(self._play(fate), label=fate)

    def _play(self, fate: str) -> Play:
        if fate in REFUSALS:
            return REFUSALS[fate]
        if fate in ON_SOCKETS:
            return on_socket_alone(ON_SOCKETS[fate])
        performance = performance_of_events(named(self.stream), every_s=0.01)
        if fate in SHAKES:
            whole = play_of(performance)
            socket = whole.over_socket or SocketPlay(pieces=())
            return attrs.evolve(whole, over_socket=attrs.evolve(socket, handshake=SHAKES[fate]))
        return play_of(performance if fate == "whole" else fault_of(fate).apply(performance))


def parse(text: str) -> Mishaps:
    """Return the case that `str` wrote so.

    Raises:
        ValueError: it is none.
    """
    bridge, told = split(text)
    words = told.split(" ", 4)
    if len(words) != 5 or words[0] != "mishaps":
        raise ValueError(f"no case of several mishaps: {text!r}")
    named(words[1])
    fates = words[4].split(" / ")
    return Mishaps(
        bridge=bridge,
        stream=words[1],
        protocol="chat" if words[2] == "chat" else "responses",
        streamed=words[3] == "streamed",
        fates=tuple(fate for fate in fates if not fate.startswith(_REFRESH)),
        refreshes=tuple(f.removeprefix(_REFRESH) for f in fates if f.startswith(_REFRESH)),
    )


def drawn(seed: int, number: int, bridge: Bridge = PLAIN) -> Mishaps:
    """Return the case of this number among those of a seed."""
    rng = rng_of(seed, f"{shown(bridge)}mishaps", number)
    stream = rng.choice(sorted(streams.STREAMS))
    protocol, streamed = rng.choice(ways_of(bridge))
    size = sum(map(len, streams.STREAMS[stream]()))
    fates = tuple(fate_drawn(rng, size, bridge) for _ in range(rng.randint(1, 3)))
    refreshes = tuple(rng.choice(sorted(REFRESHES)) for _ in fates if rng.random() < 0.3)
    return Mishaps(
        bridge=bridge,
        stream=stream,
        protocol=protocol,
        streamed=streamed,
        fates=fates,
        refreshes=refreshes if {"401", "shake401"} & set(fates) else (),
    )


def fate_drawn(rng: Random, size: int, bridge: Bridge = PLAIN) -> str:
    """Draw what happens to one attempt."""
    if has_upstream_socket(bridge) and rng.random() < 0.35:
        return rng.choice(sorted((*SHAKES, *ON_SOCKETS)))
    if rng.random() < 0.45:
        return rng.choice(sorted(REFUSALS))
    terms = []
    for _ in range(rng.randint(1, 2)):
        at, event = rng.randrange(size), rng.randint(1, _MOST_PLACES)
        terms.append(
            rng.choice(
                (
                    f"delay@{at}=2s",
                    f"stall@e{event}=12s",
                    f"dup@e{event}",
                    f"swap@e{event}",
                    f"drop@e{event}",
                    f"corrupt@{at}",
                    f"insert@e{event}=: note%0A%0A",
                    "split",
                    "coalesce",
                )
            )
        )
    if rng.random() < 0.6:
        terms.append(f"cut@{rng.randrange(size)}")
        terms.append(rng.choice(("fin", "rst", "idle", "eof")))
    return "+".join(terms)


async def run_mishaps(case: Mishaps, folder: Path, clocks: Clocks) -> list[str]:
    """Run a case on a relay of its own, and return what must not be so."""
    async with staged(folder, clocks, bridge=case.bridge) as stage:
        await trio.sleep(SETTLE_S)
        settle_order(rng_of(case).getrandbits(32))
        base, upstream = stage.level(), stage.upstream
        upstream.script = deque(map(case.play, case.fates))
        upstream.otherwise = case.play("whole")
        upstream.refreshing = deque(REFRESHES[fate] for fate in case.refreshes)
        client = Client(case.bridge, stage.connect())
        heard = await client.ask(case.protocol, streamed=case.streamed, lingers_s=SETTLE_S)
        await trio.sleep(SETTLE_S)
        asked = upstream.turns
        attempts = list(map(oracle.Upstream.of, asked))
        problems = oracle.judge_attempts(attempts)
        judge = oracle.judge_mangled if asked and is_mangled(fate_of(asked[-1])) else oracle.judge
        problems += judge(case.protocol, heard.message, attempts, streamed=case.streamed)
        problems += judge_bodies(asked, (), goes_on=False)
        problems += _charged(case, stage)
        if not case.refreshes:
            problems += stage.unburnt()
        await client.leave()
        upstream.hang_up()
        await trio.sleep(SETTLE_S)
        if (more := stage.level().above(base)) is not None:
            problems.append(f"left open: {more}")
        return problems + stage.unforeseen()


def fate_of(asked: Asked) -> str:
    """Return which fate a request has met."""
    elsewhere = asked.label.startswith(_SHAKE) and asked.way != "handshake"
    return "whole" if elsewhere else asked.label


def is_mangled(fate: str) -> bool:
    """Tell whether it is upstream itself that says something else than it meant."""
    return any(term in fate for term in _MANGLING)


def must_cool(fate: str) -> bool:
    """Tell whether an account that meets this is left alone for some time."""
    return fate.removeprefix(_SHAKE) in _LIMITS


def may_stand(fates: Sequence[str], *, refresh_fails: bool) -> set[str]:
    """Return how an account may stand that has met these fates, besides `good`."""
    fates = [fate.removeprefix(_SHAKE) for fate in fates]
    found: set[str] = set()
    if any(map(must_cool, fates)):
        found.add("cooling")
    if "429plain" in fates:
        found.add("paused")
    for term, stands in _REFUSING.items():
        if any(term in fate for fate in fates):
            found |= stands
    if "401" in fates or "token refused" in found:
        found |= {"token refused", "needs_reauth"} if refresh_fails else {"token refused"}
    return found


def _charged(case: Mishaps, stage: Stage) -> list[str]:
    """Return which accounts are charged with what was not theirs, or not with what was."""
    met: dict[str, list[str]] = {}
    for one in stage.upstream.asked:
        met.setdefault(one.account or "", []).append(fate_of(one))
    problems = []
    for name, stands in stage.standings().items():
        fates = met.get(name, [])
        allowed = may_stand(fates, refresh_fails=bool(case.refreshes))
        if not any(map(must_cool, fates)):
            allowed.add("good")
        if stands not in allowed:
            problems.append(f"account {name} met {fates} and stands {stands}")
    return problems
