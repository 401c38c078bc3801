"""Tool calls as text, for clients that know no tool calls; and such text read back.

`xml` is the form that can be read back. A call, as it is rendered (attributes in this order):

    <tool_call call_id="call_1" name="shell">
    <arguments>{"command":["ls"]}</arguments>
    </tool_call>

A custom tool has `<input>` in the place of `<arguments>`; a tool in a namespace has a third
attribute, `namespace`. `&`, `<` and `>` are written as entities, in attributes `"` too, and as
character references (`&#13;`) what XML would not carry unchanged: control characters but tab and
line feed, U+FFFE, U+FFFF and halves of surrogate pairs. XML 1.0 knows no such references to most
of those; the reader here does, and JSON arguments hold none.

A result, as the client writes it into a message of its user (role `user` or `tool`):

    <tool_result call_id="call_1">
    a.txt
    </tool_result>

Its content is what stands between the tags, without one line end behind the first and one before
the second. Entities, character references and CDATA sections in it are resolved, anything else
stays as it is; only `</tool_result>` must be escaped, and cannot stand in a CDATA section.

`markdown` and `summary` are for reading only. `summary` is one line and may cut the arguments.
"""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, assert_never

import attrs

from codexrelay.protocol.call_filter import Say, ToolCall
from codexrelay.protocol.chat_calls import INPUTS
from codexrelay.protocol.raw import Json, JsonObject, get_text, is_object

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from codexrelay.protocol.call_filter import Decide, Decision

Format: TypeAlias = Literal["xml", "markdown", "summary"]

#: So many characters of the arguments stand in a summary.
SUMMARY_CHARACTERS: Final = 200


def render(format: Format, call: ToolCall) -> str:
    """Return the call as text: the same text for the same call, without a line end behind it."""
    match format:
        case "xml":
            return _xml(call)
        case "markdown":
            return _markdown(call)
        case "summary":
            return _summary(call)
        case _:
            assert_never(format)


def decide_as_text(format: Format) -> Decide:
    """Return what puts every call in words, for `call_filter.CallFilter`."""

    def decide(call: ToolCall) -> Decision:
        return Say(render(format, call), apart=True, is_call=format == "xml")

    return decide


# --- written

