"""Calls as text, and such text read back."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codexrelay.protocol import chat_request, tool_text
from codexrelay.protocol.call_filter import (
    CallFilter,
    FilteredStream,
    FilteredWhole,
    Say,
    ToolCall,
)
from codexrelay.protocol.chat_stream import ChatStream
from codexrelay.protocol.responses_whole import ResponsesWhole
from codexrelay.protocol.tool_text import Format, decide_as_text, read_back, render
from tests.fakes import responses_events as upstream
from tests.fakes.chat_client import ChatClient

if TYPE_CHECKING:
    from collections.abc import Sequence

LS = ToolCall(call_id="call_1", name="shell", arguments='{"command":["ls","<&>"]}')
PATCH = ToolCall(call_id="call_2", name="apply_patch", arguments="*** ```\n+a", custom=True)
LS_XML = """<tool_call call_id="call_1" name="shell">
<arguments>{"command":["ls","&lt;&amp;&gt;"]}</arguments>
</tool_call>"""
LS_RESULT = '<tool_result call_id="call_1">\na.txt\nb.txt\n</tool_result>'


def item_of(call: ToolCall) -> dict[str, Any]:
    if call.custom:
        kind, key = "custom_tool_call", "input"
    else:
        kind, key = "function_call", "arguments"
    item = {"type": kind, "call_id": call.call_id, "name": call.name, key: call.arguments}
    return item if call.namespace is None else item | {"namespace": call.namespace}


def result_of(call: ToolCall, output: str) -> dict[str, Any]:
    kind = "custom_tool_call_output" if call.custom else "function_call_output"
    return {"type": kind, "call_id": call.call_id, "output": output}


def said(*texts: str, role: str = "assistant") -> dict[str, Any]:
    kind = "output_text" if role == "assistant" else "input_text"
    content = [{"type": kind, "text": text} for text in texts]
    return {"type": "message", "role": role, "content": content}


def user(*texts: str) -> dict[str, Any]:
    return said(*texts, role="user")


# --- written


@pytest.mark.parametrize(
    ("format", "call", "text"),
    [
        ("xml", LS, LS_XML),
        (
            "xml",
            ToolCall(call_id='"1"', name="a>b", arguments="]]>\r\x00", custom=True, namespace="n"),
            '<tool_call call_id="&quot;1&quot;" name="a&gt;b" namespace="n">\n'
            "<input>]]&gt;&#13;&#0;</input>\n</tool_call>",
        ),
        (
            "markdown",
            LS,
            '**Tool call** `shell` (`call_1`)\n\n```json\n{"command":["ls","<&>"]}\n```',
        ),
        (
            "markdown",
            PATCH,
            "**Tool call** `apply_patch` (`call_2`)\n\n````\n*** ```\n+a\n````",
        ),
        ("summary", LS, '[tool call shell (call_1): {"command":["ls","<&>"]}]'),
        ("summary", PATCH, "[tool call apply_patch (call_2): *** ``` +a]"),
        (
            "summary",
            ToolCall(call_id="1", name="x", arguments="y" * 201, namespace="n"),
            f"[tool call n.x (1): {'y' * 200}…]",
        ),
    ],
)
def test_a_call_is_rendered_in_three_ways(format: Format, call: ToolCall, text: str) -> None:
    assert render(format, call) == text


@given(name=st.text(st.characters(codec="utf-8")), arguments=st.text(st.characters(codec="utf-8")))
def test_xml_parsers_read_the_same_call(name: str, arguments: str) -> None:
    def fit(text: str) -> str:  # for XML 1.0, which has no way to write the others
        return "".join(c for c in text if c in "\t\n\r" or (c >= " " and c not in "\ufffe\uffff"))

    call = ToolCall(call_id="1", name=fit(name), arguments=fit(arguments))
    root = ET.fromstring(render("xml", call))
    assert root.attrib == {"call_id": "1", "name": call.name}
    assert root.findtext("arguments") == call.arguments


# --- read back


def test_a_call_and_its_result_are_items_again() -> None:
    history = [
        user("List it"),
        said(f"I'll look.\n\n{LS_XML}\n"),
        user(f"Here it is:\n{LS_RESULT}"),
    ]
    kept = copy.deepcopy(history)
    assert read_back(history) == [
        user("List it"),
        said("I'll look."),
        item_of(LS),
        user("Here it is:\n"),
        result_of(LS, "a.txt\nb.txt"),
    ]
    assert history == kept


def test_what_stands_around_and_between_keeps_its_order() -> None:
    first, second = LS_XML, render("xml", PATCH)
    history = [
        said("A", f"B\n\n{first}\nC\n\n{second}\n", "D"),
        user(f'X{LS_RESULT}Y<tool_result call_id="call_2">ok</tool_result>', "Z"),
    ]
    assert read_back(history) == [
        said("A", "B"),
        item_of(LS),
        said("C"),
        item_of(PATCH),
        said("D"),
        user("X"),
        result_of(LS, "a.txt\nb.txt"),
        user("Y"),
        result_of(PATCH, "ok"),
        user("Z"),
    ]


def test_a_text_without_parts_and_a_message_without_type_are_read_too() -> None:
    history = [
        {"role": "assistant", "content": f"Hm{LS_XML}"},
        {"role": "tool", "content": f"{LS_RESULT} so"},
    ]
    assert read_back(history) == [
        {"role": "assistant", "content": "Hm"},
        item_of(LS),
        result_of(LS, "a.txt\nb.txt"),
        {"role": "tool", "content": " so"},
    ]


def test_what_is_no_text_stays_where_it_is() -> None:
    image = {"type": "input_image", "image_url": "data:image/png;base64,AAAA"}
    message = user("Look", LS_RESULT) | {"id": "msg_1", "phase": "final_answer"}
    message["content"].insert(1, image)
    message["content"].append(image)
    assert read_back([said(LS_XML), message]) == [
        item_of(LS),
        user("Look") | {"content": [user("Look")["content"][0], image], "phase": "final_answer"},
        result_of(LS, "a.txt\nb.txt"),
        user() | {"content": [image], "phase": "final_answer"},
    ]


def test_annotations_of_a_text_that_is_cut_go() -> None:
    [part] = said(f"Hm{LS_XML}")["content"]
    message = said() | {"content": [part | {"annotations": [{"start_index": 1}], "logprobs": []}]}
    assert read_back([message, user(LS_RESULT)])[0] == said("Hm")


def test_a_native_result_answers_a_call_in_words_and_the_other_way_round() -> None:
    assert read_back([said(LS_XML), result_of(LS, "x")]) == [item_of(LS), result_of(LS, "x")]
    history = [item_of(PATCH), user('<tool_result call_id="call_2">x</tool_result>')]
    assert read_back(history) == [item_of(PATCH), result_of(PATCH, "x")]


@pytest.mark.parametrize(
    ("written", "output"),
    [
        ('<tool_result call_id="call_1">x</tool_result>', "x"),
        ('<tool_result call_id="call_1">\n\nx\n\n</tool_result>', "\nx\n"),
        ("<tool_result  call_id = 'call_1' >\r\nx\r\n</tool_result >", "x"),
        ('<tool_result call_id="call_1"></tool_result>', ""),
        ('<tool_result call_id="call_1">\n</tool_result>', ""),
        (
            '<tool_result call_id="call_1"><b>a & b</b> &c; &#xg;</tool_result>',
            "<b>a & b</b> &c; &#xg;",
        ),
        (
            '<tool_result call_id="call_1">&lt;&gt;&amp;&quot;&apos;&#65;&#x42;</tool_result>',
            "<>&\"'AB",
        ),
        ('<tool_result call_id="call_1">&#9999999;</tool_result>', "&#9999999;"),
        (
            '<tool_result call_id="call_1"><![CDATA[&lt;]]>&lt;<![CDATA[</x>]]></tool_result>',
            "&lt;<</x>",
        ),
        (
            '<tool_result call_id="call_1">&amp;lt;/tool_result&gt;</tool_result>',
            "&lt;/tool_result>",
        ),
    ],
)
def test_a_result_may_be_written_in_many_ways(written: str, output: str) -> None:
    assert read_back([said(LS_XML), user(written)])[1:] == [result_of(LS, output)]


@pytest.mark.parametrize(
    "history",
    [
        [said(LS_XML), user("no result")],
        [user(LS_RESULT), said(LS_XML)],
        [user(LS_RESULT)],
        [user(LS_XML), user(LS_RESULT)],
        [said(LS_XML), said(LS_RESULT)],
        [said(LS_XML), said(LS_RESULT, role="developer")],
        [said(LS_XML.replace(' name="shell"', "").replace("id=", 'name="x" id=')), user(LS_RESULT)],
        [said(LS_XML.replace(">\n<", "><")), user(LS_RESULT)],
        [said(LS_XML.replace("&gt;", ">")), user(LS_RESULT)],
        [said(LS_XML.replace("&gt;", "&#62;")), user(LS_RESULT)],
        [said(LS_XML.replace("</tool_call>", "")), user(LS_RESULT)],
        [said(LS_XML), user(LS_RESULT.replace("</tool_result>", ""))],
        [said(LS_XML), user(LS_RESULT.replace("call_1", "call_9"))],
        [said(LS_XML.replace("arguments>{", "input>{")), user(LS_RESULT)],
        [{"type": "reasoning", "content": said(LS_XML)["content"]}, user(LS_RESULT)],
        ["text", None, {"role": "user"}, {"role": "assistant", "content": [None, {"type": "x"}]}],
    ],
    ids=[
        "no result",
        "the result first",
        "a result alone",
        "a call of the user's",
        "a result of the model's",
        "a result of the system's",
        "another order",
        "no line end",
        "not escaped",
        "escaped otherwise",
        "a call without end",
        "a result without end",
        "a result of another call",
        "two tags",
        "reasoning",
        "no messages",
    ],
)
def test_what_only_looks_like_it_stays_text(history: list[Any]) -> None:
    assert read_back(history) == history


@pytest.mark.parametrize(
    ("history", "back"),
    [
        (
            [said(LS_XML, "or", LS_XML), user(LS_RESULT)],
            [item_of(LS), said("or", LS_XML), result_of(LS, "a.txt\nb.txt")],
        ),
        (
            [item_of(LS), said(LS_XML), result_of(LS, "x"), user(LS_RESULT)],
            [item_of(LS), said(LS_XML), result_of(LS, "x"), user(LS_RESULT)],
        ),
        (
            [said(LS_XML), user(LS_RESULT), user(LS_RESULT)],
            [item_of(LS), result_of(LS, "a.txt\nb.txt"), user(LS_RESULT)],
        ),
    ],
    ids=["a call twice", "both are items already", "a result twice"],
)
def test_a_quotation_stays_text(history: list[Any], back: list[Any]) -> None:
    assert read_back(history) == back


N = 30_000
OPEN_RESULT = '<tool_result call_id="call_1">'


@pytest.mark.parametrize(
    "history",
    [
        [said(LS_XML + "\n" * N + "<tool_call " * N), user(OPEN_RESULT * N)],
        [said(LS_XML * N), user("no result")],
        [said('<tool_call call_id="' * N), user(LS_RESULT)],
        [said(f'<tool_call call_id="{"x" * N}" name="{"y" * N}"' * 10), user(LS_RESULT)],
        [said(LS_XML.removesuffix("</tool_call>") * N), user(LS_RESULT)],
        [said("no call"), user(LS_RESULT * N)],
        [said(LS_XML), user(f"<tool_result {' ' * N}" * 10)],
        [said(LS_XML), user(OPEN_RESULT + f"</tool_result{' ' * N}" * 10)],
    ],
    ids=[
        "beginnings without an end",
        "calls without a result",
        "calls in calls",
        "long names",
        "calls that are not closed",
        "results without a call",
        "a beginning that is mostly blank",
        "an end that is mostly blank",
    ],
)
def test_megabytes_that_only_look_like_it_are_done_with(history: list[Any]) -> None:
    assert read_back(history) == history


@pytest.mark.parametrize("written", ["<![CDATA[", "<![CDATA[]]>", "]]>", "&#", "&#x41;&amp;"])
def test_megabytes_in_a_result_are_done_with(written: str) -> None:
    [_, result] = read_back([said(LS_XML), user(f"{OPEN_RESULT}{written * N}</tool_result>")])
    assert isinstance(result, dict)
    assert result["type"] == "function_call_output"


class Walked(str):
    """A text that counts over how many of its characters somebody looked for something."""

    __slots__ = ("count",)

    def find(self, what: str, begin: Any = 0, end: Any = None) -> int:  # noqa: ANN401 (str's own)
        found = super().find(what, begin, end)
        self.count = getattr(self, "count", 0) + (found if found >= 0 else len(self)) - begin
        return found


@pytest.mark.parametrize("written", ["<![CDATA[", "<![CDATA[x]]>", "x]]>", "<![CDATA[]]><![CDATA["])
def test_each_character_of_a_result_is_looked_at_a_bounded_number_of_times(written: str) -> None:
    counts = []
    for times in (200, 400):
        text = Walked(written * times)
        tool_text._resolved(text)
        assert text.count <= 2 * len(text)
        counts.append(text.count)
    assert counts[1] <= 2 * counts[0] + len(written)


def test_what_a_message_has_besides_is_not_repeated_in_each_of_its_pieces() -> None:
    """Thousands of pieces, each with thousands of fields, would be more than memory holds."""
    calls = [ToolCall(call_id=f"call_{i}", name="x", arguments="{}") for i in range(1_000)]
    more = {f"x_{i}": "y" for i in range(1_000)} | {"phase": "z" * 1_000}
    message = said("a".join(render("xml", call) for call in calls)) | more
    message["content"][0] |= more
    results = [result_of(call, "ok") for call in calls]
    back = read_back([message, *results])
    assert len(back) == 2 * len(calls) + len(calls) - 1
    assert len(orjson.dumps(back)) < 3 * len(orjson.dumps([message, *results]))
    assert back[1] == said("a") | more | {"content": [said("a")["content"][0] | more]}
    assert back[3] == said("a")


def test_thoughts_are_put_back_in_front_of_what_they_were_thought_of() -> None:
    thoughts = {
        call_id: [{"type": "reasoning", "encrypted_content": call_id, "summary": []}]
        for call_id in ("call_1", "call_2")
    }
    history = [said(f"A{LS_XML}B{render('xml', PATCH)}C"), result_of(LS, "x")]
    call = item_of(LS)
    patch = render("xml", PATCH)
    assert read_back(history, lambda call_id: thoughts.get(call_id, [])) == [
        *thoughts["call_1"],
        said("A"),
        call,
        said(f"B{patch}C"),
        result_of(LS, "x"),
    ]
    assert read_back([*history, result_of(PATCH, "y")], lambda each: thoughts[each]) == [
        *thoughts["call_1"],
        said("A"),
        call,
        said("B"),
        *thoughts["call_2"],
        item_of(PATCH),
        said("C"),
        result_of(LS, "x"),
        result_of(PATCH, "y"),
    ]


# --- there and back

ANY_TEXT = st.text(max_size=40) | st.text("<>&\"'\n\r]! \ud83d", max_size=20)
NAMES = st.text(min_size=1, max_size=8).filter(str.strip)


@st.composite
def two_calls(draw: st.DrawFn) -> list[ToolCall]:
    ids = draw(st.lists(NAMES, min_size=2, max_size=2, unique=True))
    return [
        ToolCall(
            call_id=call_id,
            name=draw(NAMES),
            arguments=draw(ANY_TEXT),
            custom=draw(st.booleans()),
            namespace=draw(st.none() | st.text(max_size=4)),
        )
        for call_id in ids
    ]


def answered(calls: Sequence[ToolCall]) -> list[dict[str, Any]]:
    return [result_of(call, "ok") for call in reversed(calls)]


@given(calls=two_calls(), before=st.text("ab \n", max_size=4), after=st.text("ab \n", max_size=4))
def test_two_parallel_calls_keep_ids_order_and_arguments(
    calls: list[ToolCall], before: str, after: str
) -> None:
    decide = decide_as_text("xml")
    told = [decide(call) for call in calls]
    text = before + "".join(f"\n\n{one.text}\n" for one in told if isinstance(one, Say)) + after
    back = read_back([said(text), *answered(calls)])
    expected: list[Any] = [*map(item_of, calls)]
    if before.strip():
        expected.insert(0, said(before))
    if after.strip():
        expected.append(said(after))
    assert back == [*expected, *answered(calls)]


@given(call=two_calls().map(lambda calls: calls[0]), text=st.text(max_size=20))
def test_reading_back_twice_is_reading_back_once(call: ToolCall, text: str) -> None:
    history = [said(text + render("xml", call)), *answered([call])]
    once = read_back(history)
    assert read_back(once) == once


# --- through the answers

STREAM = b"".join(
    [
        upstream.created(),
        upstream.text("I'll look."),
        upstream.call(1, upstream.function("shell", "call_1"), LS.arguments),
        upstream.call(2, upstream.custom("apply_patch", "call_2"), PATCH.arguments),
        upstream.completed(),
    ]
)


def test_a_chat_client_reads_calls_in_the_text_and_writes_them_back() -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "stream": True}
    turn = chat_request.translate(body, recall=lambda _: ())
    chat = ChatStream(turn, completion_id="c", created_unix_s=1, now_unix_s=1.0)
    answer, client = FilteredStream(chat, CallFilter(decide_as_text("xml"))), ChatClient()
    client.read(answer.feed(STREAM))
    assert client.content == f"I'll look.\n\n{LS_XML}\n\n\n{render('xml', PATCH)}\n"
    assert (client.calls, client.finish_reason) == ([], "stop")
    # Some clients take away the white space around.
    for content in (client.content, client.content.strip()):
        results = f'{LS_RESULT}\n<tool_result call_id="call_2">ok</tool_result>'
        messages = [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": content},
            {"role": "user", "content": results},
        ]
        items = chat_request.translate({**body, "messages": messages}, recall=lambda _: ()).body
        back = read_back(items["input"])  # type: ignore[arg-type]
        assert [item["type"] for item in back][1:] == [
            "message",
            "function_call",
            "custom_tool_call",
            "function_call_output",
            "custom_tool_call_output",
        ]
        assert back[1:4] == [said("I'll look."), item_of(LS), item_of(PATCH)]


@pytest.mark.parametrize("before", ["", "Well."], ids=["first words", "behind others"])
def test_a_call_begins_with_line_ends_only_where_something_was_said(before: str) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "stream": True}
    turn = chat_request.translate(body, recall=lambda _: ())
    chat = ChatStream(turn, completion_id="c", created_unix_s=1, now_unix_s=1.0)
    answer, client = FilteredStream(chat, CallFilter(decide_as_text("xml"))), ChatClient()
    said_first = upstream.text(before) if before else b""
    call = upstream.call(1, upstream.function("shell", "call_1"), LS.arguments)
    client.read(answer.feed(upstream.created() + said_first + call + upstream.completed()))
    apart = "\n\n" if before else ""
    assert client.content == f"{before}{apart}{LS_XML}\n"


def test_a_responses_client_gets_messages_that_it_can_send_back() -> None:
    inner = ResponsesWhole(now_unix_s=1.0, model="m", created_unix_s=1)
    answer = FilteredWhole(inner, CallFilter(decide_as_text("xml")))
    answer.feed(STREAM)
    output = orjson.loads(answer.body())["output"]
    assert [item["type"] for item in output] == ["message", "message"]
    results = [result_of(LS, "a"), result_of(PATCH, "b")]
    assert read_back([*output, *results]) == [item_of(LS), item_of(PATCH), *results]
