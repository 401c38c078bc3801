"""Chat chunks as a Responses stream, while they come.

A Responses client of a target that speaks only Chat gets whole Responses events, which go through
the same hold and the same answers as those of the backend. What chunks do not say is not made up:
an answer that breaks off gets no terminal event, and whoever waits for it makes the failure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from codexrelay.protocol import events, sse
from codexrelay.protocol.chat_body import ChatBody
from codexrelay.protocol.chat_chunk import (
    FAILED,
    INCOMPLETE,
    Calls,
    Chunk,
    Failure,
    Sentinel,
    calls_of,
    content_of,
    delta_of,
    finish_of,
    gave_up,
    look,
    responses_usage,
    thought_of,
)
from codexrelay.protocol.raw import JsonObject, get_object, get_text
from codexrelay.protocol.source_items import Items
from codexrelay.protocol.target_tools import TargetTools

if TYPE_CHECKING:
    from codexrelay.protocol.raw import Json


@attrs.define(eq=False)
class ChatToResponses:
    """A `delivery.Delivery`: reads the chunks of one answer."""

    tools: TargetTools
    #: Begins with `resp_`; no other answer has it.
    response_id: str = attrs.field(kw_only=True)
    #: Named where the target names none.
    model: str = attrs.field(kw_only=True)
    created_unix_s: int = attrs.field(kw_only=True)
    _body: ChatBody = attrs.field(factory=ChatBody, init=False)
    _items: Items = attrs.field(init=False)
    _calls: Calls = attrs.field(factory=Calls, init=False)
    _begun: bool = attrs.field(default=False, init=False)
    #: Whether the terminal event was written, or something after which there can be none.
    _ended: bool = attrs.field(default=False, init=False)
    #: Why the server stopped; None as long as it goes on.
    _finish: str | None = attrs.field(default=None, init=False)
    _usage: JsonObject = attrs.field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        self._items = Items(self.tools, self.response_id.removeprefix("resp_"))

    def feed(self, block: bytes) -> bytes:
        """See `delivery.Delivery.feed`. What is no chunk passes unchanged."""
        return self._read(self._body.feed(block))

    def end(self) -> bytes:
        """See `delivery.Delivery.end`."""
        out = self._read(self._body.end())
        if self._finish is not None:
            self._end()
        return out + self._items.taken()

    def _read(self, whole: bytes) -> bytes:
        for raw in sse.split(whole):
            if self._ended:
                break
            self._take(raw)
        return self._items.taken()

    def _take(self, raw: bytes) -> None:
        try:
            said = look(raw)
        except ValueError:
            # The hold and the answer know what to make of it.
            self._items.pass_on(raw)
            self._ended = True
            return
        match said:
            case Chunk():
                self._chunk(said)
            case Failure(event):
                self._fail(event)
            case Sentinel.DONE:
                self._done()
            case None:
                self._items.pass_on(raw)

    def _chunk(self, chunk: Chunk) -> None:
        if not self._begun:
            self._begin(chunk.payload)
        self._usage = chunk.usage or self._usage
        has_choices = False
        for index, choice in chunk.choices:
            has_choices = True
            if index == 0:  # Responses asks for one answer
                self._choice(choice)
        if self._finish in FAILED:
            self._fail(gave_up(chunk))
        elif chunk.usage and not has_choices and self._finish is not None:
            self._end()

    def _begin(self, payload: JsonObject) -> None:
        self._begun = True
        self.model = get_text(payload, "model") or self.model
        for name in ("response.created", "response.in_progress"):
            self._items.write(name, response=self._response("in_progress"))

    def _choice(self, choice: JsonObject) -> None:
        delta, items = delta_of(choice), self._items
        if thought := thought_of(delta):
            items.think(thought)
        if text := content_of(delta):
            items.say("output_text", text)
        if refusal := get_text(delta, "refusal"):
            items.say("refusal", refusal)
        for entry in calls_of(delta):
            if (taken := self._calls.take(entry)) is not None:
                items.call(*taken)
        self._finish = finish_of(choice) or self._finish

    def _done(self) -> None:
        """Take the sentinel: the server's word for the end, also where it gives no reason."""
        if self._finish is None and self._items.has_said and self._items.calls_are_whole:
            self._finish = "stop"
        if self._finish is not None:
            self._end()

    def _end(self) -> None:
        """Write the terminal event, if there was none."""
        if self._ended:
            return
        if any(call.name is None for call in self._calls.calls):
            # An agent would take the answer for one that wanted no tool.
            self._fail({"error": {"message": "the backend called a tool without naming it"}})
            return
        self._ended = True
        reason = INCOMPLETE.get(self._finish or "")
        name = "completed" if reason is None else "incomplete"
        self._items.end_text(status=name)
        self._items.end_calls(complete=reason is None)
        response = self._response(name)
        if reason is not None:
            response["incomplete_details"] = {"reason": reason}
        self._items.write(f"response.{name}", response=response)

    def _fail(self, event: JsonObject) -> None:
        self._ended = True
        given = get_object(event, "error")
        error: JsonObject = {
            **given,
            # The SDK knows few codes; a number, as local servers give, is none for anybody.
            "code": get_text(given, "code") or "server_error",
            "message": get_text(given, "message") or "the backend gave up the answer",
        }
        status = {"status": event["status"]} if "status" in event else {}
        response = self._response("failed") | {"error": error}
        self._items.write(events.FAILED, response=response, **status)

    def _response(self, status: str) -> JsonObject:
        output: list[Json] = [item for _, item in sorted(self._items.output.items())]
        return {
            "id": self.response_id,
            "object": "response",
            "created_at": self.created_unix_s,
            "status": status,
            "error": None,
            "incomplete_details": None,
            "instructions": None,
            "model": self.model,
            "output": output,
            "parallel_tool_calls": True,
            "previous_response_id": None,
            "store": False,
            "tool_choice": "auto",
            "tools": [],
            "usage": responses_usage(self._usage) if self._usage else None,
            "metadata": {},
        }
