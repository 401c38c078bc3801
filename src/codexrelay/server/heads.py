"""Heads of HTTP/1.1 messages as bytes, without I/O: the request we read, the response we write.

The grammar of a request is RFC 9112's, and nothing is let pass that two readers may understand in
two ways: what one of them takes for the end of a request, the other may take for its middle, and so
a proxy before us could be made to send a stranger's request. Refused are bare line feeds, folded
lines, blanks before a colon, control characters, two lengths even if they are equal, a length
beside `Transfer-Encoding`, and that header in HTTP/1.0.

It is a regular expression, not a parser's callbacks: as fast (measured, with ten headers), and
where a request ends is known before anything of it is read.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Final, TypeAlias

import attrs
from hypercorn.config import Config

if TYPE_CHECKING:
    from collections.abc import Sequence

Header: TypeAlias = tuple[bytes, bytes]

#: Instead of the bytes of a body: it comes in chunks.
CHUNKED: Final = -1
#: Of a response: it ends where the connection ends.
UNTIL_CLOSE: Final = -2
#: Of a response: none follows, whatever the headers say.
BODILESS: Final = -3

_TOKEN: Final = rb"[-!#$%&'*+.^_`|~0-9A-Za-z]+"
_FIELD_LINE: Final = _TOKEN + rb":[\t -~\x80-\xff]*\r\n"
_HEAD: Final = re.compile(
    rb"(%b) ([!-~]+) HTTP/([0-9]\.[0-9])\r\n((?:%b)*)\r\n" % (_TOKEN, _FIELD_LINE)
)
#: Only where `_HEAD` has matched: it does not look twice.
_FIELD: Final = re.compile(rb"([^:]+):[\t ]*([^\r]*)\r\n")
_LENGTH: Final = re.compile(rb"[0-9]{1,18}")
FIELD_LINE: Final = re.compile(_FIELD_LINE)

_VERSIONS: Final = {b"1.1": "1.1", b"1.0": "1.0"}
_BAD_REQUEST: Final = 400
_NOT_IMPLEMENTED: Final = 501
_HTTP_VERSION_NOT_SUPPORTED: Final = 505
_BODILESS_STATUSES: Final = frozenset({204, 304})
_FRAMING: Final = frozenset({b"content-length", b"transfer-encoding"})


class RefusedError(Exception):
    """This is no request that can be answered but with `status`."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


@attrs.define(eq=False)
class RequestHead:
    """What a request says before its body."""

    method: str
    #: As it was sent.
    target: bytes
    #: `1.1` or `1.0`.
    version: str
    #: Lower-case names, in the order in which they came.
    headers: list[Header]
    #: Bytes of the body, or `CHUNKED`.
    length: int
    #: The client may send another request on this connection.
    keeps_alive: bool
    #: The client waits for `100 Continue` before it sends the body.
    expects_continue: bool
    #: Another protocol is offered; which one is to be looked up.
    offers_upgrade: bool


def read_head(head: bytes) -> RequestHead:
    """Read a head, from the request line up to and with the empty line.

    Raises:
        RefusedError: it is malformed, ambiguous, or of a version that is not spoken here.
    """
    if (match := _HEAD.fullmatch(head)) is None:
        raise RefusedError(_BAD_REQUEST)
    method, target, digits, lines = match.groups()
    if (version := _VERSIONS.get(digits)) is None:
        raise RefusedError(_HTTP_VERSION_NOT_SUPPORTED)
    headers = [(name.lower(), value) for name, value in _FIELD.findall(lines)]
    if b" \r" in lines or b"\t\r" in lines:
        headers = [(name, value.rstrip(b"\t ")) for name, value in headers]
    fields = dict(headers)
    if len(fields) != len(headers):
        fields = _joined(headers)
    is_1_1 = version == "1.1"
    if is_1_1 and b"host" not in fields:
        raise RefusedError(_BAD_REQUEST)
    connection = fields.get(b"connection")
    expected = fields.get(b"expect")
    return RequestHead(
        method.decode("ascii").upper(),
        target,
        version,
        headers,
        _body_length(fields, is_1_1=is_1_1),
        # Kept open for HTTP/1.1 alone, as everybody does by now.
        is_1_1 and (connection is None or b"close" not in _tokens(connection)),
        is_1_1 and expected is not None and b"100-continue" in _tokens(expected),
        b"upgrade" in fields,
    )


