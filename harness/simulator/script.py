"""What the simulated model says to a request: a tool call first, then what the tool printed.

A user text may steer it with directives in square brackets, several if need be:

| directive | effect |
| --- | --- |
| `[sim parallel=2]` | so many tool calls in one answer, one for each command that is asked for |
| `[sim edit=FILE:OLD:NEW]` | the call makes the file's line OLD into NEW, by patch or edit tool |
| `[sim title=40]` | a title, if this asks for one, has so many words |
| `[sim think]` | a thought in two parts comes before every item |
| `[sim custom]` | the call is one of a custom tool, `apply_patch` if there is one |
| `[sim foreign_shell]` | the call is one of `shell`, whether or not the client has such a tool |
| `[sim foreign_shell=/tmp]` | so, and its `workdir` is this folder |
| `[sim text=Hello]` | this text at once, no tool call |
| `[sim deltas=50]` | a text in so many deltas at once, no tool call |
| `[sim refusal]` | a refusal at once |
| `[sim incomplete]` | a text that ends with `response.incomplete` |
| `[sim fault=eof]` | this request's answer has that fault (a retry meets it again) |
"""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING, Final, TypeAlias

import attrs

from codexrelay.protocol.raw import get_list, get_text, is_object, parse
from harness.simulator.tools import (
    Edit,
    ToolCall,
    custom_call,
    edit_call,
    foreign_call,
    shell_call,
    tools_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from codexrelay.protocol.raw import Json, JsonObject
    from harness.simulator.tools import Tool


@attrs.frozen
class Reasoning:
    """A reasoning item: the parts of its summary, each in pieces."""

    parts: tuple[tuple[str, ...], ...]


@attrs.frozen
class Message:
    """A message of the assistant, in the pieces in which it is streamed."""

    pieces: tuple[str, ...]
    refusal: bool = False


@attrs.frozen
class Compaction:
    """The history, folded into one opaque item."""


Item: TypeAlias = Reasoning | Message | Compaction | ToolCall


@attrs.frozen(kw_only=True)
class Script:
    """What is said to one request."""

    items: tuple[Item, ...]
    #: The answer ends as `response.incomplete`.
    incomplete: bool = False
    #: The fault that the request itself asks for.
    fault: str | None = None
    #: Not the turn itself but one of its side requests (a title); faults pass it by.
    aside: bool = False


_DIRECTIVE: Final = re.compile(r"\[sim (\w+)(?:=([^\]]*))?\]")
_COMMAND: Final = re.compile(r"Run the shell command '([^']+)'")
_TITLE_TEXT: Final = "A simulated session"
_DEFAULT_COMMAND: Final = "echo hi"
#: What `[sim think]` thinks, in two parts.
THOUGHTS: Final = ("**Weighing** what was asked.", "**Choosing** the words.")
_TITLE: Final = re.compile(r"\btitle\b", re.IGNORECASE)
_WORDS: Final = re.compile(r"\s*\S+\s*")
#: Items that belong to the request's set-up and not to the conversation.
_SETTINGS: Final = frozenset({"additional_tools", "configuration_update"})
_OUTPUTS: Final = frozenset({"function_call_output", "custom_tool_call_output"})
_CODEX_OUTPUT: Final = "Output:\n"


def script_for(body: JsonObject) -> Script:
    """Return what is said to a request that passed the checks."""
    conversation = [
        item
        for item in get_list(body, "input")
        if is_object(item) and item.get("type") not in _SETTINGS
    ]
    last = conversation[-1] if conversation else {}
    tools = tools_of(body)
    if last.get("type") == "compaction_trigger":
        return Script(items=(Compaction(),))
    said = _last_user_text(conversation)
    directives = dict(_DIRECTIVE.findall(said))
    if not tools and _asks_for_title(body, conversation):
        words = _count(directives.get("title", "1"))
        return Script(items=(_message(" ".join([_TITLE_TEXT, *["on"] * (words - 3)])),), aside=True)
    told = _outputs_at_end(conversation)
    if told:
        items: tuple[Item, ...] = (_message(f"The command printed: {'; '.join(told)}"),)
    elif (text := _ordered_text(directives)) is not None:
        items = (text,)
    else:
        items = _first_items(said, directives, conversation, tools)
    if "think" in directives:
        items = (Reasoning(tuple(map(_pieces, THOUGHTS))), *_without_thoughts(items))
    return Script(
        items=items,
        incomplete="incomplete" in directives and not told,
        fault=directives.get("fault"),
    )


def _without_thoughts(items: Iterable[Item]) -> Iterator[Item]:
    return (item for item in items if not isinstance(item, Reasoning))


def _ordered_text(directives: dict[str, str]) -> Message | None:
    """Return the text that the directives ask for, None if they ask for none."""
    if "text" in directives:
        return _message(directives["text"])
    if "deltas" in directives:
        count = _count(directives["deltas"])
        return Message(tuple(f"word {number} " for number in range(count)))
    if "refusal" in directives:
        return Message(_pieces("I cannot help with that."), refusal=True)
    if "incomplete" in directives:
        return _message("This answer ends in the middle of")
    return None


def _first_items(
    said: str,
    directives: dict[str, str],
    conversation: list[JsonObject],
    tools: tuple[Tool, ...],
) -> tuple[Item, ...]:
    """Return a tool call if one is due, else words."""
    earlier = [line for item in conversation if (line := _output_line(item)) is not None]
    asked = _COMMAND.findall(said)
    if asked or "edit" in directives or not earlier:
        commands = itertools.cycle(asked or [_DEFAULT_COMMAND])
        count = _count(directives.get("parallel", "1"))
        calls = [_call(directives, tools, command) for command in itertools.islice(commands, count)]
        if None not in calls:
            thought = Reasoning((("**Running", " the command**\n\n", "The tool will tell."),))
            return (thought, *(call for call in calls if call is not None))
    if earlier:
        return (_message(f"Earlier, the command printed: {earlier[-1]}"),)
    return (_message("Hello from the simulated backend."),)


def _call(directives: Mapping[str, str], tools: tuple[Tool, ...], command: str) -> ToolCall | None:
    """Return the call that the directives ask for, None if the client has no tool for it."""
    if "foreign_shell" in directives:
        return foreign_call(command, workdir=directives["foreign_shell"])
    if "edit" in directives:
        path, _, change = directives["edit"].partition(":")
        old, _, new = change.partition(":")
        return edit_call(tools, Edit(path=path, old=old, new=new))
    if "custom" in directives:
        return custom_call(tools, command)
    return shell_call(tools, command)


def _count(text: str) -> int:
    return int(text) if text.isdecimal() else 1


def _message(text: str) -> Message:
    return Message(_pieces(text))


def _pieces(text: str) -> tuple[str, ...]:
    """Cut a text into pieces of about a word; joined they are the text."""
    return tuple(_WORDS.findall(text)) or (text,)


def _asks_for_title(body: JsonObject, conversation: list[JsonObject]) -> bool:
    """Tell whether this is an agent's request for a session title (measured, OpenCode 1.18)."""
    texts = [get_text(body, "instructions") or ""]
    texts += [_text_of(item.get("content")) for item in conversation[:-1]]
    return any(_TITLE.search(text) for text in texts)


def _last_user_text(conversation: Iterable[JsonObject]) -> str:
    texts = [_text_of(item.get("content")) for item in conversation if item.get("role") == "user"]
    return texts[-1] if texts else ""


def _outputs_at_end(conversation: list[JsonObject]) -> list[str]:
    """Return the first line of each tool output with which the input ends."""
    lines: list[str] = []
    for item in reversed(conversation):
        if (line := _output_line(item)) is None:
            break
        lines.append(line)
    return lines[::-1]


def _output_line(item: JsonObject) -> str | None:
    """Return the first line that a tool printed, or None if `item` is no tool output.

    Codex CLI puts a header before the output, and lite models' `exec` a JSON object around it.
    """
    if item.get("type") not in _OUTPUTS:
        return None
    _, mark, rest = (text := _text_of(item.get("output"))).partition(_CODEX_OUTPUT)
    printed = _unwrapped(rest if mark else text)
    return next((line.strip() for line in printed.splitlines() if line.strip()), "")


def _unwrapped(text: str) -> str:
    try:
        value = parse(text)
    except ValueError:
        return text
    return (get_text(value, "output") if is_object(value) else None) or text


def _text_of(content: Json) -> str:
    """Return the text of a content, which is a string or a list of parts."""
    if isinstance(content, str):
        return content
    return "".join(_part_texts(content)) if isinstance(content, list) else ""


def _part_texts(parts: list[Json]) -> Iterator[str]:
    for part in parts:
        if is_object(part):
            yield get_text(part, "text") or ""
