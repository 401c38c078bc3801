"""What a log line looks like."""

from __future__ import annotations

import re

import pytest

from codexrelay.cli import logs


def line(event: str, **more: object) -> str:
    return logs._render(
        None, "error", {"timestamp": "12:00:00", "level": "error", "event": event, **more}
    )


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("plain", "plain"),
        (2.5, "2.5"),
        ("", "''"),
        ("two words", "'two words'"),
        ("a=b", "'a=b'"),
        ("one\ntwo", r"'one\ntwo'"),
        ("\x1b[2Jgone", r"'\x1b[2Jgone'"),
        ("\x9b2Jgone", r"'\x9b2Jgone'"),
        ("\u202etfel", r"'\u202etfel'"),
        ("M\u00fcller", "M\u00fcller"),
    ],
)
def test_a_value_is_one_word_that_no_terminal_obeys(value: object, shown: str) -> None:
    told = line("turn failed", model=value, account=None)
    assert told == f"12:00:00 error   turn failed              model={shown}"


def test_a_traceback_stands_below_its_line_and_no_terminal_obeys_it() -> None:
    told = line("unforeseen", exception="Traceback:\nValueError: \x1b[2Jgone")
    assert told == "12:00:00 error   unforeseen\nTraceback:\nValueError: \\x1b[2Jgone"


def test_a_line_begins_with_the_time_of_day_and_the_level() -> None:
    told = logs._Lines()(None, "info", {"event": "turn completed", "request": "req_1"})
    assert re.fullmatch(r"\d\d:\d\d:\d\d info    turn completed           request=req_1", told)


def test_of_an_exception_the_traceback_is_told_and_of_none_nothing() -> None:
    lines, error = logs._Lines(), ValueError("of a test")
    assert "ValueError: of a test" in lines(None, "error", {"event": "e", "exc_info": error})
    assert lines(None, "error", {"event": "e", "exc_info": None}).endswith("error   e")
