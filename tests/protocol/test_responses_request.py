from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codexrelay.errors import RequestError
from codexrelay.profiles import recognise
from codexrelay.protocol.relay_fields import split
from codexrelay.protocol.responses_request import ShapedRequest, is_codex_shaped, shape
from tests.fakes.recordings import captured_requests, recorded_streams

if TYPE_CHECKING:
    from codexrelay.protocol.raw import JsonObject

USER: JsonObject = {"role": "user", "content": "hello"}
#: A request that the backend takes as it is.
FIT: JsonObject = {
    "model": "gpt-5.5",
    "instructions": "Be brief.",
    "input": [USER],
    "store": False,
    "stream": True,
    "include": ["reasoning.encrypted_content"],
    "prompt_cache_key": "key",
}


def shaped(body: object, *, key: str | None = None, codex: bool = False) -> ShapedRequest:
    return shape(body, session_cache_key=key, codex_shaped=codex)


def with_input(*items: JsonObject, codex: bool = False) -> tuple[list[Any], tuple[str, ...]]:
    request = shaped(FIT | {"input": list(items)}, codex=codex)
    sent = request.body["input"]
    assert isinstance(sent, list)
    return sent, request.changes


def refused(body: object) -> RequestError:
    with pytest.raises(RequestError) as caught:
        shaped(body)
    assert caught.value.status == 400
    assert caught.value.type == "invalid_request_error"
    return caught.value


def test_a_fit_request_goes_out_as_it_came() -> None:
    request = shaped(FIT, key="other")
    assert request.body == FIT
    assert request.changes == ()
    assert list(request.body) == list(FIT)


def test_the_clients_object_is_left_alone() -> None:
    body: JsonObject = {
        "model": "gpt-5.5",
        "temperature": 1,
        "tools": [{"type": "web_search_preview"}],
        "input": [{"role": "system", "content": "a"}, {"type": "message", "id": "x" * 70, **USER}],
    }
    before = copy.deepcopy(body)
    shaped(body, key="key")
    assert body == before


# --- fields


@pytest.mark.parametrize(
    ("given_keys", "sent"),
    [
        ({"store": True}, {"store": False}),
        ({"store": None}, {"store": False}),
        ({"stream": False}, {"stream": True}),
        ({"stream": None}, {"stream": True}),
        ({"include": None}, {"include": ["reasoning.encrypted_content"]}),
        ({"include": ["a"]}, {"include": ["a", "reasoning.encrypted_content"]}),
        # What the backend calls it is put there when the request is fitted to its model.
        ({"service_tier": "fast"}, {"service_tier": "fast"}),
        ({"service_tier": "flex"}, {"service_tier": "flex"}),
        ({"instructions": None}, {"instructions": ""}),
        ({"prompt_cache_key": None}, {"prompt_cache_key": "session"}),
        ({"prompt_cache_key": "own"}, {"prompt_cache_key": "own"}),
        ({"tools": []}, {"tools": []}),
        ({"tools": None}, {"tools": None}),
        (
            {"tools": [{"type": "web_search_preview", "a": 1}, {"type": "x"}]},
            {"tools": [{"type": "web_search", "a": 1}, {"type": "x"}]},
        ),
        (
            {"tool_choice": {"type": "web_search_preview"}},
            {"tool_choice": {"type": "web_search"}},
        ),
        ({"tool_choice": "required"}, {"tool_choice": "required"}),
        ({"prompt": {"id": "pmpt_1"}}, {"prompt": {"id": "pmpt_1"}}),
        ({"invented": {"deep": [1.50]}}, {"invented": {"deep": [1.50]}}),
    ],
)
def test_a_field_is_sent_as(given_keys: JsonObject, sent: JsonObject) -> None:
    request = shaped(FIT | given_keys, key="session")
    assert request.body == FIT | sent
    changed = {change.split(":")[0].split("[")[0] for change in request.changes}
    assert changed == {key for key in sent if sent[key] != given_keys[key]}


@pytest.mark.parametrize(
    "field",
    [
        *("max_output_tokens", "max_tokens", "temperature", "top_p", "metadata", "user"),
        *("safety_identifier", "prompt_cache_retention", "truncation", "context_management"),
        *("session_id", "conversation_id", "conversation"),
        *("stop", "logprobs", "top_logprobs", "n", "seed"),
        *("presence_penalty", "frequency_penalty"),
    ],
)
def test_a_field_that_the_backend_refuses_is_removed(field: str) -> None:
    request = shaped(FIT | {field: 1})
    assert request.body == FIT
    assert request.changes == (f"{field}: removed",)


