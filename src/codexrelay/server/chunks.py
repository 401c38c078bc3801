"""The body of a request that comes in chunks (RFC 9112, 7.1), without I/O."""

from __future__ import annotations

import enum
import re
from typing import Final

import attrs

from codexrelay.server.heads import FIELD_LINE, RefusedError

#: Of the line before a chunk; extensions are read over.
_LINE_BYTES: Final = 4096
#: Of all trailer fields, which are read over too.
_TRAILER_BYTES: Final = 16384
#: What frames a message has no place in its trailer (RFC 9110, 6.5.1); some readers obey it there.
_FRAMING: Final = re.compile(rb"(?:content-length|transfer-encoding):", re.IGNORECASE)
_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,16})(?:;[\t -~\x80-\xff]*)?")
_BAD_REQUEST: Final = 400


class _At(enum.Enum):
    SIZE = enum.auto()
    DATA = enum.auto()
    #: The line break behind a chunk.
    END_OF_DATA = enum.auto()
    TRAILER = enum.auto()


@attrs.define(eq=False)
class ChunkedReader:
    """Takes the bytes of a body as they come. As strict as `heads`, and for the same reason."""

    _at: _At = attrs.field(default=_At.SIZE, init=False)
    #: Of the chunk, still to come.
    _left: int = attrs.field(default=0, init=False)
    #: The beginning of a line of which the end is still to come.
    _begun: bytes = attrs.field(default=b"", init=False)
    _trailer_bytes: int = attrs.field(default=0, init=False)

    def feed(self, data: bytes) -> tuple[bytes, bytes | None]:
        """Take what has come.

        Returns the part of the body in it, and what follows the body: None while that goes on.

        Raises:
            RefusedError: it is malformed.
        """
        data = self._begun + data
        pieces: list[bytes] = []
        start, behind = 0, None
        while behind is None:
            match self._at:
                case _At.DATA:
                    piece = data[start : start + self._left]
                    pieces.append(piece)
                    start += len(piece)
                    self._left -= len(piece)
                    if self._left:
                        break
                    self._at = _At.END_OF_DATA
                case _At.END_OF_DATA:
                    if (line_break := data[start : start + 2]) != b"\r\n":
                        if line_break not in (b"", b"\r"):
                            raise RefusedError(_BAD_REQUEST)
                        break
                    start += 2
                    self._at = _At.SIZE
                case _:
                    end = data.find(b"\n", start) + 1
                    self._check_length((end or len(data)) - start)
                    if not end:
                        break
                    if self._take_line(data[start:end]):
                        behind = data[end:]
                    start = end
        self._begun = data[start:]
        return b"".join(pieces), behind

    def _take_line(self, line: bytes) -> bool:
        """Tell whether this is the body's last line."""
        if self._at is _At.SIZE:
            match = _SIZE.fullmatch(line, 0, len(line) - 2)
            if match is None or not line.endswith(b"\r\n"):
                raise RefusedError(_BAD_REQUEST)
            self._left = int(match[1], 16)
            self._at = _At.DATA if self._left else _At.TRAILER
            return False
        self._trailer_bytes += len(line)
        if line == b"\r\n":
            return True
        if FIELD_LINE.fullmatch(line) is None or _FRAMING.match(line) is not None:
            raise RefusedError(_BAD_REQUEST)
        return False

    def _check_length(self, line_bytes: int) -> None:
        in_trailer = self._at is _At.TRAILER
        if line_bytes + self._trailer_bytes > (_TRAILER_BYTES if in_trailer else _LINE_BYTES):
            raise RefusedError(_BAD_REQUEST)
