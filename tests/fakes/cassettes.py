"""Cassettes made for tests: small whole ones, and any that hypothesis can think of."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, get_args

from hypothesis import strategies as st

from harness.cassettes.model import (
    About,
    Cassette,
    Direction,
    End,
    Frame,
    FrameKind,
    Interaction,
    Origin,
    Request,
    Response,
    Stream,
)

if TYPE_CHECKING:
    from harness.cassettes.model import Headers, Track

EVENTS = (
    b'event: response.created\ndata: {"type":"response.created","response":{"id":"resp_1"}}\n\n'
    b'event: response.completed\ndata: {"type":"response.completed","response":{"id":"resp_1"}}\n\n'
)


def interaction(
    number: int = 1,
    *,
    track: Track = "client",
    caused_by: int | None = None,
    request_body: bytes = b'{"model":"m","stream":true}',
    body: bytes = EVENTS,
    headers: Headers = (("content-type", "text/event-stream"),),
    status: int | None = 200,
) -> Interaction:
    """Return an interaction whose answer came in two chunks, a tenth of a second apart."""
    ends = tuple(sorted({len(body) // 2, len(body)} - {0}))
    host = "relay" if track == "client" else "backend.example"
    return Interaction(
        track=track,
        number=number,
        began_at_s=round(number / 10, 6),
        caused_by=caused_by,
        request=Request(
            method="POST",
            uri=f"http://{host}/v1/responses",
            headers=(("content-type", "application/json"),),
            body=request_body,
        ),
        response=Response(
            status=status,
            reason="OK",
            headers=headers,
            body=body,
            stream=Stream(
                at_s=tuple(round(0.1 * (place + 1), 6) for place in range(len(ends))),
                ends=ends,
                complete=True,
                end="eof",
            ),
            head_at_s=0.05,
        ),
    )


def cassette(*interactions: Interaction) -> Cassette:
    """Return a cassette of the simulator's."""
    about = About(
        origin="simulator",
        client="codex",
        client_version="0.169.0",
        relay="0.1.0",
        date="2026-11-28",
        scenario="tool",
        redacted={"token": 2},
    )
    return Cassette(about=about, interactions=interactions or (interaction(),))


_CHARS = st.characters(exclude_categories=("Cs",))
_TEXTS = st.one_of(
    st.text(_CHARS, max_size=12),
    st.text("yYnN0123:-#,[]{}&*!|>'\"%@` \t\r\n~.=<\ufeff\x85\u2028", max_size=6),
    st.sampled_from(["null", "true", "0.169", "2026-11-28", "1_000", "0x10", "1:30", "~", "- a"]),
)
_BODIES = st.one_of(
    st.binary(max_size=40),
    st.text(_CHARS, max_size=40).map(str.encode),
    st.text(" \n\t\r#:-'\"|\ufeff\x85\u2028a", max_size=12).map(str.encode),
)
_SECONDS = st.integers(0, 10**9).map(lambda micros: micros / 10**6)
_NAMES = st.text("abyz019-_.!#$%&'*+^`|~", min_size=1, max_size=9)
_VALUES = st.one_of(_TEXTS, st.text(st.characters(max_codepoint=0xFF), max_size=9)).filter(
    lambda text: text == text.strip() and not re.search("[\x00\n\x0b-\r\u0100-\U0010ffff]", text)
)
_URIS = _TEXTS.filter(lambda text: "[" not in text)
_HEADERS = st.lists(st.tuples(_NAMES, _VALUES), max_size=4).map(tuple)
_FRAMES = st.lists(
    st.builds(
        lambda at_s, direction, kind, data, code: Frame(
            at_s=at_s,
            direction=direction,
            kind=kind,
            data=data,
            code=code if kind == "close" else None,
        ),
        _SECONDS,
        st.sampled_from(get_args(Direction)),
        st.sampled_from(get_args(FrameKind)),
        _BODIES,
        st.none() | st.integers(1000, 4999),
    ),
    max_size=3,
).map(lambda frames: tuple(sorted(frames, key=lambda frame: frame.at_s)))


@st.composite
def _interactions(draw: st.DrawFn, number: int, cause: int | None) -> Interaction:
    status = draw(st.none() | st.just(101) | st.integers(200, 599))
    body = b"" if status is None else draw(_BODIES)
    cuts = draw(st.sets(st.integers(1, max(1, len(body))), max_size=3)) if body else set()
    ends = tuple(sorted({*cuts, len(body)} - {0}))
    at_s = sorted(draw(_SECONDS) for _ in ends)
    return Interaction(
        track="client" if cause is None else "upstream",
        number=number,
        began_at_s=draw(_SECONDS),
        caused_by=cause,
        request=Request(
            method=draw(st.sampled_from(["GET", "POST", "null"])),
            uri=draw(_URIS),
            headers=draw(_HEADERS),
            body=draw(_BODIES),
            coding=draw(st.none() | st.just("zstd")),
        ),
        response=Response(
            status=status,
            reason=draw(_TEXTS),
            headers=() if status is None else draw(_HEADERS),
            body=body,
            stream=Stream(
                at_s=tuple(at_s),
                ends=ends,
                complete=draw(st.booleans()),
                end=draw(st.sampled_from(get_args(End))),
                frames=draw(_FRAMES),
            ),
            coding=draw(st.none() | st.just("gzip")),
            head_at_s=draw(st.none() | _SECONDS),
        ),
    )


@st.composite
def any_cassettes(draw: st.DrawFn) -> Cassette:
    """Draw a cassette that may hold anything the model allows."""
    numbers = sorted(draw(st.sets(st.integers(1, 99), max_size=3)))
    first = numbers[0] if numbers else 0
    causes = [
        None if number == first else draw(st.sampled_from([None, first])) for number in numbers
    ]
    maybe = st.none() | _TEXTS
    about = About(
        origin=draw(st.sampled_from(get_args(Origin))),
        client=draw(maybe),
        client_version=draw(maybe),
        relay=draw(maybe),
        date=draw(maybe),
        began_unix_s=draw(st.none() | _SECONDS),
        scenario=draw(maybe),
        redacted=draw(st.dictionaries(_TEXTS, st.integers(0, 99), max_size=2)),
        complete=draw(st.booleans()),
    )
    return Cassette(
        about=about,
        interactions=tuple(
            draw(_interactions(number, cause))
            for number, cause in zip(numbers, causes, strict=True)
        ),
    )
