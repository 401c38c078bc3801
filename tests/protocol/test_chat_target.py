"""A Responses request says the same to a target that speaks only Chat."""

from __future__ import annotations

import base64
import copy
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codexrelay.errors import RequestError
from codexrelay.protocol.chat_source import ChatToResponses
from codexrelay.protocol.chat_target import ChatTarget, as_chat
from codexrelay.protocol.responses_request import shape
from codexrelay.protocol.target_tools import TargetTools
from tests.fakes import chat_chunks as upstream
from tests.fakes.recordings import captured_requests
from tests.fakes.responses_client import ResponsesClient
from tests.profiles.recorded import all_recordings

if TYPE_CHECKING:
    from codexrelay.protocol.raw import Json, JsonObject

PARAMETERS = {"type": "object", "properties": {"a": {"type": "integer"}}}
LS = {"type": "function", "name": "ls", "description": "List", "parameters": PARAMETERS}
PATCH = {
    "type": "custom",
    "name": "apply_patch",
    "description": "Patch",
    "format": {"type": "grammar", "syntax": "lark", "definition": "start: PATCH"},
}


def target(input: Json, **fields: Json) -> ChatTarget:
    return as_chat({"model": "qwen3", "input": input, **fields})


def messages(input: Json, **fields: Json) -> list[Any]:
    told: Any = target(input, **fields).body["messages"]
    return told


def call(call_id: str, name: str = "ls", arguments: str = "{}", **more: str) -> dict[str, Any]:
    item = {"type": "function_call", "call_id": call_id, "name": name, "arguments": arguments}
    return item | more


def custom(call_id: str, text: str, name: str = "apply_patch") -> dict[str, Any]:
    return {"type": "custom_tool_call", "call_id": call_id, "name": name, "input": text}


def output(call_id: str, told: Json = "ok", kind: str = "function_call") -> dict[str, Any]:
    return {"type": f"{kind}_output", "call_id": call_id, "output": told}


def said(role: str, *parts: str) -> dict[str, Any]:
    kind = "output_text" if role == "assistant" else "input_text"
    content = [{"type": kind, "text": part} for part in parts]
    return {"type": "message", "role": role, "content": content}


def tool_call(call_id: str, name: str = "ls", arguments: str = "{}") -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return {"id": call_id, "type": "function", "function": function}


def called(*calls: dict[str, Any], content: str | None = None) -> dict[str, Any]:
    return {"role": "assistant", "content": content, "tool_calls": [*calls]}


def result(call_id: str, text: str = "ok") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": text}


USER = {"role": "user", "content": "Hi"}
NO_RESULT = result("c1", "(no result: the call was cut short)")

