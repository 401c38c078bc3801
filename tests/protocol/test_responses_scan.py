from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from codexrelay.protocol import events, sse
from codexrelay.protocol.responses_scan import (
    DELTAS,
    QUIET,
    QUIET_ONCE_NAMED,
    Looked,
    Notes,
    end_of_quiet,
    look,
    only_deltas,
    pieces,
)
from tests.fakes.responses_events import completed, created, done, event, function, text

if TYPE_CHECKING:
    import re

DELTA = text("hello")
ODD_EVENTS = [
    created(),
    completed(),
    done(0, **function("ls", "1")),
    event("codex.rate_limits", plan_type="plus"),
    b": keep-alive\n\n",
    b": x.delta\ndata: {}\n\n",
    b"data: {}\n\n",
    b"data: [DONE]\n\n",
    b"event: response.\n\n",
    b"event: response.completed}\n\n",
    b"event: response.completed\ndata: x.delta\ndata: {}\n\n",
    b"event: response.a.delta\ndata: {.delta\ndata: {}\n\n",
    b"event: response.a.delta\nevent: response.completed\ndata: {}\n\n",
    b"event: response.a.delta\ndata: {}\nevent: response.completed\n\n",
    b"event: response.a.delta\r\ndata: {}\r\n\r\n",
    b"event: response.a.delta\ndata: {}\revent: response.completed\n\n",
    b"event: response.a.delta\ndata: <html>\n\n",
    b"\n",
]
wholes = st.lists(st.sampled_from([DELTA, DELTA, DELTA, *ODD_EVENTS]), max_size=12).map(b"".join)


@given(whole=wholes)
def test_a_block_is_all_deltas_exactly_when_each_of_its_events_is_one(whole: bytes) -> None:
    assert only_deltas(whole) == all(only_deltas(raw) for raw in sse.split(whole))


@given(whole=wholes)
def test_pieces_are_the_events_with_runs_of_deltas_in_one(whole: bytes) -> None:
    found = [piece for piece, _ in pieces(whole, DELTAS)]
    assert b"".join(found) == whole
    apart = [raw for piece in found for raw in sse.split(piece)]
    assert apart == list(sse.split(whole))
    for piece in found:
        assert only_deltas(piece) or list(sse.split(piece)) == [piece]


@pytest.mark.parametrize("odd", ODD_EVENTS, ids=range(len(ODD_EVENTS)))
def test_nothing_but_a_delta_passes_for_one(odd: bytes) -> None:
    assert not only_deltas(odd)
    assert not only_deltas(DELTA + odd + DELTA)


def only_quiet(whole: bytes) -> bool:
    return b"\r" not in whole and end_of_quiet(whole, 0, QUIET) == len(whole)


QUIET_EVENTS = [
    DELTA,
    event("response.content_part.added", output_index=0),
    event("response.output_item.added", output_index=0, item={}),
    event("response.output_text.done", text="hello"),
    event("response.completed.later"),
    event("response.unheard_of", anything=1),
]


@given(
    whole=st.lists(st.sampled_from([*QUIET_EVENTS, *ODD_EVENTS]), max_size=12).map(b"".join),
)
def test_what_is_quiet_says_nothing_to_the_relay(whole: bytes) -> None:
    notes = Notes()
    for piece, is_run in pieces(whole, QUIET):
        assert is_run == only_quiet(piece) or b"\r" in whole
        if is_run:
            for raw in sse.split(piece):
                seen = look(raw)
                assert seen is not None
                assert seen.payload is None
                assert seen.name not in events.TERMINAL
                notes.note(seen)
    assert attrs.asdict(notes) == attrs.asdict(Notes())


@pytest.mark.parametrize("quiet", QUIET_EVENTS, ids=range(len(QUIET_EVENTS)))
def test_all_that_says_nothing_is_quiet(quiet: bytes) -> None:
    assert only_quiet(quiet)
    assert only_quiet(DELTA + quiet + DELTA)
    assert not only_quiet(DELTA + completed() + quiet)


@given(
    few=st.lists(
        st.tuples(
            st.integers(0, 600),
            st.sampled_from([*QUIET_EVENTS, *ODD_EVENTS, DELTA[1:], DELTA[:-1]]),
        ),
        max_size=3,
    ),
    begin=st.integers(0, 3),
    quiet=st.sampled_from([QUIET, QUIET_ONCE_NAMED]),
)
def test_a_long_block_is_quiet_as_far_as_each_of_its_events_is(
    few: list[tuple[int, bytes]], begin: int, quiet: re.Pattern[bytes]
) -> None:
    told = [DELTA] * 600
    for at, raw in sorted(few, reverse=True):
        told.insert(at, raw)
    whole = b"".join(told)
    assume(b"\r" not in whole)
    at = begin * len(DELTA)
    run = quiet.match(whole, at)
    assert len(whole) - at > 32 * 1024
    assert run is not None
    assert end_of_quiet(whole, at, quiet) == run.end()


