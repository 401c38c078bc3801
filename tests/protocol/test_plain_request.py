"""What another backend is asked: the client's own request, or the same in its protocol."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest

from codexrelay.errors import RequestError
from codexrelay.protocol.chat_native import ChatDelivery
from codexrelay.protocol.chat_source import ChatToResponses
from codexrelay.protocol.chat_stream import ChatStream
from codexrelay.protocol.model_choice import ModelChoice
from codexrelay.protocol.plain_request import PlainRequest, plain_request
from codexrelay.protocol.responses_body import ResponsesDelivery
from tests.fakes import responses_events
from tests.fakes.chat_client import ChatClient
from tests.profiles.recorded import all_recordings

if TYPE_CHECKING:
    from codexrelay.protocol.delivery import Wire
    from codexrelay.protocol.raw import JsonObject

QWEN = ModelChoice(instance="local", slug="Qwen3:8b")
CHAT: dict[str, Any] = {
    "model": "local:Qwen3:8b",
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi", "name": "u"},
        {"role": "developer", "content": "Now!"},
    ],
    "temperature": 0.1,
    "top_k": 40,
    "max_tokens": 100,
    "odd": {"n": 1},
}
RESPONSES: dict[str, Any] = {
    "model": "local:Qwen3:8b",
    "input": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
    "temperature": 0.1,
    "max_output_tokens": 100,
    "odd": {"n": 1},
}
BODIES: dict[Wire, dict[str, Any]] = {"chat": CHAT, "responses": RESPONSES}


def plain(
    body: JsonObject, spoken: Wire, wire: Wire, choice: ModelChoice = QWEN, key: str | None = None
) -> PlainRequest:
    kept = copy.deepcopy(body)
    made = plain_request(body, spoken=spoken, wire=wire, choice=choice, cache_key=key)
    assert body == kept, "the client's body was changed"
    return made


def test_chat_to_chat_is_the_clients_own_body() -> None:
    made = plain(CHAT, "chat", "chat")
    assert made.body == CHAT | {
        "model": "Qwen3:8b",
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert (made.path, made.delivers) == ("/chat/completions", "chat")
    assert (made.stream, made.include_usage, made.dropped) == (False, False, ())
    assert isinstance(made.delivery(response_id="resp_1", created_unix_s=1), ChatDelivery)


def test_the_clients_own_options_of_the_stream_stay() -> None:
    options = {"include_usage": False, "chunk_size": 3}
    made = plain(CHAT | {"stream": True, "stream_options": options}, "chat", "chat")
    assert made.body["stream_options"] == {"include_usage": True, "chunk_size": 3}
    assert (made.stream, made.include_usage) == (True, False)


def test_responses_to_responses_is_the_clients_own_body() -> None:
    asked = RESPONSES | {"previous_response_id": "resp_0", "store": True, "stream": True}
    made = plain(asked, "responses", "responses")
    assert made.body == asked | {"model": "Qwen3:8b"}
    assert (made.path, made.delivers, made.stream) == ("/responses", "responses", True)
    assert isinstance(made.delivery(response_id="resp_1", created_unix_s=1), ResponsesDelivery)


def test_responses_to_chat_is_translated() -> None:
    made = plain(RESPONSES, "responses", "chat")
    assert made.body == {
        "model": "Qwen3:8b",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hi"},
        ],
        "max_tokens": 100,
        "temperature": 0.1,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert (made.path, made.delivers) == ("/chat/completions", "responses")
    assert made.dropped == ("odd",)
    delivery = made.delivery(response_id="resp_1", created_unix_s=1)
    assert isinstance(delivery, ChatToResponses)
    assert delivery.model == "local:Qwen3:8b"


def test_chat_to_responses_is_translated_without_what_only_codex_wants() -> None:
    made = plain(CHAT | {"reasoning_effort": "low", "user": "u"}, "chat", "responses")
    assert made.body == {
        "model": "Qwen3:8b",
        "input": [
            {
                "type": "message",
                "role": role,
                "content": [{"type": "input_text", "text": text}],
            }
            for role, text in (("system", "Be brief."), ("user", "Hi"), ("developer", "Now!"))
        ],
        "reasoning": {"effort": "low"},
        "max_output_tokens": 100,
        "temperature": 0.1,
        "user": "u",
        "stream": True,
    }
    assert (made.path, made.delivers) == ("/responses", "responses")
    assert made.dropped == ("top_k", "odd", "messages[].name")
    assert isinstance(made.delivery(response_id="resp_1", created_unix_s=1), ResponsesDelivery)


def test_the_newer_name_of_the_longest_answer_wins() -> None:
    made = plain(CHAT | {"max_completion_tokens": 7}, "chat", "responses")
    assert made.body["max_output_tokens"] == 7


def test_a_chat_client_of_a_responses_target_is_answered() -> None:
    made = plain(CHAT | {"stream": True}, "chat", "responses")
    assert made.chat is not None
    answer, client = (
        ChatStream(made.chat, completion_id="c", created_unix_s=1, now_unix_s=1.0),
        ChatClient(),
    )
    body = responses_events.created() + responses_events.text("Hi") + responses_events.completed()
    client.read(answer.feed(body) + answer.finish())
    assert client.content == "Hi"


CASES: list[tuple[Wire, Wire]] = [
    ("chat", "chat"),
    ("chat", "responses"),
    ("responses", "chat"),
    ("responses", "responses"),
]


@pytest.mark.parametrize(("spoken", "wire"), CASES)
def test_fields_that_name_a_session_to_the_relay_stay_here(spoken: Wire, wire: Wire) -> None:
    told: JsonObject = {"session_id": "s", "conversation_id": "c", "client_metadata": {"id": "i"}}
    made = plain(BODIES[spoken] | told, spoken, wire)
    assert not told.keys() & made.body.keys()
    assert made.dropped[:3] == tuple(told)


@pytest.mark.parametrize(("spoken", "wire"), CASES)
def test_only_responses_targets_get_a_cache_key(spoken: Wire, wire: Wire) -> None:
    made = plain(BODIES[spoken], spoken, wire, key="ours")
    assert made.body.get("prompt_cache_key") == ("ours" if wire == "responses" else None)


@pytest.mark.parametrize("spoken", ["chat", "responses"])
def test_the_clients_own_cache_key_wins(spoken: Wire) -> None:
    body = BODIES[spoken] | {"prompt_cache_key": "theirs"}
    assert plain(body, spoken, "responses", key="ours").body["prompt_cache_key"] == "theirs"


@pytest.mark.parametrize(("spoken", "wire"), CASES)
def test_what_the_models_name_says_beats_the_body(spoken: Wire, wire: Wire) -> None:
    choice = ModelChoice(slug="m", effort="high", verbosity="low", service_tier="flex")
    asked = {"reasoning_effort": "low"} if spoken == "chat" else {"reasoning": {"effort": "low"}}
    body = plain(BODIES[spoken] | asked, spoken, wire, choice).body
    assert body["service_tier"] == "flex"
    if wire == "chat":
        assert (body["reasoning_effort"], body["verbosity"]) == ("high", "low")
    else:
        assert (body["reasoning"], body["text"]) == ({"effort": "high"}, {"verbosity": "low"})


@pytest.mark.parametrize(
    ("spoken", "wire", "change", "param"),
    [
        ("chat", "chat", {"messages": "Hi"}, "messages"),
        ("chat", "chat", {"stream": "yes"}, "stream"),
        ("chat", "chat", {"stream_options": []}, "stream_options"),
        ("chat", "chat", {"model": None}, "model"),
        ("chat", "responses", {"n": 2}, "n"),
        ("chat", "responses", {"messages": []}, "messages"),
        ("responses", "responses", {"input": None}, "input"),
        ("responses", "responses", {"stream": 1}, "stream"),
        ("responses", "chat", {"background": True}, "background"),
        ("responses", "chat", {"previous_response_id": "r"}, "previous_response_id"),
    ],
)
def test_what_is_malformed_is_refused(
    spoken: Wire, wire: Wire, change: JsonObject, param: str
) -> None:
    with pytest.raises(RequestError) as caught:
        plain(BODIES[spoken] | change, spoken, wire)
    assert caught.value.param == param


@pytest.mark.parametrize("wire", ["chat", "responses"])
def test_requests_of_real_programs_can_be_sent(wire: Wire) -> None:
    for sent in all_recordings():
        spoken: Wire = "chat" if "messages" in sent.body else "responses"
        made = plain(sent.body, spoken, wire)
        assert made.body["model"] == "Qwen3:8b", sent.name
        assert made.body["stream"] is True, sent.name
        assert made.model == sent.body["model"], sent.name
