"""Recorded and written streams through the Responses answers, and on into the openai SDK."""

from __future__ import annotations

import hashlib
import itertools
import random
from typing import TYPE_CHECKING

import httpx
import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.responses import Response, ResponseFailedEvent

from codexrelay.protocol import faults, sse
from codexrelay.protocol.faults import FaultKind
from codexrelay.protocol.hold import Hold, Output
from codexrelay.protocol.raw import JsonObject, parse_object
from codexrelay.protocol.responses_scan import look
from codexrelay.protocol.responses_stream import ResponsesStream
from codexrelay.protocol.responses_whole import ResponsesWhole
from tests.fakes.recordings import Recorded, recorded_streams, samples

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Written by hand, with two lines that are no JSON.
BROKEN = "parallel-tool-call-wrapper.1.chunks.txt"
#: Written by hand; it has no usage.
FAILED_TWICE = "openai-error.1.chunks.txt"


def stream() -> ResponsesStream:
    return ResponsesStream(now_unix_s=1.79e9, model="gpt-5.5", created_unix_s=1_790_000_000)


def cut(body: bytes, seed: int) -> Iterator[bytes]:
    rng = random.Random(seed)
    cuts = rng.sample(range(len(body)), k=min(len(body), rng.choice([0, 1, 7, 60])))
    edges = [0, *sorted(cuts), len(body)]
    for begin, end in itertools.pairwise(edges):
        yield body[begin:end]


def played(body: bytes, seed: int = 0) -> tuple[bytes, ResponsesStream]:
    answer = stream()
    return b"".join(answer.feed(block) for block in cut(body, seed)), answer


def sound_streams() -> list[Recorded]:
    return [one for one in recorded_streams() if BROKEN not in one.name]


def terminal_of(body: bytes) -> list[JsonObject]:
    """Return the terminal events of `body`."""
    seen = [look(raw) for raw in sse.split(body)]
    return [
        parse_object(one.data)
        for one in seen
        if one is not None
        and one.name in ("response.completed", "response.incomplete", "response.failed", "error")
    ]


def digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


@settings(max_examples=8)
@given(seed=st.integers(0, 2**32))
def test_recorded_streams_pass_byte_for_byte_however_they_were_cut(seed: int) -> None:
    rewritten = []
    for recorded in sound_streams():
        given_out, answer = played(recorded.body, seed)
        assert answer.terminal is not None, recorded.name
        if FAILED_TWICE in recorded.name:
            assert recorded.body.startswith(given_out)
        elif answer.response is not None and terminal_of(recorded.body) != terminal_of(given_out):
            rewritten.append(recorded.name)
        else:
            assert digest(given_out) == digest(recorded.body), recorded.name
    # The only ones whose output is empty: those of the Codex backend.
    assert len(rewritten) == 2
    assert all("native-openai-oauth-tool-loop" in name for name in rewritten)


def test_of_a_completed_stream_only_the_terminal_event_differs() -> None:
    bodies = [s.body for s in sound_streams() if "native-openai-oauth-tool-loop" in s.name]
    bodies += [body for name, body in samples("stream_*.sse").items() if "failed" not in name]
    for body in bodies:
        given_out, _ = played(body)
        before, after = list(sse.split(body)), list(sse.split(given_out))
        assert before[:-1] == after[:-1]
        [was], [now] = terminal_of(before[-1]), terminal_of(after[-1])
        assert list(was) == list(now)
        if now != was:
            done = [parse_object(raw.partition(b"data: ")[2]) for raw in before if _is_done(raw)]
            response = now["response"]
            assert isinstance(response, dict)
            assert response["output"] == [event["item"] for event in done]
            assert was["response"] == response | {"output": []}


def _is_done(raw: bytes) -> bool:
    return raw.startswith(b"event: response.output_item.done\n")


