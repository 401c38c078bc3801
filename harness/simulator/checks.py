"""What the backend refuses before it asks a model (wire notes 2.3 and 2.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from codexrelay.protocol.openai_errors import error_object
from codexrelay.protocol.raw import get_list, get_text, is_object
from harness.simulator import catalogue
from harness.simulator.ids import is_foreign

if TYPE_CHECKING:
    from collections.abc import Iterable

    from codexrelay.protocol.raw import Json, JsonObject
    from harness.simulator.accounts import SimulatedAccount
    from harness.simulator.catalogue import Plans

#: The first line is known from the backend's own refusals, the second from what every client of it
#: strips; the third is other protocols' vocabulary, what agents write for a relay's eyes only, and
#: what only a WebSocket's messages have.
UNSUPPORTED: Final = (
    *("max_output_tokens", "previous_response_id", "messages", "temperature", "top_p"),
    *("max_tokens", "metadata", "user", "safety_identifier", "prompt_cache_retention"),
    *("truncation", "context_management", "stop", "logprobs", "n", "seed"),
    *("frequency_penalty", "presence_penalty", "max_completion_tokens", "reasoning_effort"),
    *("response_format", "functions", "function_call", "codex_capabilities"),
    *("type", "generate"),
)
#: What a message may have all the same.
_OF_MESSAGES: Final = frozenset({"type", "generate", "previous_response_id"})
#: Type of a tool call item -> its output's type, and what the backend calls the two.
_PAIRS: Final = {
    "function_call": ("function_call_output", "function call"),
    "custom_tool_call": ("custom_tool_call_output", "custom tool call"),
}


def refusal(body: JsonObject, account: SimulatedAccount, plans: Plans) -> JsonObject | None:
    """Return the body of the 400 that a streamed request deserves, or None if it is fine."""
    if body.get("stream") is not True:
        return {"detail": "Stream must be set to true"}
    if body.get("store") is not False:
        return {"detail": "Store must be set to false"}
    return compact_refusal(body, account, plans)


def message_refusal(
    message: JsonObject, whole: JsonObject, account: SimulatedAccount, plans: Plans
) -> JsonObject | None:
    """Return the same for a WebSocket's message that stands for the request `whole`.

    There is no other way than streaming, so `stream` may be absent.
    """
    if message.get("stream", True) is not True:
        return {"detail": "Stream must be set to true"}
    if not isinstance(message.get("generate", True), bool):
        return {"detail": "Generate must be a boolean"}
    if not isinstance(message.get("input"), list):
        return {"detail": "Input must be a list"}
    if message.get("store") is not False:
        return {"detail": "Store must be set to false"}
    return compact_refusal(whole, account, plans)


def whole_request(message: JsonObject, earlier: Iterable[Json]) -> JsonObject:
    """Return the request that a message stands for, with the items `earlier` before its own."""
    body = {name: value for name, value in message.items() if name not in _OF_MESSAGES}
    return {**body, "input": [*earlier, *get_list(message, "input")]}


def compact_refusal(body: JsonObject, account: SimulatedAccount, plans: Plans) -> JsonObject | None:
    """Return the same for a unary request, where `stream` and `store` have no say."""
    for name in UNSUPPORTED:
        if name in body:
            return {"detail": f"Unsupported parameter: {name}"}
    model = get_text(body, "model") or ""
    if account.plan not in plans.get(model, ()) or model in account.lacks:
        return catalogue.unsupported(body.get("model"))
    if not isinstance(body.get("input"), list):
        return {"detail": "Input must be a list"}
    items = [item for item in get_list(body, "input") if is_object(item)]
    return _foreign_refusal(items, account.user_id) or _input_refusal(items)


def _foreign_refusal(items: list[JsonObject], user_id: str) -> JsonObject | None:
    """What another account encrypted, this one cannot read (reported by relays that rotate)."""
    for item in items:
        content = get_text(item, "encrypted_content")
        if content is not None and is_foreign(content, user_id):
            told = "The encrypted content could not be verified."
            code = "invalid_encrypted_content"
            return {"error": error_object(told, type="invalid_request_error", code=code)}
    return None


def _input_refusal(items: list[JsonObject]) -> JsonObject | None:
    for item in items:
        if item.get("role") == "system":
            return {"detail": "System messages are not allowed"}
        if item.get("type") == "item_reference":
            return _invalid(
                f"Item with id '{item.get('id')}' not found: nothing is kept when `store` is false."
            )
    pairs = [
        (_call_ids(items, call_type), _call_ids(items, output_type), words)
        for call_type, (output_type, words) in _PAIRS.items()
    ]
    for calls, outputs, words in pairs:
        if orphan := next((call_id for call_id in outputs if call_id not in calls), None):
            return _invalid(f"No tool call found for {words} output with call_id {orphan}.")
    for calls, outputs, words in pairs:
        if unanswered := next((call_id for call_id in calls if call_id not in outputs), None):
            return _invalid(f"No tool output found for {words} {unanswered}.")
    return None


def _call_ids(items: Iterable[JsonObject], type_: str) -> dict[str, None]:
    """Return the call ids of the items of one type, in order."""
    return {get_text(item, "call_id") or "": None for item in items if item.get("type") == type_}


def _invalid(message: str) -> JsonObject:
    return {"error": error_object(message, type="invalid_request_error", param="input")}
