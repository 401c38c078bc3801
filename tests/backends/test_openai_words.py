"""What the errors of many servers are taken for, and what their owners are told."""

from __future__ import annotations

from typing import Final

import pytest

from codexrelay.backends.openai.place import Place
from codexrelay.backends.openai.words import explained, unreachable
from codexrelay.protocol import faults
from codexrelay.protocol.faults import Fault, FaultKind
from codexrelay.protocol.raw import JsonObject, dump

PLACE: Final = Place(
    name="local", wire="chat", key_told="backends.local.api_key_file (/key)", has_key=True
)
URL: Final = "http://127.0.0.1:8000/v1"


def told(status: int, body: JsonObject) -> Fault:
    fault = faults.from_response(status, {}, dump(body), now_unix_s=0.0)
    return explained(fault, status, PLACE, url=URL)


def error(message: str, **more: str | int) -> JsonObject:
    return {"error": {"message": message, **more}}


@pytest.mark.parametrize(
    ("status", "message", "type_"),
    [
        (
            400,
            "This model's maximum context length is 512 tokens, however you requested 900",
            "invalid_request_error",
        ),
        (
            400,
            "The decoder prompt (length 900) is longer than the maximum model length of 512.",
            "BadRequestError",
        ),
        (
            400,
            "the request exceeds the available context size. try increasing it",
            "exceed_context_size_error",
        ),
        (500, "Requested tokens (900) exceed context window of 512", "internal_server_error"),
        (
            400,
            "Trying to keep the first 900 tokens when context the overflows. However, the model is "
            "loaded with context length of only 512 tokens",
            "invalid_request_error",
        ),
        (422, "`inputs` tokens + `max_new_tokens` must be <= 512. Given: 900", "validation"),
        (
            400,
            "Prompt contains 900 tokens and 0 draft tokens, too large for model with 512 maximum "
            "context length",
            "invalid_request_prompt",
        ),
        (
            400,
            "The input token count (900) exceeds the maximum number of tokens allowed (512).",
            "INVALID_ARGUMENT",
        ),
        (413, "prompt is too long: 900 tokens > 512 maximum", "invalid_request_error"),
    ],
    ids=[
        "OpenAI and vLLM",
        "vLLM",
        "llama.cpp",
        "llama-cpp-python",
        "LM Studio",
        "TGI",
        "Mistral",
        "Gemini",
        "Anthropic",
    ],
)
def test_a_prompt_that_is_too_long_has_the_code_by_which_agents_shorten_it(
    status: int, message: str, type_: str
) -> None:
    fault = told(status, error(message, type=type_))
    assert (fault.kind, fault.status) == (FaultKind.REFUSED, 400)
    assert (fault.code, fault.message, fault.type) == ("context_length_exceeded", message, type_)


@pytest.mark.parametrize(
    "body",
    [
        error("Request too large: tokens per minute, exceed context window", code="x"),
        error("You exceeded your current quota", code="insufficient_quota"),
    ],
    ids=["rate", "quota"],
)
def test_a_rate_in_tokens_is_no_prompt_that_is_too_long(body: JsonObject) -> None:
    assert told(429, body).code in ("x", "insufficient_quota")


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (404, {"message": "The model `x` does not exist.", "type": "NotFoundError"}, None),
        (404, error('model "x" not found, try pulling it first', type="api_error"), None),
        (404, error("The model `x` does not exist", code="model_not_found"), None),
        (404, error("Requested entity was not found: model x"), None),
        (400, error("x is not a valid model ID", code=400), None),
        (400, error("Invalid model: x", type="invalid_model", code="1500"), "1500"),
        (400, error("No models loaded. Please load a model"), None),
    ],
    ids=["vLLM", "Ollama", "OpenAI", "Gemini", "OpenRouter", "Mistral", "LM Studio"],
)
def test_an_unknown_model_keeps_its_words_and_lets_a_route_go_on(
    status: int, body: JsonObject, code: str | None
) -> None:
    fault = told(status, body)
    assert (fault.kind, fault.status) == (FaultKind.UNSUPPORTED, status)
    assert fault.code == (code or "model_not_found")
    assert fault.message in str(body)


@pytest.mark.parametrize(
    "message",
    [
        "Unsupported parameter: 'max_tokens' is not supported with this model.",
        "tools[0].function.name: too long",
        "Invalid value for temperature",
    ],
)
def test_a_request_that_is_at_fault_is_told_as_it_was_said(message: str) -> None:
    fault = told(400, error(message, type="invalid_request_error", code="c"))
    assert (fault.kind, fault.code, fault.message) == (FaultKind.REFUSED, "c", message)


@pytest.mark.parametrize(
    ("status", "kind", "hint"),
    [
        (401, FaultKind.UNAUTHORIZED, "does not take the key of backends.local.api_key_file"),
        (402, FaultKind.FORBIDDEN, "its key is of backends.local.api_key_file (/key)"),
        (403, FaultKind.FORBIDDEN, "its key is of backends.local.api_key_file (/key)"),
        (405, FaultKind.UNSUPPORTED, "backends.local.wire must be responses"),
        (501, FaultKind.UNSUPPORTED, "backends.local.wire must be responses"),
    ],
)
def test_what_its_owner_can_do_stands_behind_the_words_of_the_backend(
    status: int, kind: FaultKind, hint: str
) -> None:
    fault = told(status, error("Its own words", type="t"))
    assert (fault.kind, fault.status) == (kind, status)
    assert fault.message.startswith("Its own words (")
    assert hint in fault.message


@pytest.mark.parametrize("status", [500, 503, 529])
def test_a_server_in_trouble_is_told_as_it_is(status: int) -> None:
    fault = told(status, error("Loading model", type="unavailable_error"))
    assert (fault.kind, fault.message) == (FaultKind.OVERLOADED, "Loading model")


@pytest.mark.parametrize(
    ("why", "setting"),
    [
        ("connection refused", "is backends.local.api_base_url right?"),
        ("certificate verify failed", "backends.local.ca_file can name"),
        ("the proxy x makes no tunnel", "backends.local.proxy can name another proxy, or none"),
    ],
)
def test_a_server_that_cannot_be_reached_is_told_with_what_may_be_wrong(
    why: str, setting: str
) -> None:
    message = unreachable(why, PLACE, url=URL)
    assert message.startswith(f"backend local cannot be reached at {URL}: {why}; ")
    assert setting in message