HISTORIES: dict[str, tuple[Any, list[Any]]] = {
    "a text": ("Hi", [USER]),
    "a short message": ([{"role": "user", "content": "Hi"}], [USER]),
    "parts of text": ([said("user", "a", "b")], [{"role": "user", "content": "a\nb"}]),
    "system text at the head": (
        [said("system", "A"), said("developer", "B", "C"), said("user", "Hi")],
        [{"role": "system", "content": "A\n\nB\nC"}, USER],
    ),
    "system text later": (
        [said("user", "Hi"), said("developer", "Be brief")],
        [USER, {"role": "user", "content": "(developer message)\nBe brief"}],
    ),
    "what was said and called in one go": (
        [
            said("user", "Hi"),
            said("assistant", "I look."),
            call("c1"),
            call("c2"),
            output("c2", "two"),
            output("c1", "one"),
            said("assistant", "Done."),
        ],
        [
            USER,
            called(tool_call("c1"), tool_call("c2"), content="I look."),
            result("c1", "one"),
            result("c2", "two"),
            {"role": "assistant", "content": "Done."},
        ],
    ),
    "one call after the other": (
        [call("c1"), output("c1"), call("c2"), output("c2")],
        [called(tool_call("c1")), result("c1"), called(tool_call("c2")), result("c2")],
    ),
    "text behind a call": (
        [call("c1"), said("assistant", "Wait"), output("c1")],
        [called(tool_call("c1"), content="Wait"), result("c1")],
    ),
    "a result that comes late": (
        [call("c1"), said("user", "Hi"), output("c1")],
        [called(tool_call("c1")), result("c1"), USER],
    ),
    "a call without a result": (
        [call("c1"), said("user", "Hi")],
        [called(tool_call("c1")), NO_RESULT, USER],
    ),
    "an id that is used again": (
        [call("c1"), output("c1", "one"), call("c1"), output("c1", "two")],
        [
            called(tool_call("c1")),
            result("c1", "one"),
            called(tool_call("c1")),
            result("c1", "two"),
        ],
    ),
    "an id that is used twice at once": (
        [call("c1"), call("c1", "cat"), output("c1")],
        [called(tool_call("c1")), NO_RESULT, called(tool_call("c1", "cat")), result("c1")],
    ),
    "reasoning between": (
        [
            {"type": "reasoning", "encrypted_content": "x", "summary": []},
            said("assistant", "I look."),
            {"type": "reasoning", "id": "rs_1", "summary": []},
            call("c1"),
            output("c1"),
        ],
        [called(tool_call("c1"), content="I look."), result("c1")],
    ),
    "raw text": (
        [custom("c1", '"ą"\n'), output("c1", kind="custom_tool_call")],
        [called(tool_call("c1", "apply_patch", '{"input":"\\"ą\\"\\n"}')), result("c1")],
    ),
    "arguments that no server could read": (
        [call("c1", arguments=""), call("c2", arguments='{"a'), call("c3", arguments="[1]")],
        [
            called(
                tool_call("c1", arguments="{}"),
                tool_call("c2", arguments='{"input":"{\\"a"}'),
                tool_call("c3", arguments='{"input":"[1]"}'),
            ),
            NO_RESULT,
            NO_RESULT | {"tool_call_id": "c2"},
            NO_RESULT | {"tool_call_id": "c3"},
        ],
    ),
    "a result in parts": (
        [call("c1"), output("c1", [{"type": "input_text", "text": t} for t in "ab"])],
        [called(tool_call("c1")), result("c1", "a\nb")],
    ),
    "a result of nothing": (
        [call("c1"), output("c1", None)],
        [called(tool_call("c1")), result("c1", "")],
    ),
    "a result of another form": (
        [call("c1"), output("c1", {"ok": True}), call("c2"), output("c2", [{"type": "x"}])],
        [
            called(tool_call("c1")),
            result("c1", '{"ok":true}'),
            called(tool_call("c2")),
            result("c2", '{"type":"x"}'),
        ],
    ),
    "a result with an image": (
        [
            call("c1"),
            call("c2"),
            output("c1", [{"type": "input_image", "image_url": "data:x", "detail": "original"}]),
            output("c2"),
        ],
        [
            called(tool_call("c1"), tool_call("c2")),
            result("c1", "(1 more: see the message behind the results)"),
            result("c2"),
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "(shown by the call c1)"},
                    {"type": "image_url", "image_url": {"url": "data:x"}},
                ],
            },
        ],
    ),
    "a call of another kind": (
        [
            {
                "type": "local_shell_call",
                "id": "ls_1",
                "call_id": "c1",
                "status": "completed",
                "action": {"type": "exec", "command": ["ls"]},
            },
            output("c1", kind="local_shell_call"),
            {"type": "shell_call", "call_id": "c2", "action": {"commands": ["ls"]}},
            {"type": "shell_call_output", "call_id": "c2", "output": [{"stdout": "a"}]},
        ],
        [
            called(tool_call("c1", "local_shell", '{"action":{"type":"exec","command":["ls"]}}')),
            result("c1"),
            called(tool_call("c2", "shell", '{"action":{"commands":["ls"]}}')),
            result("c2", '[{"stdout":"a"}]'),
        ],
    ),
    "images and sound of the user": (
        [
            {
                "role": "user",
                "content": [
                    {"type": "input_text", "text": "Look"},
                    {"type": "input_image", "image_url": "https://x/y.png", "detail": "high"},
                    {"type": "input_audio", "input_audio": {"data": "x", "format": "wav"}},
                ],
            }
        ],
        [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Look"},
                    {
                        "type": "image_url",
                        "image_url": {"url": "https://x/y.png", "detail": "high"},
                    },
                    {"type": "input_audio", "input_audio": {"data": "x", "format": "wav"}},
                ],
            }
        ],
    ),
    "a refusal of the assistant": (
        [{"role": "assistant", "content": [{"type": "refusal", "refusal": "No"}]}],
        [{"role": "assistant", "content": "No"}],
    ),
    "what another backend has compacted": (
        [{"type": "compaction", "encrypted_content": "x"}, said("user", "Hi")],
        [
            {
                "role": "user",
                "content": "(What came before this is known only to another backend, which has "
                "compacted it.)",
            },
            USER,
        ],
    ),
}


@pytest.mark.parametrize("name", HISTORIES)
def test_the_conversation_is_told(name: str) -> None:
    items, expected = HISTORIES[name]
    kept = copy.deepcopy(items)
    assert messages(items) == expected
    assert items == kept, "the client's body was changed"


