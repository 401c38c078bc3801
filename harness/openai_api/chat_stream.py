"""A script written as the chunks of one chat answer, or as its one JSON body."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from codexrelay.protocol.raw import JsonObject, dump, get_object, get_text
from harness.simulator.ids import Ids
from harness.simulator.script import Compaction, Message, Reasoning
from harness.simulator.steps import Chunk, End, Step
from harness.simulator.stream import usage as responses_usage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from codexrelay.protocol.raw import Json
    from harness.simulator.script import Script
    from harness.simulator.tools import ToolCall

#: How much of a call's arguments one delta carries, in characters.
_PIECE: Final = 12
_DONE: Final = Chunk(b"data: [DONE]\n\n")


@attrs.define(eq=False, kw_only=True)
class ChatAnswer:
    """One answer on its way; its methods are to be used once."""

    request: JsonObject
    ids: Ids
    now_unix_s: float
    #: Size of the request's body, from which the prompt's tokens are estimated.
    request_bytes: int
    completion_id: str = attrs.field(init=False)
    _written_characters: int = attrs.field(default=0, init=False)
    _calls: int = attrs.field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        self.completion_id = f"chatcmpl-{self.ids.text(29)}"

    def steps(self, script: Script) -> Iterator[Step]:
        """Yield the answer as an event stream, from the first chunk to `[DONE]`."""
        yield self._chunk({"role": "assistant", "content": ""})
        for delta in self._deltas(script):
            yield attrs.evolve(self._chunk(delta), delta=True)
        yield self._chunk({}, finish_reason=self._finish_reason(script))
        if get_object(self.request, "stream_options").get("include_usage") is True:
            yield _event(self._head("chat.completion.chunk") | {"choices": [], "usage": self.usage})
        yield _DONE
        yield End()

    def whole(self, script: Script) -> JsonObject:
        """Return the answer as one body."""
        text, thought, refusal = "", "", ""
        calls: list[JsonObject] = []
        for delta in self._deltas(script):
            text += get_text(delta, "content") or ""
            thought += get_text(delta, "reasoning_content") or ""
            refusal += get_text(delta, "refusal") or ""
            for piece in _pieces_of_calls(delta):
                _put_together(calls, piece)
        message: JsonObject = {"role": "assistant", "content": text or None}
        message |= {"reasoning_content": thought} if thought else {}
        message |= {"refusal": refusal or None}
        message |= {"tool_calls": list(calls)} if calls else {}
        choice: JsonObject = {
            "index": 0,
            "message": message,
            "logprobs": None,
            "finish_reason": self._finish_reason(script),
        }
        return self._head("chat.completion") | {"choices": [choice], "usage": self.usage}

    @property
    def usage(self) -> JsonObject:
        """Return the usage so far, of plausible size."""
        counted = responses_usage(
            request_bytes=self.request_bytes,
            follows_up=False,
            output_characters=self._written_characters,
        )
        return {
            "prompt_tokens": counted["input_tokens"],
            "completion_tokens": counted["output_tokens"],
            "total_tokens": counted["total_tokens"],
            "prompt_tokens_details": {"cached_tokens": 0},
        }

    def _deltas(self, script: Script) -> Iterator[JsonObject]:
        for item in script.items:
            match item:
                case Reasoning():
                    for piece in (piece for part in item.parts for piece in part):
                        yield self._said("reasoning_content", piece)
                case Message():
                    for piece in item.pieces:
                        yield self._said("refusal" if item.refusal else "content", piece)
                case Compaction():
                    pass  # a chat has no such thing
                case _:
                    yield from self._call(item)

    def _said(self, key: str, piece: str) -> JsonObject:
        self._written_characters += len(piece)
        return {key: piece}

    def _call(self, call: ToolCall) -> Iterator[JsonObject]:
        index, self._calls = self._calls, self._calls + 1
        function: JsonObject = {"name": call.tool.name, "arguments": ""}
        begun: JsonObject = {"id": self.ids.call(), "type": "function", "function": function}
        yield {"tool_calls": [{"index": index, **begun}]}
        for begin in range(0, len(call.payload), _PIECE):
            piece = call.payload[begin : begin + _PIECE]
            self._written_characters += len(piece)
            yield {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}

    def _finish_reason(self, script: Script) -> str:
        if script.incomplete:
            return "length"
        return "tool_calls" if self._calls else "stop"

    def _head(self, object_: str) -> JsonObject:
        return {
            "id": self.completion_id,
            "object": object_,
            "created": int(self.now_unix_s),
            "model": self.request.get("model"),
            "system_fingerprint": None,
        }

    def _chunk(self, delta: JsonObject, *, finish_reason: str | None = None) -> Chunk:
        choice: JsonObject = {
            "index": 0,
            "delta": delta,
            "logprobs": None,
            "finish_reason": finish_reason,
        }
        return _event(self._head("chat.completion.chunk") | {"choices": [choice]})


def _event(value: Json) -> Chunk:
    return Chunk(b"data: %s\n\n" % dump(value))


def _pieces_of_calls(delta: JsonObject) -> Iterator[JsonObject]:
    pieces = delta.get("tool_calls")
    if isinstance(pieces, list):
        for piece in pieces:
            assert isinstance(piece, dict)
            yield piece


def _put_together(calls: list[JsonObject], piece: JsonObject) -> None:
    if "id" in piece:
        calls.append({key: value for key, value in piece.items() if key != "index"})
        return
    function = get_object(calls[-1], "function")
    told = get_text(get_object(piece, "function"), "arguments") or ""
    function["arguments"] = (get_text(function, "arguments") or "") + told
