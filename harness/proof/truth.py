"""What is true of an exchange, read by other means than the relay's: HTTP/1.1, events, messages.

Nothing of the relay's own reading is used here, so that it cannot err the same way.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import attrs

if TYPE_CHECKING:
    from collections.abc import Sequence

#: A parsed event's payload.
Payload: TypeAlias = dict[str, object]

_BLANK: Final = b"\r\n\r\n"
#: Where an event of a stream ends.
_EVENT_END: Final = re.compile(rb"\r?\n\r?\n")
TERMINAL: Final = frozenset(
    {"response.completed", "response.incomplete", "response.failed", "error", "response.done"}
)
_HANDSHAKES: Final = frozenset({"response.created", "response.in_progress", "response.queued"})


@attrs.frozen(kw_only=True)
class Message:
    """An answer, as far as it came."""

    #: None while the head is not there.
    status: int | None = None
    headers: dict[str, str] = attrs.field(factory=dict)
    body: bytes = b""
    #: It has come to its proper end.
    whole: bool = False
    #: It is none as it should be, or something stands behind its end.
    broken: str | None = None
    #: What carried it.
    over: Literal["http", "socket"] = "http"


def read_message(wire: bytes | bytearray) -> Message:
    """Return the answer that these bytes are; interim answers before it are skipped."""
    data = bytes(wire)
    while True:
        head, blank, rest = data.partition(_BLANK)
        if not blank:
            return Message()
        status_line, *lines = head.split(b"\r\n")
        match = re.fullmatch(rb"HTTP/1\.1 (\d{3})(?: .*)?", status_line)
        if match is None:
            return Message(broken=f"a status line {status_line!r}")
        status = int(match[1])
        if status >= 200:
            break
        data = rest
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon:
            return Message(status=status, broken=f"a header {line!r}")
        headers[name.decode("latin-1").lower()] = value.strip().decode("latin-1")
    if headers.get("transfer-encoding") == "chunked":
        body, whole, broken = _unchunked(rest)
    elif "content-length" in headers:
        length = int(headers["content-length"])
        body, whole = rest[:length], len(rest) >= length
        broken = "bytes behind the end of its body" if len(rest) > length else None
    else:
        body, whole, broken = rest, False, None
    return Message(status=status, headers=headers, body=body, whole=whole, broken=broken)


def _unchunked(data: bytes) -> tuple[bytes, bool, str | None]:
    out: list[bytes] = []
    at = 0
    while True:
        line_end = data.find(b"\r\n", at)
        if line_end < 0:
            break
        try:
            size = int(data[at:line_end], 16)
        except ValueError:
            return b"".join(out), False, f"a chunk size {data[at:line_end]!r}"
        at = line_end + 2
        if size == 0:
            if data[at : at + 2] != b"\r\n":
                break
            behind = data[at + 2 :]
            return b"".join(out), True, "bytes behind the last chunk" if behind else None
        out.append(data[at : at + size])
        at += size
        if len(data) < at + 2:
            break
        if data[at : at + 2] != b"\r\n":
            return b"".join(out), False, "a chunk that is longer than it says"
        at += 2
    return b"".join(out), False, None


def is_whole(wire: bytes | bytearray) -> bool:
    """Tell whether an answer has come to its proper end, or can come to none."""
    if wire.endswith(b"0\r\n\r\n") or b"content-length:" in wire[:4096].lower():
        message = read_message(wire)
        return message.whole or message.broken is not None
    return False


@attrs.frozen
class Event:
    """One whole event."""

    #: Its bytes without the blank line.
    raw: bytes
    #: Its data lines, joined.
    data: bytes

    @property
    def payload(self) -> Payload | None:
        """Return its data, None if that is no JSON object."""
        try:
            value = json.loads(self.data)
        except ValueError:
            return None
        return value if isinstance(value, dict) else None

    @property
    def name(self) -> str:
        """Return the `type` in its data, else what its event line says; empty for neither."""
        payload = self.payload
        told = payload.get("type") if payload is not None else None
        if isinstance(told, str):
            return told
        named = re.search(rb"^event: ?(.*?)\r?$", self.raw, re.MULTILINE)
        return named[1].decode() if named is not None else ""


def events_of(body: bytes) -> list[Event]:
    """Return the whole events of a stream, in order. Comments are none; a rest is dropped."""
    found, at = [], 0
    for end in _EVENT_END.finditer(body):
        raw, at = body[at : end.start()], end.end()
        lines = raw.splitlines()
        data = [line[5:].removeprefix(b" ") for line in lines if line.startswith(b"data:")]
        if data:
            found.append(Event(raw, b"\n".join(data)))
    return found


def is_output(event: Event) -> bool:
    """Tell whether an event commits a turn: the model has begun to answer, or ended well."""
    name = event.name
    return (
        event.payload is not None
        and name.startswith("response.")
        and name not in _HANDSHAKES
        and name not in ("response.failed", "response.metadata")
    )


def event_of(text: bytes) -> Event:
    """Return the event that a message over a WebSocket is."""
    name = Event(b"", text).name
    return Event((b"event: %b\n" % name.encode() if name else b"") + b"data: %b" % text, text)


def refusal_of(text: bytes) -> Payload | None:
    """Return what a message says that refuses a request: an error with a status is no event."""
    payload = Event(b"", text).payload or {}
    has_status = "status" in payload or "status_code" in payload
    return payload if payload.get("type") == "error" and has_status else None


def read_texts(texts: Sequence[bytes]) -> Message:
    """Return the answer that these messages are: events, or one that refuses."""
    refusals = [told for text in texts if (told := refusal_of(text)) is not None]
    if refusals and len(texts) > 1:
        names = [event_of(text).name for text in texts]
        return Message(status=200, over="socket", broken=f"a refusal among {names}")
    if refusals:
        return _refusal(refusals[0])
    events = [event_of(text) for text in texts]
    return Message(
        status=200,
        body=b"".join(event.raw + b"\n\n" for event in events),
        whole=any(event.name in TERMINAL for event in events),
        over="socket",
    )


def _refusal(told: Payload) -> Message:
    status, headers = told.get("status", told.get("status_code")), told.get("headers")
    broken = None
    if "status" in told and "status_code" in told:
        broken = "an error message with `status` and `status_code`"
    elif not isinstance(status, int):
        broken = f"an error message with the status {status!r}"
    elif not isinstance(headers, dict) or not all(isinstance(v, str) for v in headers.values()):
        broken = f"an error message with the headers {headers!r}"
    return Message(
        status=status if isinstance(status, int) else None,
        headers=headers if isinstance(headers, dict) else {},
        body=json.dumps({"error": told.get("error")}).encode(),
        whole=True,
        broken=broken,
        over="socket",
    )
