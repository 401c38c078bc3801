"""The loss property: answers that stop at any byte of the wire, in any way."""

from __future__ import annotations

import itertools
import re
from collections import deque
from typing import TYPE_CHECKING, Final

import attrs
import trio

from harness.proof import oracle
from harness.proof.answers import named
from harness.proof.bridges import (
    BEFORE,
    PLAIN,
    Bridge,
    Client,
    has_upstream_socket,
    judge_bodies,
    shown,
    split,
    ways_of,
)
from harness.proof.client import Heard, SocketHeard
from harness.proof.oracle import Protocol
from harness.proof.plays import (
    Play,
    SocketEnd,
    SocketPlay,
    WireEnd,
    performance_of_events,
    play_of,
)
from harness.proof.stage import BUDGETS, KEEP_ALIVE_S
from harness.proof.talk import HANDSHAKE_BYTES

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from random import Random

    from harness.proof.asked import Asked
    from harness.proof.oracle import Upstream
    from harness.proof.stage import Level, Stage

#: How an answer over HTTP stops: closed, reset, silent for ever, or ended as HTTP wants it.
ENDS: Final = ("fin", "rst", "idle", "eof")
#: How an answer over a WebSocket stops anywhere; `half`: silent, and no ping is answered.
SOCKET_ENDS: Final = ("fin", "rst", "idle", "half")
#: And how between two frames: with a close frame.
_CODES: Final = (1000, 1001, 1009, 1011)
CLOSES: Final = tuple(f"close{code}" for code in _CODES)
#: The message is too big: the request goes over HTTP at once.
_TOO_BIG: Final = "close1009"
#: Behind the answer: what follows the terminal event is waited for so long.
_TAIL_S: Final = 0.1
#: Time enough for that, and for a relay that has left to be noticed.
REST_S: Final = 0.12
#: Before an attempt is repeated.
_RETRY_S: Final = 0.25
#: Longer than a relay shuns WebSockets behind a handshake that failed.
_SHUNS_S: Final = 61.0
#: Between two pings to a client.
_PING_S: Final = 15.0
#: Virtual time is exact; a float is not.
_EXACT_S: Final = 1e-6
_TEXT: Final = re.compile(
    r"(?P<stream>\S+) (?P<protocol>responses|chat) (?P<form>streamed|whole) "
    r"(?P<wire>wire|warm)@(?P<at>\d+)\+(?P<end>[a-z]+(\d{4})?)"
)


@attrs.frozen(kw_only=True)
class Cut:
    """One case: the first attempt's answer stops before byte `at`; any further one is whole."""

    bridge: Bridge = PLAIN
    stream: str
    protocol: Protocol
    streamed: bool
    #: Of all that goes over the wire, a WebSocket's handshake included; with the end `eof`, of the
    #: body. On a warm WebSocket, of the frames.
    at: int
    end: str
    #: It goes over a WebSocket that has served a turn before.
    warm: bool = False

    def __str__(self) -> str:
        form = "streamed" if self.streamed else "whole"
        wire = "warm" if self.warm else "wire"
        told = f"{self.stream} {self.protocol} {form} {wire}@{self.at}+{self.end}"
        return shown(self.bridge) + told

    @classmethod
    def parse(cls, text: str) -> Cut:
        """Return the case that `str` wrote so.

        Raises:
            ValueError: it is none.
        """
        bridge, told = split(text)
        match = _TEXT.fullmatch(told)
        known = (*SOCKET_ENDS, *CLOSES) if has_upstream_socket(bridge) else ENDS
        if match is None or match["end"] not in known:
            raise ValueError(f"no case of the loss property: {text!r}")
        named(match["stream"])
        return cls(
            bridge=bridge,
            stream=match["stream"],
            protocol="chat" if match["protocol"] == "chat" else "responses",
            streamed=match["form"] == "streamed",
            at=int(match["at"]),
            end=match["end"],
            warm=match["wire"] == "warm",
        )

    @property
    def in_handshake(self) -> bool:
        """Whether it is the handshake that fails."""
        return has_upstream_socket(self.bridge) and not self.warm and self.at < HANDSHAKE_BYTES

    def plays(self) -> tuple[Play, Play]:
        """Return what the first attempt gets, and every further one."""
        events = named(self.stream)
        whole = play_of(performance_of_events(events))
        if has_upstream_socket(self.bridge):
            return attrs.evolve(whole, over_socket=self._over_socket(whole)), whole
        if self.end == "eof":
            ended = play_of(performance_of_events(_first(events, self.at)))
            return (ended.ending_at_once() if self.at % 2 else ended), whole
        return whole.cut(self.at, _WIRE_ENDS[self.end]), whole

    def _over_socket(self, whole: Play) -> SocketPlay:
        play = whole.over_socket or SocketPlay(pieces=())
        if self.in_handshake:
            return play.cut_handshake(self.at, _WIRE_ENDS[self.end])
        at = self.at if self.warm else self.at - HANDSHAKE_BYTES
        if self.end in CLOSES:
            return play.closed(at, int(self.end.removeprefix("close")))
        return play.cut(at, _SOCKET_WIRE_ENDS[self.end])


