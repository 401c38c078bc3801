from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codexrelay.protocol import faults, sse
from codexrelay.protocol.faults import Fault, FaultKind
from codexrelay.protocol.raw import JsonObject, parse_object
from codexrelay.protocol.responses_stream import ResponsesStream
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
    from codexrelay.protocol.answer import StreamedAnswer

NOW_UNIX_S = 1_795_347_089.0
MESSAGE = {"id": "msg_1", "type": "message", "role": "assistant", "content": []}
CALL = function("ls", "1", "{}")


def stream() -> ResponsesStream:
    return ResponsesStream(now_unix_s=NOW_UNIX_S, model="gpt-5.5", created_unix_s=1_795_347_000)


def played(*blocks: bytes) -> tuple[bytes, ResponsesStream]:
    answer = stream()
    return b"".join(answer.feed(block) for block in blocks), answer


def cut_at(body: bytes, cuts: set[int]) -> list[bytes]:
    edges = [0, *sorted(cuts), len(body)]
    return [body[a:b] for a, b in itertools.pairwise(edges)]


def events_of(body: bytes) -> list[tuple[str, JsonObject]]:
    read = [sse.read(raw) for raw in sse.split(body)]
    return [(one.name, parse_object(one.data)) for one in read if one is not None]


def last_event(body: bytes) -> JsonObject:
    [(name, payload)] = events_of(list(sse.split(body))[-1])
    assert payload["type"] == name
    return payload


def test_it_is_a_streamed_answer() -> None:
    answer: StreamedAnswer = stream()
    assert sse.read(answer.keep_alive) is None
    assert answer.keep_alive.endswith(b"\n\n")
    assert answer.finish() == b""


# --- upstream's bytes

WHOLE = b"".join(
    [
        created(),
        event("codex.rate_limits", plan_type="plus"),
        b": upstream's own keep-alive\n\n",
        text("Gr"),
        text("\u00fc\u00dfe \U0001f44b"),
        event("response.unheard_of", anything=[1, 2.50, None]),
        call(1, CALL, "{", "}"),
        completed(output=[CALL]),
        event("ping", cost="0"),
    ]
)


@given(cuts=st.sets(st.integers(0, len(WHOLE))))
def test_bytes_pass_unchanged_however_they_were_cut(cuts: set[int]) -> None:
    given_out, answer = played(*cut_at(WHOLE, cuts))
    assert given_out == WHOLE
    assert answer.terminal is not None
    assert answer.terminal.name == "completed"


@given(cuts=st.sets(st.integers(0, len(WHOLE))))
def test_what_is_handed_on_ends_at_the_end_of_an_event(cuts: set[int]) -> None:
    answer = stream()
    for block in cut_at(WHOLE, cuts):
        given_out = answer.feed(block)
        assert given_out == b"" or given_out.endswith(b"\n\n")


@given(
    events=st.lists(
        st.sampled_from(
            [
                text("a"),
                event("response.output_text.delta", delta="b", sequence_number=7),
                created(),
                done(1, **CALL),
                done(0, **MESSAGE),
                event("response.unheard_of", sequence_number=9),
                text("c").replace(b"\n", b"\r\n"),
                b": comment\n\n",
                b"data: " + text("d").partition(b"data: ")[2],
                b"event: response.a.delta\ndata: x.delta\ndata: {}\n\n",
                completed(),
                completed(None, output=[MESSAGE]),
                failed("server_is_overloaded", "busy"),
            ]
        ),
        max_size=10,
    ),
    data=st.data(),
)
def test_blocks_give_what_single_events_give(events: list[bytes], data: st.DataObject) -> None:
    body = b"".join(events)
    cuts = data.draw(st.sets(st.integers(0, len(body))))
    one_by_one, slow = played(*sse.split(body))
    in_blocks, fast = played(*cut_at(body, cuts))
    assert in_blocks == one_by_one
    assert fast.terminal == slow.terminal
    assert fast.response == slow.response


def test_a_block_of_deltas_is_handed_on_without_a_copy() -> None:
    block = text("a") * 100
    assert stream().feed(block) is block


def test_carriage_returns_pass_too() -> None:
    body = WHOLE.replace(b"\n", b"\r\n")
    given_out, answer = played(body)
    assert given_out == body
    assert answer.terminal is not None


def test_events_without_an_event_line_are_understood_by_their_type() -> None:
    body = b"".join(
        b"data: " + raw.partition(b"data: ")[2]
        for raw in [created(), done(0, **CALL), completed(output=[CALL]), text("late")]
    )
    given_out, answer = played(body)
    assert given_out == body
    assert answer.terminal is not None
    assert answer.terminal.response_id == "resp_1"


