"""Cassettes as text: written the same everywhere, read back as they were, refused with reasons."""

from __future__ import annotations

import attrs
import pytest
import yaml
from hypothesis import given, settings

from harness.cassettes.document import (
    assembled,
    dump,
    head_bytes,
    interaction_bytes,
    parse,
)
from harness.cassettes.errors import CassetteError
from harness.cassettes.model import Cassette, Frame, Stream
from tests.fakes.cassettes import any_cassettes, cassette, interaction

READABLE = """\
version: 1
metadata:
  codexrelay:
    format: 1
    origin: simulator
    client:
      program: codex
      version: '0.169.0'
    relay: '0.1.0'
    date: '2026-11-28'
    scenario: tool
    redaction:
      token: 2
    complete: true
interactions:
- request:
    method: POST
    uri: http://relay/v1/responses
    headers:
      content-type:
      - application/json
    body: |-
      {"model":"m","stream":true}
  response:
    status:
      code: 200
      message: OK
    headers:
      content-type:
      - text/event-stream
    body:
      string: |+
        event: response.created
        data: {"type":"response.created","response":{"id":"resp_1"}}

        event: response.completed
        data: {"type":"response.completed","response":{"id":"resp_1"}}

    stream:
      at: [0.1, 0.2]
      ends: [88, 176]
      complete: true
      end: eof
    codexrelay:
      track: client
      number: 1
      began_at: 0.1
      head_at: 0.05
"""

AWKWARD = [
    b"",
    b"\n",
    b"\n\n a",
    b"  indented\nnot",
    b"\ttab\n\t\n",
    b"ends in spaces  \n   ",
    b"a\n\n\n",
    b"one\r\ntwo\r\n",
    "\ufeffwith a mark".encode(),
    "next\x85line\u2028and\u2029more".encode(),
    "emoji \U0001f600 and umlaut ä\n".encode(),
    b'{"half": "\\ud83d"}\n',
    b"# no comment: 'x' \"y\" --- ...\n--- a\n... b\n",
    b"null",
    b"\x00\x01\x7f",
    b"\xff\xfe binary \x80" * 40,
]


def text_of(**changes: object) -> bytes:
    """Return a good text with one value of its only interaction's own key changed."""
    document = yaml.safe_load(READABLE)
    response = document["interactions"][0]["response"]
    for path, value in changes.items():
        holder, _, key = path.partition("__")
        response[holder][key] = value
    return yaml.safe_dump(document).encode()


def problems_of(data: bytes) -> list[str]:
    with pytest.raises(CassetteError) as caught:
        parse(data, folder=None)
    return list(caught.value.lines())


def test_a_cassette_is_a_text_that_people_can_read() -> None:
    assert dump(cassette()).decode() == READABLE


@settings(deadline=None, max_examples=30)
@given(any_cassettes())
def test_whatever_is_written_is_read_back_as_it_was(given_cassette: Cassette) -> None:
    data = dump(given_cassette)
    assert parse(data, folder=None) == given_cassette
    # The loader in Python, which takes over where there is none in C, reads the same.
    assert yaml.load(data, yaml.SafeLoader) == yaml.load(data, yaml.CSafeLoader)


@pytest.mark.parametrize("body", AWKWARD, ids=ascii)
def test_awkward_bodies_are_kept_bit_for_bit(body: bytes) -> None:
    given_cassette = cassette(interaction(body=body, request_body=body, headers=()))
    data = dump(given_cassette)
    assert parse(data, folder=None) == given_cassette
    assert yaml.load(data, yaml.SafeLoader) == yaml.load(data, yaml.CSafeLoader)
    assert b"\r" not in data


def test_only_what_is_no_text_is_written_as_base64() -> None:
    written = {body: b"!!binary" in dump(cassette(interaction(body=body))) for body in AWKWARD}
    assert [body for body, binary in written.items() if binary] == [AWKWARD[-1]]


def test_a_head_and_its_interactions_make_the_whole_text() -> None:
    whole = cassette(interaction(), interaction(2, track="upstream", caused_by=1))
    items = [interaction_bytes(one) for one in whole.interactions]
    assert head_bytes(whole.about) + b"".join(items) == dump(whole)


def test_interactions_are_written_in_the_order_of_their_numbers() -> None:
    one, two = interaction(), interaction(2)
    assert dump(cassette(two, one)) == dump(cassette(one, two))
    turned = assembled(cassette().about, [interaction_bytes(two), interaction_bytes(one)])
    assert parse(turned, folder=None).interactions == (one, two)


def test_a_cassette_without_interactions_has_an_empty_list() -> None:
    empty = attrs.evolve(cassette(), interactions=())
    assert dump(empty).endswith(b"interactions: []\n")
    assert parse(dump(empty), folder=None) == empty
    assert parse(head_bytes(empty.about), folder=None) == empty


