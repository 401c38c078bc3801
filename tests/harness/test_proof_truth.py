"""The reader and the judge of the proof: what they call true, and that they see what is false."""

from __future__ import annotations

from typing import Final

import pytest

from harness.proof import oracle, streams
from harness.proof.loss import Cut, cuts
from harness.proof.mishaps import drawn, parse
from harness.proof.plays import performance_of_events, play_of
from harness.proof.truth import events_of, read_message

_WHOLE: Final = play_of(performance_of_events(streams.text())).wire
_CALLS: Final = play_of(performance_of_events(streams.parallel_calls())).wire


def attempt(wire: bytes) -> oracle.Upstream:
    return oracle.Upstream.over_http(wire)


def answered(*events: bytes) -> bytes:
    return play_of(performance_of_events(events)).wire


def test_an_answer_is_read_as_far_as_it_came() -> None:
    head_bytes = _WHOLE.index(b"\r\n\r\n") + 4
    assert read_message(_WHOLE[: head_bytes - 1]).status is None
    assert read_message(_WHOLE[:head_bytes]).status == 200
    assert not read_message(_WHOLE[:-1]).whole
    whole = read_message(_WHOLE)
    assert (whole.whole, whole.broken) == (True, None)
    assert whole.body == b"".join(streams.text())


def test_bytes_behind_the_end_are_noticed() -> None:
    assert read_message(_WHOLE + b"x").broken is not None


def test_half_an_event_is_none() -> None:
    body = b"".join(streams.text())
    assert [e.name for e in events_of(body)][-1] == "response.completed"
    assert len(events_of(body[:-1])) == len(events_of(body)) - 1


def test_upstreams_own_answer_is_right() -> None:
    assert oracle.judge("responses", read_message(_WHOLE), [attempt(_WHOLE)], streamed=True) == []


@pytest.mark.parametrize(
    ("told", "complaint"),
    [
        pytest.param(streams.text()[:-1], "0 terminal events", id="no end"),
        pytest.param((*streams.text(), streams.text()[-1]), "2 terminal events", id="two ends"),
        pytest.param(
            (*streams.text()[:3], *streams.text()[2:]), "event 4 is not upstream's", id="twice"
        ),
        pytest.param((*streams.text()[:3], *streams.text()[4:]), "is not upstream's", id="a gap"),
        pytest.param((*streams.text()[:3], streams.text()[-1]), "were lost", id="a lost rest"),
    ],
)
def test_a_false_answer_is_seen(told: tuple[bytes, ...], complaint: str) -> None:
    problems = oracle.judge(
        "responses", read_message(answered(*told)), [attempt(_WHOLE)], streamed=True
    )
    assert any(complaint in problem for problem in problems), problems


def test_a_completed_answer_that_upstream_did_not_complete_is_seen() -> None:
    cut = attempt(answered(*streams.text()[:-1]))
    assert oracle.judge("responses", read_message(_WHOLE), [cut], streamed=True)


def test_a_call_that_is_marked_complete_too_early_is_seen() -> None:
    chunk = (
        b'data: {"choices":[{"delta":{"tool_calls":[{"index":0,"id":"call_0","function":'
        b'{"name":"read","arguments":""}}]},"finish_reason":%b}]}\n\n'
    )
    cut = attempt(answered(*streams.parallel_calls()[:2]))
    told = answered(chunk % b"null", chunk % b'"tool_calls"', b"data: [DONE]\n\n")
    problems = oracle.judge("chat", read_message(told), [cut], streamed=True)
    assert "a tool call is marked complete that was not" in problems


def test_a_second_attempt_after_output_is_seen() -> None:
    assert oracle.judge_attempts([attempt(_CALLS[:-400]), attempt(_CALLS)])
    before_output = _CALLS.index(b"output_item.added")
    assert oracle.judge_attempts([attempt(_CALLS[:before_output]), attempt(_CALLS)]) == []


@pytest.mark.parametrize("stream", sorted(streams.STREAMS))
def test_every_byte_of_the_wire_is_the_last_one_of_a_case(stream: str) -> None:
    size = len(play_of(performance_of_events(streams.STREAMS[stream]())).wire)
    found = {(case.at, case.end) for case in cuts(stream, every_way=False)}
    assert {(at, end) for at in range(size) for end in ("fin", "rst", "idle")} <= found


def test_a_case_can_be_run_again_by_its_text() -> None:
    for case in list(cuts("text", every_way=False))[::500]:
        assert Cut.parse(str(case)) == case
    for number in range(50):
        case_of_many = drawn(7, number)
        assert parse(str(case_of_many)) == case_of_many
