"""The loss property: answers that stop at any byte of the wire, in any way."""

from __future__ import annotations

import itertools
import re
from collections import deque
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, get_args

import attrs
import trio

from harness.proof import oracle
from harness.proof.answers import named
from harness.proof.client import Heard, ask, request_bytes
from harness.proof.oracle import Protocol
from harness.proof.stage import BUDGETS, KEEP_ALIVE_S
from harness.proof.upstream import Play, performance_of_events, play_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from random import Random

    from codexrelay.protocol.raw import JsonObject
    from harness.proof.oracle import Upstream
    from harness.proof.stage import Level, Stage

#: How an answer stops: closed, reset, silent for ever, or ended as HTTP wants it.
End: TypeAlias = Literal["fin", "rst", "idle", "eof"]
ENDS: Final[tuple[End, ...]] = get_args(End)
#: What a client may ask for.
WAYS: Final[tuple[tuple[Protocol, bool], ...]] = (
    ("responses", True),
    ("chat", True),
    ("responses", False),
    ("chat", False),
)
#: Behind the answer: what follows the terminal event is waited for so long.
_TAIL_S: Final = 0.1
#: Time enough for that, and for a relay that has left to be noticed.
REST_S: Final = 0.12
#: Before an attempt is repeated.
_RETRY_S: Final = 0.25
#: Virtual time is exact; a float is not.
_EXACT_S: Final = 1e-6
_TEXT: Final = re.compile(
    r"(?P<stream>\S+) (?P<protocol>responses|chat) (?P<form>streamed|whole) "
    r"wire@(?P<at>\d+)\+(?P<end>fin|rst|idle|eof)"
)


@attrs.frozen(kw_only=True)
class Cut:
    """One case: the first attempt's answer stops before byte `at`; any further one is whole."""

    stream: str
    protocol: Protocol
    streamed: bool
    #: Of all that goes over the wire; with the end `eof`, of the body.
    at: int
    end: End

    def __str__(self) -> str:
        form = "streamed" if self.streamed else "whole"
        return f"{self.stream} {self.protocol} {form} wire@{self.at}+{self.end}"

    @classmethod
    def parse(cls, text: str) -> Cut:
        """Return the case that `str` wrote so.

        Raises:
            ValueError: it is none.
        """
        match = _TEXT.fullmatch(text)
        if match is None:
            raise ValueError(f"no case of the loss property: {text!r}")
        named(match["stream"])
        return cls(
            stream=match["stream"],
            protocol="chat" if match["protocol"] == "chat" else "responses",
            streamed=match["form"] == "streamed",
            at=int(match["at"]),
            end=next(end for end in ENDS if end == match["end"]),
        )

    def plays(self) -> tuple[Play, Play]:
        """Return what the first attempt gets, and every further one."""
        events = named(self.stream)
        whole = play_of(performance_of_events(events))
        if self.end == "eof":
            return play_of(performance_of_events(_first(events, self.at))), whole
        return whole.cut(self.at, self.end), whole


def _first(events: tuple[bytes, ...], size_bytes: int) -> Iterator[bytes]:
    for event in events:
        if size_bytes <= 0:
            return
        yield event[:size_bytes]
        size_bytes -= len(event)


def cuts(stream: str, *, every_way: bool) -> Iterator[Cut]:
    """Yield the cases of one stream: every byte, with every end.

    With `every_way` each of them is asked for in all four ways. Without, the ways take turns from
    byte to byte, and all four are asked where an event, a chunk or the head begins or ends.
    """
    events = named(stream)
    body_bytes = sum(map(len, events))
    whole = play_of(performance_of_events(events))
    edges = _edges(tuple(data for _, data in whole.pieces))
    body_edges = _edges(events)
    for end in ENDS:
        size, near = (body_bytes, body_edges) if end == "eof" else (len(whole.wire), edges)
        # Behind its very last byte a connection that stays open is one that is kept.
        for at in range(size + (end != "idle")):
            every = every_way or at in near
            ways = WAYS if every else (WAYS[(at + ENDS.index(end)) % len(WAYS)],)
            for protocol, streamed in ways:
                yield Cut(stream=stream, protocol=protocol, streamed=streamed, at=at, end=end)