# --- the terminal event


def test_the_terminal_tells_upstreams_usage_and_id() -> None:
    _, answer = played(created(), completed(output=[]))
    assert answer.terminal is not None
    assert answer.terminal.usage == USAGE
    assert answer.terminal.response_id == "resp_1"
    assert answer.terminal.fault is None


def test_an_incomplete_answer_is_an_ending_and_no_fault() -> None:
    given_out, answer = played(incomplete("max_output_tokens"))
    assert last_event(given_out)["type"] == "response.incomplete"
    assert answer.terminal is not None
    assert (answer.terminal.name, answer.terminal.fault) == ("incomplete", None)


def test_an_empty_output_is_rebuilt_in_the_order_of_the_output() -> None:
    given_out, _ = played(created(), done(1, **CALL), done(0, **MESSAGE), completed())
    response = last_event(given_out)["response"]
    assert response["output"] == [MESSAGE, CALL]
    assert response["usage"] == USAGE


@pytest.mark.parametrize(
    "usage",
    [
        None,
        {},
        "none",
        {"input_tokens": 3, "output_tokens": 4},
        {**USAGE, "total_tokens": None},
        {**USAGE, "input_tokens_details": {}},
        {**USAGE, "output_tokens_details": None},
    ],
    ids=["null", "empty", "text", "no total", "null total", "no input details", "no output ones"],
)
def test_a_lacking_usage_is_completed_with_zeros(usage: object) -> None:
    given_out, answer = played(completed(usage, output=[MESSAGE]))
    told = usage if isinstance(usage, dict) else {}
    got = last_event(given_out)["response"]["usage"]
    assert got["input_tokens"] == told.get("input_tokens", 0)
    assert got["total_tokens"] == got["input_tokens"] + got["output_tokens"]
    assert set(got["input_tokens_details"]) == {"cached_tokens", "cache_write_tokens"}
    assert set(got["output_tokens_details"]) == {"reasoning_tokens"}
    assert answer.terminal is not None
    assert answer.terminal.usage == (told or None)


def test_a_completed_event_keeps_the_order_of_its_keys_and_everything_unknown() -> None:
    raw = event(
        "response.completed",
        response={"zeta": 1.0, "output": [], "id": "resp_1", "usage": None, "alpha": "\u00e9"},
        sequence_number=4,
        later=True,
    )
    given_out, _ = played(done(0, **MESSAGE), raw)
    payload = last_event(given_out)
    assert list(payload) == ["type", "response", "sequence_number", "later"]
    assert list(payload["response"]) == ["zeta", "output", "id", "usage", "alpha"]
    assert '"alpha":"\u00e9"'.encode() in given_out


def test_only_the_terminal_event_is_rewritten() -> None:
    before, after = created() + text("a") + done(0, **MESSAGE), event("ping")
    given_out, _ = played(before + completed() + after)
    assert given_out.startswith(before)
    assert given_out.endswith(after)


def test_a_usage_that_lacks_only_the_newest_count_is_left_alone() -> None:
    raw = completed(USAGE, output=[MESSAGE])
    assert "cache_write_tokens" not in USAGE["input_tokens_details"]
    assert played(done(0, **MESSAGE), raw)[0].endswith(raw)


def test_an_ending_that_lacks_nothing_keeps_its_very_bytes() -> None:
    raw = completed(output=[]).replace(b'":', b'": ')
    assert played(created(), raw)[0] == created() + raw


def test_response_done_reaches_the_client_as_response_completed() -> None:
    raw = completed(output=[MESSAGE]).replace(b"response.completed", b"response.done")
    given_out, answer = played(created() + raw)
    assert given_out == created() + completed(output=[MESSAGE])
    assert answer.terminal is not None
    assert answer.terminal.name == "completed"


@pytest.mark.parametrize("called", ["response.completed", "response.done"])
def test_an_incomplete_response_is_called_incomplete(called: str) -> None:
    response = {"id": "resp_1", "status": "incomplete", "output": [MESSAGE], "usage": USAGE}
    given_out, answer = played(created(), event(called, response=response, sequence_number=3))
    assert last_event(given_out) == {
        "type": "response.incomplete",
        "response": response,
        "sequence_number": 3,
    }
    assert answer.terminal is not None
    assert (answer.terminal.name, answer.terminal.fault) == ("incomplete", None)


