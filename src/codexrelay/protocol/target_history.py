"""A Responses conversation as the messages of a Chat request, for a target that speaks only Chat.

What local servers demand decides the form, because they render the messages with the template of
the model: one system message, and at the head; the calls of one answer in one message, with what
was said beside them; right behind it a result for each. Texts, arguments and results stay the
client's own; call ids too.

What cannot be told is left out and named: reasoning (nobody else can read it), what the hosted
tools of another backend did, references to what that one has stored.
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_to_bytes

import attrs

from codexrelay.protocol.chat_fields import list_at, name_at, object_at, refused, text_at
from codexrelay.protocol.raw import Json, JsonObject, dump, get_text, is_object
from codexrelay.protocol.target_tools import TargetTools, as_arguments, sound_arguments

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

_SYSTEM: Final = frozenset({"system", "developer"})
_DETAILS: Final = frozenset({"auto", "low", "high"})
#: Stands for a result that the client never sent, because it cut the turn short.
_NO_RESULT: Final = "(no result: the call was cut short)"
_COMPACTED: Final = (
    "(What came before this is known only to another backend, which has compacted it.)"
)
_COMPACTIONS: Final = frozenset({"compaction", "compaction_summary", "context_compaction"})
#: Items that say nothing to another model.
_SILENT: Final = frozenset({"reasoning", "item_reference", "configuration_update"})
#: Says itself that it is no message: its tools are offered as tools.
_TOOLS: Final = "additional_tools"
#: Of the items of a call: what is no part of its input.
_ABOUT_CALLS: Final = frozenset({"id", "type", "status", "call_id", "execution"})
#: What a media type begins with that is readable as it is.
_TEXT_TYPES: Final = ("text/", "application/json", "application/xml", "application/x-yaml")


@attrs.frozen
class History:
    """The messages, and what they lack."""

    messages: list[Json]
    #: Paths, each once: `input[].reasoning`.
    dropped: tuple[str, ...]
    #: What was put in, as `PATH: WHAT`.
    changes: tuple[str, ...]


def translate_history(body: JsonObject, tools: TargetTools) -> History:
    """Return the conversation of a checked Responses request; `tools` are those that it offers.

    Raises:
        RequestError: an item is malformed, a result answers no earlier call, or something cannot be
            said in Chat without which the rest would mean something else.
    """
    writer = _Writer(tools)
    if instructions := get_text(body, "instructions"):
        writer.system(instructions)
    given = body.get("input")
    if isinstance(given, str):
        writer.user(given)
    else:
        for i, item in enumerate(list_at(given, "input")):
            writer.add(object_at(item, f"input[{i}]"), f"input[{i}]")
    return writer.history()


@attrs.define(eq=False)
class _Said:
    """What the assistant said and called in one go, and the results of the calls."""

    texts: list[str] = attrs.field(factory=list)
    calls: list[JsonObject] = attrs.field(factory=list)
    #: Call id -> its result. Each call gets its own here first, so that their order is the calls'.
    results: dict[str, JsonObject | None] = attrs.field(factory=dict)

    def messages(self) -> Iterator[JsonObject]:
        """Yield the message, and the results behind it."""
        text = "\n\n".join(self.texts)
        # Servers differ in whether content may be missing beside calls; null is OpenAI's own form.
        message: JsonObject = {"role": "assistant", "content": text or (None if self.calls else "")}
        if self.calls:
            message["tool_calls"] = [*self.calls]
        yield message
        for call_id, result in self.results.items():
            yield result or _result(call_id, _NO_RESULT)


@attrs.define(eq=False)
class _Writer:
    """The messages so far."""

    tools: TargetTools
    _system: list[str] = attrs.field(factory=list)
    _entries: list[JsonObject | _Said] = attrs.field(factory=list)
    #: Call id -> where its result belongs; of a repeated id the last.
    _calls: dict[str, _Said] = attrs.field(factory=dict)
    _dropped: dict[str, None] = attrs.field(factory=dict)
    _changes: list[str] = attrs.field(factory=list)

    def history(self) -> History:
        messages: list[Json] = []
        if self._system:
            messages.append({"role": "system", "content": "\n\n".join(self._system)})
        for entry in self._entries:
            if isinstance(entry, _Said):
                messages += entry.messages()
                self._changes += (
                    f"input[].{call_id}: with a result that says that there is none"
                    for call_id, result in entry.results.items()
                    if result is None
                )
            else:
                messages.append(entry)
        return History(messages, tuple(self._dropped), tuple(self._changes))

    def system(self, text: str) -> None:
        self._system.append(text)

    def add(self, item: JsonObject, param: str) -> None:
        kind = text_at(item.get("type", "message"), f"{param}.type")
        add = _ITEMS.get(kind)
        if add is not None:
            add(self, item, param)
        elif kind in _COMPACTIONS:
            self._dropped[f"input[].{kind}"] = None
            self.user(_COMPACTED)
        elif kind == "compaction_trigger":
            raise refused(
                "this model's backend cannot compact a conversation: it speaks Chat Completions",
                param,
                code="unsupported_value",
            )
        elif kind == _TOOLS:
            pass
        elif kind in _SILENT or not item.get("call_id"):
            self._dropped[f"input[].{kind}"] = None
        elif kind.endswith("_output"):
            self._other_result(item, param)
        else:
            self._other_call(item, kind, param)

    # --- what was said

    def message(self, item: JsonObject, param: str) -> None:
        role = text_at(item.get("role"), f"{param}.role")
        content = item.get("content")
        at = f"{param}.content"
        if role in _SYSTEM:
            text = _joined(_input_parts(content, at), at)
            if self._entries:
                # Templates refuse a system message here; what the client says to the model must
                # reach it all the same.
                self.user(f"({role} message)\n{text}")
                self._changes.append(f"{param}.role: user instead of {role}")
            elif text:
                self.system(text)
        elif role == "user":
            self.user(_content(_input_parts(content, at)))
        elif role == "assistant":
            text = "".join(_output_texts(content, at))
            if text:
                self._said().texts.append(text)
        else:
            raise refused(
                f"role {role!r} is unknown (known: user, assistant, developer, system)",
                f"{param}.role",
                code="unsupported_value",
            )

    def user(self, content: Json) -> None:
        self._entries.append({"role": "user", "content": content})

    def _said(self) -> _Said:
        """Return what the assistant is saying: items without anything between them are one go."""
        last = self._entries[-1] if self._entries else None
        # Calls that have results were over when these were given.
        if not isinstance(last, _Said) or any(last.results.values()):
            last = _Said()
            self._entries.append(last)
        return last

    # --- what was called

    def function_call(self, item: JsonObject, param: str) -> None:
        arguments = text_at(item.get("arguments"), f"{param}.arguments")
        self._call(item, sound_arguments(arguments), param)

    def custom_call(self, item: JsonObject, param: str) -> None:
        self._call(item, as_arguments(text_at(item.get("input"), f"{param}.input")), param)

    def _call(self, item: JsonObject, arguments: str, param: str) -> None:
        name = name_at(item.get("name"), f"{param}.name")
        sent = self.tools.name_of(name, get_text(item, "namespace"))
        self._add_call(name_at(item.get("call_id"), f"{param}.call_id"), sent, arguments)

    def _other_call(self, item: JsonObject, kind: str, param: str) -> None:
        """A call of a kind of its own (`local_shell_call`): its fields are its arguments."""
        call_id = name_at(item.get("call_id"), f"{param}.call_id")
        fields: JsonObject = {k: v for k, v in item.items() if k not in _ABOUT_CALLS}
        self._add_call(call_id, kind.removesuffix("_call"), dump(fields).decode())

    def _add_call(self, call_id: str, name: str, arguments: str) -> None:
        said = self._said()
        if call_id in said.results:
            said = _Said()
            self._entries.append(said)
        function: JsonObject = {"name": name, "arguments": arguments}
        said.calls.append({"id": call_id, "type": "function", "function": function})
        said.results[call_id] = None
        self._calls[call_id] = said

    # --- what came of it

    def result(self, item: JsonObject, param: str) -> None:
        at = f"{param}.output"
        output = item.get("output")
        parts = [] if output is None else _result_parts(output, at)
        self._answer(item, parts, param)

    def _other_result(self, item: JsonObject, param: str) -> None:
        fields: JsonObject = {k: v for k, v in item.items() if k not in _ABOUT_CALLS}
        output = fields.get("output") if len(fields) == 1 else fields
        text = output if isinstance(output, str) else dump(output).decode()
        self._answer(item, [_text(text)], param)

    def _answer(self, item: JsonObject, parts: Sequence[JsonObject], param: str) -> None:
        at = f"{param}.call_id"
        call_id = name_at(item.get("call_id"), at)
        said = self._calls.get(call_id)
        if said is None:
            raise refused(f"no earlier call has the id {call_id!r} of this result", at)
        texts = [part for part in parts if part["type"] == "text"]
        others = [part for part in parts if part["type"] != "text"]
        text = _joined(texts, at)
        if others:
            # A result is text; what it shows comes with the next message of the user.
            note = f"({len(others)} more: see the message behind the results)"
            text = f"{text}\n{note}" if text else note
        said.results[call_id] = _result(call_id, text)
        if others:
            self.user([_text(f"(shown by the call {call_id})"), *others])


_ITEMS: Final[Mapping[str, Callable[[_Writer, JsonObject, str], None]]] = {
    "message": _Writer.message,
    "function_call": _Writer.function_call,
    "custom_tool_call": _Writer.custom_call,
    "function_call_output": _Writer.result,
    "custom_tool_call_output": _Writer.result,
}


def _result(call_id: str, text: str) -> JsonObject:
    return {"role": "tool", "tool_call_id": call_id, "content": text}


# --- parts


def _text(text: str) -> JsonObject:
    return {"type": "text", "text": text}


def _joined(parts: Sequence[JsonObject], param: str) -> str:
    """Return the text of parts that are all text: plain servers take nothing else.

    Raises:
        RequestError: one is no text.
    """
    texts = []
    for i, part in enumerate(parts):
        if part["type"] != "text":
            at = f"{param}[{i}]"
            raise refused("only text can stand here", at, code="unsupported_value")
        texts.append(str(part["text"]))
    return "\n".join(texts)


def _content(parts: Sequence[JsonObject]) -> Json:
    """Return parts as content: one text if there is nothing but text."""
    if all(part["type"] == "text" for part in parts):
        return _joined(parts, "")
    return [*parts]


def _input_parts(content: Json, param: str) -> list[JsonObject]:
    if isinstance(content, str):
        return [_text(content)]
    return [
        _input_part(object_at(part, f"{param}[{i}]"), f"{param}[{i}]")
        for i, part in enumerate(list_at(content, param))
    ]


def _input_part(part: JsonObject, param: str) -> JsonObject:
    kind = text_at(part.get("type"), f"{param}.type")
    read = _PARTS.get(kind)
    if read is None:
        raise refused(
            f"a target that speaks Chat takes no part of type {kind!r}",
            param,
            code="unsupported_value",
        )
    return read(part, param)


def _text_part(part: JsonObject, param: str) -> JsonObject:
    return _text(text_at(part.get("text"), f"{param}.text"))


def _refusal_part(part: JsonObject, param: str) -> JsonObject:
    return _text(text_at(part.get("refusal"), f"{param}.refusal"))


def _image_part(part: JsonObject, param: str) -> JsonObject:
    image: JsonObject = {"url": text_at(part.get("image_url"), f"{param}.image_url")}
    if (detail := part.get("detail")) in _DETAILS:
        image["detail"] = detail
    return {"type": "image_url", "image_url": image}


def _audio_part(part: JsonObject, param: str) -> JsonObject:
    audio = object_at(part.get("input_audio"), f"{param}.input_audio")
    return {"type": "input_audio", "input_audio": audio}


def _file_part(part: JsonObject, param: str) -> JsonObject:
    """A file that is text is said as text: what else Chat servers make of files is their own."""
    name = get_text(part, "filename") or "file"
    text = _text_of(get_text(part, "file_data") or "")
    if text is None:
        raise refused(
            f"a target that speaks Chat can read {name!r} only if it is text and its `file_data` "
            "is a data URL of it",
            param,
            code="unsupported_value",
        )
    return _text(f"{name}:\n{text}")


def _text_of(data_url: str) -> str | None:
    """Return the text in a data URL, None if there is none."""
    head, comma, data = data_url.partition(",")
    if not comma or not head.startswith("data:"):
        return None
    if not head.removeprefix("data:").lower().startswith(_TEXT_TYPES):
        return None
    try:
        if head.endswith(";base64"):
            return base64.b64decode(data, validate=True).decode()
        return unquote_to_bytes(data).decode()
    except (ValueError, binascii.Error):
        return None


_PARTS: Final[Mapping[str, Callable[[JsonObject, str], JsonObject]]] = {
    "input_text": _text_part,
    "output_text": _text_part,
    "text": _text_part,
    "summary_text": _text_part,
    "refusal": _refusal_part,
    "input_image": _image_part,
    "input_audio": _audio_part,
    "input_file": _file_part,
}


def _output_texts(content: Json, param: str) -> Iterator[str]:
    """Yield what an assistant said; Chat's own field for refusals is known to few servers."""
    if content is None:
        return
    for i, part in enumerate(_input_parts(content, param)):
        if part["type"] != "text":
            at = f"{param}[{i}]"
            raise refused("an assistant message holds text", at, code="unsupported_value")
        yield str(part["text"])


def _result_parts(output: Json, param: str) -> list[JsonObject]:
    """Return what a tool gave; what nobody here knows is its JSON."""
    if isinstance(output, str):
        return [_text(output)]
    if not isinstance(output, list):
        return [_text(dump(output).decode())]
    parts = []
    for i, part in enumerate(output):
        at = f"{param}[{i}]"
        if is_object(part) and get_text(part, "type") in _PARTS:
            parts.append(_input_part(part, at))
        else:
            parts.append(_text(dump(part).decode()))
    return parts