def some_cuts(stream: str, count: int, rng: Random) -> Iterator[Cut]:
    """Yield `count` cases of a stream that is too long for all: half of them where a piece ends.

    A piece is the head, or a chunk with one event. The ends and the ways are drawn as well.
    """
    events = named(stream)
    whole = play_of(performance_of_events(events))
    edges = sorted(_edges(tuple(data for _, data in whole.pieces)))
    body_edges, body_bytes = sorted(_edges(events)), sum(map(len, events))
    for number in range(count):
        end = rng.choice(ENDS)
        size, near = (body_bytes, body_edges) if end == "eof" else (len(whole.wire), edges)
        at = rng.choice(near) if number % 2 else rng.randrange(size)
        protocol, streamed = rng.choice(WAYS)
        at = min(max(at, 0), size - (end == "idle"))
        yield Cut(stream=stream, protocol=protocol, streamed=streamed, at=at, end=end)


def _edges(pieces: tuple[bytes, ...]) -> set[int]:
    """Return the places at, before and behind where a piece ends."""
    found, at = {0, 1}, 0
    for piece in pieces:
        at += len(piece)
        found |= {at - 3, at - 2, at - 1, at, at + 1}
    return found


def asking(protocol: Protocol, *, streamed: bool) -> bytes:
    """Return a client's request."""
    body: JsonObject = {"model": "gpt-5.5", "stream": streamed}
    if protocol == "responses":
        return request_bytes("/v1/responses", body | {"input": "hello"})
    return request_bytes(
        "/v1/chat/completions", body | {"messages": [{"role": "user", "content": "hello"}]}
    )


async def run_cut(case: Cut, stage: Stage, base: Level) -> list[str]:
    """Run a case on a relay at rest, and return what must not be so."""
    first, further = case.plays()
    standings, asked_before = stage.standings(), len(stage.upstream.turns)
    stage.upstream.script = deque((first,))
    stage.upstream.otherwise = further
    heard, began_at_s = Heard(), trio.current_time()
    with trio.move_on_after(BUDGETS.turn_s + 100.0) as patience:
        await ask(stage.connect(), asking(case.protocol, streamed=case.streamed), heard)
    over_at_s = trio.current_time()
    await trio.sleep(REST_S)
    asked = stage.upstream.turns[asked_before:]
    attempts = [oracle.Upstream.of(one.sent) for one in asked]
    problems = ["the client was told nothing for 700 s"] if patience.cancelled_caught else []
    problems += oracle.judge_attempts(attempts)
    problems += oracle.judge(case.protocol, heard.data, attempts, streamed=case.streamed)
    repeated = case.end != "idle" and _is_repeated(attempts[0])
    if len(asked) != 1 + repeated:
        problems.append(f"upstream was asked {len(asked)} times")
    if not problems:
        wanted_s = _duration_s(case, attempts, repeated=repeated)
        if abs(over_at_s - began_at_s - wanted_s) > _EXACT_S:
            problems.append(f"it took {over_at_s - began_at_s:g} s instead of {wanted_s:g}")
        if case.streamed:
            problems += _silences(heard, began_at_s)
    left = [one for one in asked if one.over_at_s is None]
    if left:
        problems.append(f"{len(left)} requests upstream are not over")
    if (now := stage.standings()) != standings:
        problems.append(f"accounts stand {now} and stood {standings}")
    if (more := stage.level().above(base)) is not None:
        problems.append(f"left open: {more}")
    return problems + stage.unforeseen()


def _is_repeated(first: Upstream) -> bool:
    return not first.gave_output and first.terminal is None


def _duration_s(case: Cut, attempts: list[Upstream], *, repeated: bool) -> float:
    """Return how long the client waits for the end of its answer, on the relay's budgets."""
    first = attempts[0]
    if repeated:
        return _RETRY_S
    if first.terminal is not None and not first.message.whole and case.end == "idle":
        return _TAIL_S  # the answer is there; its HTTP end is waited for a moment
    if case.end != "idle":
        return 0.0
    if first.message.status is None:
        return BUDGETS.headers_s
    if not first.events:
        return BUDGETS.first_event_s
    return BUDGETS.silence_s or 0.0


def _silences(heard: Heard, began_at_s: float) -> list[str]:
    """Return where a streaming client was shown no life for too long."""
    times = [began_at_s, *(at_s for at_s, _ in heard.at_s)]
    longest_s = max((b - a for a, b in itertools.pairwise(times)), default=0.0)
    if longest_s > KEEP_ALIVE_S + _EXACT_S:
        return [f"the client was shown no life for {longest_s:g} s"]
    return []
