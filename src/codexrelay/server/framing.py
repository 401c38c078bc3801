"""The frames of a WebSocket, server's side, without any I/O (RFC 6455 and 7692).

`FrameReader` turns what a client sent into messages and control frames, whatever the borders at
which it came; `text_frames` and `close_frame` are what we send.

It is ours because wsproto (1.3) counts a message's length in characters, inflates without a bound,
and loses the compression of a fragmented message at a ping between its fragments.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Final, TypeAlias

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

#: The ordinary end.
NORMAL: Final = 1000
#: Nothing more is served here: the relay stops, or the WebSocket was idle for too long.
GOING_AWAY: Final = 1001
#: The frames break RFC 6455.
PROTOCOL_ERROR: Final = 1002
#: A binary message, where only text is understood.
UNSUPPORTED: Final = 1003
#: Never sent: the close frame had no code.
NO_CODE: Final = 1005
#: Never sent: there was no close frame.
BROKEN: Final = 1006
#: Text that is no UTF-8, or compressed data that cannot be inflated.
BAD_DATA: Final = 1007
#: What the client does is not allowed here.
POLICY: Final = 1008
#: A message over the limit.
TOO_BIG: Final = 1009
#: The relay failed.
INTERNAL: Final = 1011

#: A ping without a payload.
PING: Final = b"\x89\x00"

_CONTINUATION: Final = 0
_TEXT: Final = 1
_BINARY: Final = 2
_CLOSE: Final = 8
_PING: Final = 9
_PONG: Final = 10
_OPCODES: Final = frozenset({_CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _PONG})
_FIN: Final = 0x80
#: Reserved bits; the first of them means "compressed" where that was agreed.
_RSV: Final = 0x70
_COMPRESSED: Final = 0x40
_MASKED: Final = 0x80
_IS_CONTROL: Final = 8
#: Of a control frame's payload.
_CONTROL_BYTES: Final = 125
_REASON_BYTES: Final = _CONTROL_BYTES - 2
#: Values of the 7-bit length: the real one is in the next 2, or 8, bytes.
_IN_TWO_BYTES: Final = 126
_IN_EIGHT_BYTES: Final = 127
#: Codes a client may send: 1004 to 1006 and 1015 are never on the wire, and 1016 to 2999 undefined.
_CODES: Final = frozenset({*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)})
#: What a compressed message lacks at its end (RFC 7692, 7.2.2).
_TAIL: Final = b"\x00\x00\xff\xff"
#: Unmasked at once, a multiple of the mask's length; more than this misses the CPU's caches.
_UNMASK_BYTES: Final = 32768
#: Compressing what cannot be compressed makes it longer: by a 64th at most, with any sane zlib.
_EXPANSION: Final = 64


class Violation(Exception):  # noqa: N818  (an answer: close with this code)
    """The client has broken the protocol, or a limit; nothing behind that can be understood."""

    def __init__(self, code: int, reason: str) -> None:
        """Tell what to close with."""
        super().__init__(code, reason)
        self.code = code
        self.reason = reason


@attrs.frozen
class Message:
    """A whole message: text, or bytes if it was a binary one."""

    data: str | bytes


@attrs.frozen
class Ping:
    """To be answered by a pong with the same payload."""

    payload: bytes


@attrs.frozen
class Close:
    """The client's last frame. `code` is `NO_CODE` if it gave none."""

    code: int
    reason: str


Received: TypeAlias = Message | Ping | Close


@attrs.define(eq=False)
class Inflater:
    """The client's side of permessage-deflate: one window over all of its messages, or one each."""

    #: The client begins each message with an empty window (`client_no_context_takeover`).
    forgets: bool = False
    #: None until a compressed message comes: the window is 40 KiB.
    _window: zlib._Decompress | None = attrs.field(default=None, init=False)

    def inflate(self, data: bytes, *, most_bytes: int) -> bytes:
        """Return what `data` stands for.

        Raises:
            Violation: it is no deflated data (1007), or more than `most_bytes` (1009); then it was
                inflated no further.
        """
        parts: list[bytes] = []
        while data:
            window = self._window = self._window or zlib.decompressobj(-zlib.MAX_WBITS)
            try:
                part = window.decompress(data, most_bytes + 1)
            except zlib.error:
                raise Violation(BAD_DATA, "the compressed data cannot be inflated") from None
            if len(part) > most_bytes:
                raise Violation(TOO_BIG, "the message is too big")
            most_bytes -= len(part)
            parts.append(part)
            if not window.eof:
                break
            # A block marked as the last one, which some compressors make at each flush.
            data = window.unused_data
            self._window = None
        return b"".join(parts)

    def end_message(self, *, most_bytes: int) -> bytes:
        """Return what was still to come of the message.

        Raises:
            Violation: as `inflate` does.
        """
        rest = self.inflate(_TAIL, most_bytes=most_bytes)
        if self.forgets:
            self._window = None
        return rest


