"""When a request goes on where an answered one ended."""

from __future__ import annotations

import copy
import json
import time
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from codexrelay.protocol.continuation import Answered, Asked, digests_of

if TYPE_CHECKING:
    from codexrelay.protocol.raw import Json, JsonObject

ITEM: Final[JsonObject] = {"type": "message", "role": "user", "content": "hi"}


def body(*items: Json, **fields: Json) -> JsonObject:
    return {"model": "m", "input": list(items), **fields}


def asked(*items: Json, **fields: Json) -> Asked:
    made = Asked.of(body(*items, **fields))
    assert made is not None
    return made


def answered(*items: Json, output: tuple[Json, ...] = (), **fields: Json) -> Answered:
    return asked(*items, **fields).answered("resp_1", digests_of(output))


def same(one: Json, other: Json) -> bool:
    return digests_of([one]) == digests_of([other])


@pytest.mark.parametrize(
    "sent_back",
    [
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "a"}]},
        {
            "content": [
                {"text": "a", "type": "output_text", "annotations": [{"x": 1}], "logprobs": [1]}
            ],
            "type": "message",
            "role": "assistant",
            "metadata": {"x": 1},
            "name": None,
            "internal_chat_message_metadata_passthrough": {"x": 1},
        },
    ],
    ids=["less", "more"],
)
def test_an_item_is_the_same_with_and_without_what_says_nothing(sent_back: JsonObject) -> None:
    came: JsonObject = {
        "id": "msg_1",
        "type": "message",
        "status": "completed",
        "role": "assistant",
        "content": [{"type": "output_text", "annotations": [], "logprobs": [], "text": "a"}],
        "phase": None,
    }
    assert same(came, sent_back)


def test_arguments_are_compared_as_json() -> None:
    def call(arguments: str) -> JsonObject:
        return {"type": "function_call", "call_id": "c", "name": "f", "arguments": arguments}

    assert same(call('{"a":1,"b":[2]}'), call('{ "b": [2], "a": 1 }'))
    assert not same(call('{"a":1}'), call('{"a":2}'))
    assert not same(call('{"a":0.1234567890123456789}'), call('{"a":0.1234567890123456788}'))
    assert not same(call("{a:1}"), call("{a: 1}"))
    assert not same(call('{"a":1}'), call('{"a":1.0}'))
    assert not same(call('{"a":1,"a":2}'), call('{"a":2}'))
    assert not same(call('{"a":2}'), call('{"a":1,"a":2}'))


@pytest.mark.parametrize("name", ["output", "content"])
def test_a_text_that_the_client_has_said_is_compared_as_it_is(name: str) -> None:
    assert not same({name: '{"a": 1}'}, {name: '{"a":1}'})
    assert not same({name: "[1, 2]"}, {name: "[1,2]"})


def test_an_item_that_is_only_a_reference_is_what_it_refers_to() -> None:
    def to(item_id: str) -> JsonObject:
        return {"type": "item_reference", "id": item_id}

    assert same(to("msg_1"), to("msg_1"))
    assert not same(to("msg_1"), to("msg_2"))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"type": "input_image", "image_url": "data:a"}, {"type": "input_image", "image_url": "b"}),
        ({"type": "input_text", "text": "a"}, {"type": "output_text", "text": "a"}),
        ({"type": "input_file", "file_id": "a"}, {"type": "input_file", "file_id": "b"}),
    ],
    ids=["image", "kind", "file"],
)
def test_another_part_is_another_item(one: JsonObject, other: JsonObject) -> None:
    def message(part: JsonObject) -> JsonObject:
        return {"type": "message", "role": "user", "content": [part]}

    def result(part: JsonObject) -> JsonObject:
        return {"type": "function_call_output", "call_id": "c", "output": [part]}

    assert not same(message(one), message(other))
    assert not same(result(one), result(other))


