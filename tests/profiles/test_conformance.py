"""Every profile keeps the seam's promises over what its program really sends."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from codexrelay.config.settings import ModelsSettings
from codexrelay.profiles import find_profiles, recognise
from codexrelay.profiles.profile import Kind
from codexrelay.protocol.capabilities import KEYS
from codexrelay.protocol.raw import get_list, get_object, get_text, is_object, parse_object
from codexrelay.sessions.identity import session_key, user_turn
from harness.compat.scenarios import SCENARIOS
from harness.relay_process import ALIASES
from harness.secrecy.stand_ins import is_stand_in
from tests.fakes.relay import relaying
from tests.fakes.simulated import events_of
from tests.profiles.recorded import UNRECORDED, captures_of, recordings_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    import httpx

    from codexrelay.protocol.raw import Json, JsonObject
    from tests.profiles.recorded import Sent

NAMES = sorted(find_profiles())
PROGRAMS = [name for name in NAMES if name not in UNRECORDED]
SOURCES = {"recorded": recordings_of, "captured": captures_of}

#: Scenario -> what the programs are asked in it.
PROMPTS = {scenario.name: scenario.prompt for scenario in SCENARIOS}

every_profile = pytest.mark.parametrize("name", NAMES)
every_program = pytest.mark.parametrize("name", PROGRAMS)
every_source = pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES.keys())

#: What the backend refuses of a Responses request, of what programs send.
REFUSED = {"max_output_tokens", "safety_identifier"}
#: What a client says to the relay alone.
TO_THE_RELAY = {"codex_capabilities"}
#: Tells a client what was changed of what it asked for.
ADJUSTED = "x-codexrelay-adjusted"
#: Headers that are the connection's own, or do not fit a body that is sent in plain.
OF_THE_WIRE = {"host", "connection", "accept-encoding", "content-encoding", "content-length"}


def conversations(sent: Iterable[Sent]) -> dict[str, list[Sent]]:
    """Return the requests of each conversation, in order."""
    found: dict[str, list[Sent]] = {}
    for one in sent:
        found.setdefault(one.conversation, []).append(one)
    return found


def key_of(sent: Sent) -> str:
    return session_key(sent.lower, sent.body, recognise(sent.lower, sent.body)).text


@every_profile
def test_a_profile_says_what_it_is_in_the_words_of_the_seam(name: str) -> None:
    profile = find_profiles()[name]
    assert name.replace("_", "").isalnum()
    assert name == name.lower()
    assert profile.session_headers
    assert [header for header in profile.session_headers if header != header.lower()] == []
    assert set(profile.capabilities) <= set(KEYS)
    for adaptation in profile.adaptations.values():
        assert adaptation.description.endswith(".")
    for armed in profile.armed:
        assert armed.names
        assert armed.user_agent == armed.user_agent.lower()


@every_program
@every_source
def test_its_programs_requests_are_recognised_as_its_own_and_nobody_elses(
    name: str, source: Callable[[str], list[Sent]]
) -> None:
    for sent in source(name):
        assert recognise(sent.lower, sent.body).name == name, sent.name
        named = [
            profile.name
            for profile in find_profiles().values()
            if profile.kind is Kind.PROGRAM and profile.named(sent.lower)
        ]
        assert set(named) <= {name}, sent.name


@every_program
@every_source
def test_all_requests_of_a_conversation_have_one_session_key(
    name: str, source: Callable[[str], list[Sent]]
) -> None:
    for conversation, requests in conversations(source(name)).items():
        assert len({key_of(sent) for sent in requests}) == 1, conversation


@every_program
def test_two_conversations_have_two_session_keys(name: str) -> None:
    """If they begin with other words, that is: some programs send nothing else that differs.

    A name that was redacted cannot tell: each cassette begins to number its stand-ins anew.
    """
    prompts: dict[str, set[str]] = {}
    for conversation, requests in conversations(recordings_of(name)).items():
        key = key_of(requests[0])
        if not is_stand_in(key):
            scenario = conversation.partition(" ")[2]
            prompts.setdefault(key, set()).add(PROMPTS[scenario])
    assert [found for found in prompts.values() if len(found) > 1] == []
    assert len(prompts) >= 2


@every_program
@every_source
def test_a_user_turn_lasts_until_the_user_speaks_again(
    name: str, source: Callable[[str], list[Sent]]
) -> None:
    for requests in conversations(source(name)).values():
        turns = [sent for sent in requests if not sent.is_title]
        for before, after in itertools.pairwise(turns):
            same = before.user_messages == after.user_messages
            assert (user_turn(before.body).name == user_turn(after.body).name) is same, after.name
            assert user_turn(after.body).opens is not same or before.body == after.body, after.name
        assert user_turn(turns[0].body).opens, turns[0].name


@every_program
@every_source
def test_a_title_request_has_a_user_turn_of_its_own(
    name: str, source: Callable[[str], list[Sent]]
) -> None:
    for conversation, requests in conversations(source(name)).items():
        if conversation.endswith(" resume"):
            continue  # the user says the same twice: that turn takes the title's place, and opens
        titles = {user_turn(sent.body).name for sent in requests if sent.is_title}
        turns = {user_turn(sent.body).name for sent in requests if not sent.is_title}
        assert titles.isdisjoint(turns)


@every_program
async def test_what_a_program_sends_passes_the_relay_whole(name: str, tmp_path: Path) -> None:
    async with relaying(tmp_path, models=ModelsSettings(aliases=ALIASES)) as relay:
        for sent in recordings_of(name):
            headers = {
                key: value for key, value in sent.headers.items() if key.lower() not in OF_THE_WIRE
            }
            answer = await relay.post(sent.path, sent.body, headers=headers)
            assert answer.status_code == 200, (sent.name, answer.text)
            upstream = relay.asked[-1].body
            assert is_object(upstream)
            if "messages" in sent.body:
                assert_chat_passed(sent, upstream)
            else:
                assert_responses_passed(sent, upstream, answer.headers.get(ADJUSTED, ""))
            assert_answered(sent, answer)


def assert_responses_passed(sent: Sent, upstream: JsonObject, adjusted: str) -> None:
    """Nothing is lost but what the backend refuses, and no prompt or tool has come in.

    An effort that the model does not have is another one upstream, if the client is told so.
    """
    missing = sent.body.keys() - upstream.keys()
    assert missing <= REFUSED | TO_THE_RELAY, sent.name
    added = upstream.keys() - sent.body.keys()
    assert added <= {"prompt_cache_key", "instructions", "stream", "store", "include"}, sent.name
    kept = sent.body.keys() & upstream.keys() - {"input", "stream"}
    for field in kept:
        if field == "reasoning" and adjusted:
            was, now = get_object(sent.body, field), get_object(upstream, field)
            assert adjusted == f"reasoning_effort={was['effort']}->{now['effort']}", sent.name
            assert was | now == now, sent.name
        else:
            assert upstream[field] == sent.body[field], (sent.name, field)
    assert not upstream.get("instructions") or "instructions" in sent.body, sent.name
    given, passed = sent.items, [item for item in get_list(upstream, "input") if is_object(item)]
    assert len(passed) == len(given), sent.name
    for item, one in zip(given, passed, strict=True):
        changed = {key for key in item.keys() | one.keys() if item.get(key) != one.get(key)}
        assert changed <= {"id"}, (sent.name, item)


def assert_chat_passed(sent: Sent, upstream: JsonObject) -> None:
    """Every text, call and result of the conversation is there, and the tools are the client's."""
    tools = [
        get_object(tool, "function") for tool in get_list(sent.body, "tools") if is_object(tool)
    ]
    offered = [tool for tool in get_list(upstream, "tools") if is_object(tool)]
    assert [tool.get("name") for tool in offered] == [tool.get("name") for tool in tools], sent.name
    for given, passed in zip(tools, offered, strict=True):
        assert passed["parameters"] == given["parameters"], sent.name
        assert passed["description"] == given["description"], sent.name
    told = [text for item in sent.items for text in texts_of(item.get("content"))]
    passed_on = [
        text
        for item in get_list(upstream, "input")
        if is_object(item)
        for key in ("content", "output")
        for text in texts_of(item.get(key))
    ]
    instructions = get_text(upstream, "instructions") or ""
    assert [text for text in told if text not in passed_on and text not in instructions] == []
    calls = [
        get_object(call, "function").get("arguments")
        for item in sent.items
        for call in get_list(item, "tool_calls")
        if is_object(call)
    ]
    assert calls == [
        item["arguments"]
        for item in get_list(upstream, "input")
        if is_object(item) and item.get("type") == "function_call"
    ]


