"""Tools and tool choice: from Chat's nested form to the flat one of Responses.

Chat wraps what belongs to a tool (`{"type": "function", "function": {…}}`), Responses does not
(wire notes 2.3). Only the wrapping changes: whatever the client put into a tool arrives, and what
it left out stays out. Tool types that Chat does not know pass unchanged, but for an older name of
the search tool.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from codexrelay.protocol.chat_fields import list_at, name_at, object_at, refused, text_at
from codexrelay.protocol.raw import is_object, parse_object
from codexrelay.protocol.web_search import renamed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from codexrelay.protocol.raw import Json, JsonObject

_MODES: Final = frozenset({"none", "auto", "required"})
#: Types whose content Chat keeps under a key of the same name.
_WRAPPED: Final = frozenset({"function", "custom", "allowed_tools"})


@attrs.frozen
class ToolMap:
    """What must be remembered of a request's tools to read its history and write its answer."""

    #: Names of the tools that take raw text instead of JSON arguments.
    custom: frozenset[str] = frozenset()

    def with_names(self, custom: Iterable[str]) -> ToolMap:
        """Return the map with further tools that take raw text."""
        more = self.custom.union(custom)
        return self if len(more) == len(self.custom) else ToolMap(custom=more)

    def raw_input(self, name: str, arguments: str) -> str | None:
        """Return the text that a function call carries for a custom tool, None if it does not.

        A streamed call of a custom tool reaches the client as a function call with the arguments
        `{"input": TEXT}` (a chat chunk knows no other kind of call), and comes back like that.
        """
        if name not in self.custom:
            return None
        try:
            text = parse_object(arguments).get("input")
        except ValueError:
            return None
        return text if isinstance(text, str) else None


#: Of a request that has none.
NO_TOOLS: Final = ToolMap()


def translate_tools(body: JsonObject) -> tuple[list[JsonObject], ToolMap]:
    """Return the Responses form of `tools` and of the older `functions`, in the client's order.

    Raises:
        RequestError: a tool is malformed.
    """
    tools: list[JsonObject] = []
    if (given := body.get("tools")) is not None:
        for i, tool in enumerate(list_at(given, "tools")):
            tools.append(_flat_tool(tool, f"tools[{i}]"))
    if (given := body.get("functions")) is not None:
        for i, function in enumerate(list_at(given, "functions")):
            param = f"functions[{i}]"
            tools.append(_named({"type": "function", **object_at(function, param)}, param))
    if not tools:
        return tools, NO_TOOLS
    return tools, ToolMap(custom=frozenset(custom_names(tools)))


def translate_choice(body: JsonObject) -> Json:
    """Return the Responses form of `tool_choice`, else of `function_call`; None if absent.

    Raises:
        RequestError: it is malformed.
    """
    if (choice := body.get("tool_choice")) is not None:
        return _choice(choice, "tool_choice")
    if (choice := body.get("function_call")) is not None:
        if isinstance(choice, str):
            return _mode(choice, "function_call")
        function = object_at(choice, "function_call")
        name = name_at(function.get("name"), "function_call.name")
        return {"type": "function", "name": name}
    return None


def _choice(choice: Json, param: str) -> Json:
    if isinstance(choice, str):
        return _mode(choice, param)
    flat = _flat(choice, param)
    if flat["type"] != "allowed_tools":
        return flat
    at = f"{param}.allowed_tools.tools"
    tools = list_at(flat.get("tools"), at)
    return {**flat, "tools": [_flat(tool, f"{at}[{i}]") for i, tool in enumerate(tools)]}


def _mode(choice: str, param: str) -> str:
    if choice not in _MODES:
        raise refused(f"`{param}` must be one of none, auto, required, not {choice!r}", param)
    return choice


def _flat_tool(tool: Json, param: str) -> JsonObject:
    flat = _flat(tool, param)
    kind = flat["type"]
    if kind in ("function", "custom"):
        _named(flat, f"{param}.{kind}")
    if kind == "custom" and is_object(shape := flat.get("format")):
        return {**flat, "format": _flat(shape, f"{param}.custom.format", wrapped="grammar")}
    return flat


def _flat(value: Json, param: str, *, wrapped: str | None = None) -> JsonObject:
    """Take out of `value` the object that stands under the name of its own type, if one does.

    What has no such object keeps its form, under the name that the backend has for it.
    """
    outer = object_at(value, param)
    kind = text_at(outer.get("type"), f"{param}.type")
    if kind in outer and (kind in _WRAPPED or kind == wrapped):
        return {"type": kind, **object_at(outer[kind], f"{param}.{kind}")}
    return renamed(outer)


def _named(tool: JsonObject, param: str) -> JsonObject:
    name_at(tool.get("name"), f"{param}.name")
    return tool


def custom_names(tools: Iterable[Json]) -> Iterator[str]:
    """Yield the names of the tools, in their flat form, that take raw text."""
    for tool in tools:
        if is_object(tool) and tool.get("type") == "custom":
            yield str(tool["name"])