def test_instructions_come_first() -> None:
    assert messages([said("developer", "B"), said("user", "Hi")], instructions="A") == [
        {"role": "system", "content": "A\n\nB"},
        USER,
    ]


def test_a_file_that_is_text_is_said_as_text() -> None:
    data = base64.b64encode("zażółć".encode()).decode()
    part = {
        "type": "input_file",
        "filename": "a.txt",
        "file_data": f"data:text/plain;base64,{data}",
    }
    assert messages([{"role": "user", "content": [part]}]) == [
        {"role": "user", "content": "a.txt:\nzażółć"}
    ]


def test_everything_that_is_left_out_is_named() -> None:
    told = target(
        [
            {"type": "reasoning", "summary": []},
            {"type": "reasoning", "summary": []},
            {"type": "web_search_call", "id": "ws_1", "action": {}},
            {"type": "item_reference", "id": "msg_1"},
            {"type": "compaction_summary", "encrypted_content": "x"},
            said("user", "Hi"),
        ],
        store=True,
        include=["reasoning.encrypted_content"],
        prompt_cache_key="k",
        truncation="auto",
        text={"verbosity": "low"},
        reasoning={"effort": "high", "summary": "auto"},
        tools=[LS, {"type": "web_search"}, {"type": "web_search"}],
        tool_choice={"type": "web_search"},
    )
    assert told.dropped == (
        "store",
        "include",
        "prompt_cache_key",
        "truncation",
        "text.verbosity",
        "reasoning.summary",
        "tools[].web_search",
        "tool_choice.web_search",
        "input[].reasoning",
        "input[].web_search_call",
        "input[].item_reference",
        "input[].compaction_summary",
    )


def test_what_is_put_in_is_named() -> None:
    assert target([call("c1"), said("developer", "x")]).changes == (
        "input[1].role: user instead of developer",
        "input[].c1: with a result that says that there is none",
    )


def test_fields_that_chat_has_arrive() -> None:
    told = target(
        "Hi",
        max_output_tokens=100,
        temperature=0.5,
        top_p=0.9,
        top_k=40,
        seed=1,
        stop=["x"],
        user="u",
        reasoning={"effort": "low"},
        text={"format": {"type": "json_schema", "name": "s", "schema": {}, "strict": True}},
        stream=True,
        store=False,
        metadata={},
    )
    assert told.body == {
        "model": "qwen3",
        "messages": [USER],
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "s", "schema": {}, "strict": True},
        },
        "reasoning_effort": "low",
        "max_tokens": 100,
        "temperature": 0.5,
        "top_p": 0.9,
        "stop": ["x"],
        "seed": 1,
        "user": "u",
        "top_k": 40,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert told.stream
    assert told.dropped == ()


def test_a_client_that_wants_no_stream_is_remembered() -> None:
    told = target("Hi")
    assert not told.stream
    assert told.body["stream"] is True


@pytest.mark.parametrize(
    ("shape", "expected"),
    [(None, None), ({"type": "text"}, None), ({"type": "json_object"}, {"type": "json_object"})],
)
def test_the_form_of_the_answer(shape: Json, expected: Json) -> None:
    assert target("Hi", text={"format": shape}).body.get("response_format") == expected


# --- tools


def test_tools_get_chats_form() -> None:
    told = target("Hi", tools=[LS | {"strict": False}, PATCH, {"type": "function", "name": "f"}])
    ls, patch, bare = (tool["function"] for tool in told.body["tools"])
    assert ls == {
        "name": "ls",
        "description": "List",
        "parameters": PARAMETERS,
        "strict": False,
    }
    assert patch["name"] == "apply_patch"
    assert "start: PATCH" in patch["description"]
    assert patch["parameters"]["required"] == ["input"]
    assert bare == {"name": "f", "parameters": {"type": "object", "properties": {}}}


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, None),
        ("auto", "auto"),
        ("required", "required"),
        ({"type": "function", "name": "ls"}, {"type": "function", "function": {"name": "ls"}}),
        (
            {"type": "custom", "name": "apply_patch"},
            {"type": "function", "function": {"name": "apply_patch"}},
        ),
        ({"type": "web_search"}, None),
    ],
)
def test_a_choice_gets_chats_form(choice: Json, expected: Json) -> None:
    assert target("Hi", tools=[LS, PATCH], tool_choice=choice).body.get("tool_choice") == expected


def test_allowed_tools_are_the_only_ones_that_are_offered() -> None:
    allowed = [{"type": "function", "name": "ls"}, {"type": "web_search"}]
    choice = {"type": "allowed_tools", "mode": "required", "tools": allowed}
    told = target("Hi", tools=[PATCH, LS], tool_choice=choice)
    assert [tool["function"]["name"] for tool in told.body["tools"]] == ["ls"]
    assert told.body["tool_choice"] == "required"
    assert told.dropped == ("tool_choice.tools[].web_search",)