def test_a_recorded_stream_with_broken_json_ends_as_a_fault() -> None:
    [recorded] = [one for one in recorded_streams() if BROKEN in one.name]
    given_out, answer = played(recorded.body)
    [terminal] = terminal_of(given_out)
    assert terminal["type"] == "response.failed"
    assert answer.terminal is not None
    assert answer.terminal.fault is not None
    assert answer.terminal.fault.kind is FaultKind.BROKEN


@settings(max_examples=5)
@given(seed=st.integers(0, 2**32))
def test_what_was_held_goes_on_as_if_it_never_was(seed: int) -> None:
    for recorded in sound_streams():
        hold, answer, given_out = Hold(now_unix_s=1.79e9), stream(), b""
        blocks = cut(recorded.body, seed)
        for block in blocks:
            result = hold.feed(block)
            if result is not None:
                break
        else:
            pytest.fail(recorded.name)
        if isinstance(result, Output):
            given_out = answer.feed(result.held) + b"".join(map(answer.feed, blocks))
            assert given_out == played(recorded.body)[0]
        else:
            assert "openai-error" in recorded.name or "failed-only" in recorded.name


# --- in the openai SDK


def in_the_sdk(body: bytes) -> tuple[list[str], Response | None]:
    """Play `body` to the SDK; return the types of the events and the final response."""

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=body, headers={"content-type": "text/event-stream"})

    with (
        httpx.Client(transport=httpx.MockTransport(answer), trust_env=False) as http,
        openai.OpenAI(
            api_key="none", base_url="http://relay.invalid/v1", http_client=http, max_retries=0
        ) as client,
        client.responses.stream(model="gpt-5.5", input="hello") as events,
    ):
        kinds = [event.type for event in events]
        final = events.get_final_response() if kinds[-1] == "response.completed" else None
    return kinds, final


def test_the_sdk_finds_the_output_that_upstream_left_out() -> None:
    body = samples("stream_tool_call.sse")["stream_tool_call.sse"]
    kinds, final = in_the_sdk(played(body)[0])
    assert kinds.count("response.completed") == 1
    assert final is not None
    assert [item.type for item in final.output] == ["reasoning", "function_call"]
    assert final.usage is not None


def test_the_sdk_understands_a_stream_that_we_had_to_end() -> None:
    body = samples("stream_text.sse")["stream_text.sse"]
    events = list(sse.split(body))
    for length in (1, 5, len(events) - 1):
        begun, answer = played(b"".join(events[:length]))
        kinds, _ = in_the_sdk(begun + answer.fail(faults.ended_early()))
        assert len(kinds) == length + 1
        assert kinds[-1] == "response.failed"


def test_our_failed_event_is_valid_for_the_sdk() -> None:
    for fault in (faults.ended_early(), faults.slow("silence_s", 120), faults.shutting_down()):
        for name, body in samples("stream_*.sse").items():
            if "failed" in name or "error" in name:
                continue
            _, answer = played(b"".join(list(sse.split(body))[:-1]))
            event = sse.read(answer.fail(fault))
            assert event is not None
            valid = ResponseFailedEvent.model_validate_json(event.data)
            assert valid.response.error is not None


def test_completed_events_are_valid_for_the_sdk() -> None:
    for name, body in samples("stream_*.sse").items():
        if "failed" in name or "error" in name:
            continue
        _, answer = played(body)
        assert answer.response is not None, name
        Response.model_validate(answer.response)


def test_whole_answers_are_valid_for_the_sdk() -> None:
    bodies = [one.body for one in sound_streams()]
    bodies += list(samples("stream_*.sse").values())
    valid = 0
    for body in bodies:
        answer = ResponsesWhole(now_unix_s=1.79e9, model="gpt-5.5", created_unix_s=1)
        for block in cut(body, seed=7):
            answer.feed(block)
        if answer.terminal is not None and answer.terminal.fault is None:
            response = Response.model_validate_json(answer.body())
            assert response.status == answer.terminal.name
            assert bool(response.output) == (b"response.output_item.done" in body)
            valid += 1
    assert valid > 70
