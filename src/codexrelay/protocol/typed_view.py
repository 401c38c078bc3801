"""The fields of a Responses request that we know: what `codex_passthrough: false` builds it from.

Two views of one request, after `protocol`: `openai-responses` knows the fields of the backend
(wire notes 2.3) and lets items pass whatever they are; `openai-chat` knows what a Chat conversation
can say: messages, calls, their results, and reasoning. Items of Responses that Chat has no words
for (`additional_tools`, `web_search_call`) are not part of what is said, and pass as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final, TypeAlias

import attrs

from codexrelay.protocol.capabilities import shortened
from codexrelay.protocol.chat_fields import list_at, name_at, object_at, refused, text_at
from codexrelay.protocol.raw import Json, JsonObject, get_text, is_object, kind_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from codexrelay.protocol.capabilities import Dialect

_TEXT: Final = ((str,), "a string")
_FLAG: Final = ((bool,), "a boolean")
_LIST: Final = ((list,), "an array")
_OBJECT: Final = ((dict,), "an object")
#: Field -> its JSON types, and how a message calls them. Null is absent.
_IN_BOTH: Final[Mapping[str, tuple[tuple[type, ...], str]]] = {
    "model": _TEXT,
    "instructions": _TEXT,
    "input": ((str, list), "a string or an array"),
    "tools": _LIST,
    "tool_choice": ((str, dict), "a string or an object"),
    "parallel_tool_calls": _FLAG,
    "reasoning": _OBJECT,
    "store": _FLAG,
    "stream": _FLAG,
    "include": _LIST,
    "prompt_cache_key": _TEXT,
    "text": _OBJECT,
    "service_tier": _TEXT,
}
_FIELDS: Final[Mapping[Dialect, Mapping[str, tuple[tuple[type, ...], str]]]] = {
    "openai-chat": _IN_BOTH,
    "openai-responses": {**_IN_BOTH, "client_metadata": _OBJECT, "stream_options": _OBJECT},
}


def known_fields(body: JsonObject, protocol: Dialect) -> tuple[JsonObject, tuple[str, ...]]:
    """Return the fields of a body that the protocol knows, and the names of the others.

    Raises:
        RequestError: 400, a field that it knows is of another type.
    """
    fields = _FIELDS[protocol]
    view: JsonObject = {}
    for name, (types, words) in fields.items():
        value = body.get(name)
        if value is None:
            continue
        if not isinstance(value, types):
            raise refused(
                f"`{name}` must be {words}, not {kind_of(value)}", name, code="invalid_type"
            )
        view[name] = value
    return view, tuple(name for name in body if name not in fields)


@attrs.frozen
class Conversation:
    """Items that were read as a Chat conversation."""

    items: list[Json]
    #: Path and type of those that no Chat conversation has, which stay as they are.
    passed: tuple[tuple[str, str], ...] = ()


def conversation(
    items: Iterable[tuple[str, Json]], *, rebuilt: bool, codex_shaped: bool = False
) -> Conversation:
    """Return input items, each given with its path, that make up a Chat conversation.

    If `rebuilt` they keep what Chat has words for: no ids, no unknown fields. Otherwise they are
    looked at and stay as they are. Of `codex_shaped` ones, which the backend's own client has
    written, also those pass whose type, role or parts nobody here knows.

    Raises:
        RequestError: 400, an item is of no such kind, or a call and its result are no pair.
    """
    reader = _Conversation(codex_shaped)
    kept = [(item, reader.read(object_at(item, path), path)) for path, item in items]
    reader.close()
    return Conversation(
        [read if rebuilt else item for item, read in kept],
        tuple(reader.passed),
    )


@attrs.define(eq=False)
class _Conversation:
    """The calls so far, and those that no result has answered yet."""

    codex_shaped: bool
    #: Call id -> type of its item.
    calls: dict[str, str] = attrs.field(factory=dict)
    #: Call id -> path of its item.
    unanswered: dict[str, str] = attrs.field(factory=dict)
    #: Call ids of items that passed: their results may be of any type.
    others: set[str] = attrs.field(factory=set)
    passed: list[tuple[str, str]] = attrs.field(factory=list)

    def read(self, item: JsonObject, path: str) -> JsonObject:
        kind = text_at(item.get("type", "message"), f"{path}.type")
        read = _ITEMS.get(kind)
        if read is not None:
            return read(self, item, path)
        if self.codex_shaped or kind in _BESIDE:
            return self._pass(item, path, kind)
        raise refused(
            f"`{path}` is of type {shortened(kind)}, which no Chat conversation has (only "
            f"{', '.join(_ITEMS)}); the capability `protocol: openai-responses` takes it",
            f"{path}.type",
            code="unsupported_value",
        )

    def message(self, item: JsonObject, path: str) -> JsonObject:
        role = text_at(item.get("role"), f"{path}.role")
        allowed = _PARTS.get(role)
        if self.codex_shaped and not _is_said(item.get("content"), allowed):
            return self._pass(item, path, f"message of {role}")
        if allowed is None:
            raise refused(
                f"role {shortened(role)} is unknown (known: {', '.join(_PARTS)})",
                f"{path}.role",
                code="unsupported_value",
            )
        content = _content(item.get("content"), f"{path}.content", allowed)
        return {"type": "message", "role": role, "content": content}

    def function_call(self, item: JsonObject, path: str) -> JsonObject:
        return self._call(item, path, "function_call", "arguments")

    def custom_call(self, item: JsonObject, path: str) -> JsonObject:
        return self._call(item, path, "custom_tool_call", "input")

    def function_output(self, item: JsonObject, path: str) -> JsonObject:
        return self._output(item, path, "function_call")

    def custom_output(self, item: JsonObject, path: str) -> JsonObject:
        return self._output(item, path, "custom_tool_call")

    def reasoning(self, item: JsonObject, path: str) -> JsonObject:
        summary = list_at(item.get("summary", []), f"{path}.summary")
        kept = {
            key: value
            for key in ("content", "encrypted_content")
            if (value := item.get(key)) is not None
        }
        return {"type": "reasoning", "summary": summary, **kept}

    def close(self) -> None:
        """Look for a call that nobody has answered; the backend refuses those."""
        for call_id, path in self.unanswered.items():
            told = f"`{path}` is a call ({shortened(call_id)}) without a result"
            raise refused(told, f"{path}.call_id")

    def _call(self, item: JsonObject, path: str, kind: str, content: str) -> JsonObject:
        call_id = name_at(item.get("call_id"), f"{path}.call_id")
        self.calls[call_id] = kind
        self.unanswered[call_id] = path
        return {
            "type": kind,
            "call_id": call_id,
            "name": name_at(item.get("name"), f"{path}.name"),
            content: text_at(item.get(content), f"{path}.{content}"),
        }

    def _output(self, item: JsonObject, path: str, kind: str) -> JsonObject:
        at = f"{path}.call_id"
        call_id = name_at(item.get("call_id"), at)
        strange = self.codex_shaped and not _is_said(item.get("output"), _RESULT)
        if call_id in self.others or (strange and call_id in self.calls):
            return self._pass(item, path, f"{kind}_output")
        if self.calls.get(call_id) != kind:
            raise refused(f"no earlier {kind} has the id {shortened(call_id)} of this result", at)
        self.unanswered.pop(call_id, None)
        output = _content(item.get("output"), f"{path}.output", _RESULT)
        return {"type": f"{kind}_output", "call_id": call_id, "output": output}

    def _pass(self, item: JsonObject, path: str, kind: str) -> JsonObject:
        self.passed.append((path, kind))
        if call_id := get_text(item, "call_id"):
            self.others.add(call_id)
            self.unanswered.pop(call_id, None)
        return item


def _is_said(content: Json, allowed: frozenset[str] | None) -> bool:
    """Tell whether content holds nothing but parts that Chat has words for."""
    if not isinstance(content, list):
        return allowed is not None
    return allowed is not None and all(
        is_object(part) and get_text(part, "type") in allowed for part in content
    )


def _content(content: Json, path: str, allowed: frozenset[str]) -> Json:
    if isinstance(content, str):
        return content
    parts = list_at(content, path)
    for index, part in enumerate(parts):
        at = f"{path}[{index}]"
        kind = text_at(object_at(part, at).get("type"), f"{at}.type")
        if kind not in allowed:
            told = f"a part of type {shortened(kind)} cannot stand here"
            only = ", ".join(sorted(allowed))
            raise refused(f"{told} (only {only})", at, code="unsupported_value")
    return parts


#: Items of Responses that stand beside what is said. Some are calls that the backend answers
#: itself, some are answered by a `function_call_output`.
_BESIDE: Final = frozenset(
    {
        "additional_tools",
        "apply_patch_call",
        "apply_patch_call_output",
        "code_interpreter_call",
        "compaction",
        "compaction_summary",
        "compaction_trigger",
        "computer_call",
        "computer_call_output",
        "configuration_update",
        "context_compaction",
        "file_search_call",
        "image_generation_call",
        "local_shell_call",
        "local_shell_call_output",
        "mcp_approval_request",
        "mcp_approval_response",
        "mcp_call",
        "mcp_list_tools",
        "shell_call",
        "shell_call_output",
        "tool_search_call",
        "tool_search_output",
        "web_search_call",
    }
)
_RESULT: Final = frozenset({"input_text", "input_image", "input_file"})
#: Role -> the parts of its messages.
_PARTS: Final[Mapping[str, frozenset[str]]] = {
    "developer": frozenset({"input_text"}),
    "user": _RESULT | {"input_audio"},
    "assistant": frozenset({"output_text", "refusal"}),
}
_Read: TypeAlias = Callable[[_Conversation, JsonObject, str], JsonObject]
_ITEMS: Final[Mapping[str, _Read]] = {
    "message": _Conversation.message,
    "function_call": _Conversation.function_call,
    "function_call_output": _Conversation.function_output,
    "custom_tool_call": _Conversation.custom_call,
    "custom_tool_call_output": _Conversation.custom_output,
    "reasoning": _Conversation.reasoning,
}