@attrs.define(eq=False)
class FrameReader:
    """Reads a client's frames."""

    #: Of a message, after inflating.
    limit_bytes: int
    #: None: compression was not agreed on.
    _inflater: Inflater | None = None
    #: What is not understood yet: the beginning of a frame's head, or of a control frame.
    _unread: bytearray = attrs.field(factory=bytearray, init=False)
    #: Of the message that has begun; None between messages.
    _opcode: int | None = attrs.field(default=None, init=False)
    _compressed: bool = attrs.field(default=False, init=False)
    #: What has come of it, inflated.
    _message: bytearray = attrs.field(factory=bytearray, init=False)
    #: What has come of it on the wire.
    _wire_bytes: int = attrs.field(default=0, init=False)
    #: Of the data frame whose payload is coming: what is still to come, None between frames.
    _left_bytes: int | None = attrs.field(default=None, init=False)
    #: It is the last of its message.
    _fin: bool = attrs.field(default=False, init=False)
    #: Its mask, beginning with the byte that is next.
    _mask: bytes = attrs.field(default=b"", init=False)
    #: The client's close frame was read; what follows means nothing.
    _closed: bool = attrs.field(default=False, init=False)

    def feed(self, data: bytes) -> Iterator[Received]:
        """Take what was received, and yield what is complete now; to be iterated to its end.

        Raises:
            Violation: the client has broken the protocol or the limit. Everything before that has
                been yielded; the reader is of no more use.
        """
        self._unread += data
        while not self._closed:
            if self._left_bytes is None:
                if (control := self._read_head()) is not None:
                    yield control
                    continue
                if self._left_bytes is None:
                    return
            self._read_payload(self._left_bytes)
            if self._left_bytes:
                return
            self._left_bytes = None
            if self._fin:
                yield self._end_message()

    def _read_head(self) -> Received | None:
        """Read the head of a frame, all of one that is a control frame.

        Returns None where more must come, and when the payload of a data frame is next.
        """
        unread = self._unread
        while len(unread) > 1:
            first, second = unread[0], unread[1]
            opcode, fin, length = first & 0x0F, bool(first & _FIN), second & 0x7F
            self._check_head(first, second)
            ends = 2 + {_IN_TWO_BYTES: 2, _IN_EIGHT_BYTES: 8}.get(length, 0)
            if len(unread) < ends:
                return None
            if length >= _IN_TWO_BYTES:
                length = _long_length(bytes(unread[2:ends]))
            if not opcode & _IS_CONTROL:
                self._check_length(length)
                if len(unread) < ends + 4:
                    return None
                if opcode != _CONTINUATION:
                    self._opcode, self._compressed = opcode, bool(first & _COMPRESSED)
                self._fin, self._left_bytes = fin, length
                self._mask = bytes(unread[ends : ends + 4])
                self._wire_bytes += length
                del unread[: ends + 4]
                return None
            if len(unread) < ends + 4 + length:
                return None
            payload = unmasked(
                bytes(unread[ends + 4 : ends + 4 + length]), bytes(unread[ends : ends + 4])
            )
            del unread[: ends + 4 + length]
            if opcode == _PING:
                return Ping(payload)
            if opcode == _CLOSE:
                self._closed = True
                unread.clear()
                return _closed_with(payload)
            # A pong, wanted or not: that it came is all that it says.
        return None

    def _check_head(self, first: int, second: int) -> None:
        opcode, reserved = first & 0x0F, first & _RSV
        if opcode not in _OPCODES:
            raise Violation(PROTOCOL_ERROR, f"opcode {opcode} is not defined")
        if not second & _MASKED:
            raise Violation(PROTOCOL_ERROR, "a client's frame must be masked")
        if opcode & _IS_CONTROL:
            if not first & _FIN or second & 0x7F > _CONTROL_BYTES:
                raise Violation(PROTOCOL_ERROR, "a control frame must be whole and short")
        elif (opcode == _CONTINUATION) is (self._opcode is None):
            raise Violation(PROTOCOL_ERROR, "a message begins inside another, or not at all")
        may_be_compressed = self._inflater is not None and opcode in (_TEXT, _BINARY)
        if reserved and not (reserved == _COMPRESSED and may_be_compressed):
            raise Violation(PROTOCOL_ERROR, "a reserved bit is set")

    def _check_length(self, length: int) -> None:
        """Refuse a message by what its frames announce, before they come."""
        most = self.limit_bytes
        if self._inflater is not None:  # else it is the length of the message
            most += most // _EXPANSION + _EXPANSION
        if self._wire_bytes + length > most:
            raise Violation(TOO_BIG, "the message is too big")

    def _read_payload(self, left: int) -> None:
        data = bytes(self._unread[:left])
        del self._unread[:left]
        if data:
            self._left_bytes = left - len(data)
            mask, turned = self._mask, len(data) % 4
            self._mask = mask[turned:] + mask[:turned]
            data = unmasked(data, mask)
            if self._compressed and self._inflater is not None:
                data = self._inflater.inflate(data, most_bytes=self._room_bytes)
            self._add(data)

    def _end_message(self) -> Message:
        if self._compressed and self._inflater is not None:
            self._add(self._inflater.end_message(most_bytes=self._room_bytes))
        data, opcode = self._message, self._opcode
        self._message, self._opcode, self._wire_bytes = bytearray(), None, 0
        if opcode == _BINARY:
            return Message(bytes(data))
        try:
            return Message(data.decode())
        except UnicodeDecodeError:
            raise Violation(BAD_DATA, "the text is not valid UTF-8") from None

    @property
    def _room_bytes(self) -> int:
        return self.limit_bytes - len(self._message)

    def _add(self, data: bytes) -> None:
        if len(data) > self._room_bytes:
            raise Violation(TOO_BIG, "the message is too big")
        self._message += data


