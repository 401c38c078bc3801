"""Every function that is timed does its work; nothing is timed here."""

from __future__ import annotations

import pytest

from benchmarks.micro.case import Case, Timing, micro_table, said
from benchmarks.micro.cases import every_case
from benchmarks.micro.inputs import chat_events, in_blocks, responses_deltas

CASES = every_case()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_case_can_be_repeated(case: Case) -> None:
    work = case.prepare()
    work()
    work()


def test_no_two_cases_have_one_name() -> None:
    assert len({case.name for case in CASES}) == len(CASES)


def test_an_event_has_the_size_that_is_told() -> None:
    assert 265 <= len(responses_deltas(3)[1]) <= 275
    assert 255 <= len(chat_events(3)[1]) <= 265


def test_blocks_hold_the_whole_stream() -> None:
    events = responses_deltas(500)
    blocks = in_blocks(events, 1000)
    assert {len(block) for block in blocks[:-1]} == {1000}
    assert b"".join(blocks) == b"".join(events)


def test_the_table_has_a_line_for_what_was_timed() -> None:
    cases = [Case(name=name, given="nothing", prepare=lambda: list) for name in ("a", "b")]
    assert micro_table(cases, {"b": Timing(2.5e-6, 1e-8)}).splitlines() == [
        "| function | given | time per | median | ± |",
        "| --- | --- | --- | --- | --- |",
        "| b | nothing | call | 2.5 µs | 10 ns |",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0 ns"), (1.234e-7, "123 ns"), (1e-6, "1 µs"), (1.2345e-3, "1,234 µs")],
)
def test_a_time_is_told_in_its_unit(seconds: float, text: str) -> None:
    assert said(seconds) == text
