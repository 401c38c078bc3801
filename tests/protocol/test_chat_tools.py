"""Tools and tool choice lose their wrapping and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from codexrelay.errors import RequestError
from codexrelay.protocol.chat_tools import ToolMap, translate_choice, translate_tools

PARAMETERS = {"$schema": "x", "type": "object", "properties": {"city": {"type": "string"}}}
PATCH = {
    "type": "custom",
    "custom": {
        "name": "apply_patch",
        "description": "Change files",
        "format": {"type": "grammar", "grammar": {"syntax": "lark", "definition": "start: /.+/"}},
    },
}


@pytest.mark.parametrize(
    ("tool", "flat"),
    [
        pytest.param(
            {"type": "function", "function": {"name": "f", "parameters": PARAMETERS}},
            {"type": "function", "name": "f", "parameters": PARAMETERS},
            id="an absent strict stays absent",
        ),
        pytest.param(
            {"type": "function", "function": {"name": "f", "description": "d", "strict": False}},
            {"type": "function", "name": "f", "description": "d", "strict": False},
            id="a false strict stays false",
        ),
        pytest.param(
            {"type": "function", "function": {"name": "f", "strict": True, "later": [1]}},
            {"type": "function", "name": "f", "strict": True, "later": [1]},
            id="an unknown key is kept",
        ),
        pytest.param(
            {"type": "function", "name": "f", "parameters": {}},
            {"type": "function", "name": "f", "parameters": {}},
            id="a function that is flat already",
        ),
        pytest.param(
            PATCH,
            {
                "type": "custom",
                "name": "apply_patch",
                "description": "Change files",
                "format": {"type": "grammar", "syntax": "lark", "definition": "start: /.+/"},
            },
            id="a custom tool with a grammar",
        ),
        pytest.param(
            {"type": "custom", "custom": {"name": "sql", "format": {"type": "text"}}},
            {"type": "custom", "name": "sql", "format": {"type": "text"}},
            id="a custom tool with free text",
        ),
        pytest.param(
            {"type": "custom", "name": "sql"},
            {"type": "custom", "name": "sql"},
            id="a custom tool that is flat already",
        ),
        pytest.param(
            {"type": "web_search", "web_search": {"kept": "here"}, "filters": {}},
            {"type": "web_search", "web_search": {"kept": "here"}, "filters": {}},
            id="a type that chat does not know",
        ),
        pytest.param(
            {"type": "web_search_preview", "filters": {}},
            {"type": "web_search", "filters": {}},
            id="an older name of the search",
        ),
        pytest.param(
            {"type": "web_search_preview_2025_03_11"},
            {"type": "web_search"},
            id="an older name with a date",
        ),
    ],
)
def test_a_tool_is_flattened(tool: dict[str, Any], flat: dict[str, Any]) -> None:
    assert translate_tools({"tools": [tool]})[0] == [flat]


def test_the_older_functions_are_functions() -> None:
    tools, _ = translate_tools({"functions": [{"name": "f", "parameters": PARAMETERS}]})
    assert tools == [{"type": "function", "name": "f", "parameters": PARAMETERS}]


def test_no_tools_are_no_tools() -> None:
    assert translate_tools({}) == ([], ToolMap())


def test_the_map_knows_the_custom_tools() -> None:
    function = {"type": "function", "function": {"name": "f"}}
    flat = {"type": "custom", "name": "sql"}
    _, tool_map = translate_tools({"tools": [PATCH, function, flat]})
    assert tool_map.custom == {"apply_patch", "sql"}


@pytest.mark.parametrize(
    ("tool", "param"),
    [
        ({"function": {"name": "f"}}, "tools[0].type"),
        ({"type": "function"}, "tools[0].function.name"),
        ({"type": "function", "function": []}, "tools[0].function"),
        ({"type": "function", "function": {"name": ""}}, "tools[0].function.name"),
        ({"type": "custom", "custom": {"format": {}}}, "tools[0].custom.name"),
        ({"type": "custom", "custom": {"name": "x", "format": {}}}, "tools[0].custom.format.type"),
    ],
)
def test_a_malformed_tool_is_refused(tool: dict[str, Any], param: str) -> None:
    with pytest.raises(RequestError) as caught:
        translate_tools({"tools": [tool]})
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("fields", "choice"),
    [
        ({}, None),
        ({"tool_choice": "none"}, "none"),
        ({"tool_choice": "auto"}, "auto"),
        ({"tool_choice": "required"}, "required"),
        (
            {"tool_choice": {"type": "function", "function": {"name": "f"}}},
            {"type": "function", "name": "f"},
        ),
        (
            {"tool_choice": {"type": "custom", "custom": {"name": "sql"}}},
            {"type": "custom", "name": "sql"},
        ),
        ({"tool_choice": {"type": "web_search"}}, {"type": "web_search"}),
        ({"tool_choice": {"type": "web_search_preview"}}, {"type": "web_search"}),
        (
            {
                "tool_choice": {
                    "type": "allowed_tools",
                    "allowed_tools": {
                        "mode": "required",
                        "tools": [
                            {"type": "function", "function": {"name": "f"}},
                            {"type": "custom", "custom": {"name": "sql"}},
                            {"type": "web_search"},
                        ],
                    },
                }
            },
            {
                "type": "allowed_tools",
                "mode": "required",
                "tools": [
                    {"type": "function", "name": "f"},
                    {"type": "custom", "name": "sql"},
                    {"type": "web_search"},
                ],
            },
        ),
        ({"function_call": "auto"}, "auto"),
        ({"function_call": {"name": "f"}}, {"type": "function", "name": "f"}),
        ({"tool_choice": "none", "function_call": "auto"}, "none"),
    ],
)
def test_a_tool_choice_is_flattened(fields: dict[str, Any], choice: object) -> None:
    assert translate_choice(fields) == choice


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tool_choice": "always"}, "tool_choice"),
        ({"tool_choice": 1}, "tool_choice"),
        ({"tool_choice": {}}, "tool_choice.type"),
        ({"tool_choice": {"type": "function", "function": "f"}}, "tool_choice.function"),
        (
            {"tool_choice": {"type": "allowed_tools", "allowed_tools": {}}},
            "tool_choice.allowed_tools.tools",
        ),
        ({"function_call": "always"}, "function_call"),
        ({"function_call": {}}, "function_call.name"),
    ],
)
def test_a_malformed_tool_choice_is_refused(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(RequestError) as caught:
        translate_choice(fields)
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("name", "arguments", "raw"),
    [
        ("sql", '{"input": "SELECT \\"ü\\"\\n"}', 'SELECT "ü"\n'),
        ("sql", '{"input": ""}', ""),
        ("sql", '{"input": 5}', None),
        ("sql", '{"query": "x"}', None),
        ("sql", "SELECT 1", None),
        ("other", '{"input": "x"}', None),
    ],
)
def test_raw_input_is_found_only_where_a_custom_tool_put_it(
    name: str, arguments: str, raw: str | None
) -> None:
    assert ToolMap(custom=frozenset({"sql"})).raw_input(name, arguments) == raw