@pytest.mark.parametrize("field", ["background", "previous_response_id"])
def test_a_field_that_says_nothing_is_removed(field: str) -> None:
    value = False if field == "background" else None
    assert shaped(FIT | {field: value}).changes == (f"{field}: removed",)


def test_absent_fields_are_filled() -> None:
    request = shaped({"model": "gpt-5.5", "input": "hello"}, key="session")
    message = {
        "type": "message",
        "role": "user",
        "content": [{"type": "input_text", "text": "hello"}],
    }
    assert request.body == {
        "model": "gpt-5.5",
        "input": [message],
        "store": False,
        "stream": True,
        "include": ["reasoning.encrypted_content"],
        "prompt_cache_key": "session",
        "instructions": "",
    }
    assert request.stream is False
    assert len(request.changes) == 6


def test_no_key_is_invented_when_the_session_has_none() -> None:
    assert "prompt_cache_key" not in shaped({"model": "m", "input": "a"}).body


def test_instructions_stay_absent_for_codex() -> None:
    body = {key: value for key, value in FIT.items() if key != "instructions"}
    assert shaped(body, codex=True).changes == ()
    assert shaped(body | {"instructions": None}, codex=True).body["instructions"] == ""
    assert shaped(body).body["instructions"] == ""


@pytest.mark.parametrize(("stream", "asked"), [(True, True), (False, False), (None, False)])
def test_what_the_client_asked_for_is_remembered(stream: bool | None, asked: bool) -> None:
    request = shaped(FIT | {"stream": stream, "model": "gpt-5.5?effort=high"})
    assert request.stream is asked
    assert request.model == "gpt-5.5?effort=high"
    assert request.body["stream"] is True


# --- items


@pytest.mark.parametrize(
    "item",
    [
        USER,
        {"type": "message", "role": "developer", "content": "a", "id": "msg_1"},
        {"type": "message", "role": "user", "content": "a", "id": "msg_7"},
        {"type": "reasoning", "id": "rs_1", "content": None, "encrypted_content": "x"},
        {"type": "reasoning", "summary": [], "encrypted_content": "x"},
        {"type": "function_call", "id": "fc_1", "call_id": "call_1"},
        {"type": "function_call_output", "id": "fco_1", "call_id": "call_1", "output": [{}]},
        {"type": "custom_tool_call_output", "id": "ctco_1", "call_id": "call_1"},
        {"type": "additional_tools", "id": "at_1", "role": "developer", "tools": []},
        {"type": "compaction", "id": "cmp_1", "encrypted_content": "x"},
        {"type": "compaction_trigger"},
        {"type": "configuration_update", "reasoning": {}},
        {"type": "invented", "id": "msg_1", "role": "system"},
        {"type": 7},
    ],
    ids=lambda item: str(item.get("type", "untyped")),
)
def test_an_item_goes_out_as_it_came(item: JsonObject) -> None:
    assert with_input(item) == ([item], ())


def test_a_system_message_becomes_a_developer_message() -> None:
    sent, changes = with_input(
        {"role": "system", "content": "a"}, {"type": "message", "role": "system", "content": "b"}
    )
    assert [item["role"] for item in sent] == ["developer", "developer"]
    assert len(changes) == 2


@pytest.mark.parametrize(
    ("kind", "id_"),
    [
        ("message", "m" * 65),
        ("message", "rs_1"),
        (None, "fc_1"),
        ("reasoning", "msg_1"),
        ("function_call", "call_1"),
        ("function_call", "ctc_1"),
        ("function_call", "toolu_1"),
        ("message", "item-7"),
        ("custom_tool_call", "fc_1"),
        ("compaction", "resp_1"),
        ("invented", "i" * 65),
        ("message", 7),
        ("message", None),
        ("message", ""),
    ],
)
def test_a_foreign_id_is_removed(kind: str | None, id_: object) -> None:
    rest: JsonObject = {"call_id": "call_1", "encrypted_content": "x", "content": "\u00e9"}
    if kind is not None:
        rest["type"] = kind
    sent, changes = with_input(rest | {"id": id_})
    assert sent == [rest]
    [change] = changes
    assert change.startswith("input[0].id: removed")


@pytest.mark.parametrize(
    "item",
    [
        {"type": "item_reference", "id": "msg_1"},
        {"type": "reasoning", "id": "rs_1", "summary": []},
        {"type": "reasoning", "encrypted_content": None},
        {"type": "function_call", "call_id": "", "name": "ls"},
        {"type": "function_call_output", "output": "a"},
        {"type": "custom_tool_call", "call_id": ""},
        {"type": "custom_tool_call_output", "call_id": None},
    ],
)
def test_an_item_that_the_backend_cannot_take_is_removed(item: JsonObject) -> None:
    sent, changes = with_input(item, USER)
    assert sent == [USER]
    assert changes[0].startswith("input[0]: removed, ")
    assert "nothing of `input`" in refused(FIT | {"input": [item]}).message


