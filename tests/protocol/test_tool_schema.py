"""The model is offered the tools that its mode says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from codexrelay.protocol.patch_grammar import PATCH_GRAMMAR
from codexrelay.protocol.tool_schema import BUILT_IN, ToolSchema, arrange

if TYPE_CHECKING:
    from collections.abc import Iterable

    from codexrelay.protocol.capabilities import ToolSchemaMode
    from codexrelay.protocol.raw import Json, JsonObject

BUILT_INS = ["shell", "apply_patch", "view_image"]
MINE = ToolSchema(custom=({"type": "function", "name": "mine"},))


def tool(name: str, **more: Json) -> JsonObject:
    return {"type": "function", "name": name, **more}


def named(tools: Iterable[JsonObject]) -> list[str]:
    return [tool.get("name", tool["type"]) for tool in tools]


def carried(*tools: JsonObject) -> JsonObject:
    return {
        "input": [
            {"type": "additional_tools", "role": "developer", "tools": list(tools)},
            {"role": "user", "content": "hi"},
        ]
    }


@pytest.mark.parametrize(
    ("mode", "schema", "names"),
    [
        ("custom_only", ToolSchema(), ["bash", "web_search"]),
        ("custom_only", MINE, ["bash", "web_search", "mine"]),
        ("merge_custom", ToolSchema(), [*BUILT_INS, "bash", "web_search"]),
        ("merge_custom", MINE, [*BUILT_INS, "bash", "web_search", "mine"]),
        ("codex_default", MINE, BUILT_INS),
        ("codex_default", ToolSchema(base=(tool("run"),)), ["run"]),
        ("merge_custom", ToolSchema(base=(tool("run"),)), ["run", "bash", "web_search"]),
    ],
)
@pytest.mark.parametrize("ride", [False, True], ids=["in tools", "in the input"])
def test_each_mode_has_its_tools(
    mode: ToolSchemaMode, schema: ToolSchema, names: list[str], ride: bool
) -> None:
    given = [tool("bash", strict=True), {"type": "web_search", "x": 1}]
    body: JsonObject = carried(*given) if ride else {"tools": [*given], "input": []}
    arranged = arrange(body, mode, schema)
    found = arranged.body["input"][0]["tools"] if ride else arranged.body["tools"]
    assert named(found) == names
    assert ("tools" in arranged.body) is not ride
    if mode != "codex_default":
        assert [each for each in found if each in given] == given, "as they came, in their order"
    assert arranged.dropped == (("bash", "web_search") if mode == "codex_default" else ())


def test_without_anything_to_do_the_same_object_comes_back() -> None:
    body: JsonObject = {"tools": [tool("bash")]}
    assert arrange(body, "custom_only", ToolSchema()).body is body
    assert "tools" not in arrange({}, "custom_only", ToolSchema()).body
    taken = ToolSchema(custom=(tool("bash", description="another"),))
    assert arrange(body, "custom_only", taken).body is body


def test_where_names_clash_the_clients_tool_wins() -> None:
    own = tool("apply_patch", parameters={"patchText": {}})
    arranged = arrange({"tools": [own]}, "merge_custom", ToolSchema())
    assert named(arranged.body["tools"]) == ["shell", "view_image", "apply_patch"]
    assert own in arranged.body["tools"]


def test_a_client_that_brings_no_tools_may_stay_without() -> None:
    for mode in ("merge_custom", "codex_default"):
        arranged = arrange({"input": []}, mode, ToolSchema(), absent_stays_absent=True)
        assert arranged.body == {"input": []}


@pytest.mark.parametrize(
    ("choice", "kept"),
    [
        ("required", True),
        ({"type": "function", "name": "shell"}, True),
        ({"type": "function", "name": "bash"}, False),
        ({"type": "allowed_tools", "tools": [tool("shell")]}, True),
        ({"type": "allowed_tools", "tools": [tool("shell"), tool("bash")]}, False),
    ],
)
def test_a_choice_of_a_tool_that_is_left_out_goes_with_it(choice: Json, kept: bool) -> None:
    body: JsonObject = {"tools": [tool("bash")], "tool_choice": choice}
    arranged = arrange(body, "codex_default", ToolSchema())
    assert ("tool_choice" in arranged.body) is kept


def test_the_built_in_tools_are_complete() -> None:
    assert named(BUILT_IN) == BUILT_INS
    for each in BUILT_IN:
        assert each["description"]
        if each["type"] == "function":
            parameters = each["parameters"]
            assert parameters["required"]
            assert all("description" in inner for inner in parameters["properties"].values())


def test_the_body_is_not_changed() -> None:
    body = carried(tool("bash"))
    before = repr(body)
    arrange(body, "codex_default", ToolSchema())
    arrange(body, "merge_custom", ToolSchema())
    assert repr(body) == before


@pytest.mark.parametrize(
    "line",
    [
        "*** Begin Patch",
        "*** Add File: ",
        "*** Delete File: ",
        "*** Update File: ",
        "*** Move to: ",
        "@@",
        "*** End of File",
        "*** End Patch",
    ],
)
def test_the_grammar_has_every_line_of_a_patch(line: str) -> None:
    assert f'"{line}"' in PATCH_GRAMMAR


@pytest.mark.parametrize("schema", [ToolSchema(), MINE])
@pytest.mark.parametrize(
    "body", [{"input": []}, {"tools": [], "input": []}, carried()], ids=["none", "empty", "ride"]
)
def test_who_brings_no_tools_is_given_some_by_codex_default_alone(
    body: JsonObject, schema: ToolSchema
) -> None:
    for mode in ("custom_only", "merge_custom"):
        assert arrange(body, mode, schema).body is body
    arranged = arrange(body, "codex_default", schema).body
    first = arranged["input"][0] if arranged["input"] else arranged
    assert named(first["tools"]) == BUILT_INS


CUSTOM_CHOICE: JsonObject = {"type": "custom", "name": "apply_patch"}
FUNCTION_CHOICE: JsonObject = {"type": "function", "name": "apply_patch"}
NOTHING = ToolSchema(base=())


@pytest.mark.parametrize(
    ("mode", "schema", "choice", "stays"),
    [
        ("codex_default", ToolSchema(), CUSTOM_CHOICE, True),
        ("codex_default", ToolSchema(), FUNCTION_CHOICE, False),
        ("merge_custom", ToolSchema(), FUNCTION_CHOICE, True),
        ("merge_custom", ToolSchema(), CUSTOM_CHOICE, False),
        ("codex_default", ToolSchema(), "required", True),
        ("codex_default", NOTHING, "required", False),
        ("codex_default", NOTHING, FUNCTION_CHOICE, False),
        ("codex_default", NOTHING, "auto", True),
        ("codex_default", NOTHING, "none", True),
    ],
)
@pytest.mark.parametrize("ride", [False, True], ids=["in tools", "in the input"])
def test_a_choice_stays_where_a_tool_of_its_type_and_name_is_offered(
    mode: ToolSchemaMode, schema: ToolSchema, choice: Json, stays: bool, ride: bool
) -> None:
    own = tool("apply_patch")
    body: JsonObject = carried(own) if ride else {"tools": [own], "input": []}
    arranged = arrange(body | {"tool_choice": choice}, mode, schema)
    assert arranged.body.get("tool_choice") == (choice if stays else None)
    assert any(change.startswith("tool_choice:") for change in arranged.changes) is not stays


def test_a_choice_may_name_a_tool_inside_a_namespace() -> None:
    space: JsonObject = {"type": "namespace", "name": "functions", "tools": [tool("exec")]}
    choice: JsonObject = {"type": "function", "name": "exec"}
    body = carried(space) | {"tool_choice": choice}
    assert arrange(body, "merge_custom", ToolSchema()).body["tool_choice"] == choice