def unmasked(data: bytes, mask: bytes) -> bytes:
    """Return `data` without, or with, its mask of four bytes."""
    size = len(data)
    if size > _UNMASK_BYTES:
        pieces = range(0, size, _UNMASK_BYTES)
        return b"".join(unmasked(data[start : start + _UNMASK_BYTES], mask) for start in pieces)
    key = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(data, "little") ^ int.from_bytes(key, "little")).to_bytes(size, "little")


def text_frames(texts: Sequence[bytes]) -> bytes:
    """Return one text message each, not compressed, as one piece.

    What is no UTF-8 in them is replaced: a client would have to close at it.
    """
    parts: list[bytes] = []
    for text in texts:
        if not text.isascii():
            text = _as_utf8(text)
        size = len(text)
        parts.append(_TEXT_HEADS[size] if size < _READY_HEADS else _head(_TEXT, size))
        parts.append(text)
    return b"".join(parts)


def binary_frame(data: bytes) -> bytes:
    """Return a binary message."""
    return _head(_BINARY, len(data)) + data


def pong_frame(payload: bytes) -> bytes:
    """Return the answer to a ping."""
    return _head(_PONG, len(payload)) + payload


def close_frame(code: int, reason: str = "") -> bytes:
    """Return a close frame; codes that may not be on the wire are left out."""
    payload = b""
    if code in _CODES:
        # Cut between characters.
        text = reason.encode()[:_REASON_BYTES].decode(errors="ignore")
        payload = code.to_bytes(2) + text.encode()
    return _head(_CLOSE, len(payload)) + payload


def _head(opcode: int, size: int) -> bytes:
    """Return the head of an unmasked frame that is a whole message."""
    first = _FIN | opcode
    if size < _IN_TWO_BYTES:
        return bytes((first, size))
    if size < 1 << 16:
        return bytes((first, _IN_TWO_BYTES)) + size.to_bytes(2)
    return bytes((first, _IN_EIGHT_BYTES)) + size.to_bytes(8)


#: Most events are not longer; making their heads each time costs as much as all the rest.
_READY_HEADS: Final = 1024
_TEXT_HEADS: Final = tuple(_head(_TEXT, size) for size in range(_READY_HEADS))


def _as_utf8(text: bytes) -> bytes:
    try:
        text.decode()
    except UnicodeDecodeError:
        return text.decode(errors="replace").encode()
    return text


def _long_length(field: bytes) -> int:
    length = int.from_bytes(field)
    shortest = _IN_TWO_BYTES if len(field) == 2 else 1 << 16
    if length < shortest or length >= 1 << 63:
        raise Violation(PROTOCOL_ERROR, "the length of a frame is not encoded as it must be")
    return length


def _closed_with(payload: bytes) -> Close:
    if not payload:
        return Close(NO_CODE, "")
    code = int.from_bytes(payload[:2])
    if len(payload) == 1 or code not in _CODES:
        raise Violation(PROTOCOL_ERROR, "that is no code to close with")
    try:
        return Close(code, payload[2:].decode())
    except UnicodeDecodeError:
        raise Violation(BAD_DATA, "the reason is not valid UTF-8") from None
