"""What is done in answer to a request: bytes, when they go out, and how the connection goes on.

An answer can be played in two forms: over HTTP, and in frames of a WebSocket. Which of them it is,
the relay says, by the way on which it asks.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import attrs

from codexrelay.protocol.raw import JsonObject, dump
from harness.cassettes.performance import Chunk, Performance
from harness.proof import frames
from harness.proof.truth import events_of
from harness.simulator.steps import Chunk as BodyChunk
from harness.simulator.steps import End, Head, reply

if TYPE_CHECKING:
    from collections.abc import Iterable

    from harness.simulator.steps import Answer

#: How a connection goes on once the bytes are out: it waits for the next request (`keep`), is
#: closed (`fin`), is reset (`rst`), or nothing happens any more (`idle`).
WireEnd: TypeAlias = Literal["keep", "fin", "rst", "idle"]
#: Of a WebSocket: while it is `idle` it answers pings, but not when it is `half` open. `closing`: a
#: close frame is out, and its answer is waited for.
SocketEnd: TypeAlias = Literal["keep", "fin", "rst", "idle", "half", "closing"]

_EVENT_ENDS: Final = (b"\n\n", b"\r\n\r\n")
_LAST: Final = b"0\r\n\r\n"
_HEAD: Final = b"HTTP/1.1 %d X\r\n%b\r\n"

#: What is sent and when, in seconds since the request.
Pieces: TypeAlias = tuple[tuple[float, bytes], ...]


def wire_of(pieces: Pieces) -> bytes:
    """Return all that is sent."""
    return b"".join(data for _, data in pieces)


def cut_pieces(pieces: Pieces, at: int) -> Pieces:
    """Return what is sent of these before byte `at`."""
    found, left = [], at
    for at_s, data in pieces:
        if left <= 0:
            break
        found.append((at_s, data[:left]))
        left -= len(data)
    return tuple(found)


@attrs.frozen(kw_only=True)
class SocketPlay:
    """What is done on a WebSocket in answer to one message, or to the handshake for it."""

    #: Frames.
    pieces: Pieces
    end: SocketEnd = "keep"
    #: Makes what is done in answer to the handshake of the answer that it should have; None: that
    #: answer is sent, and then it depends on the message.
    handshake: Callable[[bytes], Play] | None = None

    @property
    def wire(self) -> bytes:
        """Return all that is sent behind the handshake."""
        return wire_of(self.pieces)

    def cut(self, at: int, end: SocketEnd) -> SocketPlay:
        """Return the play that stops before byte `at` of the frames."""
        return SocketPlay(pieces=cut_pieces(self.pieces, at), end=end)

    def closed(self, at: int, code: int) -> SocketPlay:
        """Return the play that stops before byte `at`, with a close frame in its place."""
        pieces = cut_pieces(self.pieces, at)
        last_s = pieces[-1][0] if pieces else 0.0
        return SocketPlay(pieces=(*pieces, (last_s, frames.close(code))), end="closing")

    def cut_handshake(self, at: int, end: WireEnd) -> SocketPlay:
        """Return the play whose handshake's answer stops before byte `at`."""

        def short(answer: bytes) -> Play:
            return Play(pieces=cut_pieces(((0.0, answer),), at), end=end)

        return attrs.evolve(self, handshake=short)


@attrs.frozen(kw_only=True)
class Play:
    """What is done on a connection in answer to one request."""

    #: Bytes of HTTP/1.1, framing included.
    pieces: Pieces
    end: WireEnd = "keep"
    #: The same answer over a WebSocket; None: never asked for so.
    over_socket: SocketPlay | None = None
    #: Its name, where it matters which it was.
    label: str = ""

    @property
    def wire(self) -> bytes:
        """Return all that is sent."""
        return wire_of(self.pieces)

    def cut(self, at: int, end: WireEnd) -> Play:
        """Return the play that stops before byte `at` of the wire, whichever that is."""
        socket = None if self.over_socket is None else self.over_socket.cut(at, end)
        return attrs.evolve(self, pieces=cut_pieces(self.pieces, at), end=end, over_socket=socket)

    def ending_at_once(self) -> Play:
        """Return the play whose last piece, the end of the body, comes with the one before."""
        *before, (at_s, data), (_, end) = self.pieces
        return attrs.evolve(self, pieces=(*before, (at_s, data + end)))


def play_of(performance: Performance) -> Play:
    """Return how an answer goes over the wire: its body in chunks, one for each of its own.

    Over a WebSocket each whole event of it is a message, which goes out when its end would.
    """
    return attrs.evolve(_over_http(performance), over_socket=_over_socket(performance))