def test_without_tools_nothing_is_said_of_them() -> None:
    told = target("Hi", tools=[], tool_choice="auto", parallel_tool_calls=True)
    assert not {"tools", "tool_choice", "parallel_tool_calls"} & set(told.body)


def names(told: ChatTarget) -> list[str]:
    return [tool["function"]["name"] for tool in told.body["tools"]]


def test_tools_in_namespaces_and_in_the_input_stand_beside_the_others() -> None:
    inner = [{"type": "function", "name": name} for name in ("ls", "wait")]
    lite = {
        "type": "additional_tools",
        "role": "developer",
        "tools": [{"type": "namespace", "name": "agents", "tools": inner}],
    }
    told = target([lite, call("c1", "ls", namespace="agents")], tools=[LS])
    assert names(told) == ["ls", "agents__ls", "wait"]
    assert messages([lite, call("c1", "ls", namespace="agents"), call("c2")], tools=[LS])[0] == (
        called(tool_call("c1", "agents__ls"), tool_call("c2"))
    )


def namespace(name: str, *tools: str) -> dict[str, Any]:
    inner = [{"type": "function", "name": tool} for tool in tools]
    return {"type": "namespace", "name": name, "tools": inner}


def test_a_call_without_a_namespace_is_of_the_namespace_that_needs_none() -> None:
    told = target("Hi", tools=[namespace("agents", "wait"), namespace("functions", "wait")])
    assert names(told) == ["wait", "functions__wait"]
    assert told.tools.name_of("wait", None) == "functions__wait"
    assert told.tools.name_of("wait", "functions") == "functions__wait"
    assert told.tools.name_of("wait", "agents") == "wait"


def test_no_two_tools_have_one_name() -> None:
    told = target("Hi", tools=[LS, LS | {"name": "agents__ls"}, namespace("agents", "ls")])
    sent = names(told)
    assert len(set(sent)) == 3
    assert [told.tools.known_as(name).name for name in sent] == ["ls", "agents__ls", "ls"]


ODD = ["mcp.server/find", "a b", "x" * 65, "ünïcode", "a_b", "a.b"]


def test_names_that_servers_refuse_are_replaced_and_come_back() -> None:
    told = target("Hi", tools=[{"type": "function", "name": name} for name in ODD])
    sent = names(told)
    assert len(set(sent)) == len(ODD)
    assert all(len(name) <= 64 and name.replace("-", "_").isidentifier() for name in sent)
    assert all(name.isascii() for name in sent)
    assert [told.tools.known_as(name).name for name in sent] == ODD
    assert [told.tools.name_of(name, None) for name in ODD] == sent


def test_a_tool_of_history_keeps_its_name_when_it_is_offered_no_more() -> None:
    [asked, _] = messages([call("c1", "mcp.find")])
    offered = names(target("Hi", tools=[{"type": "function", "name": "mcp.find"}]))
    assert [asked["tool_calls"][0]["function"]["name"]] == offered


# --- refused


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        ({"input": "Hi"}, "model", "missing_required_parameter"),
        ({"model": "m"}, "input", "missing_required_parameter"),
        (
            {"model": "m", "input": "Hi", "previous_response_id": "resp_1"},
            "previous_response_id",
            "previous_response_not_found",
        ),
        (
            {"model": "m", "input": "Hi", "conversation": "conv_1"},
            "conversation",
            "unsupported_parameter",
        ),
        ({"model": "m", "input": []}, "input", "invalid_value"),
        (
            {"model": "m", "input": [{"type": "compaction_trigger"}]},
            "input[0]",
            "unsupported_value",
        ),
        ({"model": "m", "input": [output("c9")]}, "input[0].call_id", "invalid_value"),
        (
            {"model": "m", "input": [{"role": "critic", "content": "x"}]},
            "input[0].role",
            "unsupported_value",
        ),
        (
            {
                "model": "m",
                "input": [{"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}],
            },
            "input[0].content[0]",
            "unsupported_value",
        ),
        (
            {"model": "m", "input": [{"role": "user", "content": [{"type": "input_video"}]}]},
            "input[0].content[0]",
            "unsupported_value",
        ),
        (
            {"model": "m", "input": "Hi", "tool_choice": {"type": "function", "name": "rm"}},
            "tool_choice.name",
            "invalid_value",
        ),
        (
            {"model": "m", "input": "Hi", "tools": [{"type": "function"}]},
            "tools[0].name",
            "missing_required_parameter",
        ),
        (
            {"model": "m", "input": "Hi", "text": {"format": {"type": "grammar"}}},
            "text.format.type",
            "unsupported_value",
        ),
    ],
)
def test_what_cannot_be_said_is_refused(body: JsonObject, param: str, code: str) -> None:
    with pytest.raises(RequestError) as caught:
        as_chat(body)
    assert (caught.value.param, caught.value.code) == (param, code)
    assert caught.value.status == 400


