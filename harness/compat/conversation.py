"""Reads the requests of a conversation as the backend saw them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from codexrelay.protocol.raw import dump, get_list, get_text, is_object
from harness.simulator.tools import tools_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from codexrelay.protocol.raw import Json
    from harness.simulator import Seen
    from harness.simulator.tools import Tool

_CALLS: Final = frozenset({"function_call", "custom_tool_call"})
#: What the last words of a request for a summary say (measured, see the drivers).
_SUM_UP: Final = ("compaction", "summary", "summarize")
_OUTPUTS: Final = frozenset({"function_call_output", "custom_tool_call_output"})


def is_turn(seen: Seen) -> bool:
    """Tell whether this is a model request: no handshake, and no warm-up."""
    if seen.is_handshake or seen.is_warm_up:
        return False
    return seen.path.partition("?")[0].endswith(("/responses", "/chat/completions"))


def is_refresh(seen: Seen) -> bool:
    """Tell whether this asks the issuer for new tokens."""
    return seen.path.endswith("/oauth/token")


def has_tools(turn: Seen) -> bool:
    """Tell whether the model may call tools: if not, it is a side request, such as for a title."""
    return bool(_tools(turn))


def tool_names(turn: Seen) -> frozenset[str]:
    """Return the names of the tools that the model may call, wherever they were declared."""
    return frozenset(tool.name for tool in _tools(turn))


def _tools(turn: Seen) -> tuple[Tool, ...]:
    return tools_of(turn.request) if is_object(turn.request) else ()


def first_served(seen: Iterable[Seen]) -> Seen | None:
    """Return the first model request that carries tools and is answered; None: there is none."""
    for request in seen:
        if is_turn(request) and has_tools(request) and request.status == 200:
            return request
    return None


def tool_outputs(body: Json) -> Iterator[str]:
    """Return the tool outputs in a request of either wire, as JSON text."""
    return (output for _, output in _outputs(body))


def outputs_by_call(body: Json) -> Mapping[str, str]:
    """Return the tool outputs in a request of either wire: call id -> JSON text, in call order.

    Outputs of unknown calls come last.
    """
    outputs = dict(_outputs(body))
    known = {call: outputs[call] for call in _calls(body) if call in outputs}
    return known | outputs


def _outputs(body: Json) -> Iterator[tuple[str, str]]:
    if not is_object(body):
        return
    for item in get_list(body, "input"):
        if is_object(item) and item.get("type") in _OUTPUTS:
            yield get_text(item, "call_id") or "", dump(item.get("output")).decode()
    for message in get_list(body, "messages"):
        if is_object(message) and message.get("role") == "tool":
            yield get_text(message, "tool_call_id") or "", dump(message.get("content")).decode()


def _calls(body: Json) -> Iterator[str]:
    """Return the ids of the tool calls in a request of either wire."""
    if not is_object(body):
        return
    for item in get_list(body, "input"):
        if is_object(item) and item.get("type") in _CALLS:
            yield get_text(item, "call_id") or ""
    for message in get_list(body, "messages"):
        for call in get_list(message, "tool_calls") if is_object(message) else ():
            if is_object(call):
                yield get_text(call, "id") or ""


def encrypted_reasoning(body: Json) -> Iterator[str]:
    """Return the summary, as JSON text, of each reasoning item that has its encrypted content."""
    for item in get_list(body, "input") if is_object(body) else ():
        if is_object(item) and item.get("type") == "reasoning" and item.get("encrypted_content"):
            yield dump(item.get("summary")).decode()


def picture_urls(body: Json) -> Iterator[str]:
    """Return the addresses of the pictures in a Responses request."""
    for value in _values(body):
        if is_object(value) and value.get("type") == "input_image":
            yield get_text(value, "image_url") or ""


def texts_in(body: Json) -> Iterator[str]:
    """Return every text in a request."""
    return (value for value in _values(body) if isinstance(value, str))


def _values(value: Json) -> Iterator[Json]:
    """Return a JSON value and all that is inside it."""
    yield value
    inner = value.values() if is_object(value) else value if isinstance(value, list) else ()
    for one in inner:
        yield from _values(one)


def is_compaction(seen: Seen) -> bool:
    """Tell whether a program asks the model to fold or sum up its history.

    There are two ways on the wire, and programs that ask for a summary as of any text.
    """
    if seen.path.partition("?")[0].endswith("/responses/compact"):
        return True
    if not is_turn(seen) or not is_object(body := seen.request):
        return False
    items = [item for item in get_list(body, "input") if is_object(item)]
    last = items[-1] if items else {}
    asked = dump([body.get("instructions"), last]).decode().lower()
    return last.get("type") == "compaction_trigger" or any(word in asked for word in _SUM_UP)


#: Of an item of output, as the model gives it and as programs send it back.
_MAY_DIFFER: Final = frozenset({"id", "status", "phase", "annotations", "logprobs", "content"})


def same_request(one: Seen, other: Seen, *, reasoning: bool) -> bool:
    """Tell whether two model requests ask for the same, whatever carried them.

    `reasoning`: also with the same reasoning, which only the account that made it can read.
    """
    if one.transport == other.transport == "http":
        if reasoning:
            return one.body == other.body
        return without_reasoning(one.body) == without_reasoning(other.body)
    # Over a WebSocket the simulator completes a request with the items as it wrote them itself.
    return list(_items_of(one, reasoning=reasoning)) == list(_items_of(other, reasoning=reasoning))


def _items_of(seen: Seen, *, reasoning: bool) -> Iterator[Json]:
    for item in get_list(seen.request, "input") if is_object(seen.request) else ():
        if is_object(item) and (reasoning or item.get("type") != "reasoning"):
            said = dump(item.get("content")).decode() if item.get("role") == "user" else ""
            kept = {key: value for key, value in item.items() if key not in _MAY_DIFFER}
            yield {**kept, "said": said}


def without_reasoning(body: Json) -> Json:
    """Return the body without reasoning, which only the account that made it can read."""
    if not is_object(body):
        return body
    kept = [
        item
        for item in get_list(body, "input")
        if not (is_object(item) and item.get("type") == "reasoning")
    ]
    return {**body, "input": kept}
