"""The backend of the proof: plays bytes, and notes who asked, what was sent and who left."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import attrs
import trio

from harness.cassettes.performance import Chunk, Performance
from harness.simulator import Simulator
from harness.simulator.arrival import HttpRequest, RefusedError, arrived
from harness.simulator.steps import Chunk as BodyChunk
from harness.simulator.steps import End, Head, reply

if TYPE_CHECKING:
    from codexrelay.protocol.raw import JsonObject
    from harness.simulator.steps import Answer

#: How a connection goes on once the bytes are out: it waits for the next request (`keep`), is
#: closed (`fin`), is reset (`rst`), or nothing happens any more (`idle`).
WireEnd: TypeAlias = Literal["keep", "fin", "rst", "idle"]

_RECEIVE_BYTES: Final = 65536
_BLANK: Final = b"\r\n\r\n"
_LAST: Final = b"0\r\n\r\n"
_HEAD: Final = b"HTTP/1.1 %d X\r\n%b\r\n"


@attrs.frozen(kw_only=True)
class Play:
    """What is done on a connection in answer to one request."""

    #: What is sent and when, in seconds since the request. Bytes of HTTP/1.1, framing included.
    pieces: tuple[tuple[float, bytes], ...]
    end: WireEnd = "keep"

    @property
    def wire(self) -> bytes:
        """Return all that is sent."""
        return b"".join(data for _, data in self.pieces)

    def cut(self, at: int, end: WireEnd) -> Play:
        """Return the play that stops before byte `at` of the wire."""
        pieces, left = [], at
        for at_s, data in self.pieces:
            if left <= 0:
                break
            pieces.append((at_s, data[:left]))
            left -= len(data)
        return Play(pieces=tuple(pieces), end=end)


def play_of(performance: Performance) -> Play:
    """Return how an answer goes over the wire: its body in chunks, one for each of its own."""
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
    return _play_of_steps(reply(status, body, headers=named))


def _play_of_steps(answer: Answer) -> Play:
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


@attrs.define(eq=False, kw_only=True)
class Asked:
    """One request that has come."""

    path: str
    #: Name of the simulated account whose bearer it carried, None for no good one.
    account: str | None
    at_s: float
    #: What was sent in answer by now.
    sent: bytearray = attrs.field(factory=bytearray)
    #: When the relay left before the end; None if it did not.
    left_at_s: float | None = None
    #: The relay's leaving shows at once. If not, it shows when more is sent to it.
    watched: bool = True
    #: When nothing more was to be done for it.
    over_at_s: float | None = None

    @property
    def is_turn(self) -> bool:
        """Whether it is a model request."""
        return self.path.endswith("/responses")


@attrs.define(eq=False)
class Upstream:
    """Serves the relay's connections: model requests from a script, all else by the simulator."""

    simulator: Simulator
    #: For the model requests to come, in order; once it is empty, `otherwise` is played.
    script: deque[Play] = attrs.field(factory=deque)
    otherwise: Play = attrs.field(factory=lambda: Play(pieces=(), end="fin"))
    #: For the token requests to come: changes the play of the issuer's answer, which it has given.
    refreshing: deque[Callable[[Play], Play]] = attrs.field(factory=deque)
    asked: list[Asked] = attrs.field(factory=list)
    #: Connections are kept for the next request. If not, they are closed behind a whole answer.
    keeps: bool = False
    #: Connections that are open at this end.
    open: int = 0

    @property
    def turns(self) -> list[Asked]:
        """Return the model requests, in the order in which they came."""
        return [one for one in self.asked if one.is_turn]

    async def serve(self, stream: trio.SocketStream) -> None:
        """Serve one connection until either side closes it."""
        self.open += 1
        try:
            while (request := await _next_request(stream)) is not None:
                asked, play = self._decide(request)
                self.asked.append(asked)
                try:
                    going_on = await _perform(stream, play, asked, unread=len(request.body) > 0)
                finally:
                    asked.over_at_s = trio.current_time()
                if not (going_on and self.keeps):
                    return
        except trio.BrokenResourceError:
            return  # the relay is gone
        finally:
            await trio.aclose_forcefully(stream)
            self.open -= 1

    def _decide(self, request: HttpRequest) -> tuple[Asked, Play]:
        arrival = arrived(request, now_unix_s=self.simulator.wall_clock())
        asked = Asked(path=request.path, account=None, at_s=trio.current_time())
        if not asked.is_turn:
            _, answer = self.simulator.answer_to(request)
            play = _play_of_steps(answer)
            if request.path.endswith("/oauth/token") and self.refreshing:
                play = self.refreshing.popleft()(play)
            return asked, play
        try:
            account = self.simulator.issuer.account_of(
                arrival.bearer, now_unix_s=arrival.now_unix_s
            )
        except RefusedError as refused:
            return asked, refusing(refused.status, dict(refused.body))
        asked.account = account.name
        return asked, self.script.popleft() if self.script else self.otherwise


