"""Whose code a function is, and how a profile is added up."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from benchmarks.calls import STEADY, Room, counted_of
from benchmarks.measurements import MEASUREMENTS
from benchmarks.rooms import room_of

if TYPE_CHECKING:
    from benchmarks.calls import Profile

(FIRST,) = (measurement for measurement in MEASUREMENTS if measurement.name == "first-event")
TURN = ("/x/src/codexrelay/relay/turn.py", 10, "run_turn")
RUN = ("/x/lib/python3.11/site-packages/trio/_core/_run.py", 20, "run")
SEND = ("~", 0, "<method 'send'>")
PROFILE: Profile = {
    TURN: (4, 4, 0.0, 0.0, {RUN: (4, 4, 0.0, 0.0)}),
    RUN: (2, 6, 0.0, 0.0, {}),
    SEND: (5, 5, 0.0, 0.0, {TURN: (3, 3, 0.0, 0.0), RUN: (1, 1, 0.0, 0.0)}),
}


@pytest.mark.parametrize(
    ("filename", "room"),
    [
        ("/x/src/codexrelay/relay/turn.py", "codexrelay/relay"),
        ("/x/lib/python3.11/site-packages/codexrelay/backends/codex/a.py", "codexrelay/backends"),
        ("/x/src/codexrelay/errors.py", "codexrelay/errors"),
        ("/x/lib/python3.11/site-packages/trio/_core/_run.py", "trio"),
        ("/x/lib/python3.11/contextlib.py", "stdlib"),
        (json.__file__, "stdlib"),
        ("<frozen importlib._bootstrap>", "stdlib"),
        ("<attrs generated init codexrelay.relay.line.Line>", "codexrelay/relay"),
        ("<attrs generated eq trio._core._run.Task>", "trio"),
        ("<string>", "other"),
        ("/home/me/program.py", "other"),
        ("~", "C"),
    ],
)
def test_a_function_belongs_to_a_room(filename: str, room: str) -> None:
    assert room_of(filename) == room


def test_a_call_into_c_belongs_to_the_room_that_makes_it() -> None:
    counted = counted_of(FIRST, PROFILE, 2)
    assert counted.rooms == (
        Room("codexrelay/relay", 2.0, 1.5),
        Room("trio", 3.0, 0.5),
        Room("C", 0.0, 0.5),
    )
    assert counted.all == 7.5


def test_the_most_called_functions_are_named_without_their_folders() -> None:
    counted = counted_of(FIRST, PROFILE, 2)
    assert list(counted.functions) == [
        "trio: _run.py:20 run",
        "<method 'send'>",
        "codexrelay/relay: turn.py:10 run_turn",
    ]
    lines = counted.table(top=1).splitlines()
    assert lines[0] == "first-event: 7.50 calls for each request (2)"
    assert lines[-1] == "| `trio: _run.py:20 run` | 3.00 |"


def test_what_is_counted_unless_told_otherwise_are_measurements() -> None:
    assert set(STEADY) <= {measurement.name for measurement in MEASUREMENTS}
