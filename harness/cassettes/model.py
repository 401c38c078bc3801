"""What a cassette holds. How it is written down stands in `document`.

A cassette has two tracks: what a client asked of the relay, and what the relay asked of a backend
or its sign-in service. Either may be missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, TypeAlias

import attrs

#: The current version of the format. Version 0 is a plain file of vcrpy's.
FORMAT: Final = 1

#: Where the answers came from: a real backend, the simulator, or somebody's pen.
Origin: TypeAlias = Literal["live", "simulator", "authored"]
#: Who was asked: the relay by its client, or a backend by the relay.
Track: TypeAlias = Literal["client", "upstream"]
#: How an answer ended, as the one who asked saw it: its proper end, or a clean close (`eof`); the
#: connection broke (`reset`); nothing came any more while it was being recorded (`idle`); who asked
#: gave it up (`closed-by-relay`; on the client track that is the client).
End: TypeAlias = Literal["eof", "reset", "idle", "closed-by-relay"]
#: To the one who asked (`in`), or from it (`out`).
Direction: TypeAlias = Literal["in", "out"]
FrameKind: TypeAlias = Literal["text", "bin", "ping", "pong", "close"]
#: Lower-case names, in the order of the wire.
Headers: TypeAlias = tuple[tuple[str, str], ...]


@attrs.frozen(kw_only=True)
class Frame:
    """One WebSocket frame; of a fragmented message, the whole message."""

    #: Since the handshake's request, in seconds.
    at_s: float
    direction: Direction
    kind: FrameKind
    data: bytes = b""
    #: Of a close frame, if it had one.
    code: int | None = None


@attrs.frozen(kw_only=True)
class Stream:
    """How an answer's body came, and ended."""

    #: When each chunk came, in seconds since the request.
    at_s: tuple[float, ...] = ()
    #: Where each chunk ends in the body as it is kept (decoded), in bytes. As long as `at_s`.
    ends: tuple[int, ...] = ()
    #: The answer is whole: an event stream has its terminal event, any other body its proper end.
    #: A WebSocket whose messages are events: the last of them is a terminal one.
    complete: bool
    end: End
    #: Of a WebSocket.
    frames: tuple[Frame, ...] = ()


@attrs.frozen(kw_only=True)
class Request:
    """What was asked."""

    method: str
    #: The host is `relay` on the client track; upstream it is the backend's own, or, where that is
    #: an address of this machine, the backend's canonical name.
    uri: str
    headers: Headers = attrs.field(default=(), repr=False)
    #: Without its content coding.
    body: bytes = attrs.field(default=b"", repr=False)
    #: The content coding that was taken off, such as `zstd`.
    coding: str | None = None


@attrs.frozen(kw_only=True)
class Response:
    """What was answered."""

    #: None: the answer never had a head.
    status: int | None
    reason: str = ""
    #: Without `content-encoding` where the coding was taken off.
    headers: Headers = attrs.field(default=(), repr=False)
    #: Without its content coding; all chunks, one after the other.
    body: bytes = attrs.field(default=b"", repr=False)
    stream: Stream
    #: The content coding that was taken off, such as `gzip`.
    coding: str | None = None
    #: When the head came, in seconds since the request; None where it did not, or nobody knows.
    head_at_s: float | None = None


@attrs.frozen(kw_only=True)
class Interaction:
    """One request and its answer."""

    track: Track
    #: When the request was made, in seconds since the recording began.
    began_at_s: float
    request: Request
    response: Response
    #: Upstream: the `number` of the client's request that it was made for; None: for none, such as
    #: a refresh, or nobody knows.
    caused_by: int | None = None
    #: Its place among all that were begun, from 1: the order of the file.
    number: int


@attrs.frozen(kw_only=True)
class About:
    """What a cassette says of itself."""

    format: int = FORMAT
    origin: Origin
    #: The program whose requests they are, and its version.
    client: str | None = None
    client_version: str | None = None
    #: The relay's version.
    relay: str | None = None
    #: Day of the recording, `2026-11-28`.
    date: str | None = None
    #: When the recording began, Unix seconds: what its answers say of times is about then.
    began_unix_s: float | None = None
    scenario: str | None = None
    #: How often each kind of secret was replaced.
    redacted: Mapping[str, int] = attrs.field(factory=dict)
    #: The recording was ended properly. A recorder that is killed leaves False.
    complete: bool = True


@attrs.frozen(kw_only=True)
class Cassette:
    """A recording."""

    about: About
    interactions: tuple[Interaction, ...] = ()

    def track(self, track: Track) -> tuple[Interaction, ...]:
        """Return one of the tracks, in order."""
        return tuple(one for one in self.interactions if one.track == track)
