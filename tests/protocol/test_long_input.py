"""Of a long request `input` goes on as it was written, and all of it says what it should."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codexrelay.protocol.long_input import LONG_BYTES, LongInput
from codexrelay.protocol.raw import dump, parse_object

if TYPE_CHECKING:
    from codexrelay.protocol.raw import Json, JsonObject

#: Texts that look like the borders which are looked for.
_TRAPS: Final = (
    '"input": [',
    '],"tools":[]}',
    "]}",
    '\\"input": [',
    'x"input',
    "grün ✓\n\t\\",
    '{"input":[{"a":1}],"tools":[]}',
)
_TEXTS = st.sampled_from(_TRAPS) | st.text(max_size=8)
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | _TEXTS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["input", "tools", "a"]) | _TEXTS, inner, max_size=3)
    ),
    max_leaves=8,
)
_ITEMS = st.lists(
    st.dictionaries(st.sampled_from(["input", "tools", "text"]), _VALUES, max_size=3), max_size=4
)
_NAMES = st.sampled_from(["model", "tools", "store", "a", "grün"])


@st.composite
def bodies(draw: st.DrawFn) -> JsonObject:
    before = draw(st.dictionaries(_NAMES, _VALUES, max_size=3))
    behind = draw(st.dictionaries(_NAMES, _VALUES, max_size=3))
    items: list[Json] = list(draw(_ITEMS))
    return {**before, "input": items, **{k: v for k, v in behind.items() if k not in before}}


def long_enough(data: bytes) -> bytes:
    return b" " * LONG_BYTES + data


def of(data: bytes) -> tuple[LongInput, JsonObject]:
    body = parse_object(data)
    long = LongInput.of(data, body)
    assert long is not None
    return long, body


@given(body=bodies(), indent=st.none() | st.just(1), ascii_only=st.booleans())
def test_what_is_written_says_what_it_should(
    body: JsonObject, indent: int | None, *, ascii_only: bool
) -> None:
    data = json.dumps(body, indent=indent, ensure_ascii=ascii_only).encode()
    long, read = of(long_enough(data))
    wanted = {**read, "store": False, "more": 1}
    written = long.dump(wanted)
    assert parse_object(written) == wanted
    assert list(parse_object(written)) == list(wanted)


@pytest.mark.parametrize("behind", ["", ', "tools": [{"input": []}], "stream": true'])
def test_the_client_s_own_writing_stays(behind: str) -> None:
    items = r'[ {"text": "gr\u00fcn [\"input\": [] ],\"tools\":[]}"} , {}  ]'
    data = f'{{"model": "m", "input" : {items} {behind}}}'.encode()
    long, body = of(long_enough(data))
    assert items.encode() in long.dump({**body, "model": "other"})


@pytest.mark.parametrize(
    "data",
    [
        b'{"input": "a text"}',
        b'{"input": []}  ',
        b'{"\\u0069nput": [{}]}',
        b'{"input": [{}]' + b" " * 80 + b"}",
        b'{"input": [{}], "input": [{}, {}]}',
        b'{"a": {"input": []}, "b": {"input": []}, "c": {"input": []}, "d": {"input": []},'
        b' "e": {"input": []}, "input": [{}]}',
    ],
    ids=["a text", "blanks", "escaped", "many blanks", "twice", "in many places"],
)
def test_what_is_not_found_is_written_anew(data: bytes) -> None:
    long, body = of(long_enough(data))
    assert parse_object(long.dump(body)) == body


def test_another_list_is_written_anew() -> None:
    long, body = of(long_enough(b'{"input": [ {"a": 1} ]}'))
    assert long.dump({**body, "input": [{"a": 2}]}) == b'{"input":[{"a":2}]}'


def test_the_text_is_let_go_of_once_it_was_written() -> None:
    long, body = of(long_enough(b'{"input": [ ]}'))
    assert long.dump(body) == b'{"input":[ ]}'
    assert long.dump(body) == dump(body)


def test_a_short_request_is_written_anew() -> None:
    assert LongInput.of(b'{"input": []}', {"input": []}) is None
