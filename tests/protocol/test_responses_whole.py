from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
import pytest
from openai.types.responses import Response

from codexrelay.protocol import faults
from codexrelay.protocol.faults import FaultKind
from codexrelay.protocol.responses_whole import ResponsesWhole
from tests.fakes.responses_events import (
    USAGE,
    call,
    completed,
    created,
    done,
    event,
    failed,
    function,
    incomplete,
    text,
)

if TYPE_CHECKING:
    from codexrelay.protocol.answer import WholeAnswer

MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "status": "completed",
    "content": [{"type": "output_text", "text": "Gr\u00fc\u00dfe", "annotations": []}],
}


def whole() -> ResponsesWhole:
    return ResponsesWhole(now_unix_s=1_795_347_089.0, model="gpt-5.5", created_unix_s=1)


def body_of(*blocks: bytes) -> dict[str, Any]:
    answer: WholeAnswer = whole()
    assert [answer.feed(block) for block in blocks] == [b""] * len(blocks)
    return orjson.loads(answer.body())


def test_the_items_of_the_stream_become_the_output() -> None:
    item = function("ls", "1", '{"a":1}')
    body = body_of(created(), text("a"), done(1, **MESSAGE), call(0, item, "{"), completed())
    assert [entry["type"] for entry in body["output"]] == ["function_call", "message"]
    assert body["status"] == "completed"
    assert body["id"] == "resp_1"


def test_an_output_that_upstream_gave_is_its_own() -> None:
    body = body_of(done(0, **MESSAGE), completed(output=[{"type": "other"}]))
    assert body["output"] == [{"type": "other"}]


def test_the_usage_has_every_count_that_the_sdk_demands() -> None:
    assert body_of(completed())["usage"] == {
        **USAGE,
        "input_tokens_details": {"cached_tokens": 64, "cache_write_tokens": 0},
    }


def test_an_incomplete_answer_says_so_and_why() -> None:
    body = body_of(done(0, **MESSAGE), incomplete("max_output_tokens"))
    assert body["status"] == "incomplete"
    assert body["incomplete_details"] == {"reason": "max_output_tokens"}
    assert body["output"] == [MESSAGE]


def test_what_upstream_says_of_the_response_is_kept() -> None:
    body = body_of(completed(tools=[{"type": "web_search"}], moderation={"a": 1}))
    assert body["tools"] == [{"type": "web_search"}]
    assert body["moderation"] == {"a": 1}


def test_of_a_stream_that_says_nearly_nothing_the_sdk_still_gets_all_it_demands() -> None:
    body = body_of(
        event("response.created", response={"id": "r1"}),
        event("response.output_item.done", item=MESSAGE),
        event("response.completed", response={"id": "r1", "model": None, "usage": USAGE}),
    )
    response = Response.model_validate(body)
    assert (response.id, response.model, response.created_at) == ("r1", "gpt-5.5", 1)
    assert response.output_text == "Gr\u00fc\u00dfe"


def test_the_identity_that_the_response_lacks_is_that_of_its_announcement() -> None:
    announced = {"id": "r1", "model": "gpt-9", "created_at": 5}
    body = body_of(
        event("response.created", response=announced),
        event("response.completed", response={"usage": USAGE}),
    )
    assert {key: body[key] for key in announced} == announced


@pytest.mark.parametrize(
    ("called", "status", "told"),
    [
        ("response.done", "incomplete", "incomplete"),
        ("response.incomplete", "completed", "incomplete"),
        ("response.completed", "in_progress", "completed"),
    ],
)
def test_the_status_is_never_better_than_the_worse_of_the_two(
    called: str, status: str, told: str
) -> None:
    assert body_of(event(called, response={"id": "r1", "status": status}))["status"] == told


def test_a_failure_of_upstreams_is_a_fault_and_no_body() -> None:
    answer = whole()
    answer.feed(created() + failed("rate_limit_exceeded", "try again in 2s"))
    assert answer.terminal is not None
    assert answer.terminal.fault is not None
    assert answer.terminal.fault.kind is FaultKind.THROTTLED
    assert answer.terminal.fault.retry_after_s == 2.0
    with pytest.raises(RuntimeError):
        answer.body()


def test_a_completed_event_with_a_failed_response_is_no_body() -> None:
    answer = whole()
    answer.feed(completed(status="failed", error={"code": "server_error", "message": "boo"}))
    assert answer.terminal is not None
    assert answer.terminal.fault is not None
    assert answer.terminal.fault.message == "boo"


def test_a_fault_ends_the_answer() -> None:
    answer = whole()
    answer.feed(created() + text("a"))
    assert answer.terminal is None
    assert answer.fail(faults.ended_early()) == b""
    assert answer.terminal is not None
    assert answer.terminal.fault == faults.ended_early()


def test_what_the_stream_said_in_passing_is_told() -> None:
    answer = whole()
    answer.feed(event("codex.rate_limits", plan_type="plus"))
    assert answer.notes.rate_limits is not None
