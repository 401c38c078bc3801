"""What a scripted backend sends, event by event, and the faults that it may answer with."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from codexrelay.protocol import faults
from tests.fakes.upstream import head

if TYPE_CHECKING:
    from tests.fakes.upstream import Script

NOW_UNIX_S = 1_000_000.0


def event(name: str, **fields: object) -> bytes:
    data = json.dumps({"type": name, **fields}, separators=(",", ":")).encode()
    return b"event: %s\ndata: %s\n\n" % (name.encode(), data)


RESPONSE: dict[str, object] = {"id": "resp_1", "object": "response", "model": "m", "output": []}
CREATED = event("response.created", response={**RESPONSE, "status": "in_progress"})
TEXT = event(
    "response.output_text.delta",
    item_id="msg_1",
    output_index=0,
    content_index=0,
    delta="hi",
    sequence_number=2,
)
ITEM = event(
    "response.output_item.done",
    output_index=0,
    item={
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": [{"type": "output_text", "text": "hi", "annotations": []}],
    },
    sequence_number=3,
)
USAGE = {
    "input_tokens": 1,
    "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
    "output_tokens": 1,
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": 2,
}
COMPLETED = event(
    "response.completed",
    response={**RESPONSE, "status": "completed", "output": [{"type": "x"}], "usage": USAGE},
    sequence_number=4,
)
GOOD: Script = [head(), CREATED, TEXT, ITEM, COMPLETED]

UNAUTHORIZED = faults.from_response(401, {}, b'{"detail":"Unauthorized"}', now_unix_s=NOW_UNIX_S)
LIMITED = faults.from_response(
    429,
    {},
    b'{"error":{"type":"usage_limit_reached","message":"spent","resets_in_seconds":600}}',
    now_unix_s=NOW_UNIX_S,
)
OVERLOADED = faults.from_response(
    503,
    {},
    b'{"error":{"code":"server_is_overloaded","message":"busy","type":"x"}}',
    now_unix_s=NOW_UNIX_S,
)
UNREADABLE = faults.from_response(
    400,
    {},
    b'{"error":{"code":"invalid_encrypted_content","message":"whose?"}}',
    now_unix_s=NOW_UNIX_S,
)
REFUSED = faults.from_response(400, {}, b'{"detail":"Bad thing"}', now_unix_s=NOW_UNIX_S)
BROKEN = faults.broken("reset by peer")
