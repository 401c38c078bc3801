"""An answer as it is to be played: what a replayer performs and what a fault changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from harness.cassettes.model import End, Frame, Headers

if TYPE_CHECKING:
    from harness.cassettes.model import Interaction


@attrs.frozen
class Chunk:
    """Some bytes of the body, and when they are sent."""

    #: In seconds since the request. Never before the chunk in front of it.
    at_s: float
    data: bytes


@attrs.frozen(kw_only=True)
class Performance:
    """Everything that is done to a client, in order: head, chunks or frames, end."""

    #: None: no head is ever sent, only the end happens.
    status: int | None
    headers: Headers = ()
    head_at_s: float = 0.0
    chunks: tuple[Chunk, ...] = ()
    #: Of a WebSocket, both directions: those that come `out` are waited for.
    frames: tuple[Frame, ...] = ()
    #: `closed-by-relay` is played as silence: the one who asked is expected to leave.
    end: End = "eof"
    #: With `eof`: the body is ended as HTTP wants it. If not, the connection is just closed (FIN).
    framed: bool = True

    @property
    def body(self) -> bytes:
        """Return all that is sent of the body."""
        return b"".join(chunk.data for chunk in self.chunks)


def performance_of(interaction: Interaction) -> Performance:
    """Return the answer of an interaction, as it was recorded."""
    response = interaction.response
    starts = (0, *response.stream.ends)
    pieces = zip(response.stream.at_s, starts, response.stream.ends, strict=False)
    chunks = tuple(Chunk(at_s, response.body[start:end]) for at_s, start, end in pieces)
    first_s = chunks[0].at_s if chunks else 0.0
    return Performance(
        status=response.status,
        headers=response.headers,
        head_at_s=first_s if response.head_at_s is None else response.head_at_s,
        chunks=chunks,
        frames=response.stream.frames,
        end=response.stream.end,
    )