_ESCAPED: Final = re.compile("[&<>\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
#: An attribute is one line.
_ESCAPED_IN_ATTRIBUTE: Final = re.compile(
    '[&<>"\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff]'
)
_ENTITIES: Final = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;"}


def _reference(match: re.Match[str]) -> str:
    return _ENTITIES.get(match[0]) or f"&#{ord(match[0])};"


def _attribute(name: str, value: str) -> str:
    return f' {name}="{_ESCAPED_IN_ATTRIBUTE.sub(_reference, value)}"'


def _xml(call: ToolCall) -> str:
    namespace = "" if call.namespace is None else _attribute("namespace", call.namespace)
    head = f"{_attribute('call_id', call.call_id)}{_attribute('name', call.name)}{namespace}"
    tag = "input" if call.custom else "arguments"
    content = _ESCAPED.sub(_reference, call.arguments)
    return f"<tool_call{head}>\n<{tag}>{content}</{tag}>\n</tool_call>"


def _markdown(call: ToolCall) -> str:
    # Longer than any that stands in the arguments, so that none of them ends the block.
    fence = "`" * max(3, _longest_run(call.arguments) + 1)
    language = "" if call.custom else "json"
    head = f"**Tool call** {_code(_named(call))} ({_code(call.call_id)})"
    return f"{head}\n\n{fence}{language}\n{call.arguments}\n{fence}"


def _summary(call: ToolCall) -> str:
    told = " ".join(call.arguments.split())
    if len(told) > SUMMARY_CHARACTERS:
        told = f"{told[:SUMMARY_CHARACTERS]}…"
    return f"[tool call {_named(call)} ({call.call_id}): {told}]"


def _named(call: ToolCall) -> str:
    return call.name if call.namespace is None else f"{call.namespace}.{call.name}"


def _code(text: str) -> str:
    ticks = "`" * (_longest_run(text) + 1)
    space = " " if "`" in text else ""
    return f"{ticks}{space}{text}{space}{ticks}"


def _longest_run(text: str) -> int:
    return max((len(run) for run in re.findall("`+", text)), default=0)


# --- read back

# What is read here was written by anyone, and there may be megabytes of it. Every repetition below
# ends at the next `<`, where the next attempt may begin: no character is looked at again and again.

#: A call, in no other form than the one above, with the line ends that `Say.apart` put around it.
_CALL: Final = re.compile(
    r"\n{0,2}"
    r'(?P<call><tool_call call_id="(?P<call_id>[^"<>\n]+)" name="(?P<name>[^"<>\n]+)"'
    r'(?: namespace="(?P<namespace>[^"<>\n]*)")?>\n'
    r"<(?P<tag>arguments|input)>(?P<content>[^<>]*)</(?P=tag)>\n"
    r"</tool_call>)"
    r"\n?"
)
_RESULT_BEGIN: Final = re.compile(
    r"""<tool_result\s+call_id\s*=\s*(?P<quote>["'])(?P<call_id>[^"'<>\n]+)(?P=quote)\s*>(?:\r?\n)?"""
)
_RESULT_END: Final = re.compile(r"(?:\r?\n)?</tool_result\s*>")
_CDATA_BEGIN: Final = "<![CDATA["
_CDATA_END: Final = "]]>"
#: An entity or a character reference.
_REFERENCE: Final = re.compile(
    r"&(?:(?P<name>amp|lt|gt|quot|apos)|#(?P<decimal>\d{1,7})|#[xX](?P<hex>[0-9a-fA-F]{1,6}));"
)
_NAMES: Final[Mapping[str, str]] = {"amp": "&", "lt": "<", "gt": ">", "quot": '"', "apos": "'"}
_TEXT_PARTS: Final = frozenset({"input_text", "output_text", "text"})
#: Fields that each piece of a message or a part has, if they are short; all others, which may be
#: many, the first piece has alone: there may be thousands of pieces.
_OF_EVERY_PIECE: Final = ("type", "role", "phase")
_LONGEST_REPEATED: Final = 64
#: Keys of a text part that speak of places in its text.
_OF_PLACES: Final = frozenset({"annotations", "logprobs"})


@attrs.frozen(eq=False)
class _Found:
    """A call or a result in a text."""

    begin: int
    end: int
    call_id: str
    #: The call's item; None for a result.
    call: JsonObject | None
    #: What the result holds.
    output: str = ""


def _forgotten(call_id: str) -> Sequence[JsonObject]:  # noqa: ARG001
    return ()


def read_back(
    items: Sequence[Json], recall: Callable[[str], Sequence[JsonObject]] = _forgotten
) -> list[Json]:
    """Return input items of a Responses request with the calls and results in them as items.

    A call in the text of an assistant's message is taken if it is written exactly as `render`
    writes it, if no other call has its id, and if a result follows, of whatever form: the backend
    refuses a call without a result. A result in the text of a user's message is taken if a call
    with its id precedes it that has no other result. Everything else stays the text that it is.

    A message that loses something is cut there; its pieces keep their order and all that is not
    blank, and have no `id`. `items` are not changed.

    `recall` returns the encrypted reasoning that an earlier answer gave before the call with this
    id (`CallFilter.reasoning`). It is put back in front of the call, as `chat_messages` does it.
    """
    found = [_found_in(item) for item in items]
    if not any(any(in_part) for in_item in found for in_part in in_item):
        return [*items]
    taken = _paired(items, found)
    back: list[Json] = []
    for item, in_item in zip(items, found, strict=True):
        wanted = [[each for each in in_part if each in taken] for in_part in in_item]
        if is_object(item) and any(wanted):
            back += _cut(item, wanted, taken, recall)
        else:
            back.append(item)
    return back


def _found_in(item: Json) -> list[list[_Found]]:
    """Return what is found in each part of a message's content."""
    if not is_object(item) or item.get("type", "message") != "message":
        return []
    match item.get("role"):
        case "assistant":
            find = _calls_in
        case "user" | "tool":
            find = _results_in
        case _:
            return []
    return [[*find(text)] for text in map(_text_of, _parts(item))]


def _parts(message: JsonObject) -> list[Json]:
    content = message.get("content")
    return content if isinstance(content, list) else [content]


def _text_of(part: Json) -> str:
    if is_object(part) and part.get("type") in _TEXT_PARTS:
        return get_text(part, "text") or ""
    return part if isinstance(part, str) else ""


def _calls_in(text: str) -> Iterator[_Found]:
    for match in _CALL.finditer(text):
        custom, namespace = match["tag"] == "input", match["namespace"]
        call = ToolCall(
            call_id=_resolved(match["call_id"]),
            name=_resolved(match["name"]),
            arguments=_resolved(match["content"]),
            custom=custom,
            namespace=None if namespace is None else _resolved(namespace),
        )
        if _xml(call) == match["call"]:
            yield _Found(match.start(), match.end(), call.call_id, _item_of(call))


def _item_of(call: ToolCall) -> JsonObject:
    item: JsonObject = {
        "type": "custom_tool_call" if call.custom else "function_call",
        "call_id": call.call_id,
        "name": call.name,
        "input" if call.custom else "arguments": call.arguments,
    }
    return item if call.namespace is None else item | {"namespace": call.namespace}


def _results_in(text: str) -> Iterator[_Found]:
    at = 0
    while begin := _RESULT_BEGIN.search(text, at):
        end = _RESULT_END.search(text, begin.end())
        if end is None:
            return
        at = end.end()
        output = _resolved(text[begin.end() : end.start()])
        yield _Found(begin.start(), at, _resolved(begin["call_id"]), None, output)


def _resolved(text: str) -> str:
    """Return what `text` says in XML; what says nothing there stays."""
    said: list[str] = []
    at = 0
    while (begin := text.find(_CDATA_BEGIN, at)) >= 0:
        end = text.find(_CDATA_END, begin + len(_CDATA_BEGIN))
        if end < 0:
            break  # no other one has an end either
        said += (_without_references(text[at:begin]), text[begin + len(_CDATA_BEGIN) : end])
        at = end + len(_CDATA_END)
    return "".join([*said, _without_references(text[at:])])


def _without_references(text: str) -> str:
    return _REFERENCE.sub(_meant, text)


def _meant(match: re.Match[str]) -> str:
    if match["name"]:
        return _NAMES[match["name"]]
    code = int(match["decimal"]) if match["decimal"] else int(match["hex"], 16)
    return chr(code) if code <= sys.maxunicode else match[0]


@attrs.define(eq=False)
class _Taken:
    """Which of what was found is more than text."""

    #: Call id -> type of the call's item, and the call if it was found in a text.
    calls: dict[str, tuple[str, _Found | None]] = attrs.field(factory=dict)
    #: Call id -> the result, None if it is an item already.
    results: dict[str, _Found | None] = attrs.field(factory=dict)

    def note_item(self, item: JsonObject) -> None:
        """Take an item: where there is one, the same in a text is a quotation."""
        kind, call_id = get_text(item, "type") or "", get_text(item, "call_id")
        if call_id is None:
            return
        if kind in INPUTS:
            self.calls[call_id] = (kind, None)
        elif kind.removesuffix("_output") in INPUTS and call_id in self.calls:
            self.results[call_id] = None

    def note(self, found: _Found) -> None:
        """Take what was found."""
        if found.call is not None:
            self.calls.setdefault(found.call_id, (str(found.call["type"]), found))
        elif found.call_id in self.calls:
            self.results.setdefault(found.call_id, found)

    def __contains__(self, found: _Found) -> bool:
        if found.call is None:
            return self.results.get(found.call_id) is found
        return found.call_id in self.results and self.calls[found.call_id][1] is found

    def item_of(self, found: _Found) -> JsonObject:
        """Return the item that `found` is."""
        if found.call is not None:
            return found.call
        kind = f"{self.calls[found.call_id][0]}_output"
        return {"type": kind, "call_id": found.call_id, "output": found.output}


def _paired(items: Sequence[Json], found: Sequence[list[list[_Found]]]) -> _Taken:
    taken = _Taken()
    for item, in_item in zip(items, found, strict=True):
        if is_object(item):
            taken.note_item(item)
        for in_part in in_item:
            for each in in_part:
                taken.note(each)
    return taken


def _cut(
    message: JsonObject,
    wanted: list[list[_Found]],
    taken: _Taken,
    recall: Callable[[str], Sequence[JsonObject]],
) -> Iterator[JsonObject]:
    """Yield a message in pieces, with what is `wanted` of each part as an item between them."""
    calls = [each for in_part in wanted for each in in_part if each.call is not None]
    if calls:
        # Thoughts before the first call stand before the text too: see `chat_messages`.
        yield from recall(calls[0].call_id)
    fields = {key: value for key, value in message.items() if key != "id"}
    in_parts = isinstance(message.get("content"), list)
    kept: list[Json] = []
    for part, in_part in zip(_parts(message), wanted, strict=True):
        rest, text, at = part, _text_of(part), 0
        for each in in_part:
            if piece := _piece(rest, text[at : each.begin]):
                kept += piece
                rest = _of_every_piece(rest) if is_object(rest) else rest
            if kept:
                yield {**fields, "content": kept if in_parts else kept[0]}
                kept, fields = [], _of_every_piece(fields)
            if each.call is not None and each is not calls[0]:
                yield from recall(each.call_id)
            yield taken.item_of(each)
            at = each.end
        kept += _piece(rest, text[at:]) if in_part else [part]
    if kept:
        yield {**fields, "content": kept if in_parts else kept[0]}


def _piece(part: Json, text: str) -> list[Json]:
    if not text.strip():
        return []
    if not is_object(part):
        return [text]
    return [{key: value for key, value in part.items() if key not in _OF_PLACES} | {"text": text}]


def _of_every_piece(whole: JsonObject) -> JsonObject:
    return {
        name: value
        for name in _OF_EVERY_PIECE
        if isinstance(value := whole.get(name), str) and len(value) <= _LONGEST_REPEATED
    }
