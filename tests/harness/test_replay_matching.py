"""Which requests are the same, and what is said of the nearest one."""

from __future__ import annotations

import gzip
import zlib
from typing import TYPE_CHECKING

import pytest
import zstandard

from codexrelay.protocol.raw import dump
from harness.replay.matching import MAX_LINES, Key, key_of, nearest

if TYPE_CHECKING:
    from codexrelay.protocol.raw import Json
    from harness.cassettes.model import Headers

UUIDS = ("0198c3de-7f2b-7cc1-9d0a-3f1be1fbb3a4", "6b5e0a52-2a5c-4f0e-9a55-51a1c0de0001")


def key(
    body: Json | bytes, uri: str = "http://relay/v1/responses", *, headers: Headers = ()
) -> Key:
    return key_of(
        "client", "POST", uri, body=body if isinstance(body, bytes) else dump(body), headers=headers
    )


def said(text: str) -> dict[str, Json]:
    return {"input": [{"role": "user", "content": [{"type": "input_text", "text": text}]}]}


@pytest.mark.parametrize(
    ("recorded", "asked"),
    [
        ({"prompt_cache_key": "ses_0a1b2c3d4e5f"}, {"prompt_cache_key": "ses_9z8y7x6w5v4u"}),
        ({"prompt_cache_key": "mine"}, {"prompt_cache_key": "another"}),
        ({"safety_identifier": "user-a"}, {"safety_identifier": "user-b"}),
        (
            {"client_metadata": {"x-codex-window-id": f"{UUIDS[0]}:0", "session_id": "a"}},
            {"client_metadata": {"session_id": "b", "x-codex-window-id": f"{UUIDS[1]}:0"}},
        ),
        (
            {"client_metadata": {"x-codex-turn-metadata": f'{{"turn_id":"{UUIDS[0]}","n":1}}'}},
            {"client_metadata": {"x-codex-turn-metadata": f'{{"n":1,"turn_id":"{UUIDS[1]}"}}'}},
        ),
        (
            {"metadata": {"started": 1764312000000}},
            {"metadata": {"started": 1795848000000}},
        ),
        ({"id": "msg_" + UUIDS[0]}, {"id": "msg_" + UUIDS[1]}),
        ({"id": "rs_0a1b2c3d4e5f"}, {"id": "rs_f5e4d3c2b1a0"}),
        (
            {"encrypted_content": "gAAAAABoXyZ0123456789abc"},
            {"encrypted_content": "gAAAA" + 24 * "b"},
        ),
        (said("Today is Sat Nov 28 2026."), said("Today is Mon Mar 1 2027.")),
        (
            said("<current_date>2026-11-28</current_date>"),
            said("<current_date>2027-01-02</current_date>"),
        ),
        (said("at 2026-11-28T07:04:06.123Z"), said("at 2026-12-01T23:59:59Z")),
        (said("see http://127.0.0.1:8787/x"), said("see http://127.0.0.1:41234/x")),
        (said("in /tmp/compat-a1b2/home"), said("in /tmp/compat-zz/home")),
        (said("/home/ann/project"), said("/home/bert/project")),
        (said("Wall time: 0.0512 seconds"), said("Wall time: 1.7 seconds")),
        ({"b": 1, "a": {"d": 1, "c": 2}}, {"a": {"c": 2, "d": 1}, "b": 1}),
        ({"arguments": '{"cmd":"ls","n":1}'}, {"arguments": '{ "n": 1, "cmd": "ls" }'}),
    ],
)
def test_what_varies_from_run_to_run_makes_no_difference(recorded: Json, asked: Json) -> None:
    assert key(recorded) == key(asked)


@pytest.mark.parametrize(
    ("recorded", "asked"),
    [
        (said("echo a"), said("echo b")),
        ({"model": "gpt-5.5"}, {"model": "gpt-5.4"}),
        ({"arguments": '{"cmd":"ls"}'}, {"arguments": '{"cmd":"rm"}'}),
        ({"n": 1}, {"n": True}),
        ({"tools": [{"name": "a"}, {"name": "b"}]}, {"tools": [{"name": "b"}, {"name": "a"}]}),
        (said("/home/ann/project/a"), said("/home/ann/project/b")),
    ],
)
def test_what_was_asked_makes_the_difference(recorded: Json, asked: Json) -> None:
    assert key(recorded) != key(asked)


