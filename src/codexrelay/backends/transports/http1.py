"""HTTP/1.1 messages as bytes, without I/O: the request we write and the response we read."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import attrs
import httptools
import httpx

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Most bytes of a response's head with the interim responses before it, and of framing between two
#: pieces of body. Far above what any server sends; it keeps a broken one from filling the memory.
MAX_FRAMING_BYTES: Final = 256 * 1024

_ENCODING: Final = b"transfer-encoding"
_BODILESS_STATUSES: Final = frozenset({204, 304})
# Would let a header's value write further headers, or a second request.
_BREAKS_THE_HEAD: Final = re.compile(r"[\r\n\0]")


def written_head(request_line: str, headers: Sequence[tuple[str, str]]) -> bytes:
    """Return a request line and its headers as they go out, with the blank line.

    Raises:
        httpx.LocalProtocolError: a line break in one of them. The text does not quote a value.
    """
    lines = [request_line, *[f"{name}: {value}" for name, value in headers]]
    head = "\r\n".join(lines)
    # Only the joints may be line breaks: counting them costs a tenth of looking at each line.
    joints = len(headers)
    if head.count("\r") != joints or head.count("\n") != joints or "\0" in head:
        broken = next(line for line in lines if _BREAKS_THE_HEAD.search(line))
        name = broken.partition(":")[0]
        raise httpx.LocalProtocolError(f"line break or NUL in the request's {name!r}")
    return f"{head}\r\n\r\n".encode("latin-1")


def head_of(request: httpx.Request) -> bytes:
    """Return the head of `request` as it goes out.

    Raises:
        httpx.LocalProtocolError: a line break in method, target or a header; no Host.
    """
    if "host" not in request.headers:  # httpx adds one unless the request was made with a stream
        raise httpx.LocalProtocolError("the request has no Host header")
    return written_head(
        f"{request.method} {request.url.raw_path.decode('latin-1')} HTTP/1.1",
        [(n.decode("latin-1"), v.decode("latin-1")) for n, v in request.headers.raw],
    )


@attrs.define(eq=False)
class BodyFramer:
    """Puts a request's body into the frame that its headers announce.

    Every method raises `httpx.LocalProtocolError` when body and headers disagree, because what
    would follow on the connection could be read as another request.
    """

    chunked: bool
    #: Bytes still owed to Content-Length; unused when chunked.
    _owed_bytes: int

    @classmethod
    def of(cls, request: httpx.Request) -> BodyFramer:
        """Return the framer for `request`. Without either header the body must be empty."""
        chunked = "transfer-encoding" in request.headers
        length = request.headers.get("content-length")
        if chunked and length is not None:
            raise httpx.LocalProtocolError("the request has Transfer-Encoding and Content-Length")
        return cls(chunked, int(length or 0))

    def frame(self, piece: bytes) -> bytes:
        """Return `piece` as it goes out."""
        if self.chunked:
            return b"%x\r\n%b\r\n" % (len(piece), piece) if piece else b""
        self._owed_bytes -= len(piece)
        if self._owed_bytes < 0:
            raise httpx.LocalProtocolError("the request's body is longer than its Content-Length")
        return piece

    def end(self) -> bytes:
        """Return what goes out behind the last piece."""
        if self.chunked:
            return b"0\r\n\r\n"
        if self._owed_bytes:
            raise httpx.LocalProtocolError("the request's body is shorter than its Content-Length")
        return b""


@attrs.define(eq=False)
class ResponseReader:
    """Reads one response out of the blocks of a connection.

    Being fed never raises: what is wrong with the response becomes `fault`, and is raised by `take`
    once everything before it was taken. Interim responses (1xx) are skipped.
    """

    #: Who answers, for messages: what reads as `host:port`.
    peer: object
    #: The request was HEAD: the response ends with its head whatever that announces.
    to_head_request: bool = False
    status: int = 0
    #: `1.1`.
    http_version: str = ""
    #: Raw pairs in the order and spelling of the wire.
    headers: list[tuple[bytes, bytes]] = attrs.field(factory=list)
    #: At least one byte came.
    heard: bool = False
    head_complete: bool = False
    complete: bool = False
    #: The peer will take another request on this connection. Known when `complete`.
    keeps_alive: bool = False
    #: Why this response will not be completed.
    fault: str | None = None

    _ends_at_eof: bool = False
    #: Bytes since the last block with a piece of body; while one is fed, with all of it.
    _framing_bytes: int = 0
    _pieces: list[bytes] = attrs.field(factory=list)
    _parser: httptools.HttpResponseParser = attrs.field(init=False)
    # What httptools calls for each piece. The list's own method, because this is the one thing that
    # happens once per event: a Python frame in between adds half to its price (measured).
    on_body: Callable[[bytes], None] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.on_body = self._pieces.append
        self._parser = httptools.HttpResponseParser(self)

    @property
    def settled(self) -> bool:
        """The head is there, or will never be."""
        return self.head_complete or self.fault is not None

    def feed(self, block: bytes | memoryview) -> None:
        """Read what one receive gave. `block` is not kept and may be overwritten afterwards."""
        self.heard = True
        self._framing_bytes += len(block)
        try:
            self._parser.feed_data(block)
        except httptools.HttpParserUpgrade:
            self._give_up("it switched to another protocol")
        except httptools.HttpParserError as error:
            self._give_up(str(error))
        if self._pieces:
            self._framing_bytes = 0
        elif self._framing_bytes > MAX_FRAMING_BYTES and not self.complete:
            self._give_up(f"more than {MAX_FRAMING_BYTES} bytes of headers or framing")
        if self.complete or self.fault:
            self._finish()

    def feed_eof(self) -> None:
        """Take note that the peer has closed the connection."""
        if self._ends_at_eof:
            self.complete = True
        elif self.heard:
            self.fault = f"{self.peer} closed the connection in the middle of its response"
        else:
            self.fault = f"{self.peer} closed the connection without a response"

    def take(self) -> bytes:
        """Return all body that came since the last call as one block, `b""` if none did.

        Raises:
            httpx.RemoteProtocolError: the response is broken and all before that was taken.
        """
        pieces = self._pieces
        if pieces:
            if len(pieces) == 1:
                return pieces.pop()
            block = b"".join(pieces)
            pieces.clear()
            return block
        if self.fault is not None:
            raise httpx.RemoteProtocolError(self.fault)
        return b""

    def take_whats_left(self) -> bytes:
        """Return all body that came since the last call, whatever is wrong with the response."""
        block = b"".join(self._pieces)
        self._pieces.clear()
        return block

    @property
    def _head_bytes(self) -> int:
        return sum(len(name) + len(value) + len(b": \r\n") for name, value in self.headers)

    def _finish(self) -> None:
        if self._pieces and (self.to_head_request or not self.head_complete):
            self._pieces.clear()
            self.keeps_alive = False  # a body where none may be
        # The parser holds our methods: a cycle that only the garbage collector would break.
        del self._parser

    def _give_up(self, why: str) -> None:
        if self.complete:
            self.keeps_alive = False  # bytes behind the response that nobody asked for
        elif self.fault is None:
            self.fault = f"{self.peer} sent no valid HTTP/1.1 response: {why}"

    # What httptools calls.

    def on_message_begin(self) -> None:
        """Note a response that nobody asked for."""
        if self.complete:
            self.keeps_alive = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header; ignore a trailer."""
        if not self.head_complete:
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Decide how the body ends, unless this was the head of an interim response."""
        self.status = self._parser.get_status_code()
        if self.status < 200 or self.fault:
            return
        if self._framing_bytes > MAX_FRAMING_BYTES and self._head_bytes > MAX_FRAMING_BYTES:
            self._give_up(f"more than {MAX_FRAMING_BYTES} bytes of headers")
            return
        # All names in one go: a dozen headers cost what one does (measured).
        names = b"\n".join([name for name, _ in self.headers]).lower().split(b"\n")
        has_encoding = _ENCODING in names
        if has_encoding:
            pairs = zip(names, self.headers, strict=True)
            encodings = [value.lower() for name, (_, value) in pairs if name == _ENCODING]
            if encodings != [b"chunked"]:
                # Under another one the parser would hand on bytes that are not the body.
                told = b", ".join(encodings).decode("latin-1")
                self._give_up(f"Transfer-Encoding {told!r}")
                return
        self.http_version = self._parser.get_http_version()
        self.head_complete = True
        if self.to_head_request:
            self.on_message_complete()
        elif self.status not in _BODILESS_STATUSES:
            self._ends_at_eof = not has_encoding and b"content-length" not in names

    def on_message_complete(self) -> None:
        """End the response, or an interim one."""
        if self.head_complete:
            self.complete = True
            # Now, because the parser forgets it as soon as this returns.
            self.keeps_alive = self._parser.should_keep_alive()
        else:
            self.headers.clear()
            self._pieces.clear()
