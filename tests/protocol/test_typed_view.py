"""What is rebuilt has only what is known; what has to be a conversation is one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from codexrelay.errors import RequestError
from codexrelay.protocol.typed_view import conversation, known_fields

if TYPE_CHECKING:
    from codexrelay.protocol.capabilities import Dialect
    from codexrelay.protocol.raw import Json, JsonObject

USER: JsonObject = {"type": "message", "role": "user", "content": "hi"}
CALL: JsonObject = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
RESULT: JsonObject = {"type": "function_call_output", "call_id": "c", "output": "ok"}
CUSTOM: JsonObject = {"type": "custom_tool_call", "call_id": "k", "name": "g", "input": "x"}
CUSTOM_RESULT: JsonObject = {"type": "custom_tool_call_output", "call_id": "k", "output": "ok"}


def read(*items: Json, rebuilt: bool = True) -> list[Json]:
    numbered = [(f"input[{index}]", item) for index, item in enumerate(items)]
    return conversation(numbered, rebuilt=rebuilt).items


@pytest.mark.parametrize(
    ("protocol", "others"),
    [("openai-chat", ("x", "client_metadata", "y")), ("openai-responses", ("x", "y"))],
)
def test_fields_that_nobody_knows_are_named(protocol: Dialect, others: tuple[str, ...]) -> None:
    body: JsonObject = {
        "x": 1,
        "model": "m",
        "input": [USER],
        "tools": None,
        "client_metadata": {},
        "y": None,
    }
    view, unknown = known_fields(body, protocol)
    assert unknown == others
    assert view == {name: body[name] for name in body if name not in (*others, "tools")}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("reasoning", "high"),
        ("text", []),
        ("tool_choice", 1),
        ("parallel_tool_calls", "yes"),
        ("prompt_cache_key", 7),
        ("service_tier", {}),
        ("client_metadata", []),
    ],
)
def test_a_known_field_of_another_type_is_refused(name: str, value: Json) -> None:
    with pytest.raises(RequestError) as caught:
        known_fields({name: value}, "openai-responses")
    assert (caught.value.param, caught.value.code) == (name, "invalid_type")


def test_a_conversation_keeps_what_chat_has_words_for() -> None:
    thought: JsonObject = {
        "type": "reasoning",
        "id": "rs_1",
        "summary": [],
        "content": None,
        "encrypted_content": "x",
    }
    given = [
        {"role": "developer", "content": [{"type": "input_text", "text": "s"}], "id": "msg_1"},
        USER | {"status": "completed"},
        thought,
        CALL | {"id": "fc_1", "status": "completed"},
        CUSTOM | {"id": "ctc_1"},
        CUSTOM_RESULT,
        RESULT | {"output": [{"type": "input_text", "text": "ok"}]},
        {"role": "assistant", "content": [{"type": "output_text", "text": "done", "x": 1}]},
    ]
    assert read(*given) == [
        {
            "type": "message",
            "role": "developer",
            "content": [{"type": "input_text", "text": "s"}],
        },
        USER,
        {"type": "reasoning", "summary": [], "encrypted_content": "x"},
        CALL,
        CUSTOM,
        CUSTOM_RESULT,
        RESULT | {"output": [{"type": "input_text", "text": "ok"}]},
        {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "done", "x": 1}],
        },
    ]
    assert read(*given, rebuilt=False) == given


@pytest.mark.parametrize(
    ("items", "param"),
    [
        ([USER, {"type": "of_tomorrow"}], "input[1].type"),
        ([{"type": 5}], "input[0].type"),
        ([{"role": "robot", "content": "x"}], "input[0].role"),
        ([{"role": "user"}], "input[0].content"),
        ([{"role": "user", "content": [{"type": "output_text"}]}], "input[0].content[0]"),
        ([{"role": "assistant", "content": [{"type": "input_text"}]}], "input[0].content[0]"),
        ([{"role": "developer", "content": [{"type": "input_image"}]}], "input[0].content[0]"),
        ([RESULT], "input[0].call_id"),
        ([CALL], "input[0].call_id"),
        ([CALL, CUSTOM_RESULT | {"call_id": "c"}], "input[1].call_id"),
        ([CALL | {"name": ""}, RESULT], "input[0].name"),
        ([CALL | {"arguments": {}}, RESULT], "input[0].arguments"),
        ([CALL, RESULT | {"output": None}], "input[1].output"),
        ([{"type": "reasoning", "summary": "x"}], "input[0].summary"),
        (["x"], "input[0]"),
    ],
)
@pytest.mark.parametrize("rebuilt", [True, False])
def test_what_is_no_part_of_a_conversation_is_named(
    items: list[Json], param: str, rebuilt: bool
) -> None:
    with pytest.raises(RequestError) as caught:
        read(*items, rebuilt=rebuilt)
    assert (caught.value.status, caught.value.param) == (400, param)


SHELL_CALL: JsonObject = {"type": "local_shell_call", "id": "lsh_1", "call_id": "s", "action": {}}
BESIDE: list[Json] = [
    {"type": "additional_tools", "id": "at_1", "role": "developer", "tools": []},
    {"type": "configuration_update", "id": "cu_1", "x": [1]},
    {"type": "web_search_call", "id": "ws_1", "action": {"type": "search"}},
    SHELL_CALL,
    {"type": "function_call_output", "call_id": "s", "output": "ok"},
    {"type": "tool_search_call", "call_id": "t"},
    {"type": "tool_search_output", "call_id": "t", "tools": []},
    {"type": "compaction", "encrypted_content": "x"},
]


@pytest.mark.parametrize("codex_shaped", [True, False])
@pytest.mark.parametrize("rebuilt", [True, False])
def test_items_that_stand_beside_what_is_said_pass_as_they_are(
    rebuilt: bool, codex_shaped: bool
) -> None:
    numbered = [(f"input[{index}]", item) for index, item in enumerate([*BESIDE, USER])]
    found = conversation(numbered, rebuilt=rebuilt, codex_shaped=codex_shaped)
    assert found.items == [*BESIDE, USER]
    assert [path for path, _ in found.passed] == [f"input[{index}]" for index in range(8)]
    assert found.passed[2] == ("input[2]", "web_search_call")


@pytest.mark.parametrize(
    "item",
    [
        {"type": "of_tomorrow", "id": "ot_1"},
        {"type": "message", "role": "user", "content": [{"type": "of_tomorrow"}]},
        {"type": "message", "role": "tool", "content": "x"},
        RESULT | {"output": [{"type": "encrypted_content", "x": 1}]},
    ],
    ids=["type", "part", "role", "result"],
)
def test_of_codexs_own_items_also_unknown_ones_pass(item: JsonObject) -> None:
    numbered: list[tuple[str, Json]] = [("input[0]", CALL), ("input[1]", item)]
    if item["type"] != "function_call_output":
        numbered.append(("input[2]", RESULT))
    found = conversation(numbered, rebuilt=True, codex_shaped=True)
    assert found.items[1] == item
    assert [path for path, _ in found.passed] == ["input[1]"]
    with pytest.raises(RequestError):
        conversation(numbered, rebuilt=True)


def test_orphans_are_refused_whoever_writes_them() -> None:
    for item in (CALL, RESULT, CUSTOM_RESULT):
        with pytest.raises(RequestError):
            conversation([("input[0]", item)], rebuilt=True, codex_shaped=True)