@pytest.mark.parametrize("called", ["response.completed", "response.done", "response.incomplete"])
@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_a_failed_response_is_called_failed(called: str, status: str) -> None:
    error = {"code": "server_error", "message": "boo"}
    response = {"id": "resp_1", "status": status, "error": error}
    given_out, answer = played(created(), event(called, response=response))
    assert last_event(given_out) == {"type": "response.failed", "response": response}
    assert answer.response is None
    assert answer.terminal is not None
    assert answer.terminal.name == "failed"
    assert answer.terminal.fault is not None
    assert answer.terminal.fault.message == "boo"


def test_an_error_with_a_type_of_its_own_passes_as_it_came() -> None:
    raw = sse.write("error", b'{"type":"server_error","message":"boo"}')
    given_out, answer = played(created(), raw)
    assert given_out == created() + raw
    assert answer.terminal is not None
    assert answer.terminal.fault is not None
    assert answer.terminal.fault.message == "boo"


def test_a_terminal_event_without_a_type_is_given_one() -> None:
    data = b'{"response":{"id":"resp_1","status":"completed","output":[],"usage":%b}}'
    given_out, _ = played(sse.write("response.completed", data % orjson.dumps(USAGE)))
    assert last_event(given_out)["type"] == "response.completed"


def test_side_notes_after_the_terminal_event_still_pass() -> None:
    given_out, _ = played(completed(output=[]), event("ping", cost="0"), text("odd"))
    assert given_out.endswith(event("ping", cost="0") + text("odd"))


@pytest.mark.parametrize("cut", [False, True], ids=["in one block", "in two"])
def test_of_two_terminal_events_only_the_first_reaches_the_client(*, cut: bool) -> None:
    error = event("error", error={"code": "insufficient_quota", "message": "empty"})
    blocks = [error, failed("insufficient_quota", "empty")]
    given_out, answer = played(*(blocks if cut else [b"".join(blocks)]))
    assert given_out == error
    assert answer.terminal is not None
    assert answer.terminal.name == "failed"


@pytest.mark.parametrize(
    "raw",
    [
        failed("context_length_exceeded", "too long"),
        event("error", error={"code": "context_length_exceeded", "message": "too long"}),
        event("error", code="context_length_exceeded", message="too long", param="input"),
    ],
    ids=["response.failed", "nested error", "flat error"],
)
def test_a_failure_passes_as_it_came_and_is_told(raw: bytes) -> None:
    given_out, answer = played(created(), text("a"), raw)
    assert given_out == created() + text("a") + raw
    assert answer.terminal is not None
    assert answer.terminal.fault is not None
    assert answer.terminal.fault.kind is FaultKind.REFUSED
    assert answer.terminal.fault.message == "too long"


@pytest.mark.parametrize("told", ['{"message":"too long","type":"x"}', '"too long"'])
def test_an_error_in_the_form_of_the_whole_api_becomes_a_failure_that_clients_know(
    told: str,
) -> None:
    raw = b'data: {"error":%b}\n\n' % told.encode()
    given_out, answer = played(created(), text("a"), raw, text("never"))
    assert given_out.startswith(created() + text("a"))
    [*_, (name, payload)] = events_of(given_out)
    assert name == payload["type"] == "response.failed"
    assert payload["response"]["error"]["message"] == "too long"  # type: ignore[index, call-overload]
    assert answer.terminal is not None
    assert answer.terminal.fault is not None
    assert answer.terminal.fault.message == "too long"


def test_an_error_beside_a_type_or_none_at_all_is_a_side_note() -> None:
    for note in (b'data: {"type":"note","error":{"a":1}}\n\n', b'data: {"error":null}\n\n'):
        given_out, answer = played(created(), note)
        assert given_out == created() + note
        assert answer.terminal is None


# --- what is no answer


@pytest.mark.parametrize(
    "garbage",
    [
        b"event: response.completed\ndata: {oops\n\n",
        b'event: response.completed\ndata: {"type":"response.completed"}\n\n',
        b"event: response.output_text.delta\ndata: <html>\n\n",
        b"data: <html>\n\n",
    ],
    ids=["broken JSON", "no response", "a page in a delta", "a page"],
)
def test_garbage_ends_the_answer_after_everything_before_it(garbage: bytes) -> None:
    before = created() + text("a")
    given_out, answer = played(before + garbage + text("b"), completed(output=[]))
    assert given_out.startswith(before)
    assert [name for name, _ in events_of(given_out[len(before) :])] == ["response.failed"]
    assert answer.terminal is not None
    assert answer.terminal.fault is not None
    assert answer.terminal.fault.kind is FaultKind.BROKEN


