"""The requests that the load generator sends, as agents write them."""

from __future__ import annotations

import json
from typing import Final

RESPONSES: Final = "/v1/responses"
CHAT: Final = "/v1/chat/completions"
#: Any will do: the stub does not look at it.
MODEL: Final = "gpt-5-codex"
_BIG_BODY_BYTES: Final = 5_000_000
_LINES_PER_ITEM: Final = 600


def instruction(deltas: int, *, pause_us: int = 0) -> str:
    """Return user text that tells the stub what to answer; it survives a relay's translation.

    `pause_us` 0 is a burst: all deltas at once.
    """
    return f"[[stub n={deltas} us={pause_us} sz=8]]"


def responses_body(text: str, history: list[object] | None = None) -> dict[str, object]:
    """Return a streamed Responses request that ends with `text`."""
    return {
        "model": MODEL,
        "instructions": "You are a coding agent.",
        "input": [*(history or []), _message("user", text)],
        "tools": [],
        "tool_choice": "auto",
        "parallel_tool_calls": False,
        "store": False,
        "stream": True,
        "include": [],
    }


def chat_body(text: str, *, stream: bool) -> dict[str, object]:
    """Return a Chat request for `text`, streamed with usage, or not streamed."""
    body: dict[str, object] = {
        "model": MODEL,
        "messages": [{"role": "user", "content": text}],
        "stream": stream,
    }
    return body | {"stream_options": {"include_usage": True}} if stream else body


def long_history(size_bytes: float = _BIG_BODY_BYTES) -> list[object]:
    """Return so much source text, about: quotes, newlines and some non-ASCII, as agents send it."""
    items: list[object] = []
    size = 0
    while size < size_bytes:
        n = len(items)
        line = '    path_{}_{} = resolve("src/mod_{}.py", strict=True)  # prüfen\n'
        text = "".join(line.format(n, i, i) for i in range(_LINES_PER_ITEM))
        items.append(_message("assistant" if n % 2 else "user", text))
        size += len(json.dumps(text, ensure_ascii=False).encode())
    return items


def _message(role: str, text: str) -> dict[str, object]:
    kind = "output_text" if role == "assistant" else "input_text"
    return {"type": "message", "role": role, "content": [{"type": kind, "text": text}]}
