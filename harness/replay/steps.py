"""From a recorded answer to the steps that play it."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Collection, Iterator
from typing import TYPE_CHECKING, Final, TypeAlias

from harness.simulator.steps import (
    Chunk,
    Close,
    End,
    Hang,
    Head,
    Reset,
    Step,
    Until,
    Wait,
    has_body,
)

if TYPE_CHECKING:
    from harness.cassettes.model import Headers
    from harness.cassettes.performance import Performance
    from harness.replay.pace import Pace

#: Waits until an answer may go on that was so many seconds old when it went on in the recording.
Gate: TypeAlias = Callable[[float], Awaitable[None]]

#: Of one connection, not of the answer; whoever plays it says these himself.
_HOP_BY_HOP: Final = frozenset(
    {"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding"}
)
_LENGTH: Final = "content-length"


def steps_of(
    performance: Performance, pace: Pace, gate: Gate | None = None, *, method: str = "GET"
) -> Iterator[Step]:
    """Yield the steps of the answer to a `method`; `gate` is asked where the pace is causal."""

    def moment(at_s: float) -> Step:
        if pace.causal and gate is not None:
            return Wait(functools.partial(gate, at_s))
        return Until(pace.offset_s(at_s))

    yield moment(performance.head_at_s)
    if performance.status is not None:
        bare = not has_body(method, performance.status)
        yield Head(performance.status, headers_of(performance, bare=bare))
        for chunk in () if bare else performance.chunks:
            yield moment(chunk.at_s)
            if chunk.data:
                yield Chunk(chunk.data)
    yield _end_of(performance)


def headers_of(performance: Performance, *, bare: bool = False) -> Headers:
    """Return the headers as they are sent: as recorded, but for what frames the body.

    A length stays where it is true, or where the body is broken off before it; where the answer is
    `bare`, without any body, it tells of another one's.
    """
    lengths = {value for name, value in performance.headers if name == _LENGTH}
    left_out = _HOP_BY_HOP if _is_true(lengths, performance, bare=bare) else _HOP_BY_HOP | {_LENGTH}
    return tuple((name, value) for name, value in performance.headers if name not in left_out)


def _is_true(lengths: Collection[str], performance: Performance, *, bare: bool) -> bool:
    if len(lengths) != 1 or not (said := "".join(lengths)).isdecimal():
        return False
    if bare:
        return True
    size_bytes = len(performance.body)
    whole = performance.end == "eof" and performance.framed
    return int(said) == size_bytes if whole else int(said) > size_bytes


def _end_of(performance: Performance) -> Step:
    match performance.end:
        case "eof" if performance.framed and performance.status is not None:
            return End()
        case "eof":
            return Close()
        case "reset":
            return Reset()
        case _:
            return Hang()
