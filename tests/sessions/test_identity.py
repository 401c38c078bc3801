"""How a conversation is recognised. Shapes as the clients send them (measured)."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest

from codexrelay.sessions.identity import session_key, user_turn

if TYPE_CHECKING:
    from codexrelay.protocol.raw import Json, JsonObject

_SYSTEM: JsonObject = {"role": "system", "content": "You are an agent."}
_FIRST: JsonObject = {"role": "user", "content": "first"}
_ANSWER: JsonObject = {"role": "assistant", "content": "answer"}
_CALL: JsonObject = {"role": "assistant", "content": None, "tool_calls": [{"id": "call_1"}]}
_RESULT: JsonObject = {"role": "tool", "tool_call_id": "call_1", "content": "hi"}
_SECOND: JsonObject = {"role": "user", "content": "second"}


def chat(*messages: Json) -> JsonObject:
    return {"model": "m", "messages": list(messages)}


def responses(*items: Json, **more: Json) -> JsonObject:
    return {"model": "m", "input": list(items), **more}


@pytest.mark.parametrize(
    ("headers", "body", "text"),
    [
        ({"x-session-id": "ses_1", "x-session-affinity": "ses_1"}, chat(_FIRST), "ses_1"),
        ({"session-id": "01a2", "thread-id": "01a3"}, responses(), "01a2"),
        ({"session_id": "pi-1"}, responses(), "pi-1"),
        ({}, responses(prompt_cache_key="d-1", safety_identifier="d-2"), "d-1"),
        ({"x-session-id": "ses_1"}, responses(prompt_cache_key="other"), "ses_1"),
    ],
    ids=["opencode", "codex", "pi", "droid", "header before body"],
)
def test_a_client_may_name_its_session(
    headers: dict[str, str], body: JsonObject, text: str
) -> None:
    key = session_key(headers, body)
    assert key.text == text


@pytest.mark.parametrize(
    "later",
    [
        chat(_SYSTEM, _FIRST, _ANSWER, _SECOND),
        chat(_SYSTEM, _FIRST, _CALL, _RESULT),
        chat(_SYSTEM, _FIRST) | {"temperature": 1, "model": "n"},
    ],
    ids=["the next turn", "a tool result", "other parameters"],
)
def test_without_a_name_the_opening_of_the_conversation_has_to_do(later: JsonObject) -> None:
    agent = {"user-agent": "factory-cli/0.225.2"}
    first = session_key(agent, chat(_SYSTEM, _FIRST))
    assert session_key({"user-agent": "factory-cli/0.226.0"}, later) == first


@pytest.mark.parametrize(
    ("agent", "body"),
    [
        ("droid/1", chat(_SYSTEM, _SECOND)),
        ("droid/1", chat(_FIRST)),
        ("other/1", chat(_SYSTEM, _FIRST)),
    ],
    ids=["another prompt", "another system text", "another program"],
)
def test_another_opening_is_another_session(agent: str, body: JsonObject) -> None:
    first = session_key({"user-agent": "droid/1"}, chat(_SYSTEM, _FIRST))
    assert session_key({"user-agent": agent}, body) != first


def test_a_text_as_input_is_an_opening_too() -> None:
    one, other = {"model": "m", "input": "one"}, {"model": "m", "input": "other"}
    assert session_key({}, dict(one)) == session_key({}, dict(one))
    assert session_key({}, dict(one)) != session_key({}, dict(other))


def test_the_cache_key_is_a_stable_uuid_that_does_not_tell_the_sessions_name() -> None:
    key = session_key({"x-session-id": "ses_1"}, chat(_FIRST))
    assert str(uuid.UUID(key.cache_key)) == key.cache_key
    assert key.cache_key == session_key({"x-session-id": "ses_1"}, chat(_SECOND)).cache_key
    assert "ses_1" not in key.cache_key


@pytest.mark.parametrize(
    "body",
    [
        chat(_SYSTEM, _FIRST, _CALL, _RESULT),
        chat(_SYSTEM, _FIRST),
        chat(_SYSTEM, _FIRST, _CALL, _RESULT, _CALL, _RESULT),
    ],
    ids=["tool follow-up", "retry", "second tool follow-up"],
)
def test_a_user_turn_lasts_until_the_next_user_message(body: JsonObject) -> None:
    assert user_turn(body).name == user_turn(chat(_SYSTEM, _FIRST)).name


@pytest.mark.parametrize(
    "body",
    [
        chat(_SYSTEM, _FIRST, _ANSWER, _SECOND),
        chat(_SYSTEM, _FIRST, _ANSWER, _FIRST),
        chat(_SYSTEM, _SECOND),
    ],
    ids=["another message", "the same message again", "another opening"],
)
def test_a_new_user_message_begins_a_new_user_turn(body: JsonObject) -> None:
    assert user_turn(body).name != user_turn(chat(_SYSTEM, _FIRST)).name
    assert user_turn(body).opens


def test_user_turns_are_found_in_responses_requests_too() -> None:
    call: JsonObject = {"type": "function_call", "call_id": "call_1"}
    output: JsonObject = {"type": "function_call_output", "call_id": "call_1", "output": "hi"}
    begun, followed = responses(_FIRST), responses(_FIRST, call, output)
    assert user_turn(begun).name == user_turn(followed).name
    assert user_turn(begun).opens
    assert not user_turn(followed).opens
    assert user_turn(begun).name != user_turn(responses(_FIRST, call, output, _SECOND)).name
    assert user_turn({"input": "one"}).name != user_turn({"input": "other"}).name


def test_what_a_client_says_behind_the_users_message_does_not_end_its_turns_beginning() -> None:
    update: JsonObject = {"type": "configuration_update", "reasoning": {"effort": "low"}}
    assert user_turn(responses(_FIRST, update)).opens
