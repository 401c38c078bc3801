"""A model that the backend refuses, as an error in the OpenAI shape."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from codexrelay.protocol import faults
from codexrelay.protocol.faults import FaultKind
from codexrelay.protocol.raw import dump

if TYPE_CHECKING:
    from codexrelay.protocol.raw import JsonObject

_WORDS: Final = "The 'gpt-0' model is not supported when using Codex with a ChatGPT account."


def test_the_backends_words_come_with_the_code_that_clients_know() -> None:
    fault = faults.from_response(400, {}, dump({"detail": _WORDS}), now_unix_s=0.0)
    assert (fault.kind, fault.status, fault.message) == (FaultKind.UNSUPPORTED, 400, _WORDS)
    assert fault.error["type"] == "invalid_request_error"
    assert (fault.code, fault.error["param"]) == ("model_not_found", "model")


def test_a_code_of_the_backends_own_is_kept() -> None:
    body: JsonObject = {"error": {"message": _WORDS, "code": "model_gone", "param": "m"}}
    fault = faults.from_response(400, {}, dump(body), now_unix_s=0.0)
    assert (fault.code, fault.error["param"]) == ("model_gone", "m")


def test_inside_a_stream_it_is_the_same() -> None:
    event: JsonObject = {"type": "error", "error": {"message": _WORDS}}
    fault = faults.from_event(event, now_unix_s=0.0)
    assert (fault.kind, fault.code) == (FaultKind.UNSUPPORTED, "model_not_found")


@pytest.mark.parametrize(
    ("heard", "available", "told"),
    [
        ("", (), "nobody has it"),
        (_WORDS, (), f"nobody has it. The backend said: {_WORDS}"),
        (
            _WORDS,
            ("a", "b"),
            "nobody has it. Available: a, b; models.aliases can give one of them this name. "
            f"The backend said: {_WORDS}",
        ),
    ],
)
def test_the_backends_words_stand_behind_what_the_relay_knows(
    heard: str, available: tuple[str, ...], told: str
) -> None:
    fault = faults.not_offered("nobody has it", heard=heard, plans=("pro",), available=available)
    assert (fault.kind, fault.status, fault.message) == (FaultKind.UNSUPPORTED, 400, told)
    assert fault.error == {
        "message": told,
        "type": "invalid_request_error",
        "code": "model_not_found",
        "param": "model",
        "plans": ["pro"],
        "available": list(available),
    }
