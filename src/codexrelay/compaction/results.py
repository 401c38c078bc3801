"""Results of tools in the history of a request, in both dialects, and how to change their texts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

import attrs

from codexrelay.compaction.calls import Call
from codexrelay.protocol.raw import (
    Json,
    JsonObject,
    get_list,
    get_object,
    get_text,
    is_object,
    parse,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

#: Items that hold a result, in Responses. What a tool of the backend itself has done stands in one
#: item with its call, and is none of the relay's business; nor are the items of the client's own
#: compaction.
_OUTPUTS: Final = frozenset(
    {
        "function_call_output",
        "custom_tool_call_output",
        "local_shell_call_output",
        "shell_call_output",
        "apply_patch_call_output",
    }
)
#: Items that hold a call whose name is not in it, and the key with its arguments.
_NAMED: Final[Mapping[str, tuple[str, str]]] = {
    "local_shell_call": ("local_shell", "action"),
    "shell_call": ("shell", "action"),
    "apply_patch_call": ("apply_patch", "operation"),
}
_TEXT_PARTS: Final = frozenset({"text", "input_text", "output_text"})
#: Texts of a part of `shell_call_output`.
_STREAMS: Final = ("stdout", "stderr")


@attrs.frozen(kw_only=True)
class Result:
    """The result of a call."""

    #: Index of its message or item in the history.
    place: int
    #: Its call; one without a name where none is known.
    call: Call
    #: The texts of its output, in order.
    texts: tuple[str, ...]
    #: Its output holds something else beside texts: an image, a file.
    mixed: bool = False
    #: Its call has had a result before: it adds to that and does not replace it.
    further: bool = False


def results_of(body: JsonObject) -> tuple[Result, ...]:
    """Return the results in the history of a Chat or Responses request, in order.

    A call belongs to the results behind it: ids are not always unique (local models count anew in
    each answer). What is malformed is passed over.
    """
    return tuple(each_result(body))


def each_result(body: JsonObject) -> Iterator[Result]:
    """Yield the results one by one, for who has others to let run between them."""
    return _read(get_list(body, _history_key(body)))


def with_texts(body: JsonObject, texts: Mapping[int, tuple[str, ...]]) -> JsonObject:
    """Return the request with other texts in the results at these places.

    Where a result has more texts than are given, the parts of the last ones are left out; what is
    no text stays. Nothing of `body` is changed; the new one shares what it did not change.
    """
    if not texts:
        return body
    key = _history_key(body)
    history = [*get_list(body, key)]
    for place, given in texts.items():
        item = history[place]
        if is_object(item):
            where = _output_key(item)
            history[place] = {**item, where: _replaced(item.get(where), given)}
    return {**body, key: history}


def _history_key(body: JsonObject) -> Literal["input", "messages"]:
    return "input" if isinstance(body.get("input"), list) else "messages"


def _output_key(item: JsonObject) -> Literal["output", "content"]:
    return "output" if get_text(item, "type") in _OUTPUTS else "content"


def _read(history: list[Json]) -> Iterator[Result]:
    known: dict[str, Call] = {}
    answered: set[str] = set()
    for place, item in enumerate(history):
        if not is_object(item):
            continue
        id_ = _answers(item)
        if id_ is None:
            for call in _calls(item):
                open_ = call.id in known and call.id not in answered
                known[call.id] = call if not open_ or call == known[call.id] else _either(call)
                answered.discard(call.id)
            continue
        texts, mixed = _texts(item.get(_output_key(item)))
        yield Result(
            place=place,
            call=known.get(id_) or Call(id=id_, name="", arguments=None),
            texts=texts,
            mixed=mixed,
            further=id_ in answered,
        )
        answered.add(id_)


def _either(call: Call) -> Call:
    """Return what is known of a call while another one of its id is open: the id alone.

    Which of the two a result belongs to nobody can tell.
    """
    return Call(id=call.id, name="", arguments=None)


def _answers(item: JsonObject) -> str | None:
    """Return the id of the call whose result this is; None: it is no result."""
    role = item.get("role")
    if role == "tool":
        return get_text(item, "tool_call_id") or ""
    if role == "function":
        return _legacy_id(get_text(item, "name") or "")
    if get_text(item, "type") not in _OUTPUTS:
        return None
    return get_text(item, "call_id") or get_text(item, "id") or ""


def _calls(item: JsonObject) -> Iterable[Call]:
    """Return the calls in a message of Chat or an item of Responses."""
    if item.get("role") == "assistant":
        return _chat_calls(item)
    type_ = get_text(item, "type") or ""
    if type_ in _NAMED:
        name, key = _NAMED[type_]
        id_ = get_text(item, "call_id") or get_text(item, "id")
        return [Call(id=id_, name=name, arguments=item.get(key))] if id_ else ()
    if type_ not in ("function_call", "custom_tool_call"):
        return ()
    id_, name = get_text(item, "call_id"), get_text(item, "name") or ""
    custom = type_ == "custom_tool_call"
    given = item.get("input") if custom else _parsed(item.get("arguments"))
    space = get_text(item, "namespace") or ""
    return [Call(id=id_, name=name, arguments=given, namespace=space)] if id_ and name else ()


def _chat_calls(message: JsonObject) -> Iterator[Call]:
    for call in get_list(message, "tool_calls"):
        if not is_object(call):
            continue
        id_, custom = get_text(call, "id"), get_object(call, "custom")
        function = get_object(call, "function")
        name = get_text(function, "name") or get_text(custom, "name")
        if id_ and name:
            given = _parsed(function.get("arguments")) if function else custom.get("input")
            yield Call(id=id_, name=name, arguments=given)
    legacy = get_object(message, "function_call")
    name = get_text(legacy, "name")
    if name:
        yield Call(id=_legacy_id(name), name=name, arguments=_parsed(legacy.get("arguments")))


def _legacy_id(name: str) -> str:
    """Return what stands for the id where functions are matched by their names."""
    return f"\0{name}"


def _parsed(arguments: Json) -> Json:
    """Return arguments as JSON where they are JSON, else as they came."""
    if not isinstance(arguments, str):
        return arguments
    try:
        return parse(arguments)
    except ValueError:
        return arguments


def _texts(output: Json) -> tuple[tuple[str, ...], bool]:
    """Return the texts of an output, and whether there is something else in it."""
    if isinstance(output, str):
        return (output,), False
    if not isinstance(output, list):
        return (), output is not None
    found = [_texts_of_part(part) for part in output]
    return tuple(text for texts in found for text in texts), not all(found)


def _texts_of_part(part: Json) -> tuple[str, ...]:
    if isinstance(part, str):
        return (part,)
    if not is_object(part):
        return ()
    text = get_text(part, "text")
    if text is not None and get_text(part, "type") in _TEXT_PARTS:
        return (text,)
    return tuple(text for key in _STREAMS if (text := get_text(part, key)) is not None)


def _replaced(output: Json, texts: tuple[str, ...]) -> Json:
    """Return an output with these texts in the places of its own."""
    if isinstance(output, str):
        return texts[0] if texts else ""
    if not isinstance(output, list):
        return output
    left = iter(texts)
    parts = (_part_with(part, left) if _texts_of_part(part) else part for part in output)
    return [part for part in parts if part is not None]


def _part_with(part: Json, left: Iterator[str]) -> Json:
    """Return a part that holds text with what is next in `left`, or None if that is used up."""
    if not is_object(part):
        return next(left, None)
    if get_text(part, "type") in _TEXT_PARTS and get_text(part, "text") is not None:
        text = next(left, None)
        return None if text is None else {**part, "text": text}
    given = {key: next(left, "") for key in _STREAMS if isinstance(part.get(key), str)}
    return {**part, **given}
