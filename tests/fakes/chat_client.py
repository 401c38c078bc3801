"""A Chat client that holds each chunk against the types of the OpenAI SDK and adds them up."""

from __future__ import annotations

from typing import Any

import attrs
import orjson
from openai.types.chat import ChatCompletionChunk


@attrs.define(eq=False)
class ChatClient:
    """Reads a chat stream as strictly as the format allows."""

    chunks: list[ChatCompletionChunk] = attrs.field(factory=list)
    error: dict[str, Any] | None = None
    done: bool = False

    def read(self, data: bytes) -> None:
        assert data == b"" or data.endswith(b"\n\n"), "a chunk was cut"
        for event in data.split(b"\n\n")[:-1]:
            if event.startswith(b":"):
                continue
            assert event.startswith(b"data: "), event
            assert not self.done, "something follows [DONE]"
            self._take(event.removeprefix(b"data: "))

    def _take(self, payload: bytes) -> None:
        if payload == b"[DONE]":
            self.done = True
            return
        assert self.error is None, "something follows the error"
        value = orjson.loads(payload)
        if "error" in value:
            self.error = value["error"]
            return
        chunk = ChatCompletionChunk.model_validate(value, strict=True)
        assert not self.usage_chunks, "a chunk follows the usage"
        if chunk.choices:
            assert self.finish_reason is None, "a chunk follows the finish reason"
        self.chunks.append(chunk)

    @property
    def deltas(self) -> list[dict[str, Any]]:
        """The deltas as they were sent."""
        return [
            choice.delta.to_dict(exclude_unset=True)
            for chunk in self.chunks
            for choice in chunk.choices
        ]

    @property
    def finish_reasons(self) -> list[str]:
        given = [choice.finish_reason for chunk in self.chunks for choice in chunk.choices]
        return [reason for reason in given if reason is not None]

    @property
    def finish_reason(self) -> str | None:
        reasons = self.finish_reasons
        return reasons[0] if reasons else None

    @property
    def usage_chunks(self) -> list[ChatCompletionChunk]:
        return [chunk for chunk in self.chunks if not chunk.choices]

    def joined(self, key: str) -> str | None:
        """All pieces of a text field; None if the field was only ever null or absent."""
        pieces = [delta[key] for delta in self.deltas if delta.get(key) is not None]
        return "".join(pieces) if pieces else None

    @property
    def content(self) -> str | None:
        return self.joined("content")

    @property
    def calls(self) -> list[dict[str, Any]]:
        """The tool calls, put together by index."""
        calls: list[dict[str, Any]] = []
        for delta in self.deltas:
            for entry in delta.get("tool_calls", []):
                if entry["index"] == len(calls):
                    assert set(entry) == {"index", "id", "type", "function"}
                    calls.append({**entry, "function": dict(entry["function"])})
                else:
                    assert set(entry) == {"index", "function"}
                    assert set(entry["function"]) == {"arguments"}
                    call = calls[entry["index"]]
                    call["function"]["arguments"] += entry["function"]["arguments"]
        return calls

    def message(self) -> dict[str, Any]:
        """What the chunks add up to, in the form of a whole completion's message."""
        message: dict[str, Any] = {
            "role": self.deltas[0]["role"],
            "content": self.content,
            "refusal": self.joined("refusal"),
        }
        if reasoning := self.joined("reasoning_content"):
            message["reasoning_content"] = reasoning
        if annotations := [a for delta in self.deltas for a in delta.get("annotations", [])]:
            message["annotations"] = annotations
        if self.calls:
            message["tool_calls"] = [
                {key: call[key] for key in ("id", "type", "function")} for call in self.calls
            ]
        return message
