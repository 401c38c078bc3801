"""A WebSocket as bytes, as its server writes them: the answer to the handshake, and frames."""

from __future__ import annotations

import base64
import hashlib
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from wsproto.frame_protocol import Opcode

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from harness.simulator.steps import Headers

#: RFC 6455, 1.3.
_MAGIC: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_FINAL: Final = 0x80
_SHORT_BYTES: Final = 125
_MIDDLE_BYTES: Final = 0xFFFF
#: The status of a WebSocket.
SWITCHED: Final = 101


def is_upgrade(headers: Iterable[tuple[str, str]]) -> bool:
    """Tell whether a request, whose names are in lower case, asks for a WebSocket."""
    named = dict(headers)
    return named.get("upgrade", "").lower() == "websocket" and "sec-websocket-key" in named


def head(status: int, headers: Iterable[tuple[str, str]]) -> bytes:
    """Return the head of an answer."""
    try:
        reason = HTTPStatus(status).phrase
    except ValueError:
        reason = ""
    lines = [f"HTTP/1.1 {status} {reason}", *(f"{name}: {value}" for name, value in headers)]
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode("latin-1")


def handshake_headers(asked: Iterable[tuple[str, str]], more: Headers) -> Headers:
    """Return the headers of the 101 that answers a request; no extension is agreed to."""
    key = dict(asked).get("sec-websocket-key", "").encode("latin-1")
    accept = base64.b64encode(hashlib.sha1(key + _MAGIC, usedforsecurity=False).digest())
    return (
        ("upgrade", "websocket"),
        ("connection", "Upgrade"),
        ("sec-websocket-accept", accept.decode()),
        *more,
    )


def frame(opcode: Opcode, data: bytes) -> bytes:
    """Return an unmasked frame of a whole message, whatever it holds."""
    # Not wsproto's: that one refuses what a fault may want to say, such as a text in no UTF-8.
    return frame_head(opcode, len(data)) + data


def frame_head(opcode: Opcode, size_bytes: int) -> bytes:
    """Return what stands before the data of such a frame."""
    if size_bytes <= _SHORT_BYTES:
        return bytes((_FINAL | opcode, size_bytes))
    if size_bytes <= _MIDDLE_BYTES:
        return bytes((_FINAL | opcode, 126)) + size_bytes.to_bytes(2, "big")
    return bytes((_FINAL | opcode, 127)) + size_bytes.to_bytes(8, "big")


def close_frame(code: int | None, reason: bytes = b"") -> bytes:
    """Return a close frame; without a code it says nothing."""
    return frame(Opcode.CLOSE, b"" if code is None else code.to_bytes(2, "big") + reason)


def encoded(data: str | bytes | bytearray) -> bytes | bytearray:
    """Return a part of a message as it came over the wire."""
    return data.encode() if isinstance(data, str) else data


def joined(parts: Sequence[str | bytes | bytearray]) -> str | bytes:
    """Return the message of some parts, which are all texts or all bytes."""
    texts = [part for part in parts if isinstance(part, str)]
    if texts:  # one of no letters is a text as well
        return "".join(texts)
    return b"".join(part for part in parts if not isinstance(part, str))
