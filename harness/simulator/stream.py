"""A script written as the events of one stream, shaped as the backend shapes them.

Sources: wire notes 3, and recorded streams: event names, the 35 keys of the `response` object and
their order, gapless sequence numbers, `obfuscation` on every delta, `type` first and the other keys
in alphabetical order.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import attrs

from codexrelay.protocol.raw import JsonObject, get_list, get_object, get_text, is_object
from harness.simulator.ids import Ids
from harness.simulator.script import Compaction, Message, Reasoning

if TYPE_CHECKING:
    from codexrelay.protocol.raw import Json
    from harness.simulator.script import Item, Script
    from harness.simulator.tools import ToolCall

#: A delta and its obfuscation together fill a multiple of this many characters.
_OBFUSCATION_BLOCK: Final = 16
#: How much of a tool call's payload one delta carries, in characters.
_PAYLOAD_PIECE: Final = 12


@attrs.define(eq=False, kw_only=True)
class ResponseStream:
    """One response on its way. `events` is to be used up once."""

    request: JsonObject
    ids: Ids
    now_unix_s: float
    #: Size of the request's body, from which the input tokens are estimated.
    request_bytes: int
    #: `safety_identifier` of the response: the account's user.
    user_id: str
    response_id: str = attrs.field(init=False)
    _sequence: Iterator[int] = attrs.field(factory=itertools.count, init=False)
    #: The items that are done, in the order of `output_index`.
    _output: list[JsonObject] = attrs.field(factory=list, init=False)
    _output_characters: int = attrs.field(default=0, init=False)
    _reasoning_characters: int = attrs.field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        self.response_id = self.ids.of("resp")

    def events(self, script: Script) -> Iterator[JsonObject]:
        """Yield the events from `response.created` to the terminal one."""
        yield self.event("response.created", response=self._response("in_progress"))
        yield self.event("response.in_progress", response=self._response("in_progress"))
        for item in script.items:
            yield from self._item(item, incomplete=script.incomplete)
        status = "incomplete" if script.incomplete else "completed"
        yield self.event(f"response.{status}", response=self._response(status))

    def warmed_up(self) -> Iterator[JsonObject]:
        """Yield the events of a response without output."""
        yield self.event("response.created", response=self._response("in_progress"))
        yield self.event("response.completed", response=self._response("completed"))

    def failed(self, error: JsonObject) -> JsonObject:
        """Return the event that ends the stream here as failed."""
        return self.event("response.failed", response=self._response("failed") | {"error": error})

    def event(self, type_: str, /, **fields: Json) -> JsonObject:
        """Return an event with the next sequence number."""
        numbered = fields | {"sequence_number": next(self._sequence)}
        return {"type": type_} | dict(sorted(numbered.items()))

    def _item(self, item: Item, *, incomplete: bool) -> Iterator[JsonObject]:
        match item:
            case Reasoning():
                return self._reasoning(item)
            case Message():
                return self._message(item, status="incomplete" if incomplete else "completed")
            case Compaction():
                return self._compaction()
            case _:
                return self._custom_call(item) if item.tool.custom else self._function_call(item)

    def _reasoning(self, reasoning: Reasoning) -> Iterator[JsonObject]:
        item: JsonObject = {"id": self.ids.of("rs"), "type": "reasoning"}
        yield self._added(
            item | {"encrypted_content": self.ids.encrypted(self.user_id), "summary": []}
        )
        summary: list[Json] = []
        for index, pieces in enumerate(reasoning.parts):
            text = "".join(pieces)
            at: JsonObject = {"item_id": item["id"], "summary_index": index}
            part: JsonObject = {"type": "summary_text", "text": text}
            yield self._at("response.reasoning_summary_part.added", at, part=part | {"text": ""})
            for piece in pieces:
                yield self._delta("response.reasoning_summary_text.delta", at, piece)
            yield self._at("response.reasoning_summary_text.done", at, text=text)
            yield self._at("response.reasoning_summary_part.done", at, part=part)
            summary.append(part)
            self._reasoning_characters += len(text)
        yield self._done(
            item | {"encrypted_content": self.ids.encrypted(self.user_id), "summary": summary}
        )

    def _message(self, message: Message, *, status: str) -> Iterator[JsonObject]:
        item: JsonObject = {
            "id": self.ids.of("msg"),
            "type": "message",
            "status": "in_progress",
            "content": [],
            "phase": "final_answer",
            "role": "assistant",
        }
        at: JsonObject = {"item_id": item["id"], "content_index": 0}
        text = "".join(message.pieces)
        yield self._added(item)
        yield self._at("response.content_part.added", at, part=_part("", refusal=message.refusal))
        if message.refusal:
            for piece in message.pieces:
                yield self._delta("response.refusal.delta", at, piece)
            yield self._at("response.refusal.done", at, refusal=text)
        else:
            for piece in message.pieces:
                yield self._delta("response.output_text.delta", at | {"logprobs": []}, piece)
            yield self._at("response.output_text.done", at, text=text, logprobs=[])
        part = _part(text, refusal=message.refusal)
        yield self._at("response.content_part.done", at, part=part)
        yield self._done(item | {"status": status, "content": [part]})

    def _function_call(self, call: ToolCall) -> Iterator[JsonObject]:
        item: JsonObject = {
            "id": self.ids.of("fc"),
            "type": "function_call",
            "status": "in_progress",
            "arguments": "",
            "call_id": self.ids.call(),
            "name": call.tool.name,
        }
        if call.tool.namespace is not None:
            item["namespace"] = call.tool.namespace
        at: JsonObject = {"item_id": item["id"]}
        yield self._added(item)
        for piece in _cut(call.payload):
            yield self._delta("response.function_call_arguments.delta", at, piece)
        yield self._at(
            "response.function_call_arguments.done",
            at,
            arguments=call.payload,
            name=call.tool.name,
        )
        yield self._done(item | {"status": "completed", "arguments": call.payload})

    def _custom_call(self, call: ToolCall) -> Iterator[JsonObject]:
        item: JsonObject = {
            "id": self.ids.of("ctc"),
            "type": "custom_tool_call",
            "status": "in_progress",
            "call_id": self.ids.call(),
            "input": "",
            "name": call.tool.name,
        }
        at: JsonObject = {"item_id": item["id"]}
        yield self._added(item)
        for piece in _cut(call.payload):
            yield self._delta("response.custom_tool_call_input.delta", at, piece)
        yield self._at("response.custom_tool_call_input.done", at, input=call.payload)
        yield self._done(item | {"status": "completed", "input": call.payload})

    def _compaction(self) -> Iterator[JsonObject]:
        yield self._done(compaction_item(self.ids, self.user_id))

    def _added(self, item: JsonObject) -> JsonObject:
        return self.event(
            "response.output_item.added", output_index=len(self._output), item=dict(item)
        )

    def _done(self, item: JsonObject) -> JsonObject:
        event = self.event("response.output_item.done", output_index=len(self._output), item=item)
        self._output.append(item)
        return event

    def _at(self, event: str, at: JsonObject, /, **fields: Json) -> JsonObject:
        return self.event(event, output_index=len(self._output), **at, **fields)

    def _delta(self, name: str, at: JsonObject, delta: str) -> JsonObject:
        self._output_characters += len(delta)
        filler = self.ids.text(_OBFUSCATION_BLOCK - len(delta) % _OBFUSCATION_BLOCK)
        return self._at(name, at, delta=delta, obfuscation=filler)

    def _response(self, status: str) -> JsonObject:
        """Return the `response` object as it is now; the request's settings are echoed in it."""
        request, over = self.request, status in ("completed", "incomplete")
        return {
            "id": self.response_id,
            "object": "response",
            "created_at": int(self.now_unix_s),
            "status": status,
            "background": False,
            "completed_at": int(self.now_unix_s) + 1 if status == "completed" else None,
            "error": None,
            "frequency_penalty": 0.0,
            "incomplete_details": (
                {"reason": "max_output_tokens"} if status == "incomplete" else None
            ),
            "instructions": get_text(request, "instructions"),
            "max_output_tokens": None,
            "max_tool_calls": None,
            "model": request.get("model"),
            "moderation": None,
            "output": list(self._output) if over else [],
            "parallel_tool_calls": request.get("parallel_tool_calls", True),
            "presence_penalty": 0.0,
            "previous_response_id": get_text(request, "previous_response_id"),
            "prompt_cache_key": get_text(request, "prompt_cache_key"),
            "prompt_cache_retention": "24h",
            "reasoning": _reasoning_echo(get_object(request, "reasoning")),
            "safety_identifier": self.user_id,
            "service_tier": "default" if over else "auto",
            "store": False,
            "temperature": 1.0,
            "text": {
                "format": get_object(request, "text").get("format") or {"type": "text"},
                "verbosity": get_text(get_object(request, "text"), "verbosity") or "medium",
            },
            "tool_choice": request.get("tool_choice", "auto"),
            "tool_usage": None,
            "tools": [_tool_echo(tool) for tool in get_list(request, "tools") if is_object(tool)],
            "top_logprobs": 0,
            "top_p": 0.98,
            "truncation": "disabled",
            "usage": self._usage() if over else None,
            "user": None,
            "metadata": {},
        }

    def _usage(self) -> JsonObject:
        return usage(
            request_bytes=self.request_bytes,
            follows_up=len(get_list(self.request, "input")) > 2,
            output_characters=self._output_characters,
            reasoning_characters=self._reasoning_characters,
        )