def test_codex_keeps_its_reasoning_as_it_is() -> None:
    item: JsonObject = {
        "type": "reasoning",
        "id": "rs_1",
        "summary": [],
        "content": None,
        "encrypted_content": "x",
    }
    assert with_input(item, codex=True) == ([item], ())


@pytest.mark.parametrize(
    "item",
    [
        # llama.cpp and vLLM, as Codex CLI replays them.
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": ""},
        {
            "type": "reasoning",
            "id": "rs_2",
            "summary": [],
            "content": [{"type": "reasoning_text", "text": "hm"}],
        },
        # An older Codex CLI, which takes the ids off.
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]},
    ],
)
def test_codex_does_not_bring_the_reasoning_of_another_backend(item: JsonObject) -> None:
    assert with_input(item, USER, codex=True)[0] == [USER]


def test_an_empty_input_is_upstreams_to_judge() -> None:
    assert with_input() == ([], ())


# --- what is refused


@pytest.mark.parametrize(
    ("keys", "param", "words"),
    [
        ({"model": None}, "model", "no `model`"),
        ({"model": ""}, "model", "no `model`"),
        ({"model": 7}, "model", "a string, not a number"),
        ({"input": None}, "input", "no `input`"),
        ({"input": 7}, "input", "a string or an array, not a number"),
        ({"input": {}}, "input", "not an object"),
        ({"input": [USER, "a"]}, "input[1]", "an object, not a string"),
        ({"stream": "yes"}, "stream", "a boolean, not a string"),
        ({"stream": 1}, "stream", "a boolean, not a number"),
        ({"store": 0}, "store", "a boolean"),
        ({"tools": {}}, "tools", "an array, not an object"),
        ({"include": "a"}, "include", "an array"),
        ({"instructions": []}, "instructions", "a string, not an array"),
        ({"background": True}, "background", "not available"),
    ],
)
def test_a_request_that_cannot_be_sent_is_refused_with_the_field(
    keys: JsonObject, param: str, words: str
) -> None:
    error = refused(FIT | keys)
    assert error.param == param
    assert words in error.message


@pytest.mark.parametrize("body", [None, [], "text", 7])
def test_a_body_that_is_no_object_is_refused(body: object) -> None:
    assert "the body must be an object" in refused(body).message


def test_a_previous_response_is_refused_with_upstreams_own_code() -> None:
    error = refused(FIT | {"previous_response_id": "resp_1"})
    assert error.code == "previous_response_not_found"
    assert error.param == "previous_response_id"
    assert "whole conversation" in error.message


# --- who wrote it


@pytest.mark.parametrize(
    ("body", "headers", "is_codex"),
    [
        ({"client_metadata": {}}, {}, False),
        ({"client_metadata": {"x": "y"}}, {"user-agent": "OpenAI/Python 3.54.0"}, False),
        ({"client_metadata": {}}, {"x-codex-window-id": "w:0"}, True),
        ({"input": [{"type": "additional_tools"}, USER]}, {}, True),
        ({"input": [USER, {"type": "additional_tools"}]}, {}, False),
        ({}, {"x-codex-turn-metadata": "{}"}, True),
        ({}, {"x-codex-window-id": "w:0"}, True),
        ({}, {"originator": "codex_exec"}, True),
        ({}, {"originator": "codex-tui"}, True),
        ({}, {"user-agent": "codex_cli_rs/0.169.0 (Debian)"}, True),
        ({}, {"originator": "pi", "user-agent": "pi (linux)"}, False),
        ({}, {"user-agent": "my-codex/1"}, False),
        ({"input": "hello"}, {}, False),
        ({"input": []}, {}, False),
        ({"input": ["no item"]}, {}, False),
    ],
)
def test_codex_is_known_by_its_profile_or_its_body(
    body: JsonObject,
    headers: dict[str, str],
    is_codex: bool,
) -> None:
    from_codex = recognise(headers, body).name == "codex_cli"
    assert is_codex_shaped(body, from_codex=from_codex) is is_codex


# --- nothing else is changed


def differences(before: object, after: object, path: str = "") -> set[str]:
    """Return the paths at which two JSON values differ; lists are compared as they stand."""
    if isinstance(before, dict) and isinstance(after, dict):
        dot = "." if path else ""
        return {
            found
            for key in before.keys() | after.keys()
            for found in (
                differences(before[key], after[key], f"{path}{dot}{key}")
                if key in before and key in after
                else {f"{path}{dot}{key}"}
            )
        }
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        return {
            found
            for index, pair in enumerate(zip(before, after, strict=True))
            for found in differences(*pair, f"{path}[{index}]")
        }
    return set() if before == after and type(before) is type(after) else {path}


