"""An answer in one piece as the events of a stream, and a stream as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from codexrelay.errors import EventTooLargeError
from codexrelay.protocol.raw import dump
from codexrelay.protocol.responses_body import ResponsesDelivery
from tests.fakes.responses_client import ResponsesClient

if TYPE_CHECKING:
    from codexrelay.protocol.raw import Json, JsonObject

MESSAGE: Final[JsonObject] = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "status": "completed",
    "content": [
        {"type": "output_text", "text": "Yes", "annotations": []},
        {"type": "refusal", "refusal": "No"},
    ],
}
THOUGHT: Final[JsonObject] = {
    "id": "rs_1",
    "type": "reasoning",
    "summary": [{"type": "summary_text", "text": "Hm"}],
}
CALL: Final[JsonObject] = {
    "id": "fc_1",
    "type": "function_call",
    "status": "completed",
    "call_id": "c1",
    "name": "ls",
    "arguments": '{"a":1}',
}
PATCH: Final[JsonObject] = {
    "id": "ctc_1",
    "type": "custom_tool_call",
    "status": "completed",
    "call_id": "c2",
    "name": "apply_patch",
    "input": "*** Begin",
}
SEARCH: Final[JsonObject] = {
    "id": "ws_1",
    "type": "web_search_call",
    "status": "completed",
    "action": {"type": "search", "query": "x"},
}
USAGE: Final[JsonObject] = {
    "input_tokens": 3,
    "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
    "output_tokens": 2,
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": 5,
}


def response(*output: Json, status: str = "completed") -> JsonObject:
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "status": status,
        "model": "m",
        "output": [*output],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": USAGE,
    }


def delivered(body: bytes, *, size: int = 7) -> bytes:
    delivery = ResponsesDelivery()
    blocks = [body[i : i + size] for i in range(0, len(body), size)]
    return b"".join([*map(delivery.feed, blocks), delivery.end()])


def test_an_answer_in_one_piece_becomes_every_event_of_it() -> None:
    whole = response(THOUGHT, MESSAGE, CALL, PATCH, SEARCH)
    client = ResponsesClient()
    client.read(delivered(b"\n" + dump(whole)))
    assert client.terminal is not None
    assert client.terminal["response"] == whole
    deltas = [e["delta"] for e in client.events if e["type"].endswith(".delta")]
    assert deltas == ["Hm", "Yes", "No", '{"a":1}', "*** Begin"]
    added = [e["item"] for e in client.events if e["type"] == "response.output_item.added"]
    assert added[1] == MESSAGE | {"content": [], "status": "in_progress"}
    assert added[2] == CALL | {"arguments": "", "status": "in_progress"}
    done = [e["item"] for e in client.events if e["type"] == "response.output_item.done"]
    assert done == whole["output"]


def test_it_ends_as_its_status_says() -> None:
    for status in ("incomplete", "failed"):
        assert b"event: response.%b\n" % status.encode() in delivered(
            dump(response(MESSAGE, status=status))
        )
    begun = delivered(dump(response(MESSAGE, status="queued")))
    assert b"output_item.done" in begun
    assert b"response.completed" not in begun, "it has not ended"


@pytest.mark.parametrize(
    "body",
    [
        b"event: response.created\ndata: {}\n\nevent: half",
        b"\xef\xbb\xbfdata: {}\r\n\r\n",
        b": keep-alive\n\n",
        b'{"error":{"message":"no"}}',
        b'{"object":"response","output":null}',
        b'{"object":"respo',
        b"<html>",
        b" \n",
        b"",
    ],
)
def test_what_is_no_answer_in_one_piece_passes_as_it_came(body: bytes) -> None:
    assert delivered(body) == body


def test_an_answer_without_end_is_not_kept() -> None:
    delivery = ResponsesDelivery(max_bytes=10)
    with pytest.raises(EventTooLargeError):
        delivery.feed(b'{"object":"response"')
