"""How a conversation is recognised. Shapes as the clients send them (measured)."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest

from codexrelay.profiles import find_profiles
from codexrelay.sessions.identity import session_key, user_turn
from codexrelay.sessions.state import SessionState, TurnFacts, TurnOutcome, begin, end

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
        ({"x-opencode-session": "ses_1"}, responses(prompt_cache_key="other"), "ses_1"),
        ({"x-opencode-session": "o", "thread-id": "t"}, responses(), "t"),
        ({}, responses(session_id="s", conversation_id="c"), "s"),
    ],
    ids=[
        "opencode",
        "codex",
        "pi",
        "droid",
        "header before body",
        "opencode's own provider",
        "an older header before a rarer one",
        "fields in their order",
    ],
)
def test_a_client_may_name_its_session(
    headers: dict[str, str], body: JsonObject, text: str
) -> None:
    key = session_key(headers, body)
    assert key.text == text


@pytest.mark.parametrize(
    ("name", "headers", "body", "text"),
    [
        ("opencode", {"x-session-affinity": "ses_1"}, responses(prompt_cache_key="k"), "ses_1"),
        ("opencode", {"session-id": "s"}, responses(prompt_cache_key="k"), "k"),
        ("codex_cli", {"session-id": "1", "thread-id": "2"}, responses(), "1"),
        ("codex_cli", {"thread-id": "2", "session_id": "3"}, responses(), "3"),
        ("codex_cli", {"thread-id": "2", "conversation_id": "4"}, responses(), "2"),
        ("opencode", {"x-opencode-session": "ses_2"}, responses(prompt_cache_key="k"), "ses_2"),
        ("codex_cli", {"session_id": "3", "conversation_id": "4"}, responses(), "3"),
        ("codex_cli", {"conversation_id": "4"}, responses(prompt_cache_key="k"), "4"),
        ("codex_cli", {"x-client-request-id": "5"}, responses(prompt_cache_key="k"), "k"),
        ("droid", {}, responses(prompt_cache_key="k", safety_identifier="s"), "k"),
        ("droid", {}, responses(safety_identifier="s"), "s"),
        ("pi", {"session_id": "3", "x-client-request-id": "5"}, responses(), "3"),
        ("openai_sdk", {}, responses(session_id="b", safety_identifier="s"), "b"),
        ("openai_sdk", {}, responses(conversation_id="c"), "c"),
        ("openai_sdk", {"session_id": "3"}, responses(session_id="b"), "3"),
    ],
)
def test_each_program_names_its_sessions_in_places_of_its_own(
    name: str, headers: dict[str, str], body: JsonObject, text: str
) -> None:
    assert session_key(headers, body, find_profiles()[name]).text == text


@pytest.mark.parametrize("name", find_profiles())
def test_a_user_may_name_the_session_whatever_the_program(name: str) -> None:
    headers = {"x-session-id": "mine", "session-id": "s", "session_id": "s"}
    body = responses(prompt_cache_key="k")
    assert session_key(headers, body, find_profiles()[name]).text == "mine"


def test_an_end_users_id_is_no_session_where_it_means_the_user() -> None:
    sdk = find_profiles()["openai_sdk"]
    one, other = (responses(opening, safety_identifier="user-1") for opening in (_FIRST, _SECOND))
    assert session_key({}, one, sdk) != session_key({}, other, sdk)


_REMINDER: JsonObject = {"role": "user", "content": [{"type": "text", "text": "reminder"}]}


def test_the_prompt_tells_conversations_apart_where_a_program_speaks_as_the_user_first() -> None:
    agent, droid = {"user-agent": "factory-cli/0.225.2"}, find_profiles()["droid"]
    first = session_key(agent, chat(_SYSTEM, _REMINDER, _FIRST), droid)
    other = session_key(agent, chat(_SYSTEM, _REMINDER, _SECOND), droid)
    later = chat(_SYSTEM, _REMINDER, _FIRST, _CALL, _RESULT, _ANSWER, _SECOND)
    assert first != other
    assert session_key(agent, later, droid) == first


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


@pytest.mark.parametrize(
    "nothing", ["", " \t", "undefined", "NULL", "[object Object]", 7, None, ["k"], {"id": "k"}]
)
def test_what_names_nothing_is_no_name(nothing: Json) -> None:
    body = responses(_FIRST, prompt_cache_key=nothing, session_id=" s ")
    headers = {"x-session-id": nothing} if isinstance(nothing, str) else {}
    assert session_key(headers, body).text == "s"
    del body["session_id"]
    assert session_key(headers, body) == session_key({}, responses(_FIRST))


@pytest.mark.parametrize(
    "name",
    ["x" * 5000, "line\nbreak", "half \ud83d", "name:1", "opening:1", "\0"],
    ids=["long", "unprintable", "half a surrogate pair", "like a digest", "like an opening", "nul"],
)
def test_a_name_that_is_no_plain_one_stands_as_its_digest(name: str) -> None:
    key = session_key({}, responses(prompt_cache_key=name))
    assert key.text.startswith("name:")
    assert len(key.text) < 100
    assert key != session_key({}, responses(prompt_cache_key=f"{name}."))
    assert session_key({}, responses(prompt_cache_key=key.text)) != key
    assert uuid.UUID(key.cache_key)
    shown = key.shown_name
    assert shown is not None
    assert shown.isprintable()
    assert len(shown) < 100


def test_names_belong_to_client_keys_only_where_those_tell_clients_apart() -> None:
    body = responses(prompt_cache_key="k")
    one, other = {"authorization": "Bearer 1"}, {"authorization": "Bearer 2"}
    assert session_key(one, body) == session_key(other, body)
    assert session_key(one, body, scoped=True) != session_key(other, body, scoped=True)
    same = ({"authorization": "bearer  1 "}, {"x-api-key": "1"})
    for headers in same:
        assert session_key(headers, body, scoped=True) == session_key(one, body, scoped=True)


def test_a_key_shows_no_client_key() -> None:
    headers = {"authorization": "Bearer sk-secret"}
    for body in (responses(prompt_cache_key="k"), responses(_FIRST)):
        assert "sk-secret" not in repr(session_key(headers, body, scoped=True))


def test_a_request_that_goes_on_from_an_answer_belongs_to_its_session() -> None:
    first = session_key({}, responses(_FIRST))
    known = {"resp_1": first}
    body = responses(_SECOND, previous_response_id="resp_1")
    assert session_key({}, body, lineage=known.get) == first
    named = body | {"prompt_cache_key": "k"}
    assert session_key({}, named, lineage=known.get).text == "k", "a name comes first"


def test_an_answer_that_nobody_remembers_begins_a_session_of_its_own() -> None:
    output: JsonObject = {"type": "function_call_output", "call_id": "c", "output": "hi"}
    one, other, none = (
        session_key({}, responses(output, **more))
        for more in ({"previous_response_id": "r1"}, {"previous_response_id": "r2"}, {})
    )
    assert len({one, other, none}) == 3
    long = session_key({}, responses(output, previous_response_id="r" * 5000))
    assert long == none


def test_an_answer_is_gone_on_from_by_the_client_alone_that_was_given_it() -> None:
    mine, yours = {"authorization": "Bearer 1"}, {"authorization": "Bearer 2"}
    first = session_key(mine, responses(_FIRST), scoped=True)
    body, known = responses(_SECOND, previous_response_id="r"), {"r": first}
    assert session_key(mine, body, scoped=True, lineage=known.get) == first
    assert session_key(yours, body, scoped=True, lineage=known.get) != first


def test_the_cache_key_is_a_stable_uuid_that_does_not_tell_the_sessions_name() -> None:
    key = session_key({"x-session-id": "ses_1"}, chat(_FIRST))
    assert str(uuid.UUID(key.cache_key)) == key.cache_key
    assert key.cache_key == session_key({"x-session-id": "ses_1"}, chat(_SECOND)).cache_key
    assert "ses_1" not in key.cache_key
    # Nor does another release or another machine change it.
    assert key.cache_key == "3d3afa9b-075b-8197-a7b1-5c3efaaa14d5"


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


def test_a_title_request_leaves_the_task_its_turn_state() -> None:
    """OpenCode asks for a title at the same time, in the same session."""
    generate: JsonObject = {"role": "user", "content": "Generate a title:"}
    task, title = user_turn(chat(_SYSTEM, _FIRST)), user_turn(chat(_SYSTEM, generate, _FIRST))
    follow_up = user_turn(chat(_SYSTEM, _FIRST, _CALL, _RESULT))
    for order in ((task, title), (title, task)):
        state = SessionState()
        for turn in order:
            value = "of the task" if turn is task else "of the title"
            served = TurnOutcome(
                user_turn=turn.name, opens=turn.opens, account_id="a", turn_state=value
            )
            state = end(state, served)
        plan = begin(state, TurnFacts(user_turn=follow_up.name, opens=follow_up.opens))
        assert plan.turn_state is not None
        assert plan.turn_state.value == "of the task"
