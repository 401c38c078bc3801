"""Samples become shares of rooms, and a picture."""

from __future__ import annotations

import pytest

from benchmarks.rooms import RELAY
from benchmarks.stacks import NOBODY, Share, collapsed, flame, functions, read_stacks, shares

TRIO = "/x/site-packages/trio/_core/_run.py"
OURS = "/x/src/codexrelay"
LINES = [
    f"main ({OURS}/cli/serve.py:1);unrolled_run ({TRIO}:9);run_turn ({OURS}/relay/turn.py:2) 3",
    f"main ({OURS}/cli/serve.py:1);unrolled_run ({TRIO}:9);run_turn ({OURS}/relay/turn.py:2);"
    f"send ({TRIO}:7) 1",
    f"main ({OURS}/cli/serve.py:1);unrolled_run ({TRIO}:9) 4",
    "Thread.run (/x/lib/python3.11/threading.py);WorkerThread._work (/x/site-packages/trio/a.py) 9",
]


def test_a_library_counts_for_the_room_that_calls_it() -> None:
    assert shares(read_stacks(LINES)) == [
        Share(f"{RELAY}/relay", 0.375, 0.5),
        Share(NOBODY, 0.0, 0.5),
        Share("trio", 0.625, 0.0),
    ]


def test_how_the_program_started_is_left_out_and_so_are_threads_that_wait() -> None:
    assert collapsed(read_stacks(LINES)).splitlines() == [
        "trio: unrolled_run (_run.py:9);codexrelay/relay: run_turn (turn.py:2) 3",
        "trio: unrolled_run (_run.py:9);codexrelay/relay: run_turn (turn.py:2);"
        "trio: send (_run.py:7) 1",
        "trio: unrolled_run (_run.py:9) 4",
    ]


def test_a_function_has_its_own_time_and_that_of_all_it_calls() -> None:
    assert functions(read_stacks(LINES)) == [
        ("trio: unrolled_run (_run.py:9)", 0.5, 1.0),
        ("codexrelay/relay: run_turn (turn.py:2)", 0.375, 0.5),
        ("trio: send (_run.py:7)", 0.125, 0.125),
    ]


@pytest.mark.parametrize("lines", [[], ["", "no count"], ["strange 1"]])
def test_a_sampler_that_says_little_breaks_nothing(lines: list[str]) -> None:
    if lines == ["", "no count"]:
        with pytest.raises(ValueError, match="count"):
            read_stacks(lines)
        return
    stacks = read_stacks(lines)
    assert sum(share.own for share in shares(stacks)) in (0, 1)
    assert "<svg" in flame(stacks, title="t")


def test_the_picture_names_what_it_shows_and_escapes_it() -> None:
    picture = flame(read_stacks(["unrolled_run (a.py);<lambda> (b.py) 1"]), title="a & b")
    assert "&lt;lambda&gt; (b.py)" in picture
    assert "a &amp; b" in picture
    assert "<script" not in picture
