"""Whose tools the model is offered: the client's, the built-in ones, or both.

| mode | tools |
| --- | --- |
| `custom_only` | the client's, as they came, and the configured ones whose names are free |
| `merge_custom` | the built-in ones first; where names clash, the client's own, which it can run |
| `codex_default` | the built-in ones only; the client's are left out, and named |

A request that brings no tools gets none in the first two modes: it asks for text, such as a title.
`codex_default` offers the built-in ones always, for programs that know no tools and read calls as
text (`tool_text_format`).

Nothing here runs a tool. Models whose tools ride in an `additional_tools` item (Codex CLI's lite
models, which take no `tools`) find all of this inside that item.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from codexrelay.protocol.patch_grammar import PATCH_GRAMMAR
from codexrelay.protocol.raw import Json, JsonObject, get_list, get_text, is_object

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from codexrelay.protocol.capabilities import ToolSchemaMode

_SHELL: Final[JsonObject] = {
    "type": "function",
    "name": "shell",
    "description": "Runs a program and returns what it prints, and its exit status.",
    "strict": False,
    "parameters": {
        "type": "object",
        "properties": {
            "command": {
                "type": "array",
                "items": {"type": "string"},
                "description": "The program and its arguments, such as bash, -lc and a script.",
            },
            "workdir": {
                "type": "string",
                "description": "The folder to run it in; left out: the project's own.",
            },
            "timeout_ms": {
                "type": "integer",
                "description": "Milliseconds after which it is stopped.",
            },
        },
        "required": ["command"],
        "additionalProperties": False,
    },
}
_APPLY_PATCH: Final[JsonObject] = {
    "type": "custom",
    "name": "apply_patch",
    "description": (
        "Adds, changes, moves and deletes files. The input is one patch, written as the grammar "
        "says, and no JSON. Lines of a change begin with a blank (kept), - (removed) or + (added)."
    ),
    "format": {"type": "grammar", "syntax": "lark", "definition": PATCH_GRAMMAR},
}
_VIEW_IMAGE: Final[JsonObject] = {
    "type": "function",
    "name": "view_image",
    "description": "Shows you an image file.",
    "strict": False,
    "parameters": {
        "type": "object",
        "properties": {"path": {"type": "string", "description": "Path of the file."}},
        "required": ["path"],
        "additionalProperties": False,
    },
}
BUILT_IN: Final[tuple[JsonObject, ...]] = (_SHELL, _APPLY_PATCH, _VIEW_IMAGE)

_CARRIER: Final = "additional_tools"


@attrs.frozen(kw_only=True)
class ToolSchema:
    """The tools beside the client's, in the Responses form (`extra.codex.tool_schema`)."""

    #: The built-in ones.
    base: tuple[JsonObject, ...] = BUILT_IN
    #: Offered besides the client's, where a name is free.
    custom: tuple[JsonObject, ...] = ()


@attrs.frozen
class Arranged:
    """A request whose tools are those of its mode."""

    body: JsonObject
    #: Every change, as `PATH: WHAT`.
    changes: tuple[str, ...] = ()
    #: Names of the client's tools that were left out.
    dropped: tuple[str, ...] = ()


def arrange(
    body: JsonObject, mode: ToolSchemaMode, schema: ToolSchema, *, absent_stays_absent: bool = False
) -> Arranged:
    """Return a Responses body with the tools of `mode`. `body` itself is not changed.

    A `tool_choice` that names what is not offered goes, and so does one that demands a call where
    no tool is left. `absent_stays_absent` leaves a request that brings no tools without any in
    every mode.
    """
    if mode == "custom_only" and not schema.custom:
        return Arranged(body)
    given, items = get_list(body, "tools"), get_list(body, "input")
    carriers = [index for index, item in enumerate(items) if _is_carrier(item)]
    carried = [tool for index in carriers for tool in _tools_of(items[index])]
    if not given and not carried and (absent_stays_absent or mode != "codex_default"):
        return Arranged(body)
    if mode == "codex_default":
        return _replaced(body, schema.base, carriers)
    added = schema.base if mode == "merge_custom" else ()
    taken = _names((*given, *carried))
    before = [tool for tool in added if _name(tool) not in taken]
    taken |= _names(before)
    behind = [tool for tool in schema.custom if _name(tool) not in taken]
    if not before and not behind:
        return Arranged(body)
    path = f"input[{carriers[0]}].tools" if carriers else "tools"
    changes = tuple(f"{path}: with {_name(tool)}" for tool in (*before, *behind))
    if carriers:
        changed = list(items)
        at = carriers[0]
        changed[at] = _with_tools(items[at], [*before, *_tools_of(items[at]), *behind])
        sent = {**body, "input": changed}
    else:
        sent = {**body, "tools": [*before, *given, *behind]}
    changes += _fit_choice(sent, (*before, *given, *carried, *behind))
    return Arranged(sent, changes)


def _replaced(body: JsonObject, base: Sequence[JsonObject], carriers: Sequence[int]) -> Arranged:
    """Return the body with `base` instead of all tools of the client."""
    items = list(get_list(body, "input"))
    given = [*get_list(body, "tools"), *(t for i in carriers for t in _tools_of(items[i]))]
    sent, changes = dict(body), []
    if carriers:
        sent.pop("tools", None)
        for index in carriers:
            tools: list[Json] = [*base] if index == carriers[0] else []
            items[index] = _with_tools(items[index], tools)
            changes.append(f"input[{index}].tools: the built-in ones")
        sent["input"] = items
    elif base:
        sent["tools"] = [*base]
        changes.append("tools: the built-in ones")
    else:
        sent.pop("tools", None)
    changes += _fit_choice(sent, base)
    dropped = tuple(dict.fromkeys(map(_name, given)))
    return Arranged(sent, tuple(changes), dropped)


def _fit_choice(body: JsonObject, offered: Sequence[Json]) -> tuple[str, ...]:
    """Take away a choice that these tools cannot meet; return the change. `body` is changed."""
    choice = body.get("tool_choice")
    if choice is None or choice in ("none", "auto"):
        return ()
    if not offered:
        why = "no tool is offered"
    elif is_object(choice) and not _kinds(_chosen(choice)) <= _kinds(offered):
        why = "it names a tool that is not offered"
    else:
        return ()
    del body["tool_choice"]
    return (f"tool_choice: removed, {why}",)


def _is_carrier(item: Json) -> bool:
    return is_object(item) and item.get("type") == _CARRIER


def _tools_of(item: Json) -> list[Json]:
    return get_list(item, "tools") if is_object(item) else []


def _with_tools(item: Json, tools: Sequence[Json]) -> Json:
    return item | {"tools": [*tools]} if is_object(item) else item


def _chosen(choice: JsonObject) -> Sequence[Json]:
    """Return the tools that a choice names: itself, or those that it allows."""
    return get_list(choice, "tools") if choice.get("type") == "allowed_tools" else [choice]


def _names(tools: Iterable[Json]) -> set[str]:
    return set(map(_name, tools))


def _kinds(tools: Iterable[Json]) -> set[tuple[str, str]]:
    """Return type and name of each tool, those inside namespaces too."""
    found: set[tuple[str, str]] = set()
    for tool in tools:
        if is_object(tool):
            found.add((get_text(tool, "type") or "", _name(tool)))
            found |= _kinds(get_list(tool, "tools"))
    return found


def _name(tool: Json) -> str:
    """Return what a tool is called; tools of the backend's own are called by their type."""
    if not is_object(tool):
        return ""
    return get_text(tool, "name") or get_text(tool, "type") or ""