def _over_socket(performance: Performance) -> SocketPlay:
    """Return the same in frames; an answer that is no stream of events is an error message."""
    ends: dict[str, SocketEnd] = {"reset": "rst", "idle": "idle", "closed-by-relay": "idle"}
    end = ends.get(performance.end, "keep" if performance.framed else "fin")
    status = performance.status
    if status is None:
        return SocketPlay(pieces=(), end="fin" if end == "keep" else end)
    if status != 200:
        refusal = refusal_text(status, performance.body)
        return SocketPlay(pieces=((performance.head_at_s, frames.frame(frames.TEXT, refusal)),))
    pieces: list[tuple[float, bytes]] = []
    rest = b""
    for chunk in performance.chunks:
        rest += chunk.data
        at = max(rest.rfind(blank) + len(blank) if blank in rest else 0 for blank in _EVENT_ENDS)
        events = events_of(rest[:at])
        pieces += [(chunk.at_s, frames.frame(frames.TEXT, one.data)) for one in events]
        rest = rest[at:]
    return SocketPlay(pieces=tuple(pieces), end=end)


def refusal_text(status: int, body: bytes) -> bytes:
    """Return the error message for what over HTTP is an error body."""
    try:
        value = json.loads(body)
    except ValueError:
        value = {"detail": body.decode(errors="replace")}
    error = value.get("error") if isinstance(value, dict) else None
    if not isinstance(error, dict):
        error = {"type": "invalid_request_error", "message": str(value)}
    return dump({"type": "error", "status": status, "error": error, "headers": {}})


def _over_http(performance: Performance) -> Play:
    end: WireEnd = "keep"
    match performance.end:
        case "reset":
            end = "rst"
        case "idle" | "closed-by-relay":
            end = "idle"
        case "eof":
            end = "keep" if performance.framed else "fin"
    if performance.status is None:
        return Play(pieces=(), end="fin" if end == "keep" else end)
    given = [(name, value) for name, value in performance.headers if name not in _FRAMING]
    lines = b"".join(f"{name}: {value}\r\n".encode("latin-1") for name, value in given)
    head = _HEAD % (performance.status, lines + b"transfer-encoding: chunked\r\n")
    pieces = [(performance.head_at_s, head)]
    pieces += [(chunk.at_s, framed(chunk.data)) for chunk in performance.chunks if chunk.data]
    if performance.end == "eof" and performance.framed:
        pieces.append((pieces[-1][0], _LAST))
    return Play(pieces=tuple(pieces), end=end)


_FRAMING: Final = frozenset({"transfer-encoding", "content-length", "connection"})


def framed(data: bytes) -> bytes:
    """Return `data` as one chunk of HTTP/1.1."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def performance_of_events(events: Iterable[bytes], *, every_s: float = 0.0) -> Performance:
    """Return the answer that sends each event as one chunk, `every_s` seconds after the other."""
    chunks = tuple(Chunk(number * every_s, data) for number, data in enumerate(events))
    return Performance(status=200, chunks=chunks)


def refusing(status: int, body: JsonObject, **headers: str) -> Play:
    """Return the play of an error body in JSON; `_` in a header's name stands for `-`."""
    named = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    text = refusal_text(status, dump(body))
    return attrs.evolve(
        play_of_steps(reply(status, body, headers=named)),
        over_socket=SocketPlay(pieces=((0.0, frames.frame(frames.TEXT, text)),)),
    )


def play_of_steps(answer: Answer) -> Play:
    """Return the play of an answer that is one body with its length told."""
    out = bytearray()
    for step in answer:
        match step:
            case Head(status, headers):
                lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
                out += _HEAD % (status, lines.encode("latin-1"))
            case BodyChunk(data):
                out += data
            case End():
                pass
            case _:
                raise AssertionError(f"{step!r} in an answer that is one body")
    return Play(pieces=((0.0, bytes(out)),))


#: Errors that only connections know (wire notes 7): all that is said on them is refused by and by;
#: they do not know the answer to go on from.
LIMIT: Final[JsonObject] = {
    "type": "invalid_request_error",
    "code": "websocket_connection_limit_reached",
    "message": "Responses websocket connection limit reached (60 minutes). "
    "Create a new websocket connection to continue.",
}
NOT_FOUND: Final[JsonObject] = {
    "type": "invalid_request_error",
    "code": "previous_response_not_found",
    "message": "Previous response with id 'resp_1' not found.",
    "param": "previous_response_id",
}


def on_socket_alone(error: JsonObject) -> Play:
    """Return the play that refuses a message so; over HTTP there is no such thing."""
    refusal = refusing(400, {"error": error})
    return attrs.evolve(refusal, pieces=(), end="rst")
