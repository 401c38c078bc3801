"""A Responses client's tools, as a target that speaks Chat knows them.

Chat has functions and nothing else, and many servers take names of 64 letters, digits, `_` and `-`
only. So a tool that takes raw text becomes a function with one text, `input`; a tool in a namespace
stands beside the others; a name that would be refused gets a substitute. `TargetTools` knows the
way back. What the backend itself would have to do (search the web, run code) is left out and named.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import attrs

from codexrelay.protocol.chat_fields import list_at, name_at, object_at, refused, text_at
from codexrelay.protocol.raw import (
    Json,
    JsonObject,
    dump,
    get_list,
    get_object,
    get_text,
    is_object,
    parse,
    parse_object,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_LONGEST_NAME: Final = 64
_NAME: Final = re.compile(rf"[A-Za-z0-9_-]{{1,{_LONGEST_NAME}}}")
_ODD: Final = re.compile(r"[^A-Za-z0-9_-]")
_DIGEST_BYTES: Final = 4
#: Codex CLI 0.169 calls the namespace so in which its tools stand for lite models, and takes the
#: calls of those without a namespace (measured).
_DEFAULT_NAMESPACE: Final = "functions"

_MODES: Final = frozenset({"none", "auto", "required"})
#: The parameter of the function that stands for a tool that takes raw text.
INPUT: Final = "input"
_NO_PARAMETERS: Final[JsonObject] = {"type": "object", "properties": {}}


@attrs.frozen
class Tool:
    """A tool as the client knows it."""

    name: str
    #: Whether it takes raw text instead of JSON arguments.
    custom: bool = False
    #: In which it stands, None if in none.
    namespace: str | None = None

    @property
    def called_in(self) -> str | None:
        """The namespace that a call of it names."""
        return None if self.namespace == _DEFAULT_NAMESPACE else self.namespace


@attrs.frozen(kw_only=True)
class TargetTools:
    """How the target calls the client's tools."""

    #: The target's name -> the tool.
    by_name: Mapping[str, Tool] = attrs.field(factory=dict)

    def known_as(self, name: str) -> Tool:
        """Return the tool that the target calls `name`; one that it has made up is a function."""
        return self.by_name.get(name) or Tool(name)

    def name_of(self, name: str, namespace: str | None) -> str:
        """Return the target's name of a tool that an earlier call named, offered or not."""
        tools = [(sent, tool) for sent, tool in self.by_name.items() if tool.name == name]
        for sent, tool in tools:
            if namespace in (tool.namespace, tool.called_in):
                return sent
        # A call without a namespace is of whichever tool has the name.
        return tools[0][0] if tools and namespace is None else _fit(name, namespace)


@attrs.frozen(kw_only=True)
class Offered:
    """The tools of a request, for the target."""

    tools: list[Json]
    #: In Chat's form; None: the target decides.
    choice: Json
    names: TargetTools
    #: What is not offered, as paths: `tools[].web_search`.
    dropped: tuple[str, ...]


def offer(body: JsonObject) -> Offered:
    """Return the tools of a Responses request, those that ride in its input too.

    Raises:
        RequestError: a tool is malformed, or one is chosen that is not there.
    """
    by_name: dict[str, Tool] = {}
    sent: dict[str, Json] = {}
    dropped: dict[str, None] = {}
    for given, param, namespace in _tools_of(body):
        kind = text_at(given.get("type"), f"{param}.type")
        if kind not in ("function", "custom"):
            dropped[f"tools[].{kind}"] = None
            continue
        tool = Tool(name_at(given.get("name"), f"{param}.name"), kind == "custom", namespace)
        if tool not in by_name.values():
            name = _name_for(tool, by_name)
            by_name[name] = tool
            sent[name] = _function(name, given)
    names = TargetTools(by_name=by_name)
    choice = _Choice(names, sent, dropped).read(body.get("tool_choice"))
    return Offered(tools=[*sent.values()], choice=choice, names=names, dropped=tuple(dropped))


def as_arguments(tool_input: str) -> str:
    """Return the arguments of a call whose tool takes this raw text."""
    return dump({INPUT: tool_input}).decode()


def as_input(arguments: str) -> str:
    """Return the raw text that the target means by the arguments of a function with one text.

    Models miss the parameter's name, or write the text itself: what they mean is clear all the
    same. Anything else is handed on as it is: the tool tells the model what is wrong with it.
    """
    try:
        given = parse(arguments)
    except ValueError:
        return arguments
    if isinstance(given, str):
        return given
    if is_object(given):
        texts = [value for value in given.values() if isinstance(value, str)]
        if (text := get_text(given, INPUT)) is not None:
            return text
        if len(given) == len(texts) == 1:
            return texts[0]
    return arguments


def sound_arguments(arguments: str) -> str:
    """Return the arguments of an earlier call in a form that every server can read.

    Servers parse them to render the model's template, and refuse the request if they are no object.
    """
    if not arguments.strip():
        return "{}"
    try:
        parse_object(arguments)
    except ValueError:
        return as_arguments(arguments)
    return arguments