def _joined(headers: list[Header]) -> dict[bytes, bytes]:
    """Return the fields by name; what stands several times is joined to one list.

    Raises:
        RefusedError: one of those that must not.
    """
    fields: dict[bytes, bytes] = {}
    for name, value in headers:
        if name not in fields:
            fields[name] = value
        elif name in (b"host", b"content-length"):
            raise RefusedError(_BAD_REQUEST)
        elif name == b"transfer-encoding":
            raise RefusedError(_NOT_IMPLEMENTED)
        else:
            fields[name] += b"," + value
    return fields


def _body_length(fields: dict[bytes, bytes], *, is_1_1: bool) -> int:
    length, coding = fields.get(b"content-length"), fields.get(b"transfer-encoding")
    if coding is not None:
        if length is not None or not is_1_1:
            raise RefusedError(_BAD_REQUEST)
        if coding.lower() != b"chunked":
            raise RefusedError(_NOT_IMPLEMENTED)
        return CHUNKED
    if length is None:
        return 0
    if _LENGTH.fullmatch(length) is None:
        raise RefusedError(_BAD_REQUEST)
    return int(length)


def _tokens(value: bytes) -> list[bytes]:
    return [token.strip() for token in value.lower().split(b",")]


@attrs.define(eq=False)
class OwnHeaders:
    """What the server itself says in every head; made once a second."""

    config: Config
    _lines: bytes = attrs.field(default=b"", init=False)
    _stale_at_s: float = attrs.field(default=0.0, init=False)

    def lines(self) -> bytes:
        """Return whole header lines."""
        now_s = time.monotonic()
        if now_s >= self._stale_at_s:
            self._stale_at_s = now_s + 1.0
            headers = self.config.response_headers("h11")
            self._lines = b"".join([b"%b: %b\r\n" % header for header in headers])
        return self._lines


def interim_head(status: int, headers: Sequence[Header], own: OwnHeaders) -> bytes:
    """Return a head with a status below 200.

    Raises:
        ValueError: a header would break the head.
    """
    return b"HTTP/1.1 %d \r\n%b%b\r\n" % (status, _lines(headers), own.lines())


def response_head(
    status: int,
    headers: Sequence[Header],
    request: RequestHead,
    own: OwnHeaders,
    *,
    closes: bool,
) -> tuple[bytes, int, bool]:
    """Return the head of a response, how its body is framed, and whether another may follow it.

    `headers` have lower-case names. `closes` makes it the last one on its connection, as do
    headers that say so.

    Raises:
        ValueError: a header would break the head, or tells a length that is none.
    """
    fields = dict(headers)
    connection = fields.get(b"connection")
    says_close = connection is not None and b"close" in _tokens(connection)
    keeps_alive = request.keeps_alive and not closes and not says_close
    if not request.keeps_alive and connection is not None:
        headers = [header for header in headers if header[0] != b"connection"]
    elif request.keeps_alive and closes and not says_close:
        headers = [*headers, (b"connection", b"close")]
    if b"transfer-encoding" in fields:  # the framing is the server's to choose
        headers = [header for header in headers if header[0] not in _FRAMING]
        fields = {}
    framing, tail = CHUNKED, b""
    if (length := fields.get(b"content-length")) is not None:
        framing = int(length)
    elif status in _BODILESS_STATUSES:
        pass
    elif request.version == "1.1":
        tail = b"Transfer-Encoding: chunked\r\n"
    else:
        framing = UNTIL_CLOSE
    if status in _BODILESS_STATUSES or request.method == "HEAD":
        framing = BODILESS
    if not request.keeps_alive:
        tail += b"Connection: close\r\n"
    head = b"HTTP/1.1 %d \r\n%b%b%b\r\n" % (status, _lines(headers), own.lines(), tail)
    return head, framing, keeps_alive


def _lines(headers: Sequence[Header]) -> bytes:
    lines = b"".join([b"%b: %b\r\n" % header for header in headers])
    # A line break in a value would begin another header, or another response.
    if not lines.count(b"\n") == lines.count(b"\r") == len(headers) or b"\0" in lines:
        raise ValueError("a header of the response has a line break in it")
    return lines
