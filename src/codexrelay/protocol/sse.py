"""Server-sent events as bytes: whole events are cut out of blocks, and never rebuilt.

The Codex backend writes each event as `event: TYPE` LF `data: JSON` LF LF, with no CR, no comment
and one data line (measured on 103 recorded streams). Other sources may write CRLF, comments and
several data lines; those are handled too, on a slower path.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import attrs

from codexrelay.errors import EventTooLargeError

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Largest single event kept while its end has not arrived. Image results and completed responses
#: with long instructions reach several MB.
MAX_EVENT_BYTES: Final = 64 * 1024 * 1024

_END: Final = b"\n\n"
# A blank line however lines end. "\n\r\n" is the tail of "\r\n\r\n".
_ANY_END: Final = re.compile(rb"\r\n\r\n|\n\r\n|\n\n|\r\r")
_LINE_END: Final = re.compile(rb"\r\n|\n|\r")
#: Bytes that can still belong to an end of event whose rest has not arrived.
_OVERLAP: Final = 3


@attrs.frozen
class Event:
    """One event: its name as the `event:` line gave it (may be empty) and its joined data lines."""

    name: str
    data: bytes


@attrs.define(eq=False)
class EventCutter:
    """Cuts a stream of blocks at the end of the last whole event.

    What `feed` returns can be handed on at once: it ends exactly at the end of an event, so
    whatever follows (a keep-alive comment, an event of our own) never falls inside one.
    Concatenating all that was returned, and `pending`, gives the input back.
    """

    max_event_bytes: int = MAX_EVENT_BYTES
    _pieces: list[bytes] = attrs.field(factory=list)
    #: The last bytes of all pieces together: one piece may be shorter than an end of event.
    _edge: bytes = b""
    _kept_bytes: int = 0

    def feed(self, block: bytes) -> bytes:
        """Return the whole events that `block` completed, with their ends; `b""` if none.

        Raises:
            EventTooLargeError: the unfinished event is larger than `max_event_bytes`.
        """
        if not self._pieces:
            # A look at the end is enough, as nearly always.
            if block.endswith(_END) and b"\r" not in block:
                return block
            cut = _last_end(block)
            if cut == len(block):
                return block
            if cut:
                self._keep(block[cut:])
                return block[:cut]
            self._keep(block)
            return b""
        cut = _last_end_behind(self._edge, block)
        if not cut:
            self._keep(block)
            return b""
        # Joined only now, so that a large event in many blocks is copied once.
        whole = b"".join([*self._pieces, memoryview(block)[:cut]])
        self._pieces.clear()
        self._edge = b""
        self._kept_bytes = 0
        if cut < len(block):
            self._keep(block[cut:])
        return whole

    @property
    def pending(self) -> bytes:
        """The bytes of the event whose end has not arrived."""
        return b"".join(self._pieces)

    def _keep(self, piece: bytes) -> None:
        self._kept_bytes += len(piece)
        if self._kept_bytes > self.max_event_bytes:
            raise EventTooLargeError(limit_bytes=self.max_event_bytes)
        self._pieces.append(piece)
        self._edge = (self._edge + piece[-_OVERLAP:])[-_OVERLAP:]


def _last_end(data: bytes) -> int:
    """Return the index just behind the last end of event in `data`, 0 if there is none."""
    cut = data.rfind(_END) + len(_END)
    if cut < len(_END):
        cut = 0
    if b"\r" in data:
        for match in _ANY_END.finditer(data, max(0, cut - len(_END))):
            cut = match.end()
    return cut


def _last_end_behind(edge: bytes, block: bytes) -> int:
    """Return the index in `block` behind the last end of event in `edge` and `block` together.

    0 if there is none; `edge` holds no whole one.
    """
    if b"\r" not in block and b"\r" not in edge:  # then `block` need not be copied
        cut = block.rfind(_END) + len(_END)
        if cut >= len(_END):
            return cut
        block = block[:_OVERLAP]
    cut = _last_end(edge + block)
    return cut - len(edge) if cut else 0


def split(whole: bytes) -> Iterator[bytes]:
    """Yield the raw events of `whole` (which ends at the end of an event), each with its end.

    Nothing is lost: a blank line too many is yielded as an event without data.
    """
    begin = 0
    if b"\r" in whole:
        for match in _ANY_END.finditer(whole):
            yield whole[begin : match.end()]
            begin = match.end()
    while begin < len(whole):
        end = next_end(whole, begin)
        yield whole[begin:end]
        begin = end


def next_end(whole: bytes, begin: int) -> int:
    """Return the index behind the event that begins at `begin`, where lines end in LF alone."""
    end = whole.find(_END, begin)
    return len(whole) if end < 0 else end + len(_END)


def read(raw: bytes) -> Event | None:
    """Return the event that `raw` holds, or None if it has no data (a comment, a lone `retry:`)."""
    name, data = read_parts(raw)
    return None if data is None else Event(name, data)


def read_parts(raw: bytes) -> tuple[str, bytes | None]:
    """Return the name and the data of the event `raw`, as `read` does; no data: None."""
    if raw[:7] == b"event: " and b"\r" not in raw:
        # The one form the backend writes, without building lists of lines.
        name_end = raw.find(b"\n")
        data_at = name_end + 1
        if raw[data_at : data_at + 6] == b"data: ":
            data_end = raw.find(b"\n", data_at)
            if raw[data_end:] == _END:
                name = raw[7:name_end].decode("utf-8", "replace")
                return name, raw[data_at + 6 : data_end]
    return _read_lines(_LINE_END.split(raw))


def _read_lines(lines: list[bytes]) -> tuple[str, bytes | None]:
    name, data = "", []
    for line in lines:
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            data.append(value)
        elif field == b"event":
            name = value.decode("utf-8", "replace")
    return name, b"\n".join(data) if data else None


def write(name: str, data: bytes) -> bytes:
    """Return an event in the form the backend writes. `data` is one line of JSON."""
    return b"event: %s\ndata: %s\n\n" % (name.encode(), data)


def comment(text: str) -> bytes:
    """Return a comment, which every client must ignore; used to show life."""
    return b": %s\n\n" % text.encode()
