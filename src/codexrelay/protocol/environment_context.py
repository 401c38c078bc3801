"""What a client says of its environment, told to the model as one user message.

Only what the request supplies is told. Nothing is ever filled in from this process: its working
directory, user, host and shell are nobody's business.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from codexrelay.errors import RequestError
from codexrelay.protocol.raw import dump, get_text, is_object, kind_of
from codexrelay.protocol.relay_fields import ENVIRONMENT, ENVIRONMENT_BLOCK

if TYPE_CHECKING:
    from codexrelay.protocol.raw import Json, JsonObject
    from codexrelay.protocol.relay_fields import RelayFields


def with_message(items: list[Json], said: RelayFields) -> list[Json]:
    """Return input items with what was supplied, behind those that lead the conversation.

    The same list comes back if nothing was supplied.

    Raises:
        RequestError: 400, a value is no text, number or boolean; `param` is its field.
    """
    text = _block(said)
    if not text:
        return items
    content: list[Json] = [{"type": "input_text", "text": text}]
    message: JsonObject = {"type": "message", "role": "user", "content": content}
    at = next((at for at, item in enumerate(items) if not _leads(item)), len(items))
    return [*items[:at], message, *items[at:]]


def _leads(item: Json) -> bool:
    """Whether an item is system text, or tools that ride in the input."""
    return is_object(item) and (
        item.get("role") in ("system", "developer") or item.get("type") == "additional_tools"
    )


def _block(said: RelayFields) -> str:
    if whole := get_text(said.environment, ENVIRONMENT_BLOCK):
        return whole
    told = [(name, _text(said, name)) for name in ENVIRONMENT]
    lines = [f"  <{name}>{value}</{name}>" for name, value in told if value]
    return "\n".join(("<environment_context>", *lines, "</environment_context>")) if lines else ""


def _text(said: RelayFields, name: str) -> str:
    match said.environment.get(name):
        case None:
            return ""
        case str() as text:
            return text
        case bool() | int() | float() as value:
            return dump(value).decode("ascii")
        case value:
            param = said.paths.get(name, name)
            raise RequestError(
                message=f"`{param}` must be a string, not {kind_of(value)}",
                param=param,
                code="invalid_type",
            )
