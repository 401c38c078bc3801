"""The alphabet between the rules and the connection: what can be done to a client, step by step."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, TypeAlias

import attrs

from codexrelay.protocol.raw import dump

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from codexrelay.protocol.raw import Json

Headers: TypeAlias = tuple[tuple[str, str], ...]
_BARE: Final = frozenset({204, 304})


@attrs.frozen
class Head:
    """Send status and headers. Without a `content-length` the body goes out in chunks."""

    status: int
    headers: Headers = ()


@attrs.frozen
class Chunk:
    """Send these bytes as one chunk of the body."""

    data: bytes
    #: It is a delta of an event stream, after which a paced answer pauses.
    delta: bool = False


@attrs.frozen
class Pause:
    """Say nothing for this long; what was said before has left."""

    seconds: float


@attrs.frozen
class Until:
    """Say nothing until so long after the request had come; what was said before has left."""

    at_s: float


@attrs.frozen
class Wait:
    """Say nothing until this returns; what was said before has left."""

    until: Callable[[], Awaitable[object]]


@attrs.frozen
class End:
    """End the body cleanly; the connection may serve another request."""


@attrs.frozen
class Hang:
    """Say nothing until the client leaves."""


@attrs.frozen
class Close:
    """Close the connection (FIN), whatever is unfinished."""


@attrs.frozen
class Reset:
    """Abort the connection (RST), whatever is unfinished."""


@attrs.frozen
class Cut:
    """Promise a chunk of these bytes, send its first half, close."""

    data: bytes


@attrs.frozen
class CloseFrame:
    """Close a WebSocket with this code; anything else just as `Close`."""

    code: int
    reason: str = ""


@attrs.frozen
class Deafen:
    """Hear the client no more and say nothing, not even a pong; only its leaving is noticed."""


@attrs.frozen
class Binary:
    """Send these bytes as a binary message of a WebSocket; of anything else as a chunk."""

    data: bytes


Step: TypeAlias = (
    Head
    | Chunk
    | Pause
    | Until
    | Wait
    | End
    | Hang
    | Close
    | Reset
    | Cut
    | CloseFrame
    | Deafen
    | Binary
)
#: Lazy, because a stream may be long; performed once.
Answer: TypeAlias = "Iterable[Step]"


def has_body(method: str, status: int | None) -> bool:
    """Return whether HTTP has room for a body in the answer to `method`, under `status`."""
    return method.upper() != "HEAD" and status not in _BARE


def paced(answer: Answer, pace_s: float) -> Iterator[Step]:
    """Yield the steps of `answer`, with a pause of `pace_s` seconds (0: none) after each delta."""
    for step in answer:
        yield step
        if pace_s and isinstance(step, Chunk) and step.delta:
            yield Pause(pace_s)


def reply(status: int, body: Json, *, headers: Headers = ()) -> tuple[Step, ...]:
    """Return the answer that is one JSON body."""
    return reply_bytes(status, dump(body), content_type="application/json", headers=headers)


def reply_bytes(
    status: int, body: bytes, *, content_type: str, headers: Headers = ()
) -> tuple[Step, ...]:
    """Return the answer that is one body of any kind."""
    framing = (("content-type", content_type), ("content-length", str(len(body))))
    return (Head(status, framing + headers), Chunk(body), End())
