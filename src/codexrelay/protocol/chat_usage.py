"""Token counts: from the names of Responses to those of Chat (wire notes 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from codexrelay.protocol.raw import get_number, get_object

if TYPE_CHECKING:
    from codexrelay.protocol.raw import JsonObject


def chat_usage(usage: JsonObject) -> JsonObject:
    """Return upstream's `usage` as Chat writes it. A count that upstream left out is 0."""
    prompt = _count(usage, "input_tokens")
    completion = _count(usage, "output_tokens")
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": _count(usage, "total_tokens") or prompt + completion,
        "prompt_tokens_details": {
            "cached_tokens": _count(get_object(usage, "input_tokens_details"), "cached_tokens")
        },
        "completion_tokens_details": {
            "reasoning_tokens": _count(
                get_object(usage, "output_tokens_details"), "reasoning_tokens"
            )
        },
    }


def _count(counts: JsonObject, key: str) -> int:
    return int(get_number(counts, key) or 0)
