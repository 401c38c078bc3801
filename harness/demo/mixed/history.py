"""The conversation: the same file read again and again, each time with other content."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from codexrelay.compaction.settings import STUB_MARK
from codexrelay.protocol.raw import dump, get_list, get_text, is_object

if TYPE_CHECKING:
    from collections.abc import Iterator

    from codexrelay.protocol.raw import Json, JsonObject

PATH: Final = "notes.txt"
#: Of one result; in tokens, as the relay estimates, a fourth of it.
_RESULT_CHARACTERS: Final = 4000
#: Estimated tokens above which history is compacted: one result stays below, two do not.
THRESHOLD_TOKENS: Final = 1700
READ: Final[JsonObject] = {
    "name": "read_file",
    "description": "Read a file.",
    "parameters": {
        "type": "object",
        "properties": {"path": {"type": "string"}},
        "required": ["path"],
    },
}
_ARGUMENTS: Final = dump({"path": PATH}).decode()


def content(version: int) -> str:
    """Return what the file held when it was read for the n-th time."""
    line = f"version {version} of {PATH}: nothing in it is of any importance\n"
    return line * (_RESULT_CHARACTERS // len(line))


def chat_messages(reads: int, prompt: str) -> list[Json]:
    """Return a chat in which the file was read so many times, and what is asked now."""
    messages: list[Json] = [{"role": "system", "content": "You read files."}]
    for version in range(1, reads + 1):
        call: JsonObject = {
            "id": f"call_{version}",
            "type": "function",
            "function": {"name": READ["name"], "arguments": _ARGUMENTS},
        }
        messages += [
            {"role": "user", "content": f"Read {PATH}, please."},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": call["id"], "content": content(version)},
            {"role": "assistant", "content": f"I have read version {version}."},
        ]
    return [*messages, {"role": "user", "content": prompt}]


def input_items(reads: int, prompt: str) -> list[Json]:
    """Return the same as the input of a Responses request."""
    items: list[Json] = []
    for version in range(1, reads + 1):
        call_id = f"call_{version}"
        items += [
            {"role": "user", "content": f"Read {PATH}, please."},
            {
                "type": "function_call",
                "call_id": call_id,
                "name": READ["name"],
                "arguments": _ARGUMENTS,
            },
            {"type": "function_call_output", "call_id": call_id, "output": content(version)},
            {"role": "assistant", "content": f"I have read version {version}."},
        ]
    return [*items, {"role": "user", "content": prompt}]


def told_results(body: Json) -> list[str]:
    """Return what became of each tool result on its way: `whole`, `stub`, or what else it is."""
    return [_what_is(text, version) for version, text in enumerate(results_of(body), start=1)]


def results_of(body: Json) -> list[str]:
    """Return the texts of the tool results in a request of either wire, in order."""
    return list(_results(body)) if is_object(body) else []


def _results(body: JsonObject) -> Iterator[str]:
    for message in get_list(body, "messages"):
        if is_object(message) and message.get("role") == "tool":
            yield _text_of(message.get("content"))
    for item in get_list(body, "input"):
        if is_object(item) and item.get("type") == "function_call_output":
            yield _text_of(item.get("output"))


def _text_of(value: Json) -> str:
    if isinstance(value, list):
        return "".join(get_text(part, "text") or "" for part in value if is_object(part))
    return value if isinstance(value, str) else ""


def _what_is(text: str, version: int) -> str:
    if text == content(version):
        return "whole"
    return "stub" if text.startswith(STUB_MARK) else f"{len(text)} other characters"
