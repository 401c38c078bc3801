"""What a client's message means."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from codexrelay.errors import RequestError
from codexrelay.protocol.client_frames import Create, Interrupt, Processed, read
from codexrelay.protocol.raw import dump, parse_object

if TYPE_CHECKING:
    from codexrelay.protocol.raw import Json, JsonObject

#: As Codex CLI 0.169 sends it to a lite model, shortened.
_OF_CODEX: Final[JsonObject] = {
    "type": "response.create",
    "model": "gpt-6.1-sol",
    "stream": True,
    "previous_response_id": "resp_warm",
    "input": [],
    "store": False,
    "client_metadata": {
        "session_id": "01a2",
        "x-codex-window-id": "01a2:1",
        "x-codex-turn-metadata": '{"turn_id":"t"}',
        "x-codex-installation-id": "0000",
        "ws_request_header_x_openai_internal_codex_responses_lite": "true",
        "x-codex-ws-stream-request-start-ms": "1795347090300",
    },
}


def _create(**more: Json) -> Create:
    said = read(dump({"type": "response.create", "model": "m", "input": "hi", **more}).decode())
    assert isinstance(said, Create)
    return said


def test_what_belongs_to_the_message_is_no_part_of_the_body() -> None:
    said = _create(generate=False, previous_response_id="resp_1", background=False)
    assert said.body == {"model": "m", "input": "hi", "stream": True}
    assert (said.generate, said.previous_response_id) == (False, "resp_1")


@pytest.mark.parametrize("stream", [True, False, None])
def test_a_response_is_streamed_whatever_the_message_says(stream: bool | None) -> None:
    assert _create(stream=stream).body["stream"] is True


def test_null_says_what_absence_says() -> None:
    said = _create(generate=None, previous_response_id=None, background=None)
    assert (said.generate, said.previous_response_id) == (True, None)


def test_what_nobody_here_knows_stays() -> None:
    assert _create(tomorrow={"a": [1]}).body["tomorrow"] == {"a": [1]}


def test_metadata_that_stands_for_headers_becomes_headers() -> None:
    said = read(dump(_OF_CODEX).decode())
    assert isinstance(said, Create)
    assert said.body["client_metadata"] == {
        "session_id": "01a2",
        "x-codex-window-id": "01a2:1",
        "x-codex-turn-metadata": '{"turn_id":"t"}',
        "x-codex-installation-id": "0000",
    }
    headers = said.over({"x-codex-window-id": "01a2:0", "session-id": "01a2"})
    assert headers == {
        "session-id": "01a2",
        "x-codex-window-id": "01a2:1",
        "x-codex-turn-metadata": '{"turn_id":"t"}',
        "x-openai-internal-codex-responses-lite": "true",
    }


def test_a_body_without_such_metadata_keeps_it_as_it_is() -> None:
    assert _create(client_metadata={"a": "b"}).body["client_metadata"] == {"a": "b"}
    assert _create(client_metadata="odd").body["client_metadata"] == "odd"


@pytest.mark.parametrize("value", ["", "a\nb", "a\rb", "\x00", 7, None, "\ud83d"])
def test_what_can_be_no_header_stands_in_none(value: Json) -> None:
    said = _create(client_metadata={"x-codex-window-id": value})
    assert said.over({"x-codex-window-id": "old"}) == {"x-codex-window-id": "old"}


def test_a_header_beyond_ascii_is_read_as_from_the_wire() -> None:
    said = _create(client_metadata={"x-codex-turn-metadata": "Größe"})
    assert said.headers["x-codex-turn-metadata"].encode("latin-1") == "Größe".encode()


def test_metadata_cannot_set_just_any_header() -> None:
    said = _create(client_metadata={"authorization": "Bearer x", "ws_request_header_host": "y"})
    assert said.over({"authorization": "Bearer own"}) == {"authorization": "Bearer own"}


def test_the_other_messages() -> None:
    processed = dump({"type": "response.processed", "response_id": "resp_1"}).decode()
    interrupt = dump({"type": "response.interrupt", "discard_partial_items": True}).decode()
    assert read(processed) == Processed()
    assert read(interrupt) == Interrupt()


@pytest.mark.parametrize(
    ("text", "code", "param"),
    [
        ("", "invalid_json", None),
        ("   ", "invalid_json", None),
        ("{", "invalid_json", None),
        ("[1]", "invalid_json", None),
        ("null", "invalid_json", None),
        ("[" * 5000, "invalid_json", None),
        ("{}", "unknown_message_type", "type"),
        ('{"type":7}', "unknown_message_type", "type"),
        ('{"type":"response.append"}', "unknown_message_type", "type"),
        ('{"type":"response.create","stream":1}', "invalid_type", "stream"),
        ('{"type":"response.create","generate":"no"}', "invalid_type", "generate"),
        (
            '{"type":"response.create","previous_response_id":7}',
            "invalid_type",
            "previous_response_id",
        ),
        ('{"type":"response.create","background":true}', "unsupported_parameter", "background"),
    ],
)
def test_what_is_no_message_is_refused_and_says_why(
    text: str, code: str, param: str | None
) -> None:
    with pytest.raises(RequestError) as caught:
        read(text)
    assert (caught.value.status, caught.value.code, caught.value.param) == (400, code, param)


def test_bytes_are_read_alike() -> None:
    assert read(dump(_OF_CODEX)) == read(dump(_OF_CODEX).decode())
    assert parse_object(dump(_OF_CODEX)) == _OF_CODEX
