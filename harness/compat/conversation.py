"""Reads the requests of a conversation as the backend saw them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from codexrelay.protocol.raw import dump, get_list, is_object
from harness.simulator.tools import tools_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from codexrelay.protocol.raw import Json
    from harness.simulator import Seen
    from harness.simulator.tools import Tool

_OUTPUTS: Final = frozenset({"function_call_output", "custom_tool_call_output"})


def is_turn(seen: Seen) -> bool:
    """Tell whether this is a model request."""
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
    return tools_of(turn.body) if is_object(turn.body) else ()


def first_served(seen: Iterable[Seen]) -> Seen | None:
    """Return the first model request that carries tools and is answered; None: there is none."""
    for request in seen:
        if is_turn(request) and has_tools(request) and request.status == 200:
            return request
    return None


def tool_outputs(body: Json) -> Iterator[str]:
    """Return the tool outputs in a request of either wire, as JSON text."""
    if not is_object(body):
        return
    for item in get_list(body, "input"):
        if is_object(item) and item.get("type") in _OUTPUTS:
            yield dump(item.get("output")).decode()
    for message in get_list(body, "messages"):
        if is_object(message) and message.get("role") == "tool":
            yield dump(message.get("content")).decode()


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
