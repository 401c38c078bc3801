"""Reactors see every call, may refuse one, and keep secrets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import orjson
import pytest
from structlog.testing import capture_logs

from codexrelay.protocol import chat_request
from codexrelay.protocol.call_filter import (
    CallFilter,
    FilteredStream,
    Keep,
    Rename,
    Say,
    ToolCall,
    chain,
)
from codexrelay.protocol.chat_stream import ChatStream
from codexrelay.protocol.responses_stream import ResponsesStream
from codexrelay.protocol.tool_text import decide_as_text, render
from codexrelay.relay.reactors import deciding, find_reactors
from tests.fakes import responses_events as upstream
from tests.fakes.chat_client import ChatClient

if TYPE_CHECKING:
    from codexrelay.protocol.answer import StreamedAnswer
    from codexrelay.protocol.call_filter import Decision
    from codexrelay.relay.reactors.reactor import ToolCallReactor

REMOVE = ToolCall(call_id="call_1", name="shell", arguments='{"command":["rm","-r","/"]}')
LIST = ToolCall(call_id="call_2", name="shell", arguments='{"command":["ls"]}')
PATCH = ToolCall(call_id="call_3", name="apply_patch", arguments="*** secret", custom=True)
EVERY_KIND = (REMOVE, LIST, PATCH, ToolCall(call_id="", name="", arguments="", namespace="n"))
REFUSED = "[The relay's reactor guard refused the tool call shell (call_1), which was not run: no]"


@attrs.define(eq=False)
class Guard:
    """Refuses calls that remove things; remembers what it saw."""

    name: str = "guard"
    may_veto: bool = True
    reason: str = "no"
    seen: list[ToolCall] = attrs.field(factory=list)

    def observe(self, call: ToolCall) -> None:
        self.seen.append(call)

    def veto(self, call: ToolCall) -> str | None:
        return self.reason if '"rm"' in call.arguments else None


def chat() -> ChatStream:
    body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "stream": True}
    turn = chat_request.translate(body, recall=lambda _: ())
    return ChatStream(turn, completion_id="c", created_unix_s=1, now_unix_s=1.0)


def responses() -> ResponsesStream:
    return ResponsesStream(now_unix_s=1.0, model="m", created_unix_s=1)


def guarded(answer: StreamedAnswer, *reactors: ToolCallReactor) -> FilteredStream:
    decide, observe_only = deciding(reactors)
    return FilteredStream(answer, CallFilter(decide, observe_only=observe_only))


def a_turn_with(*calls: ToolCall) -> list[bytes]:
    return [
        upstream.created(),
        *(
            upstream.call(i, upstream.function(call.name, call.call_id), call.arguments)
            for i, call in enumerate(calls)
        ),
        upstream.completed(),
    ]


# --- every reactor there is


def test_the_one_that_is_built_in_is_found_by_its_name() -> None:
    assert find_reactors()["log"].name == "log"


@pytest.mark.parametrize("name", sorted(find_reactors()))
def test_every_reactor_keeps_the_promises_of_the_seam(name: str) -> None:
    reactor = find_reactors()[name]
    assert reactor.name == name
    for call in EVERY_KIND:
        reactor.observe(call)
        reason = reactor.veto(call)
        assert reason is None or reason.strip()
        assert reason is None or reactor.may_veto


# --- log


def test_the_log_names_each_call_and_only_the_size_of_its_arguments() -> None:
    with capture_logs() as logged:
        answer = guarded(responses(), find_reactors()["log"])
        stream = a_turn_with(REMOVE, LIST)
        out = [answer.feed(block) for block in stream[:-1]]
    assert logged == [
        {
            "event": "tool call",
            "log_level": "info",
            "tool": call.name,
            "call": call.call_id,
            "arguments_characters": len(call.arguments),
        }
        for call in (REMOVE, LIST)
    ]
    assert out == stream[:-1]


# --- vetoes


def test_a_refused_call_is_told_to_a_chat_client_as_text() -> None:
    answer, client = guarded(chat(), Guard()), ChatClient()
    for block in a_turn_with(REMOVE):
        client.read(answer.feed(block))
    assert client.content == f"{REFUSED}\n"
    assert (client.calls, client.finish_reason) == ([], "stop")


def test_a_refused_call_is_told_to_a_responses_client_as_a_message() -> None:
    answer = guarded(responses(), Guard())
    out = b"".join(map(answer.feed, a_turn_with(REMOVE)))
    assert b"function_call" not in out
    last = orjson.loads(out.rpartition(b"data: ")[2])
    [message] = last["response"]["output"]
    assert message["content"][0]["text"] == f"{REFUSED}\n"


def test_the_other_calls_of_the_answer_pass() -> None:
    answer, client = guarded(chat(), Guard()), ChatClient()
    for block in a_turn_with(REMOVE, LIST):
        client.read(answer.feed(block))
    [call] = client.calls
    assert call["function"] == {"name": "shell", "arguments": LIST.arguments}
    assert client.finish_reason == "tool_calls"


def test_the_first_of_two_that_refuse_is_heard_and_all_have_seen_the_call() -> None:
    first, second = Guard(), Guard(name="second", reason="never")
    third = Guard(name="third", may_veto=False)
    decide, observe_only = deciding([first, second, third])
    assert not observe_only
    assert decide(REMOVE) == Say(REFUSED, apart=True)
    assert first.seen == second.seen == third.seen == [REMOVE]


def test_one_that_only_observes_is_never_asked_and_holds_nothing_back() -> None:
    watcher = Guard(may_veto=False)
    decide, observe_only = deciding([watcher])
    assert observe_only
    assert decide(REMOVE) == Keep()
    assert watcher.seen == [REMOVE]


def test_half_a_call_passes_no_reactor_that_may_refuse_it() -> None:
    item = upstream.function("shell", "call_1")
    half = [
        upstream.created(),
        upstream.added(0, **item),
        upstream.arguments('{"command":["rm"', 0),
    ]
    listed = item | {"arguments": '{"command":["rm"'}
    for end in (
        upstream.incomplete("max_output_tokens"),
        upstream.event("response.incomplete", response={"output": [listed]}),
        upstream.completed(),
        upstream.completed(output=[listed | {"status": "incomplete"}]),
        upstream.failed("server_error", "no"),
    ):
        for inner in (chat(), responses()):
            guard = Guard()
            answer = guarded(inner, guard)
            out = b"".join(map(answer.feed, [*half, end]))
            assert b"rm" not in out
            assert b"call" not in out.replace(b"inside a tool call", b"")
            assert guard.seen == []
            assert answer.terminal is not None


# --- reactors that fail


@attrs.define(eq=False)
class Broken(Guard):
    """Fails wherever it is told to."""

    name: str = "broken"
    fails_at: str = "observe"

    def observe(self, call: ToolCall) -> None:
        if self.fails_at == "observe":
            raise RuntimeError("cannot look")
        self.seen.append(call)

    def veto(self, call: ToolCall) -> str | None:
        if self.fails_at == "veto":
            raise RuntimeError("cannot judge")
        return None


@pytest.mark.parametrize("fails_at", ["observe", "veto"])
def test_a_judge_that_fails_refuses_the_call_and_the_turn_goes_on(fails_at: str) -> None:
    answer, client = guarded(chat(), Broken(fails_at=fails_at)), ChatClient()
    with capture_logs() as logged:
        for block in a_turn_with(LIST):
            client.read(answer.feed(block))
    assert client.content == (
        "[The relay's reactor broken failed; the tool call shell (call_2) was not shown and not "
        "run]\n"
    )
    assert (client.calls, client.finish_reason) == ([], "stop")
    [line] = logged
    assert (line["reactor"], line["call"], line["log_level"]) == ("broken", "call_2", "error")


def test_an_observer_that_fails_hides_nothing_from_the_client_or_the_others() -> None:
    last = Guard(may_veto=False)
    answer = guarded(chat(), Broken(may_veto=False), last)
    client = ChatClient()
    with capture_logs() as logged:
        for block in a_turn_with(LIST):
            client.read(answer.feed(block))
    assert [call["id"] for call in client.calls] == ["call_2"]
    assert last.seen == [LIST]
    assert [line["reactor"] for line in logged] == ["broken"]


# --- with what else is wanted of calls


def adapted(call: ToolCall) -> Decision:
    return Rename("bash", '{"command":"ls"}') if call.name == "shell" else Keep()


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (REMOVE, REFUSED),
        (LIST, render("xml", attrs.evolve(LIST, name="bash", arguments='{"command":"ls"}'))),
        (PATCH, render("xml", PATCH)),
    ],
    ids=["refused", "renamed and rendered", "rendered"],
)
def test_a_refusal_comes_before_a_renaming_and_text_comes_last(call: ToolCall, text: str) -> None:
    guard = Guard()
    decide, _ = deciding([guard])
    said = chain(decide, adapted, decide_as_text("xml"))(call)
    assert said == Say(text, apart=True, is_call=call is not REMOVE)
    assert guard.seen == [call]
