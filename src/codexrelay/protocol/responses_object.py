"""The `response` object: completing what upstream left out, and making that of a failed turn.

What clients cannot do without was measured: OpenCode 1.18 asks again for ever when `usage` is
missing, the openai SDK 3.54 finds no text and no tool call when `output` is empty. The Codex
backend leaves `output` empty at times (recorded); the items are then in the
`response.output_item.done` events.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from codexrelay.protocol.faults import FaultKind
from codexrelay.protocol.raw import get_object, is_object, parse_object

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from codexrelay.protocol.answer import Terminal
    from codexrelay.protocol.faults import Fault
    from codexrelay.protocol.raw import Json, JsonObject
    from codexrelay.protocol.responses_scan import Notes

#: Keys that the SDK's model of a response demands beside its identity and `output`.
_SDK_DEMANDS: Final[Mapping[str, Json]] = {
    "object": "response",
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "tools": [],
}

#: Kinds told as `rate_limit_exceeded`, at which Codex CLI waits and tries again.
_RETRY_LATER: Final = frozenset({FaultKind.LIMITED, FaultKind.THROTTLED})


def complete(response: JsonObject, items: Sequence[bytes]) -> JsonObject:
    """Return `response` with everything that clients need; itself if nothing is missing.

    `items` are the data of the `response.output_item.done` events. A usage without
    `cache_write_tokens` counts as complete, for no client misses it and few backends send it.

    Raises:
        ValueError: an item that is needed is no JSON object.
    """
    changes: JsonObject = {}
    output = response.get("output")
    if not isinstance(output, list) or (items and not output):
        changes["output"] = rebuild_output(parse_object(data) for data in items)
    if not _is_complete(response.get("usage")):
        changes["usage"] = complete_usage(get_object(response, "usage"))
    return response | changes if changes else response


def complete_for_sdk(
    response: JsonObject, terminal: Terminal, notes: Notes, *, model: str, created_unix_s: int
) -> JsonObject:
    """Return `response`, already complete, with whatever else the SDK's model demands."""
    demanded = {**_SDK_DEMANDS, **_identity(notes, model=model, created_unix_s=created_unix_s)}
    given = {
        key: value for key, value in response.items() if value is not None or key not in demanded
    }
    usage = complete_usage(get_object(response, "usage"))
    # The status is the terminal's, which has taken what `response` says of itself into account.
    return {**demanded, **given, "usage": usage, "status": terminal.name}


def rebuild_output(done: Iterable[JsonObject]) -> list[Json]:
    """Return the items of `response.output_item.done` events in the order of the output."""
    in_order = sorted(done, key=_output_index)
    return [event["item"] for event in in_order if is_object(event.get("item"))]


def complete_usage(usage: JsonObject) -> JsonObject:
    """Return `usage` with every key that the SDK 3.54 demands; unknown counts are 0."""
    into = get_object(usage, "input_tokens_details")
    out_of = get_object(usage, "output_tokens_details")
    input_tokens, output_tokens = _count(usage, "input_tokens"), _count(usage, "output_tokens")
    return usage | {
        "input_tokens": input_tokens,
        "input_tokens_details": into
        | {key: _count(into, key) for key in ("cached_tokens", "cache_write_tokens")},
        "output_tokens": output_tokens,
        "output_tokens_details": out_of | {"reasoning_tokens": _count(out_of, "reasoning_tokens")},
        "total_tokens": _count(usage, "total_tokens") or input_tokens + output_tokens,
    }


def failed(fault: Fault, notes: Notes, *, model: str, created_unix_s: int) -> JsonObject:
    """Return the response object of a turn that failed for `fault`.

    It keeps the identity that the stream's announcement gave (the SDK refuses a stream whose
    response id changes), and the items that are finished.
    """
    return _ended(notes, model=model, created_unix_s=created_unix_s) | {
        "status": "failed",
        "error": _error(fault),
    }


def interrupted(notes: Notes, *, model: str, created_unix_s: int) -> JsonObject:
    """Return the response object of a turn that its client has interrupted; as for `failed`."""
    return _ended(notes, model=model, created_unix_s=created_unix_s) | {
        "status": "incomplete",
        "incomplete_details": {"reason": "interrupted"},
    }


def _ended(notes: Notes, *, model: str, created_unix_s: int) -> JsonObject:
    """Return what all response objects have that the relay ends itself."""
    return {
        **_SDK_DEMANDS,
        **_identity(notes, model=model, created_unix_s=created_unix_s),
        "status": None,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "output": rebuild_output(_readable(notes.items)),
        "previous_response_id": None,
        "store": False,
        "usage": None,
        "metadata": {},
    }


def _identity(notes: Notes, *, model: str, created_unix_s: int) -> JsonObject:
    """Return what the stream's announcement said of the response, or else what we can say."""
    return {
        "id": notes.response_id or f"resp_relay_{created_unix_s:x}",
        "created_at": created_unix_s if notes.created_at is None else notes.created_at,
        "model": notes.model or model,
    }


def _error(fault: Fault) -> JsonObject:
    """Upstream's code stays; ours is not among the codes of the SDK and goes beside a known one."""
    known = "rate_limit_exceeded" if fault.kind in _RETRY_LATER else "server_error"
    error: JsonObject = {"code": known, "message": fault.message, "type": fault.error.get("type")}
    if fault.is_ours:
        return error | {"relay_code": fault.code}
    return fault.error | error | {"code": fault.code or known}


def _readable(items: Sequence[bytes]) -> Iterable[JsonObject]:
    for data in items:
        try:
            yield parse_object(data)
        except ValueError:
            continue


def _output_index(done: JsonObject) -> float:
    index = done.get("output_index")
    return index if isinstance(index, int) else float("inf")


def _is_complete(usage: Json) -> bool:
    if not is_object(usage):
        return False
    counts = [usage.get(key) for key in ("input_tokens", "output_tokens", "total_tokens")]
    counts.append(get_object(usage, "input_tokens_details").get("cached_tokens"))
    counts.append(get_object(usage, "output_tokens_details").get("reasoning_tokens"))
    return {*map(type, counts)} == {int}


def _count(values: JsonObject, key: str) -> int:
    value = values.get(key)
    return value if isinstance(value, int) else 0
