"""How many characters of a request a model reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from codexrelay.compaction.estimate import ATTACHMENT_CHARACTERS, characters_of, tokens_of
from tests.compaction.written import chat, responses

if TYPE_CHECKING:
    from codexrelay.protocol.raw import Json, JsonObject


def user(*parts: Json) -> JsonObject:
    return {"input": [{"type": "message", "role": "user", "content": list(parts)}]}


@pytest.mark.parametrize(
    ("body", "characters"),
    [
        ({}, 0),
        ({"model": "a-long-name", "input": "12345", "metadata": {"a": "b"}}, 5),
        ({"instructions": "123", "input": []}, 3),
        ({"messages": [{"role": "user", "content": "12345"}]}, 5),
        (user({"type": "input_text", "text": "12345"}), 5),
        (
            {"input": [{"type": "function_call", "call_id": "c", "name": "ls", "arguments": "{}"}]},
            4,
        ),
        ({"input": [{"type": "function_call_output", "call_id": "c", "output": "12345"}]}, 5),
        ({"input": [{"type": "reasoning", "summary": [], "encrypted_content": "A" * 999}]}, 0),
        ({"input": [{"type": "compaction", "encrypted_content": "A" * 999}]}, 0),
        (
            {"input": [{"type": "image_generation_call", "result": "A" * 99_999}]},
            ATTACHMENT_CHARACTERS,
        ),
        (
            user({"type": "input_image", "image_url": "data:image/png;base64," + "A" * 99_999}),
            ATTACHMENT_CHARACTERS,
        ),
        (
            user({"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}),
            ATTACHMENT_CHARACTERS,
        ),
        (
            user({"type": "file", "file": {"file_data": "A" * 99_999}}),
            ATTACHMENT_CHARACTERS,
        ),
        (
            user({"type": "input_audio", "input_audio": {"data": "A" * 99_999}}),
            ATTACHMENT_CHARACTERS,
        ),
        ({"tools": [{"type": "function", "name": "ls"}]}, len('[{"type":"function","name":"ls"}]')),
        ({"input": [{"type": "additional_tools", "tools": [{"name": "ls"}]}]}, 15),
        ({"tools": "no list", "input": 7, "messages": None}, len('"no list"')),
    ],
)
def test_what_a_model_reads_counts(body: JsonObject, characters: int) -> None:
    assert characters_of(body) == characters


def test_both_dialects_of_one_conversation_count_alike() -> None:
    said = ("read", {"path": "a"}, "text " * 100), ("bash", {"command": "ls"}, "text " * 50)
    assert characters_of(chat(*said)) == characters_of(responses(*said))


def test_tokens_are_characters_by_the_ratio_of_the_session() -> None:
    assert tokens_of(1000, 4.0) == 250
    assert tokens_of(1000, 2.5) == 400


def test_a_body_nested_beyond_all_measure_is_counted() -> None:
    deep: Json = "12345"
    for _ in range(100_000):
        deep = [deep]
    assert characters_of({"input": deep}) == 5
    assert characters_of({"tools": [deep]}) == 0
