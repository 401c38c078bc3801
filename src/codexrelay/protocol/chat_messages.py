"""A chat history as input items of a Responses request.

One message becomes a message item, the items of its tool calls, or the output of one call. The
order is the client's; texts, arguments and results are its bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

import attrs

from codexrelay.protocol.chat_content import ANY, RESULT, TEXT, input_parts, output_parts
from codexrelay.protocol.chat_fields import list_at, name_at, object_at, refused, text_at
from codexrelay.protocol.chat_tools import ToolMap
from codexrelay.protocol.raw import Json, JsonObject, is_object

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_FUNCTION: Final = "function_call"
_CUSTOM: Final = "custom_tool_call"


def system_head(messages: Sequence[Json]) -> int:
    """Return how many messages of role `system` lead the conversation."""
    for i, message in enumerate(messages):
        if not (is_object(message) and message.get("role") == "system"):
            return i
    return len(messages)


def system_texts(messages: Sequence[Json]) -> list[str]:
    """Return the texts of these first, leading system messages, part by part.

    Raises:
        RequestError: one is malformed.
    """
    return [
        str(part["text"])
        for i, message in enumerate(messages)
        if is_object(message)
        for part in input_parts(message.get("content"), f"messages[{i}].content", allowed=TEXT)
        if is_object(part)
    ]


def translate_messages(
    messages: Sequence[Json],
    tools: ToolMap,
    recall: Callable[[str], Sequence[JsonObject]],
    *,
    skipped: int = 0,
    keeps_system: bool = False,
) -> list[Json]:
    """Return the input items for `messages`, without the first `skipped` ones.

    `keeps_system`: role `system` stays; otherwise it is called `developer`, as the Codex backend
    knows no other (wire notes 2.3).

    `recall` returns the encrypted reasoning that an earlier answer gave before the call with this
    id. It is put back in front of that call, so that the model sees its own thoughts on a tool as
    it would with a Responses client.

    Raises:
        RequestError: a message is malformed, or a tool result answers no earlier call.
    """
    history = _History(tools=tools, recall=recall, keeps_system=keeps_system)
    for i, message in enumerate(messages[skipped:], skipped):
        history.add(object_at(message, f"messages[{i}]"), f"messages[{i}]")
    return history.items


def dropped_keys(messages: Sequence[Json]) -> list[str]:
    """Name what `translate_messages` does not send of `messages`, each once: `messages[].name`."""
    dropped = {
        f"messages[].{key}": None
        for message in messages
        if is_object(message)
        for key, value in message.items()
        if value is not None and key not in _SENT.get(str(message.get("role")), _SAID)
    }
    return list(dropped)


@attrs.define(eq=False)
class _History:
    """The items so far, and what later messages refer to."""

    tools: ToolMap
    recall: Callable[[str], Sequence[JsonObject]]
    keeps_system: bool = False
    items: list[Json] = attrs.field(factory=list)
    #: Call id -> type of the call's item: its result must be of the same kind.
    _calls: dict[str, str] = attrs.field(factory=dict)
    #: Function name -> ids that we gave to calls in the older form, which has none; oldest first.
    _unanswered: dict[str, list[str]] = attrs.field(factory=dict)

    def add(self, message: JsonObject, param: str) -> None:
        role = text_at(message.get("role"), f"{param}.role")
        add = _ROLES.get(role)
        if add is None:
            raise refused(
                f"role {role!r} is unknown (known: {', '.join(_ROLES)})",
                f"{param}.role",
                code="unsupported_value",
            )
        add(self, message, param)

    def developer(self, message: JsonObject, param: str) -> None:
        """The client's system text."""
        parts = input_parts(message.get("content"), f"{param}.content", allowed=TEXT)
        is_system = self.keeps_system and message.get("role") == "system"
        self._say("system" if is_system else "developer", parts)

    def user(self, message: JsonObject, param: str) -> None:
        parts = input_parts(message.get("content"), f"{param}.content", allowed=ANY)
        self._say("user", parts)

    def assistant(self, message: JsonObject, param: str) -> None:
        """Text first, then the calls. What we showed as `reasoning_content` is not sent back."""
        parts = output_parts(message.get("content"), message.get("refusal"), param)
        calls = list(self._calls_of(message, param))
        thoughts = [self._thoughts_before(call) for call in calls]
        already: list[JsonObject] = []
        if thoughts:
            # The model thinks, may say what it is about to do, and calls: thoughts that came before
            # the first call stand before the text too.
            self._remind(thoughts[0], already)
        if parts:
            self._say("assistant", parts)
        for call, before in zip(calls, thoughts, strict=True):
            self._remind(before, already)
            self.items.append(call)

    def tool(self, message: JsonObject, param: str) -> None:
        at = f"{param}.tool_call_id"
        call_id = text_at(message.get("tool_call_id"), at)
        if call_id not in self._calls:
            raise refused(f"no earlier tool call has the id {call_id!r} of this result", at)
        self._answer(call_id, message, param)

    def function(self, message: JsonObject, param: str) -> None:
        """A result in the older form, which names the function instead of the call."""
        at = f"{param}.name"
        name = text_at(message.get("name"), at)
        waiting = self._unanswered.get(name)
        if not waiting:
            raise refused(f"no earlier call of the function {name!r} waits for this result", at)
        self._answer(waiting.pop(0), message, param)

    def _say(self, role: str, parts: list[Json]) -> None:
        self.items.append({"type": "message", "role": role, "content": parts})

    def _answer(self, call_id: str, message: JsonObject, param: str) -> None:
        content = message.get("content")
        # A tool that has nothing to say: some clients write null for it.
        output: Json = "" if content is None else content
        if not isinstance(output, str):
            output = input_parts(content, f"{param}.content", allowed=RESULT)
        kind = f"{self._calls[call_id]}_output"
        self.items.append({"type": kind, "call_id": call_id, "output": output})

    def _thoughts_before(self, call: JsonObject) -> Sequence[JsonObject]:
        return self.recall(text_at(call["call_id"], "call_id"))

    def _remind(self, thoughts: Sequence[JsonObject], already: list[JsonObject]) -> None:
        for thought in thoughts:
            if thought not in already:
                already.append(thought)
                self.items.append(thought)

    def _calls_of(self, message: JsonObject, param: str) -> Iterator[JsonObject]:
        if (given := message.get("tool_calls")) is not None:
            for i, call in enumerate(list_at(given, f"{param}.tool_calls")):
                yield self._call(call, f"{param}.tool_calls[{i}]")
        if (given := message.get("function_call")) is not None:
            at = f"{param}.function_call"
            function = object_at(given, at)
            # Counted, not random: the prompt cache needs the same id on every turn.
            call_id = f"call_{len(self._calls)}"
            item = self._function_call(call_id, function, at)
            self._unanswered.setdefault(str(function["name"]), []).append(call_id)
            yield item

    def _call(self, value: Json, param: str) -> JsonObject:
        call = object_at(value, param)
        call_id = name_at(call.get("id"), f"{param}.id")
        match call.get("type", "function"):
            case "function":
                at = f"{param}.function"
                return self._function_call(call_id, object_at(call.get("function"), at), at)
            case "custom":
                at = f"{param}.custom"
                custom = object_at(call.get("custom"), at)
                name = name_at(custom.get("name"), f"{at}.name")
                return self._custom_call(call_id, name, text_at(custom.get("input"), f"{at}.input"))
            case kind:
                raise refused(
                    f"a tool call is of type function or custom, not {kind!r}",
                    f"{param}.type",
                    code="unsupported_value",
                )

    def _function_call(self, call_id: str, function: JsonObject, param: str) -> JsonObject:
        name = name_at(function.get("name"), f"{param}.name")
        arguments = text_at(function.get("arguments"), f"{param}.arguments")
        if (raw := self.tools.raw_input(name, arguments)) is not None:
            return self._custom_call(call_id, name, raw)
        self._calls[call_id] = _FUNCTION
        return {"type": _FUNCTION, "call_id": call_id, "name": name, "arguments": arguments}

    def _custom_call(self, call_id: str, name: str, raw: str) -> JsonObject:
        self._calls[call_id] = _CUSTOM
        return {"type": _CUSTOM, "call_id": call_id, "name": name, "input": raw}


_SAID: Final = frozenset({"role", "content"})
#: Role -> the keys of its messages that are sent (or were ours: `reasoning_content`), where they
#: are more than what was said. The backend knows no names of speakers, and takes no audio back.
_SENT: Final[Mapping[str, frozenset[str]]] = {
    "assistant": _SAID | {"refusal", "tool_calls", "function_call", "reasoning_content"},
    "tool": _SAID | {"tool_call_id"},
    "function": _SAID | {"name"},
}
_ROLES: Final[Mapping[str, Callable[[_History, JsonObject, str], None]]] = {
    "system": _History.developer,
    "developer": _History.developer,
    "user": _History.user,
    "assistant": _History.assistant,
    "tool": _History.tool,
    "function": _History.function,
}
