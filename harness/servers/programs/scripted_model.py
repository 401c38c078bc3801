"""What the model behind LiteLLM says: a tool call first, then words; on request without an end.

LiteLLM loads it from beside its configuration, into its own interpreter.
"""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, Any

from litellm import CustomLLM, ModelResponse  # type: ignore[import-not-found]

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

WORDS = ("A ", "scripted ", "model ", "says ", "this, ", "word ", "by ", "word.")
ANSWER = ("The ", "command ", "was ", "run.")
CALL = {
    "id": "call_scripted_1",
    "type": "function",
    "function": {"name": "bash", "arguments": '{"command": "echo hi"}'},
}
USAGE = {"prompt_tokens": 12, "completion_tokens": 8, "total_tokens": 20}
PAUSE_S = 0.01


class Scripted(CustomLLM):  # type: ignore[misc]  # Any where LiteLLM is not installed
    """The two ways in which LiteLLM asks a model of one's own."""

    async def acompletion(self, *_: object, **asked: Any) -> ModelResponse:  # noqa: ANN401
        """Answer in one piece."""
        message: dict[str, object] = {"role": "assistant", "content": None, "tool_calls": [CALL]}
        finish = "tool_calls"
        if not _wants_call(asked):
            message = {"role": "assistant", "content": "".join(_words(asked))}
            finish = "stop"
        choice = {"index": 0, "message": message, "finish_reason": finish}
        return ModelResponse(model=asked["model"], choices=[choice], usage=USAGE)

    async def astreaming(  # noqa: D102
        self,
        *_: object,
        **asked: Any,  # noqa: ANN401
    ) -> AsyncIterator[dict[str, object]]:
        if _wants_call(asked):
            yield _chunk(call={**CALL, "index": 0})
            yield _chunk(finish="tool_calls")
            return
        words: Iterable[str] = _words(asked)
        if "forever" in str(asked["messages"][-1]["content"]):
            words = itertools.cycle(words)
        for word in words:
            yield _chunk(word)
            await asyncio.sleep(PAUSE_S)
        yield _chunk(finish="stop")


def _wants_call(asked: dict[str, Any]) -> bool:
    return bool(asked["optional_params"].get("tools")) and asked["messages"][-1]["role"] != "tool"


def _words(asked: dict[str, Any]) -> tuple[str, ...]:
    return ANSWER if asked["messages"][-1]["role"] == "tool" else WORDS


def _chunk(
    text: str = "", *, call: dict[str, object] | None = None, finish: str = ""
) -> dict[str, object]:
    return {
        "text": text,
        "tool_use": call,
        "is_finished": bool(finish),
        "finish_reason": finish,
        "usage": USAGE if finish else None,
        "index": 0,
    }


HANDLER = Scripted()
