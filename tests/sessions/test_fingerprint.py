"""Conversations that nobody names: one stays one, and two are never taken for one."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import TYPE_CHECKING

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codexrelay.profiles import find_profiles, recognise
from codexrelay.protocol.raw import JsonObject
from codexrelay.sessions.identity import session_key
from tests.profiles.recorded import UNRECORDED, captures_of, recordings_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from codexrelay.protocol.raw import Json
    from tests.profiles.recorded import Sent

PROGRAMS = sorted(set(find_profiles()) - set(UNRECORDED))
#: Every place of a name, of whatever program.
HEADERS = frozenset(h for p in find_profiles().values() for h in p.session_headers)
FIELDS = frozenset(f for p in find_profiles().values() for f in p.session_fields)


def nameless(sent: Sent) -> str:
    """Return the key of a request as its program would send it if it named no session."""
    headers = {name: value for name, value in sent.lower.items() if name not in HEADERS}
    body = {name: value for name, value in sent.body.items() if name not in FIELDS}
    return session_key(headers, body, recognise(sent.lower, sent.body)).text


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("source", [recordings_of, captures_of], ids=["recorded", "captured"])
def test_a_real_conversation_without_names_stays_one_and_merges_with_no_other(
    program: str, source: Callable[[str], list[Sent]]
) -> None:
    conversations = defaultdict(list)
    for sent in source(program):
        if not sent.is_title:
            conversations[sent.conversation].append(sent)
    of_opening: dict[str, set[str]] = defaultdict(set)
    for name, requests in conversations.items():
        keys = {nameless(sent) for sent in requests}
        assert len(keys) == 1, name
        of_opening[keys.pop()].add(opening(requests[0]))
    assert all(len(openings) == 1 for openings in of_opening.values())


def opening(sent: Sent) -> str:
    """Return all texts of a conversation's first request: recorded ones tell their lengths."""
    contents = [sent.body.get("instructions"), *(item.get("content") for item in sent.items)]
    return json.dumps([texts for content in contents if (texts := texts_of(content))])


def texts_of(content: Json) -> list[Json]:
    parts = content if isinstance(content, list) else [{"text": content}]
    return [part["text"] for part in parts if isinstance(part, dict) and part.get("text")]


WORDS = st.text(max_size=12) | st.sampled_from(
    ["<env>one</env>", "<env>two</env>", "Hi", "\ud83d", "[object Object]", "<b>", "a < b"]
)


@st.composite
def contents(draw: st.DrawFn) -> Json:
    """Return what a message may hold: a text, or parts of several kinds."""
    text: JsonObject = {"type": "text", "text": draw(WORDS)}
    image: JsonObject = {"type": "image_url", "image_url": {"url": draw(WORDS)}}
    return draw(st.sampled_from([draw(WORDS), [text], [text, image], [image, text, text]]))


@attrs.frozen(kw_only=True)
class Opened:
    """A conversation's first request."""

    key: str
    agent: str
    protocol: str
    system: str
    before: tuple[JsonObject, ...]
    prompt: str

    def body(self, *more: JsonObject) -> JsonObject:
        """Return the request, with a history behind the opening."""
        own: list[Json] = [*self.before, {"role": "user", "content": self.prompt}, *more]
        if self.protocol == "chat":
            return {"messages": [{"role": "system", "content": self.system}, *own]}
        return {"instructions": self.system, "input": own}

    def text(self, profile: str, *more: JsonObject) -> str:
        """Return the session's key."""
        headers = {"user-agent": self.agent, "authorization": f"Bearer {self.key}"}
        return session_key(headers, self.body(*more), find_profiles()[profile]).text


TAGGED = st.builds(
    lambda words: {"role": "user", "content": f"<reminder>{words}</reminder>"}, st.text(max_size=5)
)
OPENED = st.builds(
    Opened,
    key=st.text("abc", min_size=1, max_size=4),
    agent=st.sampled_from(["droid/1", "pi/1", "OpenAI/JS 6.26.0"]),
    protocol=st.sampled_from(["chat", "responses"]),
    system=st.text(min_size=1, max_size=8),
    before=st.lists(TAGGED, max_size=2).map(tuple),
    prompt=st.text("abcdé \n", min_size=1, max_size=8),
)
ANSWERS = st.one_of(
    st.builds(lambda content: {"role": "assistant", "content": content}, contents()),
    st.builds(lambda text: {"type": "function_call", "call_id": "c", "arguments": text}, WORDS),
    st.just({"type": "reasoning", "encrypted_content": "x"}),
    st.just({"role": "assistant", "content": None, "tool_calls": [{"id": "call_1"}]}),
)
LATER = st.lists(
    ANSWERS
    | st.builds(
        lambda role, content: {"role": role, "content": content},
        st.sampled_from(["user", "tool", "system", "developer"]),
        contents(),
    ),
    max_size=6,
)
NAMES = st.sampled_from(sorted(find_profiles()))


@given(opened=OPENED, answer=ANSWERS, later=LATER, name=NAMES)
def test_history_behind_the_first_answer_changes_no_key(
    opened: Opened, answer: JsonObject, later: list[JsonObject], name: str
) -> None:
    assert opened.text(name, answer, *later) == opened.text(name)


@given(opened=OPENED, later=LATER, name=NAMES)
def test_what_follows_the_users_first_words_without_an_answer_changes_no_key_either(
    opened: Opened, later: list[JsonObject], name: str
) -> None:
    """As after a turn that failed. Only where no tags tell whose words are whose, it has to."""
    if opened.before or not find_profiles()[name].speaks_as_user:
        assert opened.text(name, *later) == opened.text(name)


