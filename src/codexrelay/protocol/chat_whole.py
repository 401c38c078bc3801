"""A Responses stream as one chat completion: what the chunks of `chat_stream` add up to.

A call that was cut off is left out: chunks show it as input that never ends, which a whole message
cannot. The finish reason then says `length`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

import attrs

from codexrelay.protocol.chat_decoder import Decoder
from codexrelay.protocol.chat_facts import (
    CallClosed,
    CallInput,
    CallOpened,
    Citation,
    Ended,
    FinishReason,
    Refusal,
    Text,
    Thought,
)
from codexrelay.protocol.chat_request import ChatTurn
from codexrelay.protocol.chat_usage import chat_usage
from codexrelay.protocol.raw import JsonObject, dump

if TYPE_CHECKING:
    from codexrelay.protocol.answer import Terminal
    from codexrelay.protocol.chat_facts import Fact
    from codexrelay.protocol.faults import Fault
    from codexrelay.protocol.raw import Json


@attrs.define(eq=False)
class _Call:
    opened: CallOpened
    input: list[str] = attrs.field(factory=list)
    closed: bool = False


@attrs.define(eq=False)
class ChatWhole:
    """Gathers one answer."""

    turn: ChatTurn
    completion_id: str = attrs.field(kw_only=True)
    created_unix_s: int = attrs.field(kw_only=True)
    #: Against which upstream's reset times are read.
    now_unix_s: float = attrs.field(kw_only=True)
    _decoder: Decoder = attrs.field(init=False)
    _texts: list[str] = attrs.field(init=False, factory=list)
    _refusals: list[str] = attrs.field(init=False, factory=list)
    _thoughts: list[str] = attrs.field(init=False, factory=list)
    _citations: list[JsonObject] = attrs.field(init=False, factory=list)
    _calls: list[_Call] = attrs.field(init=False, factory=list)
    _finish_reason: FinishReason | None = attrs.field(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        self._decoder = Decoder(self.now_unix_s)

    @property
    def terminal(self) -> Terminal | None:
        """How upstream ended the turn, see `Answer`."""
        return self._decoder.terminal

    @property
    def reasoning(self) -> dict[str, list[JsonObject]]:
        """Call id -> the encrypted reasoning before that call, for `chat_request.translate`."""
        return self._decoder.reasoning

    def feed(self, block: bytes) -> bytes:
        """Take upstream bytes, see `Answer`."""
        for fact in self._decoder.feed(block):
            self._gather(fact)
        return b""

    def fail(self, fault: Fault) -> bytes:
        """End the answer, see `Answer`."""
        self._decoder.fail(fault)
        return b""

    def body(self) -> bytes:
        """Return the completion, see `WholeAnswer`."""
        completion: JsonObject = {
            "id": self.completion_id,
            "object": "chat.completion",
            "created": self.created_unix_s,
            "model": self._decoder.model or self.turn.model,
            "choices": [
                {
                    "index": 0,
                    "message": self._message(),
                    "logprobs": None,
                    "finish_reason": self._finish_reason,
                }
            ],
        }
        if self.terminal is not None and self.terminal.usage is not None:
            completion["usage"] = chat_usage(self.terminal.usage)
        if self._decoder.service_tier is not None:
            completion["service_tier"] = self._decoder.service_tier
        completion["system_fingerprint"] = None
        return dump(completion)

    def _gather(self, fact: Fact) -> None:
        match fact:
            case Text(texts):
                self._texts += texts
            case Refusal(texts):
                self._refusals += texts
            case Thought(texts):
                self._thoughts += texts
            case Citation(annotation):
                self._citations.append(annotation)
            case CallOpened():
                self._calls.append(_Call(fact))
            case CallInput(index, texts):
                self._calls[index].input += texts
            case CallClosed(index):
                self._calls[index].closed = True
            case Ended(_, finish_reason):
                self._finish_reason = finish_reason
            case _:
                assert_never(fact)

    def _message(self) -> JsonObject:
        calls = [self._tool_call(call) for call in self._calls if call.closed]
        said_otherwise = self._refusals or self._thoughts or self._citations or calls
        message: JsonObject = {
            "role": "assistant",
            "content": None if said_otherwise and not self._texts else "".join(self._texts),
            "refusal": "".join(self._refusals) or None,
        }
        if self._thoughts:
            message["reasoning_content"] = "".join(self._thoughts)
        if self._citations:
            message["annotations"] = [*self._citations]
        if calls:
            message["tool_calls"] = calls
        return message

    def _tool_call(self, call: _Call) -> Json:
        opened, text = call.opened, "".join(call.input)
        if opened.custom and opened.name in self.turn.tools.custom:
            custom: JsonObject = {"name": opened.name, "input": text}
            return {"id": opened.call_id, "type": "custom", "custom": custom}
        # A client that declared no such tool knows only functions.
        arguments = dump({"input": text}).decode() if opened.custom else text
        function: JsonObject = {"name": opened.name, "arguments": arguments}
        return {"id": opened.call_id, "type": "function", "function": function}