def test_headers_keep_the_order_of_the_wire_also_where_names_come_again() -> None:
    headers = (("set-cookie", "a"), ("vary", "x"), ("set-cookie", "b"))
    given_cassette = cassette(interaction(headers=headers))
    assert b"header_order" in dump(given_cassette)
    assert parse(dump(given_cassette), folder=None) == given_cassette


def test_a_header_name_of_any_length_is_a_key() -> None:
    given_cassette = cassette(interaction(headers=(("x" * 2000, "1"), ("y", "2"))))
    assert parse(dump(given_cassette), folder=None) == given_cassette


def test_many_chunks_are_written_on_lines_that_fit() -> None:
    body = b"x" * 500
    one = interaction(body=body)
    stream = Stream(
        at_s=tuple(float(place) for place in range(500)),
        ends=tuple(range(1, 501)),
        complete=True,
        end="eof",
    )
    one = attrs.evolve(one, response=attrs.evolve(one.response, stream=stream))
    data = dump(cassette(one))
    assert max(len(line) for line in data.split(b"\n") if b"xxx" not in line) <= 100
    assert parse(data, folder=None).interactions == (one,)


def test_frames_stand_on_a_line_each() -> None:
    frames = (
        Frame(at_s=0.1, direction="out", kind="text", data=b'{"type":"it\'s"}'),
        Frame(at_s=0.2, direction="in", kind="bin", data=b"\xff"),
        Frame(at_s=0.3, direction="in", kind="close", code=1000, data=b"bye"),
    )
    one = interaction(body=b"", status=101)
    stream = attrs.evolve(one.response.stream, frames=frames)
    given_cassette = cassette(attrs.evolve(one, response=attrs.evolve(one.response, stream=stream)))
    data = dump(given_cassette).decode()
    assert """{at: 0.1, dir: out, kind: text, data: '{"type":"it''s"}'}""" in data
    assert parse(data.encode(), folder=None) == given_cassette


def test_half_a_surrogate_pair_in_a_header_is_refused_before_anything_is_written() -> None:
    with pytest.raises(ValueError, match="surrogate"):
        dump(cassette(interaction(headers=(("x", "\ud83d"),))))