def _tools_of(body: JsonObject) -> Iterator[tuple[JsonObject, str, str | None]]:
    """Yield each tool with its path and its namespace."""
    if body.get("tools") is not None:
        yield from _flat(list_at(body["tools"], "tools"), "tools", None)
    for i, item in enumerate(get_list(body, "input")):
        # Codex CLI 0.169 puts the tools of lite models here.
        if is_object(item) and item.get("type") == "additional_tools":
            param = f"input[{i}].tools"
            yield from _flat(list_at(item.get("tools"), param), param, None)


def _flat(
    tools: Iterable[Json], param: str, namespace: str | None
) -> Iterator[tuple[JsonObject, str, str | None]]:
    for i, value in enumerate(tools):
        at = f"{param}[{i}]"
        tool = object_at(value, at)
        if tool.get("type") == "namespace" and namespace is None:
            inner = name_at(tool.get("name"), f"{at}.name")
            yield from _flat(list_at(tool.get("tools"), f"{at}.tools"), f"{at}.tools", inner)
        else:
            yield tool, at, namespace


def _name_for(tool: Tool, taken: Mapping[str, Tool]) -> str:
    """Return a name that the target takes and that no other tool has."""
    name = _fit(tool.name, None)
    return name if name not in taken else _fit(tool.name, tool.namespace or "", unlike=taken)


def _fit(name: str, namespace: str | None, *, unlike: Mapping[str, Tool] | None = None) -> str:
    """Return `name`, or a substitute for it: the same one on every turn."""
    whole = name if not namespace else f"{namespace}__{name}"
    taken = unlike or {}
    if _NAME.fullmatch(whole) and whole not in taken:
        return whole
    data = whole.encode("utf-8", "surrogatepass")
    digest = hashlib.blake2b(data, digest_size=_DIGEST_BYTES).hexdigest()
    kept = _ODD.sub("_", whole)[: _LONGEST_NAME - len(digest) - 1]
    return f"{kept}_{digest}"


def _function(name: str, given: JsonObject) -> Json:
    function: JsonObject = {"name": name}
    if given.get("type") == "custom":
        function["description"] = _custom_description(given)
        function["parameters"] = {
            "type": "object",
            "properties": {
                INPUT: {"type": "string", "description": "The whole input of the tool, as text."}
            },
            "required": [INPUT],
            "additionalProperties": False,
        }
    else:
        if given.get("description") is not None:
            function["description"] = given["description"]
        # Some servers refuse a function without any.
        function["parameters"] = given.get("parameters") or _NO_PARAMETERS
        if given.get("strict") is not None:
            function["strict"] = given["strict"]
    return {"type": "function", "function": function}


def _custom_description(tool: JsonObject) -> str:
    """Say in words what a grammar would enforce."""
    shape = get_object(tool, "format")
    told = [get_text(tool, "description") or ""]
    # The public API's older form wraps the grammar once more.
    grammar = get_object(shape, "grammar") or shape
    if definition := get_text(grammar, "definition"):
        syntax = get_text(grammar, "syntax") or "this"
        told.append(f"`{INPUT}` must follow this grammar ({syntax}):\n{definition}")
    else:
        told.append(f"`{INPUT}` is free text.")
    return "\n\n".join(filter(None, told))


@attrs.frozen
class _Choice:
    """Reads which tool is to be called."""

    names: TargetTools
    #: What is offered; a choice among them takes the others out.
    sent: dict[str, Json]
    dropped: dict[str, None]

    def read(self, choice: Json) -> Json:
        """Return it in Chat's form; None where nothing is chosen that the target could call.

        Raises:
            RequestError: it is malformed, or chooses what is not there.
        """
        if choice is None:
            return None
        if isinstance(choice, str):
            return self._mode(choice, "tool_choice")
        given = object_at(choice, "tool_choice")
        match kind := text_at(given.get("type"), "tool_choice.type"):
            case "function" | "custom":
                name = self._named(given, "tool_choice")
                return {"type": "function", "function": {"name": name}}
            case "allowed_tools":
                return self._allowed(given)
            case _:
                self.dropped[f"tool_choice.{kind}"] = None
                return None

    def _mode(self, choice: str, param: str) -> Json:
        if choice not in _MODES:
            raise refused(f"`{param}` must be one of none, auto, required, not {choice!r}", param)
        # Servers refuse a choice among no tools.
        return choice if self.sent else None

    def _allowed(self, given: JsonObject) -> Json:
        param = "tool_choice.tools"
        allowed: set[str] = set()
        for i, value in enumerate(list_at(given.get("tools"), param)):
            tool, at = object_at(value, f"{param}[{i}]"), f"{param}[{i}]"
            kind = text_at(tool.get("type"), f"{at}.type")
            if kind in ("function", "custom"):
                allowed.add(self._named(tool, at))
            else:
                self.dropped[f"{param}[].{kind}"] = None
        for name in [*self.sent]:
            if name not in allowed:
                del self.sent[name]
        mode = text_at(given.get("mode", "auto"), "tool_choice.mode")
        return self._mode(mode, "tool_choice.mode")

    def _named(self, given: JsonObject, param: str) -> str:
        name = name_at(given.get("name"), f"{param}.name")
        sent = self.names.name_of(name, get_text(given, "namespace"))
        if sent not in self.sent:
            raise refused(f"`tools` has no tool {name!r} that could be chosen", f"{param}.name")
        return sent