def test_an_announcement_is_parsed_only_until_the_response_has_a_name() -> None:
    notes = noted(created(), event("response.in_progress", response={"id": "resp_2"}))
    assert notes.response_id == "resp_1"
    broken = look(b'event: response.created\ndata: {"response":}\n\n')
    assert broken is not None
    notes.note(broken)
    with pytest.raises(ValueError):  # noqa: PT011
        Notes().note(broken)


def test_a_delta_is_nothing_that_is_parsed() -> None:
    assert only_deltas(DELTA)
    seen = look(DELTA)
    assert seen is not None
    assert (seen.name, seen.payload) == ("response.output_text.delta", None)


@pytest.mark.parametrize(
    ("raw", "seen"),
    [
        (b": a comment\n\n", None),
        (b"event: ping\n\n", None),
        (b"data: [DONE]\n\n", None),
        (b"event: ping\ndata: \n\n", None),
        (b"event: heartbeat\ndata: still here\n\n", None),
        (b"event: response.foo\ndata: {}\n\n", Looked("response.foo", b"{}")),
        (
            b"event: error\ndata: {}\n\n",
            Looked("error", b"{}", {}),
        ),
        (
            b'data: {"type":"response.output_item.done"}\n\n',
            Looked(
                "response.output_item.done",
                b'{"type":"response.output_item.done"}',
                {"type": "response.output_item.done"},
            ),
        ),
        (
            b'event: message\ndata: {"type":"error"}\n\n',
            Looked("error", b'{"type":"error"}', {"type": "error"}),
        ),
        (
            b'event: response.completed\ndata: {"type":"response.failed"}\n\n',
            Looked("response.failed", b'{"type":"response.failed"}', {"type": "response.failed"}),
        ),
        (
            b'data: {"type":"response.done"}\n\n',
            Looked("response.completed", b'{"type":"response.done"}', {"type": "response.done"}),
        ),
        (
            b'event: error\ndata: {"type":"server_error"}\n\n',
            Looked("error", b'{"type":"server_error"}', {"type": "server_error"}),
        ),
        (
            b'event: response.foo\ndata: {"type":"response.failed"}\n\n',
            Looked("response.foo", b'{"type":"response.failed"}'),
        ),
        (
            b'event: codex.rate_limits\r\ndata: {"a":1}\r\n\r\n',
            Looked("codex.rate_limits", b'{"a":1}', {"a": 1}),
        ),
    ],
)
def test_an_event_is_named_by_its_line_and_else_by_its_data(
    raw: bytes, seen: Looked | None
) -> None:
    assert look(raw) == seen


@pytest.mark.parametrize(
    "raw",
    [
        b"event: response.completed\ndata: {\n\n",
        b"event: response.created\ndata: []\n\n",
        b"event: error\ndata: \n\n",
        b"event: response.output_text.done\ndata: <html>\n\n",
        b'event: response.output_text.done\ndata: {"text":"cut sh\n\n',
        b"data: <html>\n\n",
        b"data: 7\n\n",
    ],
)
def test_an_event_of_the_stream_without_a_json_object_is_an_error(raw: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        look(raw)


def noted(*raws: bytes) -> Notes:
    notes = Notes()
    for raw in raws:
        seen = look(raw)
        assert seen is not None
        notes.note(seen)
    return notes


def test_the_identity_of_the_response_is_that_of_its_first_announcement() -> None:
    first = {"id": "resp_1", "model": "gpt-5.5", "created_at": 7}
    notes = noted(
        event("response.queued", response=first),
        event("response.in_progress", response={"id": "resp_2", "model": "m", "created_at": 8}),
    )
    assert (notes.response_id, notes.model, notes.created_at) == ("resp_1", "gpt-5.5", 7.0)


def test_finished_items_are_kept_as_they_came() -> None:
    raw = done(0, **function("ls", "1"))
    assert noted(raw).items == [raw.partition(b"data: ")[2].strip()]


def test_the_first_turn_state_and_the_latest_limits_count() -> None:
    notes = noted(
        event("response.metadata", headers={"X-Codex-Turn-State": "one", "other": 1}),
        event("response.metadata", headers={"x-codex-turn-state": "two"}),
        event("response.metadata", metadata={}),
        event("codex.rate_limits", plan_type="plus"),
        event("codex.rate_limits", plan_type="pro"),
    )
    assert notes.turn_state == "one"
    assert notes.rate_limits == {"type": "codex.rate_limits", "plan_type": "pro"}


@pytest.mark.parametrize(
    ("whole", "number"),
    [
        (b"", 0),
        (event("response.a", sequence_number=0), 1),
        (event("response.a", sequence_number=9) + event("response.b", x=1), 10),
        (event("response.a", sequence_number=9, delta='"sequence_number":77'), 10),
        (event("response.a", sequence_number=None), 0),
        (b'data: {"sequence_number": 12}\n\n', 13),
    ],
)
def test_the_next_number_follows_the_last_one_seen(whole: bytes, number: int) -> None:
    notes = Notes()
    notes.count(whole)
    notes.count(b": a block without any\n\n")
    assert notes.next_number == number