def test_a_call_and_its_output_must_belong_together_as_recorded() -> None:
    def turn(first: str, second: str) -> list[dict[str, str]]:
        return [
            {"type": "function_call", "call_id": "call_0a1b2c3d4e5f", "name": "one"},
            {"type": "function_call", "call_id": "call_f5e4d3c2b1a0", "name": "two"},
            {"type": "function_call_output", "call_id": first, "output": "x"},
            {"type": "function_call_output", "call_id": second, "output": "y"},
        ]

    straight = key({"input": turn("call_0a1b2c3d4e5f", "call_f5e4d3c2b1a0")})
    crossed = key({"input": turn("call_f5e4d3c2b1a0", "call_0a1b2c3d4e5f")})

    assert straight != crossed


def test_ids_of_any_form_are_joined_where_the_field_is_one() -> None:
    def chat(one: str, other: str) -> dict[str, Json]:
        return {"messages": [{"tool_call_id": one}, {"tool_call_id": other}]}

    assert key(chat("a", "a")) == key(chat("b", "b"))
    assert key(chat("a", "a")) != key(chat("a", "b"))


def test_two_encrypted_items_that_were_one_are_no_longer_the_same_request() -> None:
    one, other = "gAAAA" + 20 * "x", "gAAAA" + 20 * "y"

    same = key([{"encrypted_content": one}, {"encrypted_content": one}])

    assert same == key([{"encrypted_content": other}, {"encrypted_content": other}])
    assert same != key([{"encrypted_content": one}, {"encrypted_content": other}])


def test_the_query_has_no_order_and_the_host_means_nothing() -> None:
    one = key_of("upstream", "GET", "https://chatgpt.com/models?b=2&a=1&client_version=0.1")
    other = key_of("upstream", "GET", "/models?client_version=0.2&a=1&b=2")

    assert one == other
    assert one != key_of("upstream", "GET", "/models?a=1&b=3&client_version=0.2")


@pytest.mark.parametrize("coding", ["zstd", "gzip", "deflate"])
def test_a_compressed_body_is_what_it_says(coding: str) -> None:
    plain = dump(said("hello"))
    packed = {
        "zstd": zstandard.ZstdCompressor().compress,
        "gzip": gzip.compress,
        "deflate": zlib.compress,
    }[coding](plain)

    assert key(packed, headers=(("content-encoding", coding),)) == key(plain)


def test_a_body_that_is_no_json_counts_by_its_bytes() -> None:
    assert key(b"\x00\xff") == key(b"\x00\xff")
    assert key(b"\x00\xff") != key(b"\x00\xfe")


def test_the_tracks_are_kept_apart() -> None:
    assert key_of("client", "GET", "/models") != key_of("upstream", "GET", "/models")


def test_a_refresh_counts_by_its_grant_whatever_its_form() -> None:
    uri = "https://auth.openai.com/oauth/token"
    form = (("content-type", "application/x-www-form-urlencoded"),)
    written = key({"grant_type": "refresh_token", "refresh_token": "rt_1"}, uri)

    assert written == key(b"grant_type=refresh_token&refresh_token=rt_2", uri, headers=form)
    assert written != key({"grant_type": "authorization_code", "code": "x"}, uri)


def test_the_nearest_is_of_the_same_path_and_differs_least() -> None:
    asked = key({"model": "a", "n": 1, "stream": True})
    recorded = [
        key({"model": "a", "n": 1, "stream": True}, "http://relay/v1/chat/completions"),
        key({"model": "b", "n": 2, "stream": True}),
        key({"model": "b", "n": 1, "stream": True}),
    ]

    found = nearest(asked, recorded)

    assert found is not None
    assert found.place == 2
    assert found.lines() == ('model: recorded "b" asked "a"',)


def test_a_difference_names_the_field_and_shows_where_the_values_part() -> None:
    long = "the quick brown fox jumps over the lazy dog " * 4
    found = nearest(key(said(long + "and sleeps")), [key({**said(long + "and eats"), "n": 1})])

    assert found is not None
    assert found.lines() == (
        "input[0].content[0].text: "
        'recorded ...he lazy dog and eats" asked ...he lazy dog and sleeps"',
        "n: recorded 1 asked nothing",
    )


def test_a_long_list_of_differences_is_cut() -> None:
    found = nearest(key({f"k{n:02}": 1 for n in range(30)}), [key({"a": 1})])

    assert found is not None
    assert len(found.lines()) == MAX_LINES
    assert found.lines()[-1] == "... and 20 more"


def test_nothing_of_a_refresh_or_a_token_is_shown() -> None:
    uri = "/oauth/token"
    found = nearest(key({"grant_type": "refresh_token", "refresh_token": "rt_secret"}, uri), [])
    assert found is None
    near = nearest(key({"grant_type": "hidden"}, uri), [key({"grant_type": "refresh_token"}, uri)])
    assert near is not None
    assert near.lines() == ()
    token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc"
    shown = nearest(key(said(f"my token is {token}")), [key(said("no token"))])
    assert shown is not None
    assert token not in "\n".join(shown.lines())
