"""Ranges of lines in the arguments of tools that read files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from codexrelay.compaction.spans import Span, span_of

if TYPE_CHECKING:
    from codexrelay.protocol.raw import JsonObject


@pytest.mark.parametrize(
    ("name", "arguments", "first", "end"),
    [
        ("read", {"filePath": "a"}, 0, None),
        ("read", {"filePath": "a", "offset": 11, "limit": 5}, 10, 15),
        ("read", {"path": "a", "offset": 0, "limit": 5}, 0, 5),
        ("read", {"path": "a", "limit": 5}, 0, 5),
        ("read", {"path": "a", "offset": "11"}, 10, None),
        ("Read", {"file_path": "a", "offset": 10, "limit": 5}, 10, 15),
        ("read_file", {"path": "a", "start_line": 11, "end_line": 15}, 10, 15),
        ("read_file", {"path": "a", "startLine": 11}, 10, None),
        ("read_file", {"path": "a", "endLine": 15}, 0, 15),
        ("view", {"path": "a", "view_range": [11, 15]}, 10, 15),
        ("view", {"path": "a", "view_range": [11, -1]}, 10, None),
        ("view", {"path": "a", "view_range": [11.0, 15.0]}, 10, 15),
    ],
)
def test_a_range_is_read_from_the_arguments(
    name: str, arguments: JsonObject, first: int, end: int | None
) -> None:
    assert span_of(name, arguments) == Span("a", first, end)


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"offset": 1},
        {"path": 7},
        {"path": ["a", "b"]},
        {"path": "a", "file": "b"},
        {"path": "a", "offset": -20},
        {"path": "a", "offset": 1.5},
        {"path": "a", "offset": True},
        {"path": "a", "offset": "ten"},
        {"path": "a", "limit": 0},
        {"path": "a", "limit": "all"},
        {"path": "a", "offset": 1, "end_line": 3},
        {"path": "a", "start_line": 9, "end_line": 3},
        {"path": "a", "start_line": 1, "startLine": 3},
        {"path": "a", "view_range": [1]},
        {"path": "a", "view_range": []},
        {"path": "a", "view_range": "1-20"},
        {"path": "a", "view_range": [1, None]},
        {"path": "a", "view_range": [1, 2], "offset": 1},
        {"path": "a", "mode": "indentation", "offset": 5},
        {"path": "a", "head": 20},
    ],
)
def test_a_range_that_is_not_understood_is_none(arguments: JsonObject) -> None:
    assert span_of("read_file", arguments) is None


def test_a_result_reaches_no_further_than_was_asked() -> None:
    assert Span("a", 10, None).reach(7) == 17
    assert Span("a", 10, 15).reach(7) == 15
    assert Span("a", 10, 15).reach(2) == 12
