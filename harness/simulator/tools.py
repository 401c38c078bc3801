"""The caller's tools: which one runs a shell command, and arguments that its schema accepts.

The vocabularies (wire notes of the clients, 3 to 5b): OpenCode and pi `bash {command}`, Codex
`exec_command {cmd}` and, for lite models, the custom tool `exec` that takes JavaScript; Droid
`Execute {summary, command, riskLevel, riskLevelReason}`; older Codex `shell {command: […]}`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from codexrelay.protocol.raw import JsonObject, dump, get_list, get_object, get_text, is_object

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from codexrelay.protocol.raw import Json


@attrs.frozen(kw_only=True)
class Tool:
    """One tool that the model may call."""

    name: str
    #: Takes free text instead of JSON arguments.
    custom: bool
    #: JSON schema of the arguments; empty for custom tools.
    schema: JsonObject = attrs.field(factory=dict)
    #: The namespace it was declared in, if a call must name it.
    namespace: str | None = None


@attrs.frozen(kw_only=True)
class ToolCall:
    """A call of `tool` with JSON arguments, or with free text for a custom tool."""

    tool: Tool
    payload: str


@attrs.frozen(kw_only=True)
class Edit:
    """A line of a file is to become another."""

    path: str
    old: str
    new: str

    @property
    def patch(self) -> str:
        """Return it as Codex's patches are written."""
        hunk = f"*** Update File: {self.path}\n@@\n-{self.old}\n+{self.new}\n"
        return f"*** Begin Patch\n{hunk}*** End Patch\n"


#: The best first. `shell` is the last one, as the relay may offer it beside the client's own.
_SHELLS: Final = (
    *("bash", "exec_command", "Execute", "shell_command", "local_shell"),
    *("exec", "shell"),
)
#: Those of them that take JavaScript.
_SCRIPTED: Final = frozenset({"exec"})
_COMMAND_FIELDS: Final = ("command", "cmd")
#: Tools that change files, the best first: by patch, and by what is to be found and put there.
_PATCHERS: Final = ("apply_patch", "ApplyPatch")
_EDITORS: Final = ("edit", "Edit")
#: What the fields of the latter are called, without case and underscores.
_PATH_FIELDS: Final = frozenset({"path", "filepath"})
_OLD_FIELDS: Final = frozenset({"oldtext", "oldstr", "oldstring"})
_NEW_FIELDS: Final = frozenset({"newtext", "newstr", "newstring"})
#: Calls into this namespace do not name it (measured, Codex CLI 0.169).
_OPEN_NAMESPACE: Final = "functions"
#: Droid accepts as a summary only a capital and three to eight words; any string field may have it.
_SOME_TEXT: Final = "Print a short greeting"


def tools_of(body: JsonObject) -> tuple[Tool, ...]:
    """Return the tools of a request, also those of namespaces and of `additional_tools` items."""
    declared = list(get_list(body, "tools"))
    for item in get_list(body, "input"):
        if is_object(item) and item.get("type") == "additional_tools":
            declared += get_list(item, "tools")
    return tuple(_read(declared, namespace=None))


def _read(declared: Iterable[Json], *, namespace: str | None) -> Iterator[Tool]:
    for entry in declared:
        if not is_object(entry):
            continue
        name = get_text(entry, "name") or ""
        match entry.get("type"):
            case "function":
                schema = get_object(entry, "parameters")
                yield Tool(name=name, custom=False, schema=schema, namespace=namespace)
            case "custom":
                yield Tool(name=name, custom=True, namespace=namespace)
            case "namespace":
                inner = None if name == _OPEN_NAMESPACE else name
                yield from _read(get_list(entry, "tools"), namespace=inner)
            case _:
                pass  # run by the backend itself (`web_search`), or by rules that we do not know


def shell_call(tools: tuple[Tool, ...], command: str) -> ToolCall | None:
    """Return a call that runs `command`, or of the first function if no tool runs commands.

    None means that there is no tool that could be called.
    """
    for name in _SHELLS:
        for tool in tools:
            if tool.name == name and tool.custom is (name in _SCRIPTED):
                return _call(tool, command)
    functions = [tool for tool in tools if not tool.custom]
    return _call(functions[0], command) if functions else None


def custom_call(tools: tuple[Tool, ...], command: str) -> ToolCall | None:
    """Return a call of a custom tool (`apply_patch` first), or None if there is none."""
    customs = sorted(
        (tool for tool in tools if tool.custom), key=lambda tool: tool.name != "apply_patch"
    )
    if not customs:
        return None
    tool = customs[0]
    if tool.name == "exec":
        return ToolCall(tool=tool, payload=_javascript(command))
    return ToolCall(
        tool=tool,
        payload="*** Begin Patch\n*** Add File: simulated.txt\n+hi\n*** End Patch\n",
    )


