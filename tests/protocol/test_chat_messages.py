"""A chat history becomes input items in the client's order and with its bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from codexrelay.errors import RequestError
from codexrelay.protocol.chat_messages import translate_messages
from codexrelay.protocol.chat_tools import ToolMap

if TYPE_CHECKING:
    from collections.abc import Mapping

SQL = ToolMap(custom=frozenset({"sql"}))


def items(
    *messages: dict[str, Any],
    tools: ToolMap = SQL,
    memory: Mapping[str, list[dict[str, Any]]] | None = None,
) -> list[Any]:
    return translate_messages(messages, tools, lambda call_id: (memory or {}).get(call_id, []))


def refusal(*messages: dict[str, Any]) -> RequestError:
    with pytest.raises(RequestError) as caught:
        items(*messages)
    assert caught.value.status == 400
    return caught.value


def said(role: str, *parts: dict[str, Any]) -> dict[str, Any]:
    return {"type": "message", "role": role, "content": list(parts)}


def call(call_id: str, name: str, arguments: str = "{}") -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return {"id": call_id, "type": "function", "function": function}


def calling(*calls: dict[str, Any], content: object = None, **more: object) -> dict[str, Any]:
    return {"role": "assistant", "content": content, "tool_calls": list(calls), **more}


def thought(mark: str) -> dict[str, Any]:
    return {"type": "reasoning", "id": f"rs_{mark}", "summary": [], "encrypted_content": mark}


def kinds(history: list[Any]) -> list[str]:
    return [item.get("call_id") or item.get("id") or item["role"] for item in history]


def test_system_text_becomes_a_developer_message_where_it_stands() -> None:
    assert items(
        {"role": "system", "content": "Be terse."},
        {"role": "user", "content": "Hi"},
        {
            "role": "system",
            "content": [{"type": "text", "text": "Now"}, {"type": "text", "text": ""}],
        },
        {"role": "developer", "content": "Dev"},
    ) == [
        said("developer", {"type": "input_text", "text": "Be terse."}),
        said("user", {"type": "input_text", "text": "Hi"}),
        said(
            "developer",
            {"type": "input_text", "text": "Now"},
            {"type": "input_text", "text": ""},
        ),
        said("developer", {"type": "input_text", "text": "Dev"}),
    ]


@pytest.mark.parametrize(
    ("part", "sent"),
    [
        (
            {"type": "text", "text": "a\u200bé😀", "cache_control": {}},
            {"type": "input_text", "text": "a\u200bé😀"},
        ),
        (
            {
                "type": "image_url",
                "image_url": {"url": "data:image/png;base64,AA", "detail": "low"},
            },
            {"type": "input_image", "image_url": "data:image/png;base64,AA", "detail": "low"},
        ),
        (
            {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
            {"type": "input_image", "image_url": "https://example.com/a.png"},
        ),
        (
            {"type": "image_url", "image_url": "https://example.com/a.png"},
            {"type": "input_image", "image_url": "https://example.com/a.png"},
        ),
        (
            {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:;base64,AA"}},
            {"type": "input_file", "filename": "a.pdf", "file_data": "data:;base64,AA"},
        ),
        (
            {"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}},
            {"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}},
        ),
    ],
)
def test_a_part_becomes_the_input_part_of_its_kind(
    part: dict[str, Any], sent: dict[str, Any]
) -> None:
    assert items({"role": "user", "content": [part]}) == [said("user", sent)]


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"content": "Hi"}, "role"),
        ({"role": "critic", "content": "Hi"}, "role"),
        ({"role": "user"}, "content"),
        ({"role": "user", "content": 5}, "content"),
        ({"role": "user", "content": ["Hi"]}, "content[0]"),
        ({"role": "user", "content": [{"text": "Hi"}]}, "content[0].type"),
        ({"role": "user", "content": [{"type": "text"}]}, "content[0].text"),
        ({"role": "user", "content": [{"type": "video_url"}]}, "content[0]"),
        ({"role": "user", "content": [{"type": "refusal", "refusal": "No"}]}, "content[0]"),
        ({"role": "user", "content": [{"type": "image_url"}]}, "content[0].image_url"),
        (
            {"role": "user", "content": [{"type": "image_url", "image_url": {}}]},
            "content[0].image_url.url",
        ),
        (
            {
                "role": "user",
                "content": [{"type": "image_url", "image_url": {"url": "u", "detail": 1}}],
            },
            "content[0].image_url.detail",
        ),
        ({"role": "user", "content": [{"type": "file"}]}, "content[0].file"),
        ({"role": "user", "content": [{"type": "input_audio"}]}, "content[0].input_audio"),
        (
            {"role": "system", "content": [{"type": "image_url", "image_url": {"url": "u"}}]},
            "content[0]",
        ),
        ({"role": "assistant", "content": [{"type": "audio"}]}, "content[0]"),
        ({"role": "assistant", "content": 5}, "content"),
        ({"role": "assistant", "content": None, "refusal": 5}, "refusal"),
        ({"role": "assistant", "tool_calls": {}}, "tool_calls"),
        ({"role": "assistant", "tool_calls": ["f"]}, "tool_calls[0]"),
        ({"role": "assistant", "tool_calls": [{}]}, "tool_calls[0].id"),
        ({"role": "assistant", "tool_calls": [{"id": ""}]}, "tool_calls[0].id"),
        ({"role": "assistant", "tool_calls": [{"id": "c"}]}, "tool_calls[0].function"),
        (
            {"role": "assistant", "tool_calls": [{"id": "c", "type": "web_search"}]},
            "tool_calls[0].type",
        ),
        (
            {"role": "assistant", "tool_calls": [call("c", "")]},
            "tool_calls[0].function.name",
        ),
        (
            {"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "f"}}]},
            "tool_calls[0].function.arguments",
        ),
        (
            {
                "role": "assistant",
                "tool_calls": [
                    {"id": "c", "type": "function", "function": {"name": "f", "arguments": {}}}
                ],
            },
            "tool_calls[0].function.arguments",
        ),
        (
            {"role": "assistant", "tool_calls": [{"id": "c", "type": "custom"}]},
            "tool_calls[0].custom",
        ),
        (
            {
                "role": "assistant",
                "tool_calls": [{"id": "c", "type": "custom", "custom": {"name": "sql"}}],
            },
            "tool_calls[0].custom.input",
        ),
        ({"role": "tool", "content": "ok"}, "tool_call_id"),
    ],
)
def test_a_malformed_message_is_refused_with_the_field_at_fault(
    message: dict[str, Any], param: str
) -> None:
    assert refusal({"role": "user", "content": "Hi"}, message).param == f"messages[1].{param}"


@pytest.mark.parametrize("message", [{"content": None}, {}], ids=["null", "absent"])
def test_a_result_without_content_is_an_empty_text(message: dict[str, Any]) -> None:
    answer = {"role": "tool", "tool_call_id": "c1", **message}
    assert items(calling(call("c1", "f")), answer)[-1] == {
        "type": "function_call_output",
        "call_id": "c1",
        "output": "",
    }


def test_a_part_the_backend_does_not_take_is_named_by_its_place() -> None:
    image = {"type": "image_url", "image_url": {"url": "u"}}
    video = {"type": "video_url", "video_url": {"url": "u"}}
    error = refusal({"role": "user", "content": "a"}, {"role": "user", "content": [image, video]})
    assert error.param == "messages[1].content[1]"
    assert "'video_url'" in str(error)


def test_the_text_of_an_assistant_comes_before_its_calls() -> None:
    broken_json = '{"a": 1 ,\t"ü":"\\u00fc"'
    assert items(calling(call("c1", "f", broken_json), call("c2", "g"), content="Looking.")) == [
        said("assistant", {"type": "output_text", "text": "Looking."}),
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": broken_json},
        {"type": "function_call", "call_id": "c2", "name": "g", "arguments": "{}"},
    ]


@pytest.mark.parametrize("content", [None, "", []])
def test_an_assistant_that_only_calls_says_nothing(content: object) -> None:
    assert kinds(items(calling(call("c1", "f"), content=content))) == ["c1"]


def test_refusals_and_text_parts_of_an_assistant_are_kept() -> None:
    parts = [{"type": "text", "text": "Well."}, {"type": "refusal", "refusal": "No."}]
    assert items({"role": "assistant", "content": parts, "refusal": "Never."}) == [
        said(
            "assistant",
            {"type": "output_text", "text": "Well."},
            {"type": "refusal", "refusal": "No."},
            {"type": "refusal", "refusal": "Never."},
        )
    ]


def test_readable_reasoning_is_not_sent_back() -> None:
    history = items({"role": "assistant", "content": "4", "reasoning_content": "2 and 2"})
    assert history == [said("assistant", {"type": "output_text", "text": "4"})]


def test_a_tool_result_is_sent_as_it_is() -> None:
    result = '{"output": "hi\\n"}'
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}
    assert items(
        calling(call("c1", "f"), call("c2", "g")),
        {"role": "tool", "tool_call_id": "c2", "content": [{"type": "text", "text": "see"}, image]},
        {"role": "tool", "tool_call_id": "c1", "content": result},
    )[2:] == [
        {
            "type": "function_call_output",
            "call_id": "c2",
            "output": [
                {"type": "input_text", "text": "see"},
                {"type": "input_image", "image_url": "data:image/png;base64,AA"},
            ],
        },
        {"type": "function_call_output", "call_id": "c1", "output": result},
    ]


def test_a_result_without_a_call_is_refused_with_its_id() -> None:
    late = calling(call("c9", "f"))
    error = refusal({"role": "tool", "tool_call_id": "c9", "content": "ok"}, late)
    assert error.param == "messages[0].tool_call_id"
    assert "'c9'" in str(error)


RAW = 'SELECT "ü😀"\n\\ -- \u2028'


@pytest.mark.parametrize(
    "given_call",
    [
        pytest.param(
            {"id": "c1", "type": "custom", "custom": {"name": "sql", "input": RAW}}, id="custom"
        ),
        pytest.param(
            call("c1", "sql", '{"input":"SELECT \\"ü😀\\"\\n\\\\ -- \\u2028"}'), id="function"
        ),
    ],
)
def test_a_call_of_a_custom_tool_is_sent_with_its_raw_text(given_call: dict[str, Any]) -> None:
    result = {"role": "tool", "tool_call_id": "c1", "content": "1 row"}
    assert items(calling(given_call), result) == [
        {"type": "custom_tool_call", "call_id": "c1", "name": "sql", "input": RAW},
        {"type": "custom_tool_call_output", "call_id": "c1", "output": "1 row"},
    ]


def test_a_function_that_takes_an_input_is_still_a_function() -> None:
    history = items(calling(call("c1", "sql", '{"input": "x"}')), tools=ToolMap())
    assert history[0]["type"] == "function_call"


def test_calls_in_the_older_form_are_paired_by_name() -> None:
    asked = {
        "role": "assistant",
        "content": None,
        "function_call": {"name": "f", "arguments": '{"a":1}'},
    }
    answer = {"role": "function", "name": "f", "content": "one"}
    assert items(asked, answer, asked, {**answer, "content": "two"}) == [
        {"type": "function_call", "call_id": "call_0", "name": "f", "arguments": '{"a":1}'},
        {"type": "function_call_output", "call_id": "call_0", "output": "one"},
        {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": '{"a":1}'},
        {"type": "function_call_output", "call_id": "call_1", "output": "two"},
    ]


def test_an_older_result_without_a_call_is_refused() -> None:
    error = refusal({"role": "function", "name": "f", "content": "one"})
    assert error.param == "messages[0].name"


def test_remembered_reasoning_stands_before_the_call_it_led_to() -> None:
    memory = {"c1": [thought("a"), thought("b")], "c2": [thought("c")]}
    history = items(
        {"role": "user", "content": "Go"},
        calling(call("c1", "f"), call("c2", "g"), call("c3", "h")),
        memory=memory,
    )
    assert kinds(history) == ["user", "rs_a", "rs_b", "c1", "rs_c", "c2", "c3"]
    assert history[1] is memory["c1"][0]


def test_remembered_reasoning_stands_before_the_text_of_its_turn() -> None:
    history = items(calling(call("c1", "f"), content="Looking."), memory={"c1": [thought("a")]})
    assert kinds(history) == ["rs_a", "assistant", "c1"]


def test_reasoning_that_is_remembered_for_two_calls_of_a_turn_is_sent_once() -> None:
    memory = {"c1": [thought("a")], "c2": [thought("a")]}
    history = items(calling(call("c1", "f"), call("c2", "g")), memory=memory)
    assert kinds(history) == ["rs_a", "c1", "c2"]


def test_an_agents_second_turn_arrives_whole() -> None:
    """The shape that OpenCode sends: an empty text, readable reasoning, and the call's result."""
    history = items(
        {"role": "system", "content": "You are an agent."},
        {"role": "user", "content": '"Run echo hi"'},
        calling(
            call("call_1", "bash", '{"command":"echo hi"}'),
            content="",
            reasoning_content="Planning the next step.",
        ),
        {"role": "tool", "tool_call_id": "call_1", "content": "hi\n"},
        memory={"call_1": [thought("a")]},
    )
    assert history == [
        said("developer", {"type": "input_text", "text": "You are an agent."}),
        said("user", {"type": "input_text", "text": '"Run echo hi"'}),
        thought("a"),
        {
            "type": "function_call",
            "call_id": "call_1",
            "name": "bash",
            "arguments": '{"command":"echo hi"}',
        },
        {"type": "function_call_output", "call_id": "call_1", "output": "hi\n"},
    ]
