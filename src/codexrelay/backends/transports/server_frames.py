"""What a WebSocket server sends: its frames as messages, without I/O (RFC 6455, section 5)."""

from __future__ import annotations

from collections import deque
from typing import Final

import attrs

from codexrelay.backends.websocket import NO_CODE, Closed, Message

# Codes of close frames (RFC 6455, 7.4.1).
PROTOCOL_ERROR: Final = 1002
INVALID_DATA: Final = 1007
TOO_BIG: Final = 1009

#: Most bytes of pings and pongs that may wait for an answer.
MAX_CONTROL_BYTES: Final = 64 * 1024

# The first byte of a frame: FIN, three bits of extensions that we never agree on, and the kind.
_FIN: Final = 0x80
_EXTENSIONS: Final = 0x70
_CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
_CONTROL: Final = 0x8
_WHOLE_TEXT: Final = _FIN | _TEXT
# The second byte: whether it is masked, which a server's never is, and its length if that is short.
_MASKED: Final = 0x80
_SHORT_BYTES: Final = 125
_IN_TWO: Final = 126
_IN_EIGHT: Final = 127


@attrs.define(eq=False)
class ServerFrames:
    """Reads the frames of one connection out of the blocks that it gives.

    Made for what the backend sends: many short texts, unmasked, uncompressed, one frame each, many
    to a block. Such a frame costs 1 us here, and 23 us in wsproto 1.3.2, with which
    trio-websocket reads (both measured). What concerns the connection itself, pings, pongs and the
    close frame, is only picked out: `control` has those frames as they came, for whoever answers.

    Being fed never raises. Behind a close frame, and behind a mistake of the server's, nothing more
    is read.
    """

    #: Of one message, in bytes as they are sent.
    max_message_bytes: int
    #: In the order in which they came; the reader takes them out.
    messages: deque[Message] = attrs.field(factory=deque)
    #: Frames that are no data, as they came.
    control: bytearray = attrs.field(factory=bytearray)
    #: The server has closed the WebSocket; or we must, because of a mistake that this tells.
    closed: Closed | None = None
    #: It made a mistake: `closed` is what it has to be told.
    failed: bool = False
    #: How much has come since `messages` was empty.
    waiting_bytes: int = 0

    # An unfinished frame: the blocks that hold it, their size, and the size that is worth a look.
    _blocks: list[bytes] = attrs.field(factory=list)
    _held_bytes: int = 0
    _wanted_bytes: int = 0
    # An unfinished message: what its frames said, and whether it is a text; None outside of one.
    _parts: list[bytes] = attrs.field(factory=list)
    _parts_bytes: int = 0
    _is_text: bool | None = None

    def feed(self, block: memoryview) -> None:
        """Read what one receive gave. `block` is not kept."""
        if self.closed is not None:
            return
        data = bytes(block)
        self.waiting_bytes = self.waiting_bytes + len(data) if self.messages else len(data)
        if self._blocks:
            self._blocks.append(data)
            self._held_bytes += len(data)
            if self._held_bytes < self._wanted_bytes:
                return
            data = b"".join(self._blocks)
            self._blocks.clear()
        at, size = 0, len(data)
        wanted = 2
        messages = self.messages
        room_bytes = self.max_message_bytes - self._parts_bytes
        while size - at >= 2:
            first, length = data[at], data[at + 1]
            begin = at + 2
            if length == _IN_TWO and size - begin >= 2:  # nearly all of them
                length = data[begin] << 8 | data[begin + 1]
                begin += 2
                sound = _SHORT_BYTES < length <= room_bytes and not first & _CONTROL
                if not sound and not self._may_be(first, _IN_TWO, length):
                    return
            elif length > _SHORT_BYTES:
                begin += 2 if length == _IN_TWO else 8
                if begin > size and length <= _IN_EIGHT:
                    wanted = begin - at
                    break
                told = int.from_bytes(data[at + 2 : begin])
                if not self._may_be(first, length, told):
                    return
                length = told
            end = begin + length
            if end > size:
                wanted = end - at
                break
            if first == _WHOLE_TEXT and self._is_text is None:
                try:
                    messages.append(data[begin:end].decode())
                except UnicodeDecodeError:
                    self._fail(INVALID_DATA, "a text that is no UTF-8")
                    return
            else:
                if not self._take(first, data[at:end], data[begin:end]):
                    return
            at = end
        if at < size:
            self._blocks.append(data[at:])
            self._held_bytes = size - at
            self._wanted_bytes = wanted

    def take_control(self) -> bytes:
        """Return the frames that are no data, which are gone then."""
        taken = bytes(self.control)
        self.control.clear()
        return taken

    def _may_be(self, first: int, length: int, told: int) -> bool:
        """Return whether a frame may have the length that is told in bytes of its own."""
        if length & _MASKED:
            return self._fail(PROTOCOL_ERROR, "a masked frame")
        if first & _CONTROL:
            return self._fail(PROTOCOL_ERROR, "a long control frame")
        if told <= (_SHORT_BYTES if length == _IN_TWO else 0xFFFF):
            return self._fail(PROTOCOL_ERROR, "a length that is longer than it needs to be")
        return self._has_room_for(told)

    def _has_room_for(self, more_bytes: int) -> bool:
        if self._parts_bytes + more_bytes <= self.max_message_bytes:
            return True
        return self._fail(TOO_BIG, f"a message of more than {self.max_message_bytes} bytes")

    # Each of these returns whether more may be read.

    def _take(self, first: int, frame: bytes, payload: bytes) -> bool:
        """Take a frame that is not a text of its own."""
        kind = first & 0x0F
        if first & _EXTENSIONS:
            return self._fail(PROTOCOL_ERROR, "a frame of an extension that was not agreed on")
        if kind in (_PING, _PONG, _CLOSE):
            return self._take_control_frame(first, frame, payload)
        if kind not in (_CONTINUATION, _TEXT, _BINARY):
            return self._fail(PROTOCOL_ERROR, f"a frame of the unknown kind {kind}")
        if kind == _CONTINUATION and self._is_text is None:
            return self._fail(PROTOCOL_ERROR, "a continuation of nothing")
        if kind != _CONTINUATION and self._is_text is not None:
            return self._fail(PROTOCOL_ERROR, "a message in the middle of another")
        return self._take_part(first, kind, payload)

    def _take_control_frame(self, first: int, frame: bytes, payload: bytes) -> bool:
        if not first & _FIN:
            return self._fail(PROTOCOL_ERROR, "a fragmented control frame")
        if len(self.control) + len(frame) > MAX_CONTROL_BYTES:
            return self._fail(PROTOCOL_ERROR, "more pings than can be answered")
        if first & 0x0F == _CLOSE:
            return self._take_close_frame(frame, payload)
        self.control += frame
        return True

    def _take_close_frame(self, frame: bytes, payload: bytes) -> bool:
        code = int.from_bytes(payload[:2]) if payload else NO_CODE
        try:
            reason = str(payload[2:], "utf-8")
        except UnicodeDecodeError:
            return self._fail(INVALID_DATA, "a reason that is no UTF-8")
        if payload and not _may_be_sent(code):
            return self._fail(PROTOCOL_ERROR, "a close frame without a valid code")
        self.control += frame
        self.closed = Closed(code, reason)
        return False

    def _take_part(self, first: int, kind: int, payload: bytes) -> bool:
        """Take a frame of a message that has several, or is binary."""
        if not self._has_room_for(len(payload)):
            return False
        if kind != _CONTINUATION:
            self._is_text = kind == _TEXT
        self._parts.append(payload)
        self._parts_bytes += len(payload)
        if first & _FIN:
            whole = b"".join(self._parts)
            try:
                self.messages.append(str(whole, "utf-8") if self._is_text else whole)
            except UnicodeDecodeError:
                return self._fail(INVALID_DATA, "a text that is no UTF-8")
            self._parts.clear()
            self._parts_bytes = 0
            self._is_text = None
        return True

    def _fail(self, code: int, what: str) -> bool:
        self.failed = True
        self.closed = Closed(code, f"the server sent {what}")
        self._blocks.clear()
        self._parts.clear()
        return False


def _may_be_sent(code: int) -> bool:
    """Return whether a close frame may have this code (RFC 6455, 7.4)."""
    return 1000 <= code < 5000 and code not in (1004, 1005, 1006, 1015)