def edit_call(tools: tuple[Tool, ...], edit: Edit) -> ToolCall | None:
    """Return a call that makes the change, or None if no tool changes files."""
    by_name = {tool.name: tool for tool in reversed(tools)}
    for name in _PATCHERS:
        if (tool := by_name.get(name)) is not None:
            if tool.custom:
                return ToolCall(tool=tool, payload=edit.patch)
            field = next(iter(_required(tool.schema)), "input")
            return ToolCall(tool=tool, payload=dump({field: edit.patch}).decode())
    for name in _EDITORS:
        if (tool := by_name.get(name)) is not None:
            return ToolCall(tool=tool, payload=dump(_edited(tool.schema, edit)).decode())
    if (tool := by_name.get("exec")) is not None and tool.custom:
        patch = dump(edit.patch).decode()
        return ToolCall(tool=tool, payload=f"const r = await tools.apply_patch({patch}); text(r);")
    return None


def _edited(schema: JsonObject, edit: Edit) -> JsonObject:
    """Return arguments of an edit tool, also where its edits are a list."""
    properties = get_object(schema, "properties")
    values: JsonObject = {}
    for name in _required(schema):
        declared, plain = get_object(properties, name), name.replace("_", "").lower()
        if plain in _PATH_FIELDS:
            values[name] = edit.path
        elif plain in _OLD_FIELDS:
            values[name] = edit.old
        elif plain in _NEW_FIELDS:
            values[name] = edit.new
        elif "array" in _types(declared):
            values[name] = [_edited(get_object(declared, "items"), edit)]
        else:
            values[name] = example(declared)
    return values


def _required(schema: JsonObject) -> list[str]:
    return [name for name in get_list(schema, "required") if isinstance(name, str)]


def foreign_call(command: str, *, workdir: str = "") -> ToolCall:
    """Return a call of Codex CLI's older tool `shell`, from a model that knows no other.

    An empty `workdir` is none.
    """
    arguments: JsonObject = {"command": ["bash", "-lc", command]}
    if workdir:
        arguments["workdir"] = workdir
    return ToolCall(tool=Tool(name="shell", custom=False), payload=dump(arguments).decode())


def _javascript(command: str) -> str:
    arguments = dump({"cmd": command}).decode()
    return f"const r = await tools.exec_command({arguments}); text(r);"


def _call(tool: Tool, command: str) -> ToolCall:
    if tool.custom:
        return ToolCall(tool=tool, payload=_javascript(command))
    return ToolCall(tool=tool, payload=dump(_arguments(tool.schema, command)).decode())


def _arguments(schema: JsonObject, command: str) -> JsonObject:
    """Return arguments with every required field, and with the command wherever one belongs."""
    properties = get_object(schema, "properties")
    wanted = _required(schema)
    wanted += [name for name in _COMMAND_FIELDS if name in properties and name not in wanted]
    values: JsonObject = {}
    for name in wanted:
        declared = get_object(properties, name)
        if name in _COMMAND_FIELDS:
            values[name] = _command(declared, command)
        else:
            values[name] = example(declared)
    return values


def _command(schema: JsonObject, command: str) -> Json:
    return ["bash", "-lc", command] if "array" in _types(schema) else command


def example(schema: JsonObject) -> Json:
    """Return the simplest value that `schema` accepts, null where it may be null."""
    for key in ("anyOf", "oneOf"):
        if choices := [choice for choice in get_list(schema, key) if is_object(choice)]:
            return example(choices[0])
    if "const" in schema:
        return schema["const"]
    if enum := get_list(schema, "enum"):
        return enum[0]
    types = _types(schema)
    if "null" in types:
        return None
    return _example_of(types[0] if types else "string", schema)


def _example_of(type_: str, schema: JsonObject) -> Json:
    match type_:
        case "object":
            properties = get_object(schema, "properties")
            return {name: example(get_object(properties, name)) for name in _required(schema)}
        case "array":
            few = schema.get("minItems")
            return [example(get_object(schema, "items"))] * (few if isinstance(few, int) else 0)
        case "integer" | "number":
            return schema.get("minimum", 1)
        case "boolean":
            return False
        case _:
            return _SOME_TEXT


def _types(schema: JsonObject) -> list[str]:
    declared = schema.get("type")
    if isinstance(declared, str):
        return [declared]
    return [name for name in get_list(schema, "type") if isinstance(name, str)]
