"""Token counts keep their values under Chat's names."""

from __future__ import annotations

from typing import Any

import pytest

from codexrelay.protocol.chat_usage import chat_usage


def counts(prompt: int, completion: int, total: int, cached: int, reasoning: int) -> dict[str, Any]:
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": total,
        "prompt_tokens_details": {"cached_tokens": cached},
        "completion_tokens_details": {"reasoning_tokens": reasoning},
    }


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (
            {
                "input_tokens": 1,
                "input_tokens_details": {"cached_tokens": 2},
                "output_tokens": 3,
                "output_tokens_details": {"reasoning_tokens": 4},
                "total_tokens": 5,
            },
            counts(1, 3, 5, 2, 4),
        ),
        ({"input_tokens": 1, "output_tokens": 3}, counts(1, 3, 4, 0, 0)),
        ({"input_tokens": None, "output_tokens_details": None}, counts(0, 0, 0, 0, 0)),
    ],
    ids=["every count", "a missing total is the sum", "missing counts are 0"],
)
def test_counts_keep_their_values(usage: dict[str, Any], expected: dict[str, Any]) -> None:
    assert chat_usage(usage) == expected
