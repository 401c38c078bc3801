"""The answer to a warm-up that goes to no model: created and completed, with nothing between.

Codex CLI asks for it right after it has connected: `generate` false, and the base prompt as input;
its first turn goes on from the id of the answer (wire notes 7, measured).
"""

from __future__ import annotations

from codexrelay.protocol import events, sse
from codexrelay.protocol.raw import JsonObject, dump


def answered(response_id: str, *, model: str, created_unix_s: int) -> bytes:
    """Return the events of the answer, as server-sent events."""
    response: JsonObject = {
        "id": response_id,
        "object": "response",
        "created_at": created_unix_s,
        "model": model,
        "output": [],
    }
    begun: JsonObject = {**response, "status": "in_progress", "usage": None}
    nothing: JsonObject = {
        "input_tokens": 0,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": 0,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 0,
    }
    done: JsonObject = {**response, "status": "completed", "usage": nothing}
    return _event("response.created", begun, 0) + _event(events.COMPLETED, done, 1)


def _event(name: str, response: JsonObject, number: int) -> bytes:
    return sse.write(name, dump({"type": name, "response": response, "sequence_number": number}))
