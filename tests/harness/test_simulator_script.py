"""What the simulated model says: in each agent's own vocabulary, and as directives order."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import pytest

from codexrelay.protocol.raw import get_list, get_object, parse_object
from harness.simulator.script import Compaction, Message, Reasoning, Script, script_for
from harness.simulator.tools import ToolCall, example
from tests.fakes.simulated import request, user

if TYPE_CHECKING:
    from collections.abc import Sequence

    from codexrelay.protocol.raw import Json, JsonObject

_PROMPT: Final = "Run the shell command 'echo hi' and tell me what it printed."
_TEXT: Final[JsonObject] = {"type": "string"}
_NUMBER: Final[JsonObject] = {"type": "number"}


def function(name: str, properties: JsonObject, *required: str) -> JsonObject:
    """Return a function tool."""
    schema: JsonObject = {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }
    return {"type": "function", "name": name, "strict": False, "parameters": schema}


def custom(name: str) -> JsonObject:
    return {"type": "custom", "name": name, "format": {"type": "text"}}


OPENCODE: Final[list[Json]] = [
    function("apply_patch", {"patchText": _TEXT}, "patchText"),
    function("bash", {"command": _TEXT, "timeout": _NUMBER, "workdir": _TEXT}, "command"),
]
OLDER_OPENCODE: Final[list[Json]] = [
    function("bash", {"command": _TEXT, "description": _TEXT}, "command", "description")
]
CODEX: Final[list[Json]] = [
    function("exec_command", {"cmd": _TEXT, "workdir": _TEXT, "tty": {"type": "boolean"}}, "cmd"),
    custom("apply_patch"),
    {"type": "web_search", "external_web_access": False},
]
OLDER_CODEX: Final[list[Json]] = [
    function("shell", {"command": {"type": "array", "items": _TEXT}, "workdir": _TEXT}, "command")
]
DROID: Final[list[Json]] = [
    function("Read", {"file_path": _TEXT}, "file_path"),
    function(
        "Execute",
        {
            "summary": {"type": "string", "pattern": r"^[A-Z]\S*(?:\s+\S+){2,7}$"},
            "command": _TEXT,
            "timeout": _NUMBER,
            "riskLevelReason": _TEXT,
            "riskLevel": {"type": "string", "enum": ["low", "medium", "high"]},
        },
        *("summary", "command", "riskLevelReason", "riskLevel"),
    ),
]
PI: Final[list[Json]] = [
    function("read", {"path": _TEXT}, "path"),
    function("bash", {"command": _TEXT, "timeout": _NUMBER}, "command"),
]
SOME_SDK: Final[list[Json]] = [
    function(
        "get_weather",
        {"city": _TEXT, "unit": {"enum": ["C", "F"]}, "days": {"type": ["integer", "null"]}},
        *("city", "unit", "days"),
    )
]
LITE: Final[list[Json]] = [
    {"type": "namespace", "name": "functions", "tools": [custom("exec"), function("wait", {})]},
    {"type": "namespace", "name": "collaboration", "tools": [function("list_agents", {})]},
]

#: What the relay may offer beside a client's own.
SHELL: Final = function("shell", {"command": {"type": "array", "items": _TEXT}}, "command")
SHELL_COMMAND: Final = function("shell_command", {"command": _TEXT}, "command")

VOCABULARIES: Final = {
    "opencode": (OPENCODE, "bash", "command", "echo hi"),
    "older opencode": (OLDER_OPENCODE, "bash", "command", "echo hi"),
    "codex": (CODEX, "exec_command", "cmd", "echo hi"),
    "older codex": (OLDER_CODEX, "shell", "command", ["bash", "-lc", "echo hi"]),
    "droid": (DROID, "Execute", "command", "echo hi"),
    "pi": (PI, "bash", "command", "echo hi"),
    "codex beside the relay's": ([SHELL, *CODEX], "exec_command", "cmd", "echo hi"),
    "a fallback of codex": ([SHELL, SHELL_COMMAND], "shell_command", "command", "echo hi"),
}


def lite_request(*items: JsonObject, offered: Sequence[Json] = LITE) -> JsonObject:
    tools: JsonObject = {"type": "additional_tools", "role": "developer", "tools": [*offered]}
    update: JsonObject = {"type": "configuration_update", "reasoning": {"effort": "low"}}
    return request(tools, *items, update, model="gpt-6.1-sol")


def only_call(script: Script) -> ToolCall:
    """Return the call of a script that thinks and then calls."""
    thought, call = script.items
    assert isinstance(thought, Reasoning)
    assert isinstance(call, ToolCall)
    return call


def said(script: Script) -> str:
    """Return the text of a script that only speaks."""
    (message,) = script.items
    assert isinstance(message, Message)
    return "".join(message.pieces)


def assert_accepts(schema: JsonObject, arguments: JsonObject) -> None:
    """Check what an agent checks: nothing missing, nothing unknown, types, enums and patterns."""
    properties = get_object(schema, "properties")
    assert set(map(str, get_list(schema, "required"))) <= set(arguments) <= set(properties)
    kinds = {"string": str, "number": int, "integer": int, "boolean": bool, "array": list}
    for name, value in arguments.items():
        declared = get_object(properties, name)
        if "enum" in declared:
            assert value in get_list(declared, "enum")
        elif isinstance(declared["type"], str):
            assert isinstance(value, kinds[declared["type"]])
        if isinstance(pattern := declared.get("pattern"), str):
            assert re.match(pattern, str(value))


@pytest.mark.parametrize(
    ("tools", "name", "field", "command"), VOCABULARIES.values(), ids=VOCABULARIES.keys()
)
def test_the_first_answer_runs_the_command_with_the_agents_own_shell_tool(
    tools: list[Json], name: str, field: str, command: Json
) -> None:
    call = only_call(script_for(request(user(_PROMPT), tools=tools)))
    arguments = parse_object(call.payload)
    assert call.tool.name == name
    assert arguments[field] == command
    assert_accepts(call.tool.schema, arguments)


@pytest.mark.parametrize("offered", [LITE, [SHELL, *LITE]], ids=["alone", "beside the relay's"])
def test_a_lite_model_calls_exec_with_javascript_and_names_no_namespace(
    offered: list[Json],
) -> None:
    call = only_call(script_for(lite_request(user(_PROMPT), offered=offered)))
    assert (call.tool.name, call.tool.custom, call.tool.namespace) == ("exec", True, None)
    assert call.payload == 'const r = await tools.exec_command({"cmd":"echo hi"}); text(r);'


def test_without_a_shell_tool_the_first_function_is_called_with_accepted_arguments() -> None:
    call = only_call(script_for(request(user("Weather?"), tools=SOME_SDK)))
    arguments = parse_object(call.payload)
    assert call.tool.name == "get_weather"
    assert arguments["days"] is None
    assert_accepts(call.tool.schema, arguments)


def test_the_prompt_names_the_command() -> None:
    asked = user("\"Run the shell command 'ls -1' and tell me what it printed.\"")
    assert parse_object(only_call(script_for(request(asked, tools=PI))).payload) == {
        "command": "ls -1"
    }


def test_apply_patch_is_called_only_when_asked_for() -> None:
    asked = script_for(request(user("[sim custom] go"), tools=CODEX))
    assert only_call(asked).tool.name == "apply_patch"
    assert only_call(asked).payload.startswith("*** Begin Patch\n")
    assert only_call(script_for(request(user("go"), tools=CODEX))).tool.name == "exec_command"


def test_several_calls_can_be_ordered() -> None:
    items = script_for(request(user("[sim parallel=3] go"), tools=PI)).items
    assert [type(item) for item in items] == [Reasoning, ToolCall, ToolCall, ToolCall]


HEADER: Final = "Chunk ID: 1\nWall time: 0.0 seconds\nProcess exited with code 0\nOutput:\n"
OUTPUTS: Final[dict[str, Json]] = {
    "plain": "hi\nmore\n",
    "droid": "hi\n\n\n[Process exited with code 0]",
    "codex": HEADER + "hi\n",
    "codex lite": [
        {"type": "input_text", "text": "Script completed\nWall time 0.1 seconds\nOutput:\n"},
        {"type": "input_text", "text": '{"exit_code":0,"output":"hi\\n"}'},
    ],
}


def calls(*outputs: Json, kind: str = "function_call") -> list[JsonObject]:
    """Return a user message, calls and their outputs."""
    items = [user(_PROMPT)]
    ends: list[JsonObject] = []
    for number, output in enumerate(outputs):
        ids: JsonObject = {"call_id": f"call_{number}"}
        items.append(ids | {"type": kind, "name": "bash", "arguments": ""})
        ends.append(ids | {"type": f"{kind}_output", "output": output})
    return items + ends


@pytest.mark.parametrize("output", OUTPUTS.values(), ids=OUTPUTS.keys())
def test_a_tool_output_at_the_end_is_quoted_by_its_first_line(output: Json) -> None:
    assert said(script_for(request(*calls(output), tools=PI))) == "The command printed: hi"


def test_a_custom_tools_output_is_quoted_though_settings_follow_it() -> None:
    items = calls(OUTPUTS["codex lite"], kind="custom_tool_call")
    assert said(script_for(lite_request(*items))) == "The command printed: hi"


def test_all_outputs_at_the_end_are_quoted() -> None:
    script = script_for(request(*calls("one\n", "two\n"), tools=PI))
    assert said(script) == "The command printed: one; two"


def test_a_later_turn_is_answered_from_the_history_without_a_call() -> None:
    script = script_for(request(*calls("hi\n"), user("What was it?"), tools=PI))
    assert said(script) == "Earlier, the command printed: hi"


def test_a_later_turn_that_names_a_command_calls_again() -> None:
    again = user("Run the shell command 'pwd'.")
    script = script_for(request(*calls("hi\n"), again, tools=PI))
    assert parse_object(only_call(script).payload) == {"command": "pwd"}


def test_a_title_request_is_an_aside_and_heeds_no_directive() -> None:
    script = script_for(
        request(
            {"role": "developer", "content": "You write a title."},
            user("Generate one for this:"),
            user("[sim text=No] [sim fault=eof]"),
        )
    )
    assert script.aside
    assert said(script) == "A simulated session"
    assert script.fault is None


def test_a_plain_text_request_without_tools_is_a_main_request() -> None:
    assert not script_for(request(user("Explain the word title."))).aside


def test_a_compaction_trigger_gets_a_compaction() -> None:
    script = script_for(request(user("go"), {"type": "compaction_trigger"}, tools=PI))
    assert script.items == (Compaction(),)


def test_directives_speak_at_once_although_there_are_tools() -> None:
    assert said(script_for(request(user("[sim text=A b]"), tools=PI))) == "A b"
    (refusal,) = script_for(request(user("[sim refusal]"), tools=PI)).items
    assert isinstance(refusal, Message)
    assert refusal.refusal
    assert script_for(request(user("[sim incomplete]"), tools=PI)).incomplete


def test_a_directive_can_ask_for_a_fault() -> None:
    assert script_for(request(user("[sim fault=eof] go"), tools=PI)).fault == "eof"


SCHEMAS: Final[dict[str, tuple[JsonObject, Json]]] = {
    "string": ({"type": "string"}, "Print a short greeting"),
    "enum": ({"type": "string", "enum": ["b", "a"]}, "b"),
    "const": ({"const": 7}, 7),
    "nullable": ({"type": ["string", "null"]}, None),
    "minimum": ({"type": "integer", "minimum": 5}, 5),
    "boolean": ({"type": "boolean"}, False),
    "array": ({"type": "array", "items": {"type": "string"}}, []),
    "array of at least two": (
        {"type": "array", "items": {"type": "number"}, "minItems": 2},
        [1, 1],
    ),
    "anyOf": ({"anyOf": [{"type": "number"}, {"type": "string"}]}, 1),
    "object": (
        {
            "type": "object",
            "properties": {"a": {"type": "boolean"}, "b": {"type": "string"}},
            "required": ["a"],
        },
        {"a": False},
    ),
    "nothing declared": ({}, "Print a short greeting"),
}


@pytest.mark.parametrize(("schema", "value"), SCHEMAS.values(), ids=SCHEMAS.keys())
def test_an_example_is_the_simplest_value_a_schema_accepts(schema: JsonObject, value: Json) -> None:
    assert example(schema) == value


_EDIT: Final = "[sim edit=a.txt:old:new]"
_PATCH: Final = "*** Begin Patch\n*** Update File: a.txt\n@@\n-old\n+new\n*** End Patch\n"


def last_call(prompt: str, tools: Sequence[Json]) -> ToolCall:
    call = script_for({"input": [user(prompt)], "tools": list(tools)}).items[-1]
    assert isinstance(call, ToolCall)
    return call


def test_an_edit_is_a_patch_where_there_is_a_tool_for_patches() -> None:
    assert last_call(_EDIT, CODEX).payload == _PATCH
    assert parse_object(last_call(_EDIT, OPENCODE).payload) == {"patchText": _PATCH}
    assert "tools.apply_patch(" in last_call(_EDIT, [custom("exec")]).payload


def test_an_edit_without_patches_says_what_is_to_be_found_and_put_there() -> None:
    texts: JsonObject = {"oldText": _TEXT, "newText": _TEXT}
    edits: JsonObject = {
        "type": "array",
        "items": {"type": "object", "properties": texts, "required": ["oldText", "newText"]},
    }
    edit = function("edit", {"path": _TEXT, "edits": edits}, "path", "edits")
    assert parse_object(last_call(_EDIT, [edit]).payload) == {
        "path": "a.txt",
        "edits": [{"oldText": "old", "newText": "new"}],
    }


def test_calls_in_parallel_run_one_command_each() -> None:
    prompt = "Run the shell command 'one'. Run the shell command 'two'. [sim parallel=2]"
    items = script_for({"input": [user(prompt)], "tools": OPENCODE}).items
    commands = [parse_object(call.payload) for call in items if isinstance(call, ToolCall)]
    assert [call["command"] for call in commands] == ["one", "two"]


def test_thoughts_in_two_parts_come_before_every_item_when_asked_for() -> None:
    thought, *others = script_for({"input": [user("hi [sim think] [sim text=Yes]")]}).items
    assert isinstance(thought, Reasoning)
    assert len(thought.parts) == 2
    assert others == [Message(("Yes",))]


def test_a_title_is_as_long_as_asked_for() -> None:
    asked = {"instructions": "Write a title.", "input": [user("[sim title=9]")]}
    script = script_for(asked)
    assert script.aside
    (title,) = script.items
    assert isinstance(title, Message)
    assert len("".join(title.pieces).split()) == 9
