"""Wire JSON is read and written as it is."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codexrelay.protocol.raw import Json, dump, get_number, parse, parse_object

texts = st.text(st.characters())  # with lone surrogates
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)


@given(value=values)
def test_whatever_is_written_reads_back_the_same(value: Json) -> None:
    assert parse(dump(value)) == value


def test_half_a_surrogate_pair_passes_as_the_escape_it_came_as() -> None:
    body = b'{"text":"cut \\ud83d","more":"\xc3\xbc"}'
    assert parse(dump(parse(body))) == {"text": "cut \ud83d", "more": "ü"}
    assert b"\\ud83d" in dump(parse(body))


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"NaN",
        b"[1,]",
        b'{"a":Infinity}',
        b'{"a":NaN,"b":"\\ud83d"}',
        b"\xff",
        b'"\\ud83',
    ],
)
def test_what_is_no_json_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - whichever kind of it
        parse(text)


def test_an_object_is_asked_for_by_name() -> None:
    with pytest.raises(ValueError, match="an array"):
        parse_object(b"[]")


@pytest.mark.parametrize("opening", ["[", '{"a":'], ids=["arrays", "objects"])
def test_json_nested_too_deeply_cannot_be_written(opening: str) -> None:
    value: Json = 1
    for _ in range(100_000):  # beyond what any Python's C stack takes
        value = [value] if opening == "[" else {"a": value}
    with pytest.raises(ValueError, match="cannot be written"):
        dump(value)


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (1, 1.0),
        ("2.5", 2.5),
        (True, None),
        ("soon", None),
        ("nan", None),
        ("inf", None),
        (None, None),
    ],
)
def test_a_number_may_come_as_text(value: Json, number: float | None) -> None:
    found = get_number({"a": value}, "a")
    assert found == number
    assert found is None or math.isfinite(found)