def all_differences(before: JsonObject, request: ShapedRequest) -> set[str]:
    """Return the paths that differ, items counted as the client sent them."""
    dropped = {
        change.partition(":")[0]
        for change in request.changes
        if change.startswith("input[") and "]: removed" in change
    }
    items, sent = before["input"], request.body["input"]
    if dropped and isinstance(items, list) and isinstance(sent, list):
        rest = iter(sent)
        aligned = [
            item if f"input[{index}]" in dropped else next(rest) for index, item in enumerate(items)
        ]
        assert next(rest, None) is None
        return differences(before, request.body | {"input": aligned}) | dropped
    return differences(before, request.body)


def named(request: ShapedRequest) -> set[str]:
    return {change.partition(":")[0] for change in request.changes}


def test_captured_requests_are_changed_only_where_it_is_named() -> None:
    by_client: dict[str, set[str]] = {}
    for name, captured in captured_requests().items():
        body = captured["body"]
        names = {key.lower(): value for key, value in captured["headers"]}
        codex = is_codex_shaped(body, from_codex=recognise(names, body).name == "codex_cli")
        assert codex is ("codex" in name.partition("/")[0] and not name.startswith("pi-")), name
        body, said = split(body)
        request = shaped(body, key=None, codex=codex)
        assert any(said.capabilities) is name.startswith("extras-droid"), name
        found = all_differences(body, request)
        assert found == named(request), name
        by_client.setdefault(name.partition("/")[0], set()).update(found)
    assert {name: fields for name, fields in by_client.items() if "codex" not in name} == {
        "droid-noairgap": {"safety_identifier"},
        "droid-responses": {"safety_identifier"},
        "extras-droid-responses": {"safety_identifier"},
        "extras-opencode-responses": {"max_output_tokens", "instructions"},
        "multiturn-droid": {"safety_identifier"},
        "multiturn-opencode": {"max_output_tokens", "instructions"},
        "openai-responses": set(),
        "openai-responses-nostream": {"stream"},
        "opencode-responses": {"max_output_tokens", "instructions"},
        "pi-responses": {"max_output_tokens", "instructions"},
    }
    assert not set().union(*(f for name, f in by_client.items() if "codex" in name))


def test_recorded_requests_are_changed_only_where_it_is_named() -> None:
    requests = [stream.request for stream in recorded_streams() if stream.request is not None]
    assert requests
    for body in requests:
        if body.get("previous_response_id") is None:
            request = shaped(body, key="session")
            assert all_differences(body, request) == named(request)


texts = st.text(max_size=8)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
ids = st.sampled_from(["msg_1", "rs_1", "fc_1", "call_1", "\u00e9" * 65, "", "\U0001f44b"])
items = st.dictionaries(texts, values, max_size=3).flatmap(
    lambda extra: st.fixed_dictionaries(
        {},
        optional={
            "type": st.sampled_from(
                ["message", "reasoning", "function_call", "item_reference", "\u00fc"]
            ),
            "role": st.sampled_from(["system", "user", "assistant"]),
            "id": ids,
            "call_id": st.sampled_from(["", "call_1"]),
            "encrypted_content": st.sampled_from([None, "x"]),
            "content": values,
        },
    ).map(lambda known: {**extra, **known})
)
unknown_fields = texts.map("x-{}".format)  # never one that the relay knows
bodies = st.dictionaries(unknown_fields, values, max_size=4).flatmap(
    lambda extra: st.fixed_dictionaries(
        {"model": st.just("m"), "input": texts | st.lists(items, max_size=5)},
        optional={
            "stream": st.none() | st.booleans(),
            "store": st.none() | st.booleans(),
            "instructions": st.none() | texts,
            "include": st.none() | st.lists(texts, max_size=2),
            "service_tier": st.sampled_from(["fast", "auto"]),
            "temperature": values,
            "tools": st.lists(
                st.fixed_dictionaries({"type": st.sampled_from(["web_search_preview", "x"])}),
                max_size=2,
            ),
        },
    ).map(lambda known: {**extra, **known})
)


@given(body=bodies, codex=st.booleans())
def test_every_request_is_changed_only_where_it_is_named(
    body: JsonObject,
    codex: bool,
) -> None:
    try:
        request = shaped(body, key="session", codex=codex)
    except RequestError as error:
        assert "nothing of `input`" in error.message  # noqa: PT017
        return
    assert all_differences(body, request) == named(request)
    again = shaped(request.body, key="session", codex=codex)
    assert again.changes == ()
    assert again.body == request.body