def test_all_problems_are_told_at_once_each_with_its_place() -> None:
    data = text_of(
        stream__ends=[10, 10, 176],
        stream__end="later",
        stream__at=[0.2, 0.1, "x"],
        codexrelay__number=0,
        codexrelay__track=None,
        status__code="200",
    )
    assert problems_of(data) == [
        "interactions[0].response.codexrelay.track: is empty; it should be one of client, upstream",
        "interactions[0].response.status.code: is a text; it should be an integer from 0",
        "interactions[0].response.stream.at[1]: is 0.1; it should be a number of seconds, "
        "0 or more and not below the one in front of it",
        "interactions[0].response.stream.at[2]: is a text; it should be a number of seconds, "
        "0 or more and not below the one in front of it",
        "interactions[0].response.stream.ends[1]: is 10; it should be an offset in bytes above the "
        "one in front of it",
        "interactions[0].response.stream.end: is a text; it should be one of eof, reset, idle, "
        "closed-by-relay",
        "interactions[0].response.codexrelay.number: is 0; it should be an integer from 1",
    ]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"stream__ends": [10, 175]}, "stream.ends[1]: the last chunk ends at 175, and the body"),
        ({"stream__ends": [], "stream__at": []}, "stream.ends: the last chunk ends at 0"),
        ({"stream__at": [0.1]}, "stream: at has 1 entries and ends has 2"),
        ({"stream__at": [0.1, float("nan")]}, "stream.at[1]: is nan"),
        ({"stream__complete": "yes"}, "stream.complete: is a text; it should be true or false"),
        ({"stream__colour": 1}, "stream: has no key 'colour'; it may have at, ends"),
        ({"codexrelay__began_at": -1}, "codexrelay.began_at: is -1"),
        ({"codexrelay__caused_by": 1}, "codexrelay.caused_by: a client's request has no cause"),
        ({"codexrelay__extra": 1}, "codexrelay: has no key 'extra'"),
        ({"codexrelay__coding": 5}, "codexrelay.coding: is 5; it should be a text (put it"),
        ({"codexrelay__header_order": ["a"]}, "codexrelay.header_order: does not name each header"),
        ({"status__code": 0}, "status.code: is 0, no head ever came; but there are headers or a"),
        ({"status__code": 42}, "status.code: is 42; it should be a final status of HTTP, 101 of"),
        ({"status__code": 100}, "status.code: is 100; it should be a final status of HTTP"),
        ({"headers__a b": ["1"]}, "headers['a b']: is no name of a header"),
        ({"headers__via": ["a\nb: c"]}, "headers.via[0]: is no value of a header: it holds a"),
        ({"headers__via": ["\u65e5"]}, "headers.via[0]: is no value of a header: it holds a"),
        ({"headers__via": ["x "]}, "headers.via[0]: is no value of a header: it holds a"),
        ({"headers__X-Big": ["1"]}, "headers.X-Big: header names"),
        ({"headers__via": "1"}, "headers.via: is a text; it should be a list"),
        ({"body__more": "1"}, "body: has no key 'more'; it may have string"),
        (
            {"stream__frames": [{"at": 1, "dir": "in", "kind": "close", "code": 70000}]},
            "stream.frames[0].code: is 70000; it should be an integer from 0 to 65535",
        ),
        (
            {"stream__frames": [{"at": 1, "dir": "in", "kind": "text"}, {"at": 0, "dir": "up"}]},
            "stream.frames[1].at: is before the frame in front of it",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_wrong_is_said_in_words(changes: dict[str, object], told: str) -> None:
    assert any(
        f"interactions[0].response.{told}" in line for line in problems_of(text_of(**changes))
    )


def test_numbers_are_used_once_and_causes_are_requests_of_the_client() -> None:
    twice = dump(cassette(interaction(), interaction(2, track="upstream", caused_by=1)))
    assert problems_of(twice.replace(b"number: 2", b"number: 1")) == [
        "interactions[1].response.codexrelay.number: is 1, which another interaction has already",
    ]
    assert problems_of(twice.replace(b"caused_by: 1", b"caused_by: 7")) == [
        "interactions[1].response.codexrelay.caused_by: is 7, which is no request of the client's"
    ]


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "is empty; it should be a mapping"),
        (b"[]", "is a list; it should be a mapping"),
        (b"version: 1\nversion: 1\n", "line 1, column 1: no valid YAML: a mapping has a key twice"),
        (b"version: [", "line 2, column 1: no valid YAML"),
        (b"a: !!python/object:os.system {}", "no valid YAML: could not determine a constructor"),
        (b"\xff\xfe\xff", "no valid YAML"),
        (b"a: 2026-99-99", "no valid YAML"),
        (b"a: " + b"9" * 5000, "no valid YAML"),
        (b"? [1]\n: 2", "no valid YAML"),
        (b"[" * 5000, "no valid YAML"),
        (b"&a [*a]", "is a list; it should be a mapping"),
        (b"version: 2\ninteractions: {}\nextra: 1", "version: should be 1"),
        (b"version: 1\ninteractions: [1]", "interactions[0]: is 1; it should be a mapping"),
        (b"version: 1\ninteractions: [{request: 1}]", "interactions[0].response: is missing"),
        (
            b"version: 1\ninteractions: [{request: {body: [], headers: []}, response: {}}]",
            "request",
        ),
        (READABLE.replace("http://relay", "http://[relay").encode(), "request.uri: is no URI"),
        (b"version: 1\nextra: 1\ninteractions: []", "has no key 'extra'"),
        (b"version: 1\nmetadata: {codexrelay: {format: x}}", "metadata.codexrelay.format"),
        (b"version: 1\nmetadata: {codexrelay: {format: true}}", "metadata.codexrelay.format"),
        (b"version: 1\nmetadata: 1\ninteractions: []", "metadata"),
        (READABLE.replace("date: '2026-11-28'", "date: 2026-11-28").encode(), "(put it in quotes)"),
    ],
    ids=lambda value: "" if isinstance(value, bytes) else value,
)
def test_bad_input_is_a_problem_and_never_a_traceback(data: bytes, told: str) -> None:
    assert any(told in line for line in problems_of(data))


def test_what_vcrpy_does_not_take_in_a_request_is_a_problem() -> None:
    data = READABLE.replace("    method: POST\n", "    method: POST\n    note: mine\n").encode()
    assert problems_of(data) == [
        "interactions[0].request: has no key 'note'; it may have method, uri, headers, body"
    ]


def test_what_others_keep_in_metadata_and_in_an_answer_is_left_alone() -> None:
    data = READABLE.replace("metadata:\n", "metadata:\n  mine: 1\n")
    data = data.replace("  response:\n", "  response:\n    url: null\n")
    assert parse(data.encode(), folder=None) == cassette()


def test_a_problem_tells_nothing_of_what_a_text_holds() -> None:
    data = text_of(
        stream__complete="sk-secret", headers__via="sk-secret", codexrelay__number="sk-s"
    )
    assert not any("sk-s" in line for line in problems_of(data))
