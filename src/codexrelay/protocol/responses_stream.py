"""Responses → Responses: upstream's own bytes, event for event.

Two things are not upstream's own: over HTTP, a terminal event that real clients would choke on is
completed, and a stream that cannot go on gets a terminal event of ours. A terminal event whose name
is not its true one (`endings`) is renamed: no client knows `response.done`, an older
`response.completed`, and none looks for a failure in a response that is called completed.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import attrs

from codexrelay.protocol import endings, events, faults, sse
from codexrelay.protocol.answer import Terminal
from codexrelay.protocol.raw import (
    Json,
    JsonObject,
    dump,
    get_list,
    get_object,
    get_text,
    parse_object,
)
from codexrelay.protocol.responses_object import complete, failed, interrupted, rebuild_output
from codexrelay.protocol.responses_scan import (
    QUIET,
    QUIET_ONCE_NAMED,
    Notes,
    end_of_quiet,
    look,
)

if TYPE_CHECKING:
    from codexrelay.protocol.events import TerminalName
    from codexrelay.protocol.faults import Fault

#: Of a block of one event or two.
_FEW_BYTES: Final = 1024


@attrs.define(eq=False, kw_only=True)
class ResponsesStream:
    """A `StreamedAnswer`: the same events, exactly one of them terminal."""

    #: Against which upstream's reset times are read, Unix seconds.
    now_unix_s: float
    #: Named in an event of ours when the stream has not said them itself.
    model: str
    created_unix_s: int
    #: It is told on a WebSocket. Nothing may follow the terminal event: the client would take that
    #: for a part of its next answer. And the event itself is upstream's: no client is known there
    #: that wants it completed.
    framed: bool = False
    keep_alive: bytes = attrs.field(default=sse.comment("keep-alive"), init=False)
    terminal: Terminal | None = attrs.field(default=None, init=False)
    #: The response object at the end, completed; None unless it worked.
    response: JsonObject | None = attrs.field(default=None, init=False)
    notes: Notes = attrs.field(factory=Notes, init=False)
    _cutter: sse.EventCutter = attrs.field(factory=sse.EventCutter, init=False)
    #: The run of events that need no look; of the announcements one does.
    _quiet: re.Pattern[bytes] = attrs.field(default=QUIET, init=False)
    #: Whether the stream was ended here, so that nothing of upstream's may follow.
    _closed: bool = attrs.field(default=False, init=False)

    def feed(self, block: bytes) -> bytes:
        """See `answer.Answer.feed`. An event that is no JSON object ends the stream as a fault."""
        whole = self._cutter.feed(block)
        if self._closed or b"\r" in whole:
            return b"".join(map(self._pass, sse.split(whole)))
        # Mostly one event, or nothing whole yet: in the fewest steps, for each is paid by itself.
        if len(whole) < _FEW_BYTES and self._quiet.fullmatch(whole):
            self.notes.count(whole)
            return whole
        end = end_of_quiet(whole, 0, self._quiet)
        if end:
            self.notes.count(whole, 0, end)
        return whole if end == len(whole) else self._pass_behind(whole, end)

    def fail(self, fault: Fault) -> bytes:
        """See `answer.Answer.fail`."""
        self._closed = True
        self.terminal = self._terminal("failed", {}, fault)
        event: JsonObject = {
            "type": events.FAILED,
            "response": failed(
                fault, self.notes, model=self.model, created_unix_s=self.created_unix_s
            ),
            "sequence_number": self.notes.next_number,
        }
        return sse.write(events.FAILED, dump(event))

    def interrupt(self) -> bytes:
        """Return the terminal event of an answer that its client has interrupted.

        As for `fail`; nothing is called a fault. What has come of it so far is told as its output.
        """
        self._closed = True
        self.terminal = self._terminal("incomplete", {})
        event: JsonObject = {
            "type": events.INCOMPLETE,
            "response": interrupted(
                self.notes, model=self.model, created_unix_s=self.created_unix_s
            ),
            "sequence_number": self.notes.next_number,
        }
        return sse.write(events.INCOMPLETE, dump(event))

    @property
    def output(self) -> list[Json] | None:
        """The items of an answer that has ended well, as the client was told them; else None.

        Those of the `response.output_item.done` events, which real clients keep, come first: the
        list in the terminal event may be shorter (recorded).
        """
        if self.response is None:
            return None
        try:
            done = rebuild_output(parse_object(data) for data in self.notes.items)
        except ValueError:
            done = []
        return done or get_list(self.response, "output")

    def finish(self) -> bytes:
        """Return nothing: the terminal event is the last."""
        return b""

    def _pass_behind(self, whole: bytes, end: int) -> bytes:
        """Return what the client gets for whole events, of which those up to `end` are quiet."""
        parts: list[bytes] = []
        told, size = 0, len(whole)
        while end < size and not self._closed:
            begin, end = end, sse.next_end(whole, end)
            raw = whole[begin:end]
            given = self._pass(raw)
            if given is not raw:
                parts += whole[told:begin], given
                told = end
            if end < size and not self._closed:
                # What is quiet may have changed with that event.
                begin, end = end, end_of_quiet(whole, end, self._quiet)
                self.notes.count(whole, begin, end)
        if not parts and end == size:
            return whole  # mostly, and it may be a large block
        parts.append(whole[told:end])
        return b"".join(parts)

    def _pass(self, raw: bytes) -> bytes:
        """Return what the client gets for one event."""
        if self._closed:
            return b""
        try:
            event = look(raw)
            if event is not None:
                if event.bare and self.terminal is None:
                    fault = faults.from_event(event.payload or {}, now_unix_s=self.now_unix_s)
                    return self.fail(fault)
                if event.name in events.TERMINAL:
                    return self._end(raw, event.name, event.payload or {})
                self.notes.note(event)
                if self.notes.response_id is not None:
                    self._quiet = QUIET_ONCE_NAMED
        except ValueError:
            return self._give_up()
        self.notes.count(raw)
        return raw

    def _give_up(self) -> bytes:
        """End the stream for an event that is no JSON object."""
        if self.terminal is None:
            return self.fail(faults.not_json())
        self._closed = True
        return b""

    def _end(self, raw: bytes, name: str, event: JsonObject) -> bytes:
        """Return what the client gets for a terminal event: nothing if it has had one.

        Raises:
            ValueError: an item that it lacks is no JSON object, or it cannot be written again.
        """
        if self.terminal is not None:  # an `error` is followed by `response.failed` (recorded)
            return b""
        self._closed = self.framed
        response = get_object(event, "response")
        if name in events.FAILURES:
            given = _named(raw, name, event)
            fault = faults.from_event(event, now_unix_s=self.now_unix_s)
            self.terminal = self._terminal("failed", response, fault)
            return given
        if not response:
            return self.fail(endings.without_response())
        whole = complete(response, self.notes.items)
        if whole is response or self.framed:
            given = _named(raw, name, event)
        else:
            given = _rewritten(name, event | {"response": whole})
        self.response = whole
        self.terminal = self._terminal(
            "incomplete" if name == events.INCOMPLETE else "completed", response
        )
        return given

    def _terminal(
        self, name: TerminalName, response: JsonObject, fault: Fault | None = None
    ) -> Terminal:
        return Terminal(
            name=name,
            response_id=get_text(response, "id") or self.notes.response_id,
            usage=get_object(response, "usage") or None,
            fault=fault,
        )


def _named(raw: bytes, name: str, event: JsonObject) -> bytes:
    """Return `raw`, renamed if it does not call itself `name`.

    An `error` never is: its flat form may have a `type` of its own (`server_error`).
    """
    if name == events.ERROR or event.get("type") == name:
        return raw
    return _rewritten(name, event)


def _rewritten(name: str, event: JsonObject) -> bytes:
    return sse.write(name, dump(event | {"type": name}))