@given(one=OPENED, other=OPENED, later=LATER, name=NAMES)
def test_another_opening_is_another_session_whatever_follows(
    one: Opened, other: Opened, later: list[JsonObject], name: str
) -> None:
    # The protocol may change within a conversation.
    if attrs.evolve(one, protocol="") != attrs.evolve(other, protocol=""):
        assert one.text(name) != other.text(name)
        if later and later[0].get("role") != "user":
            assert one.text(name, *later) != other.text(name, *later)


@given(opened=OPENED, other=st.text("abcd", min_size=1, max_size=4), name=NAMES)
def test_client_key_program_system_text_and_prompt_each_tell_sessions_apart(
    opened: Opened, other: str, name: str
) -> None:
    for changed in ("key", "agent", "system", "prompt"):
        if getattr(opened, changed) != other:
            assert attrs.evolve(opened, **{changed: other}).text(name) != opened.text(name)


_REMINDER: JsonObject = {"role": "user", "content": "<system-reminder>x</system-reminder>"}
_COMPLAINT: JsonObject = {"role": "user", "content": 'Error: Your custom model "m" appears'}


@pytest.mark.parametrize("before", [[_REMINDER], [_COMPLAINT, _REMINDER]], ids=["", "complaint"])
def test_a_second_prompt_to_droid_after_a_first_that_was_not_answered_changes_no_key(
    before: list[Json],
) -> None:
    droid = find_profiles()["droid"]
    one: list[Json] = [*before, {"role": "user", "content": "one"}]
    both: list[Json] = [*one, {"role": "user", "content": "two"}]
    other: list[Json] = [*before, {"role": "user", "content": "two"}]
    key, later, another = (session_key({}, {"messages": m}, droid) for m in (one, both, other))
    assert later == key
    assert another != key


def test_conversations_in_which_nobody_has_spoken_are_told_apart_by_what_stands_first() -> None:
    def outputs(*texts: str) -> JsonObject:
        return {"input": [{"type": "function_call_output", "output": text} for text in texts]}

    assert session_key({}, outputs("a")) == session_key({}, outputs("a", "b"))
    assert session_key({}, outputs("a")) != session_key({}, outputs("b"))


def test_a_conversation_may_go_on_in_the_other_protocol() -> None:
    chat: JsonObject = {
        "messages": [
            {"role": "system", "content": "You are an agent."},
            {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
        ]
    }
    parts: Json = [{"type": "input_text", "text": "Hi"}]
    responses: JsonObject = {
        "instructions": "You are an agent.",
        "input": [{"type": "message", "role": "user", "content": parts}],
    }
    texts: JsonObject = {"instructions": "You are an agent.", "input": "Hi"}
    keys = {session_key({}, body) for body in (chat, responses, texts)}
    assert len(keys) == 1


def test_a_mark_that_a_client_moves_through_its_history_changes_no_key() -> None:
    def asked(**more: Json) -> JsonObject:
        image: JsonObject = {"type": "image_url", "image_url": {"url": "data:"}, **more}
        text: JsonObject = {"type": "text", "text": "Hi", **more}
        return {"messages": [{"role": "user", "content": [image, text]}]}

    assert session_key({}, asked(cache_control={"type": "ephemeral"})) == session_key({}, asked())


@pytest.mark.parametrize(
    "agent", ["pi (linux 6.1.0; x64)", "pi/0.74", "pi"], ids=["system", "version", "bare"]
)
def test_the_version_and_the_system_of_a_program_change_no_key(agent: str) -> None:
    asked: JsonObject = {"input": "Hi"}
    first = session_key({"user-agent": "pi (browser)"}, asked)
    assert session_key({"user-agent": agent}, asked) == first
    assert session_key({"user-agent": "pip"}, asked) != first


def test_end_users_tell_conversations_apart_that_begin_alike() -> None:
    asked: JsonObject = {"messages": [{"role": "user", "content": "Hi"}]}
    keys = {session_key({}, asked | more) for more in ({}, {"user": "1"}, {"user": "2"})}
    assert len(keys) == 3


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"messages": None},
        {"messages": "Hi"},
        {"messages": [None, 7, ["x"], {}, {"role": ["user"], "content": {"text": "x"}}]},
        {"input": {"role": "user"}},
        {"input": [[{"role": "user", "content": "x"}]], "instructions": {"a": [1]}},
        {"input": [{"role": "user", "content": [7, None, "x", {"text": 7}, {"text": None}]}]},
        {"messages": [{"role": "user", "content": "half \ud83d"}], "user": "\ud83d"},
        {"messages": [{"role": "user", "content": [{"n": 2**70}]}]},
        {"prompt_cache_key": {"k": 1}, "previous_response_id": 7},
    ],
)
@pytest.mark.parametrize("name", sorted(find_profiles()))
def test_whatever_a_body_holds_it_has_a_key(body: JsonObject, name: str) -> None:
    assert session_key({}, body, find_profiles()[name]).text.startswith("opening:")


def test_an_opening_that_is_nested_too_deeply_is_a_value_error() -> None:
    nested: Json = "x"
    for _ in range(3000):
        nested = [nested]
    with pytest.raises(ValueError, match="cannot be written"):
        session_key({}, {"messages": [{"role": "user", "content": [{"type": "x", "x": nested}]}]})
