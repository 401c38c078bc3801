"""What one event of a Chat stream says.

The chunks are those of OpenAI and of whoever speaks like it: Ollama, llama.cpp, vLLM, LM Studio and
the gateways. What they do otherwise is levelled here, for all who read chunks.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final

import attrs

from codexrelay.protocol import sse
from codexrelay.protocol.raw import (
    JsonObject,
    dump,
    get_list,
    get_number,
    get_object,
    get_text,
    is_object,
    parse_object,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from codexrelay.protocol.raw import Json


#: Why a server stopped -> why the response is incomplete. Whatever else it says, it is complete.
INCOMPLETE: Final[Mapping[str, str]] = {
    "length": "max_output_tokens",
    "max_tokens": "max_output_tokens",
    "content_filter": "content_filter",
}
#: Why a server stopped, where it is its own failure (vLLM, OpenRouter).
FAILED: Final = frozenset({"error", "abort"})


class Sentinel(enum.Enum):
    """What has no content."""

    #: `[DONE]`: nothing follows.
    DONE = enum.auto()


@attrs.frozen
class Failure:
    """The target reports an error inside its stream."""

    #: See `failure`.
    event: JsonObject


@attrs.frozen
class Chunk:
    """A chunk, as it came."""

    payload: JsonObject

    @property
    def choices(self) -> Iterator[tuple[int, JsonObject]]:
        """The choices with their indexes; the only one may lack it."""
        for place, choice in enumerate(get_list(self.payload, "choices")):
            if is_object(choice):
                index = choice.get("index")
                yield (index if isinstance(index, int) else place), choice

    @property
    def usage(self) -> JsonObject:
        """The token counts so far; empty if it gives none."""
        return get_object(self.payload, "usage")


def look(raw: bytes) -> Chunk | Failure | Sentinel | None:
    """Return what the event `raw` is; None for a comment, or a side note in its own language.

    Raises:
        ValueError: an event of the stream holds no JSON object.
    """
    event = sse.read(raw)
    if event is None or not event.data.strip():
        return None
    if event.data.strip() == b"[DONE]":
        return Sentinel.DONE
    try:
        payload = parse_object(event.data)
    except ValueError:
        if event.name == "error":
            told = event.data.decode("utf-8", "replace")
            return Failure({"error": {"message": told}})
        if event.name:
            return None
        raise
    if event.name == "error" or is_error(payload):
        return Failure(failure(payload))
    return Chunk(payload)


def gave_up(chunk: Chunk) -> JsonObject:
    """Return the failure in a chunk with a choice that its server gave up."""
    for _, choice in chunk.choices:
        if told := get_object(choice, "error"):
            return failure({"error": told})
    return failure({"message": "the backend gave up the answer"})


def is_error(payload: JsonObject) -> bool:
    """Tell whether an object reports an error instead of saying something."""
    # A chunk of a gateway may carry `error: null`, and one that fails its choices too.
    return bool(payload.get("error")) or (
        "choices" not in payload
        and (payload.get("object") == "error" or payload.get("type") == "error")
    )


def failure(payload: JsonObject) -> JsonObject:
    """Return an error as `faults.from_event` reads it: with its status, if it tells one."""
    inner = payload.get("error")
    if isinstance(inner, str):
        error: JsonObject = {"message": inner, "code": payload.get("code")}
    elif is_object(inner) and inner:
        error = inner
    else:
        error = {key: payload[key] for key in ("message", "code", "param") if key in payload}
        error = error or {"message": dump(payload).decode()}
    event: JsonObject = {"error": error}
    for told in (get_number(error, "code"), get_number(error, "status"), *_statuses(payload)):
        # Servers of local models give the status as the code.
        if told is not None and 400 <= told < 600:
            return event | {"status": int(told)}
    return event


def _statuses(payload: JsonObject) -> Iterator[float | None]:
    for key in ("status", "status_code", "code"):
        yield get_number(payload, key)


def delta_of(choice: JsonObject) -> JsonObject:
    """Return what a choice adds; some servers send the whole message in its place."""
    return get_object(choice, "delta") or get_object(choice, "message")


def finish_of(choice: JsonObject) -> str | None:
    """Return why the choice ended; None if it goes on."""
    return get_text(choice, "finish_reason") or None


def says_something(choice: JsonObject) -> bool:
    """Tell whether a choice is more than the handshake: a role, empty texts, nothing."""
    if finish_of(choice) or choice.get("text"):
        return True
    return any(key != "role" and value for key, value in delta_of(choice).items())


def content_of(delta: JsonObject) -> str:
    """Return the piece of text in a delta. Mistral writes it as a list of parts."""
    return "".join(_texts(delta.get("content"), "text"))


def thought_of(delta: JsonObject) -> str:
    """Return the piece of reasoning in a delta, by whichever name: some servers send both."""
    for key in ("reasoning_content", "reasoning"):
        if told := get_text(delta, key):
            return told
    return "".join(_thinking(delta.get("content")))


def _texts(content: Json, kind: str) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    elif isinstance(content, list):
        for part in content:
            if is_object(part) and part.get("type", "text") == kind:
                yield get_text(part, "text") or ""


def _thinking(content: Json) -> Iterator[str]:
    if isinstance(content, list):
        for part in content:
            if is_object(part) and part.get("type") == "thinking":
                yield from _texts(part.get("thinking"), "text")


def calls_of(delta: JsonObject) -> Iterator[JsonObject]:
    """Yield the pieces of tool calls in a delta, the older form of one included."""
    for entry in get_list(delta, "tool_calls"):
        if is_object(entry):
            yield entry
    if is_object(function := delta.get("function_call")):
        yield {"index": 0, "function": function}


@attrs.define(eq=False)
class Call:
    """A tool call, as far as it has come."""

    #: Counts the calls of the answer from 0.
    place: int
    #: The server's own; None as long as it has given none.
    id: str | None = None
    name: str | None = None
    #: Pieces of its arguments; as JSON, also where the server wrote an object.
    arguments: list[str] = attrs.field(factory=list)

    @property
    def is_whole(self) -> bool:
        """Whether its arguments are an object: more would spoil them."""
        try:
            parse_object("".join(self.arguments))
        except ValueError:
            return False
        return True


@attrs.define(eq=False)
class Calls:
    """Tells which call a piece belongs to.

    OpenAI numbers the calls. Others leave the number out, or give 0 to all of them (Ollama did); a
    name may be repeated with each piece, an id missing, or another one each time.
    """

    calls: list[Call] = attrs.field(factory=list)
    _by_index: dict[int, Call] = attrs.field(factory=dict)

    def take(self, entry: JsonObject) -> tuple[Call, str] | None:
        """Return the call that `entry` is of and the piece of arguments in it.

        None if it says nothing and there is no call that it could be of.
        """
        function = get_object(entry, "function")
        name, own_id = get_text(function, "name") or None, get_text(entry, "id") or None
        call = self._of(entry.get("index"), own_id, name)
        if call is None:
            return None
        call.id = call.id or own_id
        call.name = call.name or name
        piece = _arguments(function.get("arguments"))
        call.arguments.append(piece)
        return call, piece

    def _of(self, index: Json, own_id: str | None, name: str | None) -> Call | None:
        if isinstance(index, int):
            call = self._by_index.get(index)
            if call is None or self._is_another(call, own_id, name):
                call = self._by_index[index] = self._begin()
            return call
        for call in self.calls:
            if own_id is not None and call.id == own_id:
                return call
        last = self.calls[-1] if self.calls else None
        if name is not None and (last is None or own_id is not None):
            return self._begin()
        if name is not None and last is not None and (last.name != name or last.is_whole):
            return self._begin()
        return last

    def _is_another(self, call: Call, own_id: str | None, name: str | None) -> bool:
        is_named_so = call.id is None or own_id is None or call.id == own_id
        return name is not None and not is_named_so and call.is_whole

    def _begin(self) -> Call:
        self.calls.append(Call(len(self.calls)))
        return self.calls[-1]


def _arguments(value: Json) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None else dump(value).decode()


def responses_usage(usage: JsonObject) -> JsonObject:
    """Return Chat's `usage` with the names of Responses (wire notes 3); unknown counts are 0."""
    prompt, completion = _count(usage, "prompt_tokens"), _count(usage, "completion_tokens")
    into = get_object(usage, "prompt_tokens_details")
    # DeepSeek's own name.
    cached = _count(into, "cached_tokens") or _count(usage, "prompt_cache_hit_tokens")
    thought = _count(get_object(usage, "completion_tokens_details"), "reasoning_tokens")
    return {
        "input_tokens": prompt,
        "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": 0},
        "output_tokens": completion,
        "output_tokens_details": {"reasoning_tokens": thought},
        "total_tokens": _count(usage, "total_tokens") or prompt + completion,
    }


def _count(counts: JsonObject, key: str) -> int:
    return int(get_number(counts, key) or 0)