# --- what real clients send


def requests() -> dict[str, Any]:
    """The recorded requests of the real programs that speak Responses."""
    return {sent.name: sent.body for sent in all_recordings() if "input" in sent.body}


def assert_nothing_is_lost(body: dict[str, Any], name: str) -> None:
    told = as_chat(body)
    items = body["input"] if isinstance(body["input"], list) else []
    given = [item["call_id"] for item in items if item.get("type", "").endswith("_call")]
    answered = [item["call_id"] for item in items if item.get("type", "").endswith("_output")]
    sent: Any = told.body["messages"]
    assert [c["id"] for m in sent for c in m.get("tool_calls", [])] == given, name
    assert sorted(m["tool_call_id"] for m in sent if m["role"] == "tool") == sorted(answered), name
    assert [m["role"] for m in sent].count("system") <= 1
    offered = {tool.name for tool in told.tools.by_name.values()}
    for item in items:
        if item.get("type") in ("function_call", "custom_tool_call"):
            assert item["name"] in offered, name


def test_requests_of_real_programs_lose_no_call() -> None:
    bodies = requests()
    assert len(bodies) > 20
    for name, body in bodies.items():
        assert_nothing_is_lost(body, name)


def test_captured_requests_lose_no_call() -> None:
    for name, captured in captured_requests().items():
        assert_nothing_is_lost(captured["body"], name)


# --- there and back

inputs = st.text(max_size=20)


@given(texts=st.lists(inputs, min_size=1, max_size=3))
def test_a_call_comes_back_as_it_was_made(texts: list[str]) -> None:
    """The target repeats the calls of the history; the client hears what it had sent."""
    calls = [custom(f"c{i}", text) for i, text in enumerate(texts)]
    calls.append(call("f1", "agents.find", json.dumps({"a": texts[0]})))
    tools = [PATCH, {"type": "function", "name": "agents.find"}]
    told = target(calls, tools=tools)
    [asked, *_] = told.body["messages"]
    reader, client = (
        ChatToResponses(told.tools, response_id="resp_1", model="m", created_unix_s=1),
        ResponsesClient(),
    )
    for i, entry in enumerate(asked["tool_calls"]):
        client.read(reader.feed(upstream.call(index=i, id=entry["id"], **entry["function"])))
    client.read(reader.feed(upstream.finish("tool_calls") + upstream.DONE))
    assert [
        {key: value for key, value in item.items() if key not in ("id", "status")}
        for item in client.output
    ] == calls


def test_the_answer_of_one_turn_is_the_history_of_the_next() -> None:
    told = target("Hi", tools=[LS])
    reader = ChatToResponses(told.tools, response_id="resp_1", model="m", created_unix_s=1)
    client = ResponsesClient()
    for block in (
        upstream.thought("Hm"),
        upstream.text("I look."),
        upstream.opened(0, "c1", "ls", "{}"),
        upstream.finish("tool_calls"),
        upstream.DONE,
    ):
        client.read(reader.feed(block))
    history = [said("user", "Hi"), *client.output, output("c1", "a.txt")]
    assert messages(history, tools=[LS]) == [
        USER,
        called(tool_call("c1"), content="I look."),
        result("c1", "a.txt"),
    ]


@pytest.mark.parametrize("codex", [False, True], ids=["another client", "codex"])
def test_such_an_answer_can_be_sent_on_to_the_codex_backend(*, codex: bool) -> None:
    reader = ChatToResponses(TargetTools(), response_id="resp_1", model="m", created_unix_s=1)
    client = ResponsesClient()
    for block in (
        upstream.thought("Hm"),
        upstream.text("I look."),
        upstream.opened(0, "c1", "ls", "{}"),
        upstream.finish("tool_calls"),
        upstream.DONE,
    ):
        client.read(reader.feed(block))
    body = {"model": "gpt-5.5", "input": [*client.output, output("c1")]}
    sent = shape(body, session_cache_key=None, codex_shaped=codex).body["input"]
    assert [item["type"] for item in sent] == ["message", "function_call", "function_call_output"]
    assert not any("id" in item for item in sent)
