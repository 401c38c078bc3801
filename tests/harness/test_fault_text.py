"""Faults as texts."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.cassettes.model import Interaction, Request, Response, Stream
from harness.faults.forms import listing
from harness.faults.operators import (
    Body,
    Close,
    Coalesce,
    Corrupt,
    Cut,
    Delay,
    Drop,
    Dup,
    Ended,
    HalfOpen,
    Header,
    Insert,
    Limit,
    NoHead,
    NoHeader,
    Oversize,
    Split,
    Stall,
    Status,
    Swap,
)
from harness.faults.plan import Plan
from harness.faults.positions import Event, Message, Offset, Span
from harness.faults.text import Fault, FaultTextError, Scope, parse

numbers = st.integers(-9, 9)
events = st.builds(Event, numbers)
some_events = st.builds(Event, numbers.filter(bool))
messages = st.builds(Message, numbers)
some_messages = st.builds(Message, numbers.filter(bool))
offsets = st.builds(Offset, st.integers(0, 10**6))
body_places = offsets | events
places = body_places | messages
spans = st.builds(Span, body_places, body_places)
durations = st.integers(0, 10**9).map(lambda thousandths: thousandths / 1000)
names = st.from_regex(r"[a-z][a-z-]{0,8}", fullmatch=True)
printable = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=12)

OPERATORS = st.one_of(
    st.builds(Cut, places),
    st.builds(Ended, st.sampled_from(sorted(Ended.WAYS))),
    st.just(NoHead()),
    st.builds(Delay, places, durations),
    st.builds(Stall, places, durations),
    st.builds(Dup, some_events | spans | some_messages),
    st.builds(Swap, some_events | some_messages),
    st.builds(Drop, some_events | spans | some_messages),
    st.builds(Corrupt, body_places | some_messages, st.integers(0, 255)),
    st.builds(Insert, body_places, st.binary(max_size=12)),
    st.builds(Split, st.none() | some_events | spans),
    st.just(Coalesce()),
    st.builds(Status, st.integers(200, 599)),
    st.builds(Limit, durations),
    st.builds(Header, names, printable),
    st.builds(NoHeader, names),
    st.builds(Body, st.binary(max_size=12)),
    st.builds(lambda number: Body(b'{"a": "%d+"}' % number, is_json=True), numbers),
    st.builds(Close, st.integers(1000, 4999), st.none() | messages),
    st.builds(HalfOpen, messages),
    st.builds(Oversize, some_messages, st.integers(0, 2**25)),
)
SCOPES = st.builds(
    Scope, st.sampled_from(["turn", "refresh", "any"]), st.none() | st.integers(1, 99)
)
FAULTS = st.builds(Fault, st.lists(OPERATORS, min_size=1, max_size=4).map(tuple), SCOPES)


@given(FAULTS)
def test_every_fault_is_read_from_its_own_text(fault: Fault) -> None:
    text = str(fault)

    assert parse(text) == fault
    assert str(parse(text)) == text


@pytest.mark.parametrize(
    ("text", "usual"),
    [
        ("reorder@e3", "swap@e3"),
        ("delay@0=2500ms", "delay@0=2.5s"),
        ("stall@e2=2m", "stall@e2=120s"),
        ("turn:2:rst", "2:rst"),
        ("corrupt@5=FF", "corrupt@5"),
        ("oversize@f1=2048KiB", "oversize@f1=2MiB"),
        ("header:Retry-After=2", "header:retry-after=2"),
    ],
)
def test_a_text_has_one_usual_form(text: str, usual: str) -> None:
    assert str(parse(text)) == usual


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "names no fault"),
        ("2:", "names no fault"),
        ("0:rst", "counted from 1"),
        ("cut@1++rst", "a term is empty"),
        ("!", "a term begins with a word"),
        ("foo@3", "there is no fault 'foo'; there are: cut, fin,"),
        ("cut", "'@' is missing; it is written cut@PLACE"),
        ("cut@x", "'x' is no place"),
        ("refresh=rst", "there is no fault 'refresh' (but a scope refresh:); there are: cut,"),
        ("9" * 5000 + ":rst", "a term begins with a word"),
        ("delay@0=" + "9" * 400 + "s", "no duration is longer than 1000000000s"),
        ("fin@3", "'@' is too much; it is written fin"),
        ("header=3", "':' is missing; it is written header:NAME=VALUE"),
        ("header:a=%C3%A4", "printable ASCII"),
        ("header:a b=1", "no name of a header"),
        ("status=99", "no number from 200 to 599"),
        ("dup@12", "no piece"),
        ("dup@e0", "no piece"),
        ("swap@1-2", "only an event or a message has a follower"),
        ("split@f1", "a message has no chunks"),
        ("insert@f1=a", "no place in a body"),
        ("oversize@e3=1", "no message"),
        ("oversize@f3=1GB", "no size"),
        ("delay@0=fast", "no duration"),
        ("corrupt@5=zz", "no byte"),
        ("json={", "it is written json=JSON"),
        ("close=99", "no number from 1000 to 4999"),
    ],
)
def test_what_cannot_be_understood_is_named_with_what_is_allowed(text: str, told: str) -> None:
    with pytest.raises(FaultTextError, match=re.escape(told)):
        parse(text)


def test_the_listing_shows_every_fault_with_texts_that_are_some() -> None:
    rows = [line.split("|")[1] for line in listing().splitlines() if line.startswith("| `")]
    shown = [text for row in rows for text in re.findall("`([^`]+)`", row)]
    with pytest.raises(FaultTextError) as caught:
        parse("unknown")
    known = set(str(caught.value).partition("there are: ")[2].split(", "))

    for text in shown:
        parse(text)
    told = {re.split("[@=:]", text)[0] for text in shown} | {"reorder"}
    assert told == known


def asked(method: str, uri: str) -> Interaction:
    return Interaction(
        track="upstream",
        began_at_s=0,
        number=1,
        request=Request(method=method, uri=uri),
        response=Response(status=200, stream=Stream(complete=True, end="eof")),
    )


TURN = asked("POST", "http://openai-codex/backend-api/codex/responses")
CHAT = asked("POST", "http://local/v1/chat/completions")
REFUSED_SOCKET = asked("GET", "http://openai-codex/backend-api/codex/responses")
MODELS = asked("GET", "http://openai-codex/backend-api/codex/models?client_version=1")
REFRESH = asked("POST", "http://openai-codex/oauth/token")


def statuses(plan: Plan, *interactions: Interaction) -> list[int | None]:
    return [plan.change(one).status for one in interactions]


def test_a_fault_meets_every_turn_and_nothing_else() -> None:
    plan = Plan.parse(["status=503"])

    assert statuses(plan, TURN, MODELS, REFRESH, CHAT, REFUSED_SOCKET) == [503, 200, 200, 503, 200]


def test_a_number_names_one_of_a_kind() -> None:
    plan = Plan.parse(["2:status=503", "refresh:1:status=500", "any:6:status=418"])

    assert statuses(plan, TURN, MODELS, TURN, REFRESH, REFRESH, TURN) == [
        200,
        200,
        503,
        500,
        200,
        418,
    ]


def test_faults_that_meet_the_same_answer_are_laid_one_over_the_other() -> None:
    plan = Plan.parse(["status=429", "1:header:retry-after=7"])

    first, second = plan.change(TURN), plan.change(TURN)

    assert (dict(first.headers)["retry-after"], dict(second.headers)["retry-after"]) == ("7", "2")