async def _next_request(stream: trio.SocketStream) -> HttpRequest | None:
    """Return the next request; None when there is none.

    The last byte of its body is only looked at and left in the socket, so that closing it can reset
    the connection.
    """
    head = await _receive_head(stream)
    request_line, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    if not request_line:
        return None
    method, target, _ = request_line.split(" ")
    headers = tuple(
        (name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)
    )
    length = int(next((value for name, value in headers if name == "content-length"), "0"))
    body = bytearray()
    while len(body) < length:
        missing = length - 1 - len(body)
        data = await (stream.receive_some(missing) if missing else _peek(stream, 1))
        if not data:
            return None
        body += data
    return HttpRequest(method, target, headers, bytes(body))


async def _receive_head(stream: trio.SocketStream) -> bytes:
    """Return a request's head and take nothing that stands behind it; empty if none comes."""
    head = bytearray()
    while not head.endswith(_BLANK):
        if not (waiting := await _peek(stream, _RECEIVE_BYTES)):
            return b""
        seen = head + waiting
        end = seen.find(_BLANK)
        most = (len(seen) if end < 0 else end + len(_BLANK)) - len(head)
        head += await stream.receive_some(most)
    return bytes(head)


async def _peek(stream: trio.SocketStream, most_bytes: int) -> bytes:
    """Return what waits to be received, and leave it there; empty when the relay has closed."""
    try:
        return await stream.socket.recv(most_bytes, trio.socket.MSG_PEEK)
    except OSError as error:
        raise trio.BrokenResourceError from error


async def _perform(stream: trio.SocketStream, play: Play, asked: Asked, *, unread: bool) -> bool:
    """Play, and tell whether the connection can take another request.

    `unread` says that a byte of the request is still in the socket.
    """
    if play.end == "rst":
        # The last byte of the request stays where it is: it makes the close a reset, and hides
        # whether the relay has left.
        asked.watched = False
        await _send(stream, play, asked)
        return False
    if unread:
        await stream.receive_some(1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_watch, stream, asked, nursery.cancel_scope)
        await _send(stream, play, asked)
        if play.end == "idle":
            await trio.sleep_forever()
        nursery.cancel_scope.cancel()
    return play.end == "keep" and asked.left_at_s is None


async def _send(stream: trio.SocketStream, play: Play, asked: Asked) -> None:
    """Send as long as the relay takes it."""
    began_at_s = trio.current_time()
    for at_s, data in play.pieces:
        if began_at_s + at_s > trio.current_time():
            await trio.sleep_until(began_at_s + at_s)
        try:
            await stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            _left(asked)
            return
        asked.sent += data


async def _watch(stream: trio.SocketStream, asked: Asked, scope: trio.CancelScope) -> None:
    """Notice that the relay leaves while its answer is under way."""
    with contextlib.suppress(trio.BrokenResourceError):
        await stream.receive_some(1)
    _left(asked)
    scope.cancel()


def _left(asked: Asked) -> None:
    if asked.left_at_s is None:
        asked.left_at_s = trio.current_time()