def test_an_ending_without_its_response_says_what_is_missing() -> None:
    _, answer = played(created(), event("response.completed"))
    assert answer.terminal is not None
    assert answer.terminal.fault is not None
    assert "without its response object" in answer.terminal.fault.message


def test_an_ending_too_deep_to_be_written_again_still_ends_the_answer() -> None:
    deep = b"[" * 1_000 + b"]" * 1_000
    data = b'{"type":"response.completed","response":{"id":"resp_1","deep":%b}}' % deep
    given_out, answer = played(created(), sse.write("response.completed", data))
    _, (name, _) = events_of(given_out)
    assert answer.terminal is not None
    # How deep Python's own writer goes depends on its version.
    assert name == f"response.{answer.terminal.name}"


def test_an_item_that_is_needed_and_broken_ends_the_answer_as_a_fault() -> None:
    broken = b"event: response.output_item.done\ndata: {oops}\n\n"
    given_out, answer = played(done(0, **MESSAGE), broken, completed())
    payload = last_event(given_out)
    assert payload["type"] == "response.failed"
    assert payload["response"]["output"] == [MESSAGE]
    assert answer.terminal is not None
    assert answer.terminal.name == "failed"


def test_garbage_after_the_terminal_event_is_dropped_with_what_follows() -> None:
    end = completed(output=[])
    given_out, answer = played(end, b"data: <html>\n\n", event("ping"))
    assert given_out == end
    assert answer.terminal is not None
    assert answer.terminal.name == "completed"


# --- a terminal event of our own


def test_a_failed_stream_ends_with_one_event_that_goes_on_counting() -> None:
    _, answer = played(
        event(
            "response.created",
            response={"id": "resp_7", "model": "gpt-9", "created_at": 5},
            sequence_number=0,
        ),
        event("response.output_text.delta", delta="a", sequence_number=41),
        done(0, **MESSAGE),
        b"event: response.output_text.delta\ndata: {unfinished",
    )
    [(name, payload)] = events_of(answer.fail(faults.ended_early()))
    assert name == payload["type"] == "response.failed"
    assert payload["sequence_number"] == 42
    response = payload["response"]
    assert (response["id"], response["model"], response["created_at"]) == ("resp_7", "gpt-9", 5)
    assert response["status"] == "failed"
    assert response["output"] == [MESSAGE]
    assert response["error"]["code"] == "server_error"
    assert response["error"]["relay_code"] == "upstream_stream_incomplete"
    assert response["error"]["message"] == faults.ended_early().message
    assert answer.terminal is not None
    assert answer.terminal.fault == faults.ended_early()
    assert answer.feed(text("too late")) == b""


def test_every_event_counts_for_the_number_of_ours() -> None:
    _, answer = played(event("response.output_text.done", sequence_number=5))
    assert last_event(answer.fail(faults.ended_early()))["sequence_number"] == 6


def test_a_stream_that_had_said_nothing_fails_under_a_name_of_ours() -> None:
    response = last_event(stream().fail(faults.broken("it broke")))["response"]
    assert response["id"].startswith("resp_relay_")
    assert (response["model"], response["created_at"]) == ("gpt-5.5", 1_795_347_000)


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (faults.slow("silence_s", 120), "server_error"),
        (faults.shutting_down(), "server_error"),
        (
            faults.from_response(
                429, {}, b'{"error":{"type":"usage_limit_reached"}}', now_unix_s=NOW_UNIX_S
            ),
            "rate_limit_exceeded",
        ),
        (
            faults.from_response(
                429, {}, b'{"error":{"code":"insufficient_quota"}}', now_unix_s=NOW_UNIX_S
            ),
            "insufficient_quota",
        ),
        (
            faults.from_response(
                400, {}, b'{"error":{"code":"context_length_exceeded"}}', now_unix_s=NOW_UNIX_S
            ),
            "context_length_exceeded",
        ),
        (faults.from_response(502, {}, b"<html>", now_unix_s=NOW_UNIX_S), "server_error"),
    ],
    ids=["slow", "stopped", "limited", "quota", "refused", "page"],
)
def test_upstreams_code_stays_and_ours_goes_beside_one_that_clients_know(
    fault: Fault, code: str
) -> None:
    error = last_event(stream().fail(fault))["response"]["error"]
    assert error["code"] == code
    assert error["message"] == fault.message
    assert error.get("relay_code") == (fault.code if fault.is_ours else None)


def test_our_event_is_one_line_of_compact_json() -> None:
    raw = stream().fail(faults.broken("two\nlines"))
    payload = last_event(raw)
    assert raw == b"event: response.failed\ndata: " + orjson.dumps(payload) + b"\n\n"