def texts_of(content: Json) -> list[str]:
    """Return the texts of a message's content, or of a tool's output."""
    if isinstance(content, str):
        return [content] if content else []
    parts = content if isinstance(content, list) else []
    return [str(part["text"]) for part in parts if is_object(part) and "text" in part]


def assert_answered(sent: Sent, answer: httpx.Response) -> None:
    """The answer counts its tokens (without them OpenCode asks for ever), in the client's words."""
    whole = sent.body.get("stream") is not True
    if "messages" in sent.body:
        chunks = [parse_object(answer.content)] if whole else chunks_of(answer.text)
        assert any(get_object(chunk, "usage") for chunk in chunks), sent.name
        return
    events = [] if whole else events_of(answer.content)
    response = parse_object(answer.content) if whole else get_object(events[-1], "response")
    assert get_object(response, "usage"), sent.name
    assert response["status"] == "completed", sent.name
    for item in get_list(response, "output"):
        if is_object(item) and item.get("type") == "function_call":
            assert item["name"] in str(sent.body.get("tools")), sent.name


def chunks_of(text: str) -> list[JsonObject]:
    """Return the chunks of a Chat stream."""
    lines = (line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: "))
    return [parse_object(line) for line in lines if line != "[DONE]"]


def test_a_new_profile_needs_recordings_of_its_program() -> None:
    with pytest.raises(
        AssertionError, match=r"the profile newcomer has no recordings: .*harness tape"
    ):
        recordings_of("newcomer")


def test_only_profiles_of_no_program_in_particular_go_without_recordings() -> None:
    profiles = find_profiles()
    assert {profiles[name].kind for name in UNRECORDED} == {Kind.ANY}
