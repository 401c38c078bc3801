"""A chat request reaches the backend as its client meant it."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codexrelay.errors import RequestError
from codexrelay.protocol import chat_request
from codexrelay.protocol.capabilities import resolve
from codexrelay.protocol.prompt import DEFAULT_TEXT
from codexrelay.protocol.relay_fields import RelayFields
from codexrelay.protocol.shaping import Shaping

if TYPE_CHECKING:
    from collections.abc import Sequence

    from codexrelay.protocol.chat_request import ChatTurn

HELLO = {"role": "user", "content": "Hello"}


def nothing(_call_id: str) -> Sequence[dict[str, Any]]:
    return ()


def translate(**fields: object) -> ChatTurn:
    body = {"model": "gpt-5.5", "messages": [HELLO], **fields}
    return chat_request.translate(body, recall=nothing)


def refusal(**fields: object) -> RequestError:
    with pytest.raises(RequestError) as caught:
        translate(**fields)
    assert caught.value.status == 400
    return caught.value


def test_a_minimal_request_becomes_a_minimal_body() -> None:
    assert translate().body == {
        "model": "gpt-5.5",
        "instructions": DEFAULT_TEXT,
        "input": [
            {
                "type": "message",
                "role": "user",
                "content": [{"type": "input_text", "text": "Hello"}],
            }
        ],
        "store": False,
        "stream": True,
        "include": ["reasoning.encrypted_content"],
    }


@pytest.mark.parametrize(
    ("given_fields", "key", "sent"),
    [
        ({"parallel_tool_calls": False}, "parallel_tool_calls", False),
        ({"parallel_tool_calls": True}, "parallel_tool_calls", True),
        ({"reasoning_effort": "high"}, "reasoning", {"effort": "high", "summary": "auto"}),
        ({"reasoning_effort": "none"}, "reasoning", {"effort": "none", "summary": "auto"}),
        ({"verbosity": "low"}, "text", {"verbosity": "low"}),
        ({"service_tier": "flex"}, "service_tier", "flex"),
        ({"prompt_cache_key": "key-1"}, "prompt_cache_key", "key-1"),
        ({"response_format": {"type": "text"}}, "text", {"format": {"type": "text"}}),
        (
            {"response_format": {"type": "json_object"}, "verbosity": "high"},
            "text",
            {"verbosity": "high", "format": {"type": "json_object"}},
        ),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "point", "strict": True, "schema": {"x": {}}},
                }
            },
            "text",
            {
                "format": {
                    "type": "json_schema",
                    "name": "point",
                    "strict": True,
                    "schema": {"x": {}},
                }
            },
        ),
    ],
)
def test_a_parameter_arrives_in_the_backends_words(
    given_fields: dict[str, Any], key: str, sent: object
) -> None:
    assert translate(**given_fields).body[key] == sent


@pytest.mark.parametrize(
    "name",
    [
        "tools",
        "tool_choice",
        "functions",
        "function_call",
        "parallel_tool_calls",
        "response_format",
        "verbosity",
        "reasoning_effort",
        "service_tier",
        "prompt_cache_key",
        "stream",
        "stream_options",
        "n",
        "temperature",
    ],
)
def test_null_means_absent(name: str) -> None:
    assert translate(**{name: None}) == translate()


def test_what_the_backend_would_reject_is_left_out_and_named() -> None:
    turn = translate(
        max_tokens=32000, temperature=1, user="me", store=True, some_future_field={"a": 1}, n=1
    )
    assert turn.dropped == ("max_tokens", "temperature", "user", "store", "some_future_field")
    assert turn.body == translate().body


def test_what_is_not_forwarded_of_messages_is_named_once() -> None:
    messages = [
        {"role": "user", "name": "Ann", "content": "Hi"},
        {"role": "user", "name": "Bob", "content": "Hi"},
        {"role": "assistant", "content": "Ho", "audio": {"id": "a"}, "refusal": None},
        {
            "role": "assistant",
            "content": None,
            "reasoning_content": "Hm",
            "function_call": {"name": "f", "arguments": "{}"},
        },
        {"role": "function", "name": "f", "content": "ok"},
        {"role": "user", "content": "Go", "name": None},
    ]
    turn = translate(messages=messages, user="u")
    assert turn.dropped == ("user", "messages[].name", "messages[].audio")


@pytest.mark.parametrize(
    ("fields", "stream", "include_usage"),
    [
        ({}, False, False),
        ({"stream": False}, False, False),
        ({"stream": True}, True, False),
        ({"stream": True, "stream_options": {}}, True, False),
        ({"stream": True, "stream_options": {"include_usage": True}}, True, True),
        ({"stream": True, "stream_options": {"include_usage": False}}, True, False),
    ],
)
def test_the_turn_knows_how_the_client_wants_its_answer(
    fields: dict[str, Any],
    stream: bool,
    include_usage: bool,
) -> None:
    turn = translate(**fields)
    assert (turn.stream, turn.include_usage, turn.model) == (stream, include_usage, "gpt-5.5")
    assert turn.body["stream"] is True


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": None}, "model"),
        ({"model": ""}, "model"),
        ({"model": 5}, "model"),
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": "Hello"}, "messages"),
        ({"messages": ["Hello"]}, "messages[0]"),
        ({"n": 2}, "n"),
        ({"n": 0}, "n"),
        ({"n": True}, "n"),
        ({"n": "1"}, "n"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": True}, "stream_options"),
        ({"stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
        ({"parallel_tool_calls": 1}, "parallel_tool_calls"),
        ({"reasoning_effort": 3}, "reasoning_effort"),
        ({"verbosity": ["low"]}, "verbosity"),
        ({"service_tier": {}}, "service_tier"),
        ({"prompt_cache_key": 7}, "prompt_cache_key"),
        ({"response_format": "json"}, "response_format"),
        ({"response_format": {}}, "response_format.type"),
        ({"response_format": {"type": "yaml"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {}}}},
            "response_format.json_schema.name",
        ),
        ({"tools": {}}, "tools"),
        ({"tools": ["bash"]}, "tools[0]"),
        ({"functions": [{"description": "nameless"}]}, "functions[0].name"),
    ],
)
def test_a_malformed_request_is_refused_with_the_field_at_fault(
    fields: dict[str, Any], param: str
) -> None:
    error = refusal(**fields)
    assert error.param == param
    assert param in str(error)


def test_a_missing_field_is_told_apart_from_a_wrong_one() -> None:
    assert refusal(model=None).code == "missing_required_parameter"
    assert refusal(model=5).code == "invalid_type"


def test_the_request_is_not_changed() -> None:
    body: dict[str, Any] = {
        "model": "gpt-5.5",
        "messages": [
            {"role": "system", "content": "Be terse."},
            {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
                ],
            },
            {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "ok"}]},
        ],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}],
        "temperature": 1,
    }
    before = copy.deepcopy(body)
    chat_request.translate(body, recall=nothing)
    assert body == before


@given(st.text())
def test_any_text_arrives_as_it_was_written(text: str) -> None:
    turn = chat_request.translate(
        {
            "model": "m",
            "messages": [
                {"role": "system", "content": text},
                {"role": "user", "content": [{"type": "text", "text": text}]},
            ],
        },
        recall=nothing,
    )
    assert turn.body["input"] == [
        {"type": "message", "role": role, "content": [{"type": "input_text", "text": text}]}
        for role in ("developer", "user")
    ]
    assert turn.body["instructions"] == DEFAULT_TEXT


# --- system text


def told(mode: str, *roles: str) -> tuple[str, list[tuple[str, str]]]:
    """Return the instructions, and role and text of each item; a message says its own role."""
    shaping = Shaping(
        capabilities=resolve("openai-chat", ({"prompt_mode": mode},)),
        said=RelayFields(system_prompt=("more",)),
    )
    messages = [{"role": role, "content": role} for role in roles]
    body = chat_request.translate(
        {"model": "m", "messages": messages}, recall=nothing, shaping=shaping
    ).body
    items = [(item["role"], item["content"][0]["text"]) for item in body["input"]]
    return body["instructions"], items


@pytest.mark.parametrize(
    ("mode", "instructions", "head"),
    [
        (
            "codex_default",
            DEFAULT_TEXT,
            [("developer", "system"), ("developer", "system"), ("developer", "more")],
        ),
        ("merge_custom", f"{DEFAULT_TEXT}\n\nsystem\n\nmore", []),
        ("custom_only", "system\n\nmore", []),
    ],
)
def test_the_system_text_at_the_head_moves_and_other_texts_stay(
    mode: str, instructions: str, head: list[tuple[str, str]]
) -> None:
    rest = [("developer", "developer"), ("user", "user"), ("developer", "system")]
    found = told(mode, "system", "system", "developer", "user", "system")
    assert found == (instructions, [*head, *rest])


@pytest.mark.parametrize("mode", ["merge_custom", "custom_only"])
def test_a_conversation_of_system_messages_alone_keeps_them(mode: str) -> None:
    instructions, items = told(mode, "system")
    assert items == [("developer", "system")]
    assert instructions.endswith("more")


def test_a_call_of_a_built_in_custom_tool_comes_back_as_one() -> None:
    shaping = Shaping(capabilities=resolve("openai-chat", ({"tool_schema_mode": "merge_custom"},)))
    call = {"name": "apply_patch", "arguments": '{"input":"*** Begin Patch"}'}
    messages = [
        HELLO,
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c1", "type": "function", "function": call}],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "ok"},
    ]
    tools = [{"type": "function", "function": {"name": "bash"}}]
    turn = chat_request.translate(
        {"model": "m", "messages": messages, "tools": tools}, recall=nothing, shaping=shaping
    )
    assert [item["type"] for item in turn.body["input"]] == [
        "message",
        "custom_tool_call",
        "custom_tool_call_output",
    ]
    assert "apply_patch" in turn.tools.custom