@pytest.mark.parametrize(
    "fields",
    [
        {"instructions": "b"},
        {"reasoning": {"effort": "low"}},
        {"tool_choice": "none"},
        {"parallel_tool_calls": False},
        {"store": True},
        {"include": []},
        {"text": {"verbosity": "low"}},
        {"prompt_cache_key": "l"},
        {"service_tier": "priority"},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_another_field_goes_on_from_nothing(fields: JsonObject) -> None:
    given: JsonObject = {
        "instructions": "a",
        "reasoning": {"effort": "high"},
        "store": False,
        "include": ["reasoning.encrypted_content"],
        "prompt_cache_key": "k",
    }
    before = answered(ITEM, **given)
    assert before.known_of(asked(ITEM, **given)) == 1
    assert before.known_of(asked(ITEM, **{**given, **fields})) is None


def test_after_a_compaction_everything_is_sent() -> None:
    summary: JsonObject = {"type": "compaction", "encrypted_content": "x"}
    before = answered(ITEM, {"type": "compaction_trigger"}, output=(summary,))
    assert before.known_of(asked(summary, ITEM)) is None


def test_what_is_sent_beside_the_question_does_not_matter() -> None:
    before = answered(ITEM, stream=True, client_metadata={"a": 1}, background=False)
    assert before.known_of(asked(ITEM, type="response.create", generate=False)) == 1


@pytest.mark.parametrize("given", ["hi", None, [ITEM, "hi"]], ids=["text", "nothing", "mixed"])
def test_an_input_that_is_no_list_of_items_goes_on_from_nothing(given: Json) -> None:
    assert Asked.of({"model": "m", "input": given}) is None


def test_half_a_surrogate_pair_has_a_digest() -> None:
    assert same({"content": "\ud83d", "n": 2**70}, {"n": 2**70, "content": "\ud83d"})
    assert not same({"content": "\ud83d"}, {"content": "\ud83e"})


def test_five_megabytes_take_tens_of_milliseconds() -> None:
    text = json.dumps({"k": "v" * 5000})
    items: list[Json] = [
        {"type": "function_call_output", "call_id": f"c{n}", "output": text} for n in range(1000)
    ]
    took_s = []
    for _ in range(3):
        began_s = time.perf_counter()
        asked(*items)
        took_s.append(time.perf_counter() - began_s)
    assert min(took_s) < 0.5  # measured: 0.02 s; this bound is for machines that are busy


_LEAVES = st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5)
_VALUES = st.recursive(
    _LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["text", "type", "call_id", "id"]), inner, max_size=3)
    ),
    max_leaves=8,
)
_NAMES = st.sampled_from(["type", "role", "content", "output", "arguments", "call_id", "name"])
_ITEMS = st.lists(st.dictionaries(_NAMES, _VALUES, max_size=4), max_size=5)


@given(items=_ITEMS, output=_ITEMS, new=_ITEMS)
def test_what_repeats_everything_goes_on(
    items: list[Json], output: list[Json], new: list[Json]
) -> None:
    before = answered(*items, output=tuple(output))
    assert before.known_of(asked(*copy.deepcopy(items), *output, *new)) == len(items) + len(output)


def _plain(item: object) -> object:
    """Return an item without nulls, as a change to those is none."""
    if isinstance(item, dict):
        return {name: _plain(value) for name, value in item.items() if value is not None}
    return [_plain(value) for value in item] if isinstance(item, list) else item


@given(items=_ITEMS.filter(bool), new=_ITEMS, data=st.data())
def test_an_edited_history_never_goes_on(
    items: list[Json], new: list[Json], data: st.DataObject
) -> None:
    at = data.draw(st.integers(0, len(items) - 1))
    edited = [*items]
    edited[at] = {**items[at], "text": "edited", "role": "editor"}  # type: ignore[dict-item]
    assume(_plain(edited[at]) != _plain(items[at]))
    before = answered(*items)
    assert before.known_of(asked(*edited, *new)) is None
    assert before.known_of(asked(*items[:-1])) is None, "less than before"
    shuffled = [*items[1:], items[0]]
    if digests_of(shuffled) != digests_of(items):
        assert before.known_of(asked(*shuffled)) is None
    assert before.known_of(asked(*items, *new, model="n")) is None
    assert before.known_of(asked(*items, *new, tools=[])) is None