def usage(
    *, request_bytes: int, follows_up: bool, output_characters: int, reasoning_characters: int = 0
) -> JsonObject:
    """Return a usage of plausible size: four characters a token, follow-ups mostly cached."""
    input_tokens = max(1, request_bytes // 4)
    output_tokens = max(1, output_characters // 4)
    return {
        "input_tokens": input_tokens,
        "input_tokens_details": {
            "cached_tokens": input_tokens * 3 // 4 // 64 * 64 if follows_up else 0,
            "cache_write_tokens": 0,
        },
        "output_tokens": output_tokens,
        "output_tokens_details": {
            "reasoning_tokens": min(output_tokens, reasoning_characters // 4)
        },
        "total_tokens": input_tokens + output_tokens,
    }


def compaction_item(ids: Ids, user_id: str) -> JsonObject:
    """Return the item that stands for a compacted history."""
    return {"id": ids.of("cmp"), "type": "compaction", "encrypted_content": ids.encrypted(user_id)}


def _part(text: str, *, refusal: bool) -> JsonObject:
    if refusal:
        return {"type": "refusal", "refusal": text}
    return {"type": "output_text", "annotations": [], "logprobs": [], "text": text}


def _cut(payload: str) -> Iterator[str]:
    for begin in range(0, len(payload), _PAYLOAD_PIECE):
        yield payload[begin : begin + _PAYLOAD_PIECE]


def _reasoning_echo(asked: JsonObject) -> JsonObject:
    # The backend says what it made of `auto` (recorded OAuth streams).
    summary = "detailed" if asked.get("summary") == "auto" else asked.get("summary")
    return {
        "context": asked.get("context", "current_turn"),
        "effort": asked.get("effort", "medium"),
        "summary": summary,
    }


def _tool_echo(tool: JsonObject) -> JsonObject:
    return tool | {"strict": True} if tool.get("type") == "function" else tool
