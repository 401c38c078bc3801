"""Errors that come as WebSocket messages."""

from __future__ import annotations

import pytest

from codexrelay.protocol import error_frames, faults
from codexrelay.protocol.raw import dump, parse_object

ERROR = {"type": "usage_limit_reached", "message": "spent"}


@pytest.mark.parametrize(
    "message",
    [
        {"status": 429, "error": ERROR, "headers": {"X-A": 1}},
        {"status_code": 429, "error": ERROR, "headers": {"x-a": "1"}},
        {"status": "429", "error": ERROR, "headers": {"x-a": "1"}},
        {"status": 429, "body": {"error": ERROR}, "headers": {"x-a": "1"}},
        {"body": {"status": 429, "error": ERROR, "headers": {"x-a": "1"}}},
    ],
    ids=["status", "status_code", "status as text", "wrapped", "all wrapped"],
)
def test_each_form_says_what_an_http_answer_would(message: dict[str, object]) -> None:
    said = error_frames.read(dump({"type": "error", **message}))  # type: ignore[dict-item]
    assert said is not None
    assert (said.status, dict(said.headers)) == (429, {"x-a": "1"})
    assert parse_object(said.body) == {"error": ERROR}


def test_the_flat_form_keeps_its_words() -> None:
    said = error_frames.read(b'{"type":"error","status":503,"code":"slow_down","message":"later"}')
    assert said is not None
    assert said.code == "slow_down"
    fault = faults.from_response(503, said.headers, said.body, now_unix_s=0.0)
    assert (fault.code, fault.message) == ("slow_down", "later")


@pytest.mark.parametrize("status", ["", ',"status":200', ',"status":null', ',"status":"x"'])
def test_what_names_no_status_of_an_error_is_an_event(status: str) -> None:
    said = error_frames.read(b'{"type":"error","error":{"code":"c"}%s}' % status.encode())
    assert said is not None
    assert (said.status, said.code) == (None, "c")


@pytest.mark.parametrize("text", [b"", b"[]", b'{"type":"error"'])
def test_what_is_no_object_says_nothing(text: bytes) -> None:
    assert error_frames.read(text) is None
