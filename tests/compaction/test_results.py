"""Results of tools in both dialects are found with their calls, and their texts are replaced."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codexrelay.compaction.calls import Call
from codexrelay.compaction.results import Result, results_of, with_texts
from tests.compaction.written import chat, outputs, responses

if TYPE_CHECKING:
    from collections.abc import Callable

    from codexrelay.protocol.raw import Json, JsonObject

IMAGE: JsonObject = {"type": "input_image", "image_url": "data:image/png;base64,AAAA"}


def calls_and_texts(body: JsonObject) -> list[tuple[str, Json, tuple[str, ...]]]:
    return [(one.call.name, one.call.arguments, one.texts) for one in results_of(body)]


@pytest.mark.parametrize("written", [chat, responses])
def test_a_result_is_found_with_its_call(written: Callable[..., JsonObject]) -> None:
    body = written(("read", {"path": "a"}, "one"), ("bash", {"command": "ls"}, "two"))
    assert calls_and_texts(body) == [
        ("read", {"path": "a"}, ("one",)),
        ("bash", {"command": "ls"}, ("two",)),
    ]


def items(*given: JsonObject) -> JsonObject:
    return {"model": "m", "input": list(given)}


@pytest.mark.parametrize(
    ("call", "output", "expected"),
    [
        (
            {"type": "custom_tool_call", "call_id": "1", "name": "exec", "input": "text(1)"},
            {
                "type": "custom_tool_call_output",
                "call_id": "1",
                "output": [
                    {"type": "input_text", "text": "a"},
                    {"type": "input_text", "text": "b"},
                ],
            },
            ("exec", "text(1)", ("a", "b")),
        ),
        (
            {"type": "local_shell_call", "call_id": "1", "action": {"command": ["ls"]}},
            {"type": "function_call_output", "call_id": "1", "output": "a"},
            ("local_shell", {"command": ["ls"]}, ("a",)),
        ),
        (
            {"type": "local_shell_call", "id": "1", "action": {"command": ["ls"]}},
            {"type": "local_shell_call_output", "id": "1", "output": "a"},
            ("local_shell", {"command": ["ls"]}, ("a",)),
        ),
        (
            {"type": "shell_call", "call_id": "1", "action": {"commands": ["ls"]}},
            {
                "type": "shell_call_output",
                "call_id": "1",
                "output": [{"stdout": "a", "stderr": "b", "outcome": {"type": "exit"}}],
            },
            ("shell", {"commands": ["ls"]}, ("a", "b")),
        ),
        (
            {"type": "apply_patch_call", "call_id": "1", "operation": {"path": "a"}},
            {"type": "apply_patch_call_output", "call_id": "1", "output": "done"},
            ("apply_patch", {"path": "a"}, ("done",)),
        ),
        (
            {"type": "function_call", "call_id": "1", "name": "x", "arguments": "{broken"},
            {"type": "function_call_output", "call_id": "1", "output": ["a", IMAGE]},
            ("x", "{broken", ("a",)),
        ),
    ],
    ids=["custom", "local shell", "local shell by id", "shell", "patch", "parts"],
)
def test_each_kind_of_call_is_found_in_responses(
    call: JsonObject, output: JsonObject, expected: tuple[str, Json, tuple[str, ...]]
) -> None:
    assert calls_and_texts(items(call, output)) == [expected]


def test_custom_calls_and_the_old_functions_are_found_in_chat() -> None:
    body: JsonObject = {
        "messages": [
            {
                "role": "assistant",
                "tool_calls": [
                    {"id": "1", "type": "custom", "custom": {"name": "exec", "input": "text(1)"}}
                ],
            },
            {"role": "tool", "tool_call_id": "1", "content": [{"type": "text", "text": "a"}]},
            {"role": "assistant", "function_call": {"name": "ls", "arguments": "{}"}},
            {"role": "function", "name": "ls", "content": "b"},
        ]
    }
    assert calls_and_texts(body) == [("exec", "text(1)", ("a",)), ("ls", {}, ("b",))]


def test_a_namespace_is_part_of_the_call() -> None:
    body = items(
        {
            "type": "function_call",
            "call_id": "1",
            "name": "list",
            "namespace": "crm",
            "arguments": "",
        },
        {"type": "function_call_output", "call_id": "1", "output": "a"},
    )
    assert results_of(body)[0].call == Call(id="1", name="list", arguments="", namespace="crm")


def test_an_id_that_is_used_again_means_the_last_call_before_the_result() -> None:
    body = responses(("read", {"path": "a"}, "one"), ("read", {"path": "b"}, "two"))
    for item in body["input"]:
        if "call_id" in item:
            item["call_id"] = "call_0"
    assert [one.call.arguments for one in results_of(body)] == [{"path": "a"}, {"path": "b"}]
    assert not any(one.further for one in results_of(body))


def test_a_second_result_of_one_call_is_known_as_a_further_one() -> None:
    body = responses(("exec", {}, "part"))
    body["input"].append({**body["input"][-1], "output": "more"})
    assert [(one.texts, one.further) for one in results_of(body)] == [
        (("part",), False),
        (("more",), True),
    ]


def test_a_result_without_a_known_call_has_one_without_a_name() -> None:
    body = responses(("read", {"path": "a"}, "one"))
    body["input"].append({"type": "function_call_output", "call_id": "gone", "output": "a"})
    unknown = Call(id="gone", name="", arguments=None)
    assert results_of(body)[1] == Result(place=4, call=unknown, texts=("a",))


def test_a_call_that_comes_after_its_result_is_not_known() -> None:
    body = responses(("read", {"path": "a"}, "one"))
    body["input"].reverse()
    assert [one.call.name for one in results_of(body)] == [""]


@pytest.mark.parametrize(
    "item",
    [
        {"type": "compaction", "encrypted_content": "x"},
        {"type": "compaction_trigger"},
        {"type": "compaction_summary", "encrypted_content": "x", "output": "text"},
        {"type": "tool_search_output", "call_id": "1", "tools": [], "output": "text"},
        {"type": "mcp_call", "id": "1", "output": "text"},
        {"type": "computer_call_output", "call_id": "1", "output": {"image_url": "x"}},
        {"type": "message", "role": "user", "content": "text"},
    ],
    ids=lambda item: item["type"],
)
def test_what_is_no_result_of_the_clients_tools_is_none(item: JsonObject) -> None:
    assert results_of(items(item)) == ()


@pytest.mark.parametrize("written", [chat, responses])
def test_texts_are_replaced_and_nothing_that_was_given_is_changed(
    written: Callable[..., JsonObject],
) -> None:
    body = written(("read", {"path": "a"}, "one"), ("read", {"path": "b"}, "two"))
    before = copy.deepcopy(body)
    first, second = results_of(body)
    new = with_texts(body, {second.place: ("new",)})
    assert body == before
    assert outputs(new) == [("one",), ("new",)]
    key = "input" if "input" in body else "messages"
    assert all(
        now is then
        for place, (now, then) in enumerate(zip(new[key], body[key], strict=True))
        if place != second.place
    )
    assert first.place < second.place


def test_no_texts_give_the_very_same_body() -> None:
    body = chat(("read", {"path": "a"}, "one"))
    assert with_texts(body, {}) is body


def test_parts_that_are_no_text_stay_and_text_parts_without_a_new_text_go() -> None:
    body = responses(
        (
            "read",
            {"path": "a"},
            [{"type": "input_text", "text": "one", "x": 1}, IMAGE, {"type": "text", "text": "two"}],
        )
    )
    (result,) = results_of(body)
    assert (result.texts, result.mixed) == (("one", "two"), True)
    output = with_texts(body, {result.place: ("new",)})["input"][-1]["output"]
    assert output == [{"type": "input_text", "text": "new", "x": 1}, IMAGE]


def test_the_streams_of_a_shell_call_are_replaced_each() -> None:
    part: JsonObject = {"stdout": "a", "stderr": "b", "outcome": {"type": "exit", "exit_code": 1}}
    body = items({"type": "shell_call_output", "call_id": "1", "output": [part]})
    for texts, expected in ((("x", "y"), ("x", "y")), (("x",), ("x", ""))):
        new = with_texts(body, {0: texts})
        assert outputs(new) == [expected]
        assert new["input"][0]["output"][0]["outcome"] == part["outcome"]


odd = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from(["function_call", "function_call_output", "tool", "assistant", "1", "text"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["type", "role", "call_id", "tool_call_id", "name", "arguments", "output", "id"]
            )
            | st.sampled_from(["content", "tool_calls", "function", "text", "stdout", "action"]),
            inner,
            max_size=6,
        )
    ),
    max_leaves=16,
)


@settings(max_examples=40)
@given(key=st.sampled_from(["input", "messages"]), history=st.lists(odd, max_size=4) | odd)
def test_nothing_malformed_is_too_odd(key: str, history: Json) -> None:
    body: JsonObject = {key: history}
    found = results_of(body)
    same = with_texts(body, {one.place: one.texts for one in found})
    assert results_of(same) == found


@pytest.mark.parametrize("written", [chat, responses])
def test_of_two_open_calls_of_one_id_nobody_knows_whose_a_result_is(
    written: Callable[..., JsonObject],
) -> None:
    body = written(("read", {"path": "a"}, "one"), ("bash", {"command": "ls"}, "two"))
    text = json.dumps(body).replace("call_1", "call_0")
    told = json.loads(text)
    assert [one.call.name for one in results_of(told)] == ["read", "bash"]  # counted anew
    history = told.get("input") or told["messages"]
    place = results_of(told)[0].place
    history.insert(results_of(told)[1].place, history.pop(place))  # first both calls, then results
    found = results_of(told)
    assert [(one.call.name, one.further) for one in found] == [("", False), ("", True)]
