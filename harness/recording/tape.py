"""One request and its answer while they are under way.

Noting a block is an append and a look at the clock; everything that costs more is done later, by
whoever writes it down, in another process.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import attrs
import structlog
import trio

from harness.cassettes.model import (
    End,
    Frame,
    Headers,
    Interaction,
    Request,
    Response,
    Stream,
    Track,
)
from harness.cassettes.terminal import is_whole, is_whole_websocket
from harness.recording.codings import CodingError, decoded

if TYPE_CHECKING:
    from collections.abc import Iterable

    from harness.cassettes.model import Direction, FrameKind

log: structlog.stdlib.BoundLogger = structlog.get_logger("harness.recording")

#: Most of a body that is kept.
MAX_BODY_BYTES: Final = 64 * 2**20
_SWITCHING_PROTOCOLS: Final = 101


@attrs.define(eq=False)
class Blocks:
    """A body, in the blocks in which it came, and when each of them did."""

    #: Most that is kept of it.
    _max_bytes: int = MAX_BODY_BYTES
    #: Never empty, in the order of arrival.
    pieces: list[bytes] = attrs.field(factory=list, init=False)
    #: Seconds since the request; as long as `pieces`.
    at_s: list[float] = attrs.field(factory=list, init=False)
    size_bytes: int = attrs.field(default=0, init=False)
    #: There was more than is kept.
    cut: bool = attrs.field(default=False, init=False)

    def add(self, data: bytes, at_s: float) -> bool:
        """Note a block; return whether it was the first that could not be kept whole."""
        room = self._max_bytes - self.size_bytes
        was_cut, self.cut = self.cut, self.cut or len(data) > room
        if kept := data[:room]:  # the very same object where there is room
            self.pieces.append(kept)
            self.at_s.append(at_s)
            self.size_bytes += len(kept)
        return self.cut and not was_cut


@attrs.define(eq=False, kw_only=True)
class Tape:
    """What is noted of one request and its answer. Times are trio's, but for `began_at_s`."""

    track: Track
    number: int
    #: Seconds since the recording began.
    began_at_s: float
    caused_by: int | None = None
    method: str
    uri: str
    request_headers: Headers = attrs.field(repr=False)
    max_body_bytes: int = MAX_BODY_BYTES
    sent: Blocks = attrs.field(init=False)
    received: Blocks = attrs.field(init=False)
    status: int | None = attrs.field(default=None, init=False)
    reason: str = attrs.field(default="", init=False)
    headers: Headers = attrs.field(default=(), init=False, repr=False)
    head_at_s: float | None = attrs.field(default=None, init=False)
    frames: list[Frame] = attrs.field(factory=list, init=False)
    #: How much is in the frames.
    _frames_bytes: int = attrs.field(default=0, init=False)
    #: There were more messages than are kept.
    _frames_cut: bool = attrs.field(default=False, init=False)
    #: None: it is under way.
    ended: End | None = attrs.field(default=None, init=False)
    _began_s: float = attrs.field(factory=trio.current_time, init=False)

    def __attrs_post_init__(self) -> None:
        self.sent, self.received = Blocks(self.max_body_bytes), Blocks(self.max_body_bytes)

    @property
    def size_bytes(self) -> int:
        """How much of bodies and messages is kept here."""
        return self.sent.size_bytes + self.received.size_bytes + self._frames_bytes

    @property
    def mark(self) -> object:
        """What tells one state from another."""
        received = len(self.received.pieces)
        return len(self.sent.pieces), received, len(self.frames), self.status, self.ended

    def send(self, data: bytes) -> None:
        """Note a block of the request's body."""
        if self.sent.add(data, self._since()):
            self._tell_cut("request")

    def head(self, status: int, reason: str, headers: Headers) -> None:
        """Note the head of the answer."""
        self.status, self.reason, self.headers = status, reason, headers
        self.head_at_s = self._since()

    def receive(self, data: bytes) -> None:
        """Note a block of the answer's body."""
        if self.received.add(data, self._since()):
            self._tell_cut("answer")

    def frame(
        self, direction: Direction, kind: FrameKind, data: bytes = b"", *, code: int | None = None
    ) -> None:
        """Note a WebSocket frame; none behind the end. Behind a message too many, no message."""
        if self.ended is not None:
            return
        if self._frames_cut or self._frames_bytes + len(data) > self.max_body_bytes:
            if not self._frames_cut:
                self._frames_cut = True
                self._tell_cut("WebSocket's messages")
            if kind != "close":
                return
        self._frames_bytes += len(data)
        at_s = self._since()
        self.frames.append(Frame(at_s=at_s, direction=direction, kind=kind, data=data, code=code))

    def end(self, end: End) -> None:
        """Note how it ended; only the first word counts."""
        if self.ended is None:
            self.ended = end

    def taken(self) -> Taken:
        """Return all that is noted so far, for somebody else to work on."""
        return Taken(
            track=self.track,
            number=self.number,
            began_at_s=self.began_at_s,
            caused_by=self.caused_by,
            method=self.method,
            uri=self.uri,
            request_headers=self.request_headers,
            max_body_bytes=self.max_body_bytes,
            sent=tuple(self.sent.pieces),
            received=tuple(self.received.pieces),
            at_s=tuple(self.received.at_s),
            cut=self.received.cut or self.sent.cut or self._frames_cut,
            status=self.status,
            reason=self.reason,
            headers=self.headers,
            head_at_s=self.head_at_s,
            frames=tuple(self.frames),
            ended=self.ended,
        )

    def _since(self) -> float:
        return round(trio.current_time() - self._began_s, 6)

    def _tell_cut(self, what: str) -> None:
        if not self.max_body_bytes:
            return  # it was told already that there is no room
        log.warning(
            "a body is too large to be kept whole",
            of=what,
            request=f"{self.method} {self.uri.partition('?')[0]}",
            kept_bytes=self.max_body_bytes,
        )