_WIRE_ENDS: Final[Mapping[str, WireEnd]] = {
    "fin": "fin",
    "rst": "rst",
    "idle": "idle",
    "half": "idle",
}
_SOCKET_WIRE_ENDS: Final[Mapping[str, SocketEnd]] = {
    "fin": "fin",
    "rst": "rst",
    "idle": "idle",
    "half": "half",
}


def _first(events: tuple[bytes, ...], size_bytes: int) -> Iterator[bytes]:
    for event in events:
        if size_bytes <= 0:
            return
        yield event[:size_bytes]
        size_bytes -= len(event)


def cuts(stream: str, *, every_way: bool, bridge: Bridge = PLAIN) -> Iterator[Cut]:
    """Yield the cases of one stream: every byte, with every end.

    With `every_way` each of them is asked for in all ways, and over a WebSocket to the backend on
    one that is new and on one that is warm. Without, these take turns from byte to byte, and all of
    them are asked where an event, a chunk, a frame or the head begins or ends.
    """
    for warm, ends, size, near in _wires(stream, bridge):
        for end in ends:
            places = sorted(near) if end in CLOSES else range(size + (end != "idle"))
            for at in places:
                yield from _at(stream, bridge, at, end, warm=warm, every=every_way or at in near)


def _at(
    stream: str, bridge: Bridge, at: int, end: str, *, warm: bool, every: bool
) -> Iterator[Cut]:
    turn = at + (*ENDS, *SOCKET_ENDS, *CLOSES).index(end)
    if has_upstream_socket(bridge) and not every and turn % 2 != warm:
        return
    ways = ways_of(bridge)
    if not every:
        ways = (ways[turn // 2 % len(ways) if has_upstream_socket(bridge) else turn % len(ways)],)
    for protocol, streamed in ways:
        yield Cut(
            bridge=bridge,
            stream=stream,
            protocol=protocol,
            streamed=streamed,
            at=at,
            end=end,
            warm=warm,
        )


def _wires(
    stream: str, bridge: Bridge
) -> Iterator[tuple[bool, tuple[str, ...], int, Collection[int]]]:
    """Yield what can be cut: on a warm WebSocket or not, how, its size, and where pieces end."""
    events = named(stream)
    whole = play_of(performance_of_events(events))
    if not has_upstream_socket(bridge):
        yield False, ENDS[:3], len(whole.wire), _edges(tuple(data for _, data in whole.pieces))
        yield False, ENDS[3:], sum(map(len, events)), _edges(events)
        return
    frames = tuple(data for _, data in (whole.over_socket or SocketPlay(pieces=())).pieces)
    for warm in (False, True):
        pieces = frames if warm else (b" " * HANDSHAKE_BYTES, *frames)
        size = sum(map(len, pieces))
        yield warm, SOCKET_ENDS, size, {at for at in _edges(pieces) if 0 <= at <= size}
        borders = tuple(itertools.accumulate(map(len, pieces), initial=0))[not warm :]
        yield warm, CLOSES, size, borders


def some_cuts(stream: str, count: int, rng: Random, *, bridge: Bridge = PLAIN) -> Iterator[Cut]:
    """Yield `count` cases of a stream that is too long for all: half of them where a piece ends.

    A piece is the head, or a chunk or frame with one event. The ends and the ways are drawn too.
    """
    wires = [
        (warm, end, size, sorted(near))
        for warm, ends, size, near in _wires(stream, bridge)
        for end in ends
    ]
    for number in range(count):
        warm, end, size, near = rng.choice(wires)
        at = rng.choice(near) if number % 2 or end in CLOSES else rng.randrange(size)
        protocol, streamed = rng.choice(ways_of(bridge))
        at = min(max(at, 0), size - (end == "idle"))
        yield Cut(
            bridge=bridge,
            stream=stream,
            protocol=protocol,
            streamed=streamed,
            at=at,
            end=end,
            warm=warm,
        )


def _edges(pieces: tuple[bytes, ...]) -> set[int]:
    """Return the places at, before and behind where a piece ends."""
    found, at = {0, 1}, 0
    for piece in pieces:
        at += len(piece)
        found |= {at - 3, at - 2, at - 1, at, at + 1}
    return found


async def run_cut(case: Cut, stage: Stage, base: Level) -> list[str]:
    """Run a case on a relay at rest, and return what must not be so."""
    first, further = case.plays()
    standings, upstream = stage.standings(), stage.upstream
    client = Client(case.bridge, stage.connect())
    problems: list[str] = []
    if case.warm:
        problems += await _warm_up(case, stage, client)
        if client.socket is None:
            client = Client(case.bridge, stage.connect())
    asked_before, shaken_before = len(upstream.turns), len(upstream.handshakes)
    upstream.script, upstream.otherwise = deque((first,)), further
    heard, began_at_s = client.listener(), trio.current_time()
    with trio.move_on_after(BUDGETS.turn_s + 100.0) as patience:
        await client.ask(
            case.protocol, streamed=case.streamed, heard=heard, goes_on=case.warm, lingers_s=REST_S
        )
    over_at_s = trio.current_time() if heard.over_at_s is None else heard.over_at_s
    if client.socket is None:
        await trio.sleep(REST_S)
    asked = upstream.turns[asked_before:]
    attempts = [oracle.Upstream.of(one) for one in asked]
    problems += ["the client was told nothing for 700 s"] if patience.cancelled_caught else []
    problems += oracle.judge_attempts(attempts)
    before = upstream.turns[asked_before - 1 : asked_before] if case.warm else []
    if before and asked and asked[0].connection != before[0].connection:
        problems.append("the warm WebSocket was not used")
    problems += judge_bodies(asked, before, goes_on=case.warm)
    problems += oracle.judge(case.protocol, heard.message, attempts, streamed=case.streamed)
    repeated = case.end not in ("idle", "half") and bool(attempts) and _is_repeated(attempts[0])
    if len(asked) != 1 + repeated:
        problems.append(f"upstream was asked {[one.way for one in asked]}")
    if (shaken := len(upstream.handshakes) - shaken_before) > _MOST_HANDSHAKES:
        problems.append(f"hands were shaken {shaken} times")
    if not problems:
        took_s, wanted_s = over_at_s - began_at_s, _durations_s(case, attempts, repeated=repeated)
        if not any(abs(took_s - one) <= _EXACT_S for one in wanted_s):
            problems.append(f"it took {took_s:g} s instead of {wanted_s}")
        if case.streamed:
            longest_s = KEEP_ALIVE_S if client.socket is None else _PING_S
            problems += _silences(heard, began_at_s, longest_s)
    if isinstance(heard, SocketHeard) and heard.closed:
        problems.append(f"the client's WebSocket was closed, code {heard.close_code}")
    await client.leave()
    return problems + await _at_rest(case, asked, standings, stage, base)


_MOST_HANDSHAKES: Final = 2


async def _warm_up(case: Cut, stage: Stage, client: Client) -> list[str]:
    """Let a turn be served before, with another answer; return what is wrong with it."""
    stage.upstream.script.clear()
    stage.upstream.otherwise = play_of(performance_of_events(named(BEFORE)))
    asked_before = len(stage.upstream.turns)
    heard = await client.ask(case.protocol, streamed=case.streamed)
    await trio.sleep(REST_S)
    attempts = [oracle.Upstream.of(one) for one in stage.upstream.turns[asked_before:]]
    problems = oracle.judge(case.protocol, heard.message, attempts, streamed=case.streamed)
    if has_upstream_socket(case.bridge) and len(stage.upstream.sockets) != 1:
        problems.append(f"{len(stage.upstream.sockets)} WebSockets were kept")
    return [f"the turn before: {problem}" for problem in problems]


async def _at_rest(
    case: Cut, asked: list[Asked], standings: dict[str, str], stage: Stage, base: Level
) -> list[str]:
    """Return what must not be so when all is over."""
    problems = []
    stage.upstream.hang_up()
    await trio.sleep(_SHUNS_S if case.in_handshake else REST_S)
    still = [one for one in asked if one.over_at_s is None]
    if still:
        problems.append(f"{len(still)} requests upstream are not over")
    if (now := stage.standings()) != standings:
        problems.append(f"accounts stand {now} and stood {standings}")
    if (more := stage.level().above(base)) is not None:
        problems.append(f"left open: {more}")
    return problems + stage.unforeseen()


def _is_repeated(first: Upstream) -> bool:
    return not first.gave_output and first.terminal is None


def _durations_s(case: Cut, attempts: list[Upstream], *, repeated: bool) -> tuple[float, ...]:
    """Return how long the client may wait for the end of its answer, on the relay's budgets."""
    first = attempts[0]
    if case.in_handshake:
        # The same attempt goes over HTTP, and nothing is waited for before.
        return (BUDGETS.connect_s if case.end in ("idle", "half") else 0.0,)
    if repeated:
        return _repeated_within_s(case, first)
    over_http = first.message.over == "http"
    if over_http and first.terminal is not None and not first.message.whole and case.end == "idle":
        return (_TAIL_S,)  # the answer is there; its HTTP end is waited for a moment
    if case.end not in ("idle", "half") or (not over_http and first.terminal is not None):
        return (0.0,)
    if first.message.status is None if over_http else not first.events:
        return (BUDGETS.headers_s,)
    if not first.events:
        return (BUDGETS.first_event_s,)
    return (BUDGETS.silence_s or 0.0,)


def _repeated_within_s(case: Cut, first: Upstream) -> tuple[float, ...]:
    if case.end == _TOO_BIG:
        return (0.0,)
    if case.warm and not first.events:
        # Where nothing came at all, it was a connection that had been closed long before; half a
        # frame may count as something.
        return (0.0, _RETRY_S)
    return (_RETRY_S,)


def _silences(heard: Heard, began_at_s: float, longest_s: float) -> list[str]:
    """Return where a streaming client was shown no life for too long."""
    times = [began_at_s, *(at_s for at_s, _ in heard.at_s)]
    silent_s = max((b - a for a, b in itertools.pairwise(times)), default=0.0)
    if silent_s > longest_s + _EXACT_S:
        return [f"the client was shown no life for {silent_s:g} s"]
    return []
