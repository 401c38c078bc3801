"""Frames of WebSockets (RFC 6455), written and read here by means of their own.

Nothing of the relay's own reading, nor of the libraries under it, is used, so that it cannot err
the same way. Extensions are not known: nobody in the proof offers any.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Final

import attrs

CONTINUATION: Final = 0x0
TEXT: Final = 0x1
BINARY: Final = 0x2
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA

#: Codes that no frame carries: there was no code in it; there was no frame.
NO_CODE: Final = 1005
BROKEN: Final = 1006

_KNOWN: Final = frozenset({CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG})
_FINAL: Final = 0x80
_RESERVED: Final = 0x70
_MASKED: Final = 0x80
_SHORT_BYTES: Final = 125
_MIDDLE_BYTES: Final = 0xFFFF
_MIDDLE, _LONG = 126, 127
#: RFC 6455, 1.3.
_MAGIC: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
#: Always the same: chance has no place in the proof.
_MASK: Final = b"\x11\x22\x33\x44"


@attrs.frozen
class Frame:
    """One whole frame."""

    opcode: int
    payload: bytes
    final: bool

    @property
    def close_code(self) -> int:
        """Return what a close frame says."""
        return int.from_bytes(self.payload[:2], "big") if len(self.payload) >= 2 else NO_CODE


def accept_of(key: str) -> str:
    """Return the answer to a handshake's key."""
    digest = hashlib.sha1(key.encode("latin-1") + _MAGIC, usedforsecurity=False).digest()
    return base64.b64encode(digest).decode()


def frame(opcode: int, payload: bytes = b"", *, masked: bool = False, final: bool = True) -> bytes:
    """Return a frame as bytes; clients mask theirs."""
    first, mask_bit, size = opcode | (_FINAL if final else 0), masked * _MASKED, len(payload)
    if size <= _SHORT_BYTES:
        head = bytes((first, mask_bit | size))
    elif size <= _MIDDLE_BYTES:
        head = bytes((first, mask_bit | _MIDDLE)) + size.to_bytes(2, "big")
    else:
        head = bytes((first, mask_bit | _LONG)) + size.to_bytes(8, "big")
    return head + _MASK + _masked(payload, _MASK) if masked else head + payload


def close(code: int, *, masked: bool = False) -> bytes:
    """Return a close frame as bytes."""
    return frame(CLOSE, code.to_bytes(2, "big"), masked=masked)


@attrs.define
class FrameReader:
    """Reads one side's frames from bytes that come bit by bit."""

    #: They are a client's, which must be masked; a server's must not.
    masked: bool
    #: What is wrong with them; nothing is read behind that.
    broken: str | None = None
    _data: bytearray = attrs.field(factory=bytearray, init=False)

    @property
    def rest(self) -> bytes:
        """What has come of a frame that is not whole."""
        return bytes(self._data)

    def feed(self, data: bytes) -> list[Frame]:
        """Return the frames that are whole now."""
        self._data += data
        found: list[Frame] = []
        while self.broken is None and (one := self._next()) is not None:
            found.append(one)
        return found

    def _next(self) -> Frame | None:
        data = self._data
        if len(data) < 2:
            return None
        opcode, final = data[0] & 0x0F, bool(data[0] & _FINAL)
        size, at = data[1] & 0x7F, 2
        if opcode not in _KNOWN or data[0] & _RESERVED:
            self.broken = f"a frame that begins with {data[0]:#x}"
        elif bool(data[1] & _MASKED) != self.masked:
            self.broken = "a frame that is masked the wrong way"
        elif opcode >= CLOSE and (size > _SHORT_BYTES or not final):
            self.broken = "a control frame that is too long or has no end"
        if self.broken is not None:
            return None
        if size >= _MIDDLE:
            length = 2 if size == _MIDDLE else 8
            if len(data) < at + length:
                return None
            size, at = int.from_bytes(data[at : at + length], "big"), at + length
        mask, at = (bytes(data[at : at + 4]), at + 4) if self.masked else (b"", at)
        if len(data) < at + size:
            return None
        payload = bytes(data[at : at + size])
        del data[: at + size]
        return Frame(opcode, _masked(payload, mask) if self.masked else payload, final)


def _masked(payload: bytes, mask: bytes) -> bytes:
    size = len(payload)
    whole = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(whole, "big")).to_bytes(size, "big")


@attrs.define
class Texts:
    """Puts text messages together from their frames."""

    _begun: bytearray | None = None

    def add(self, one: Frame) -> bytes | None:
        """Return the message that is whole with this frame, which is no control frame.

        Raises:
            ValueError: it does not go on with what has begun, or the message is no text.
        """
        if (one.opcode == CONTINUATION) != (self._begun is not None) or one.opcode == BINARY:
            raise ValueError(f"a frame of kind {one.opcode} where it does not belong")
        self._begun = (self._begun or bytearray()) + one.payload
        if not one.final:
            return None
        text, self._begun = bytes(self._begun), None
        text.decode()
        return text


def texts_of(wire: bytes) -> list[bytes]:
    """Return the whole text messages in a server's frames, up to what is none."""
    texts = Texts()
    found = []
    for one in FrameReader(masked=False).feed(wire):
        if one.opcode >= CLOSE:
            continue
        try:
            text = texts.add(one)
        except ValueError:
            break
        if text is not None:
            found.append(text)
    return found