@attrs.frozen(kw_only=True)
class Taken:
    """What was noted of a request and its answer at one moment. It may go to another process."""

    track: Track
    number: int
    #: As in `Tape`, like the rest.
    began_at_s: float
    caused_by: int | None
    method: str
    uri: str
    request_headers: Headers = attrs.field(repr=False)
    max_body_bytes: int
    sent: Sequence[bytes] = attrs.field(repr=False)
    received: Sequence[bytes] = attrs.field(repr=False)
    at_s: Sequence[float]
    cut: bool
    status: int | None
    reason: str
    headers: Headers = attrs.field(repr=False)
    head_at_s: float | None
    frames: tuple[Frame, ...]
    ended: End | None

    @property
    def is_finished(self) -> bool:
        """Whether nothing can come any more."""
        return self.ended is not None

    def interaction(self) -> Interaction:
        """Return it as a cassette holds it, with every secret still in it."""
        sent, sent_headers, sent_coding = _plain(
            self.sent, self.request_headers, max_bytes=self.max_body_bytes
        )
        received, headers, coding = _plain(
            self.received, self.headers, max_bytes=self.max_body_bytes
        )
        chunks = [(at_s, piece) for at_s, piece in zip(self.at_s, received, strict=True) if piece]
        ends, end = list[int](), 0
        for _, piece in chunks:
            end += len(piece)
            ends.append(end)
        body = b"".join(received)
        # What is under way in a file that somebody reads: the recorder was killed.
        how = self.ended or "idle"
        whole = self.status is not None and self.is_finished and not self.cut
        if whole and self.status == _SWITCHING_PROTOCOLS:
            whole = is_whole_websocket(self.frames, ended=how)
        elif whole:
            whole = is_whole(headers, body, ended=how)
        return Interaction(
            track=self.track,
            number=self.number,
            began_at_s=self.began_at_s,
            caused_by=self.caused_by,
            request=Request(
                method=self.method,
                uri=self.uri,
                headers=sent_headers,
                body=b"".join(sent),
                coding=sent_coding,
            ),
            response=Response(
                status=self.status,
                reason=self.reason,
                headers=headers,
                body=body,
                coding=coding,
                head_at_s=self.head_at_s,
                stream=Stream(
                    at_s=tuple(at_s for at_s, _ in chunks),
                    ends=tuple(ends),
                    complete=whole,
                    end=how,
                    frames=self.frames,
                ),
            ),
        )


def _plain(
    blocks: Sequence[bytes], headers: Headers, *, max_bytes: int
) -> tuple[Sequence[bytes], Headers, str | None]:
    """Take the content coding off: return blocks, headers and the name of the coding.

    What cannot be decoded stays as it is, with its header and without a name.
    """
    codings = [value.strip().lower() for name, value in headers if name == "content-encoding"]
    if len(codings) != 1 or codings[0] in ("", "identity") or not blocks:
        return blocks, headers, None
    try:
        pieces = decoded(blocks, codings[0], max_bytes=max_bytes)
    except CodingError:
        return blocks, headers, None
    return pieces, _of_decoded(headers, sum(map(len, pieces))), codings[0]


def _of_decoded(headers: Headers, size_bytes: int) -> Headers:
    """Return the headers without the coding; a length that was said is that of the decoded body."""
    return tuple(
        (name, str(size_bytes) if name == "content-length" else value)
        for name, value in headers
        if name != "content-encoding"
    )


def headers_of(raw: Iterable[tuple[bytes, bytes]]) -> Headers:
    """Return headers of the wire as a cassette holds them."""
    return tuple((name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in raw)
