"""Which results a later one makes stale."""

from __future__ import annotations

import sys
from random import Random

import pytest

from codexrelay.compaction.results import results_of
from codexrelay.compaction.settings import STUB_MARK
from codexrelay.compaction.stale import stale_results
from tests.compaction.written import Said, chat, lines

LONG = lines(60)


def stale(*said: Said, newest: int = 1) -> list[int]:
    """Return the numbers of the calls whose results are stale."""
    results = results_of(chat(*said))
    return sorted(results.index(result) for result, _ in stale_results(results, newest=newest))


def read(offset: int, limit: int, shown: int | None = None) -> Said:
    """Return how pi and OpenCode read lines of a file; their first line is 1."""
    arguments = {"path": "a", "offset": offset, "limit": limit}
    return ("read", dict(arguments), lines(limit if shown is None else shown))


def whole(shown: int) -> Said:
    return ("read", {"path": "a"}, lines(shown))


EDIT: Said = ("edit", {"path": "a", "edits": []}, LONG)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("bash", {"command": "cat a.py"}), ("bash", {"command": "cat b.py"})),
        (("bash", {"command": "git status"}), ("bash", {"command": "git diff HEAD~1"})),
        (("Execute", {"command": "npm install"}), ("Execute", {"command": "npm test"})),
        (("Grep", {"pattern": "x", "path": "/p"}), ("Grep", {"pattern": "y", "path": "/p"})),
        (("edit", {"path": "/p"}), ("edit", {"path": "/p"})),
        (("read", {"path": "/p"}), ("edit", {"path": "/p"})),
        (("read", {"path": "/p"}), ("bash", {"command": "cat /p"})),
        (("shell", {"command": ["cat", "a"]}), ("shell", {"command": ["cat", "b"]})),
        (("write_stdin", {"session_id": 1}), ("write_stdin", {"session_id": 1})),
    ],
    ids=lambda call: f"{call[0]} {next(iter(call[1].values()))}",
)
def test_results_of_different_resources_all_stay(
    one: tuple[str, dict[str, object]], other: tuple[str, dict[str, object]]
) -> None:
    assert stale((*one, LONG), (*other, LONG)) == []


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("read", {"filePath": "/a.py"}),
        ("Read", {"file_path": "/a.py"}),
        ("read", {"path": "/a.py"}),
        ("LS", {"directory_path": "/a"}),
        ("Glob", {"patterns": ["*.py"], "folder": "/a"}),
        ("shell", {"command": ["bash", "-lc", "git status"]}),
        ("exec_command", {"cmd": "git status"}),
        ("view_image", {"path": "/a.png"}),
        ("run_tests", {}),
        ("get_goal", {}),
    ],
)
def test_an_equal_call_makes_all_but_the_newest_result_stale(
    name: str, arguments: dict[str, object]
) -> None:
    one: Said = (name, arguments, LONG)
    assert stale(one, EDIT, one, one) == [0, 2]
    assert stale(one, EDIT, one, one, newest=2) == [0]
    assert stale(one, EDIT, one, one, newest=3) == []


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        (read(11, 20), whole(100)),
        (read(81, 20), whole(100)),
        (read(81, 50, shown=20), whole(100)),
        (read(11, 20), read(1, 100)),
        (read(11, 20), read(11, 20)),
        (read(11, 20), read(5, 30)),
        (whole(30), ("read", {"path": "a", "offset": 1}, lines(40))),
    ],
    ids=["whole", "to its end", "beyond its end", "more", "equal", "both ends", "first line"],
)
def test_a_read_that_shows_the_lines_again_makes_a_read_stale(earlier: Said, later: Said) -> None:
    assert stale(earlier, EDIT, later) == [0]
    assert stale(earlier, later, newest=2) == []
    assert stale(earlier, later, later, newest=2) == [0]


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        (whole(100), read(11, 20)),
        (whole(100), read(1, 100)),
        (read(11, 20), read(12, 20)),
        (read(11, 20), read(11, 19)),
        (read(11, 20), ("read", {"path": "b"}, lines(100))),
        (read(11, 20), ("Read", {"path": "a"}, lines(100))),
        (read(2001, 20), whole(2000)),
        (read(95, 5), ("read", {"path": "a"}, lines(98) + "\n(Truncated. Use offset=99.)")),
        (
            read(51, 10),
            ("read", {"path": "a"}, f"{lines(50)}\n(Use offset=51.)\n<system-reminder>\n{LONG}"),
        ),
        (("x_read", {"path": "a", "head": 5}, LONG), ("x_read", {"path": "a"}, LONG)),
    ],
    ids=[
        "a part",
        "nobody knows that it is all",
        "begins later",
        "ends earlier",
        "another file",
        "another tool",
        "cut where the tool ends",
        "cut, and the tool says so",
        "the lines behind it are not the file's",
        "a range that is not understood",
    ],
)
def test_a_read_that_does_not_show_all_lines_again_makes_nothing_stale(
    earlier: Said, later: Said
) -> None:
    assert stale(earlier, later) == []


def test_what_a_stale_result_has_made_stale_stays_so() -> None:
    longer, shorter = read(11, 20), read(11, 20, shown=10)
    assert stale(longer, shorter) == [0]
    assert stale(longer, whole(25)) == []
    assert stale(longer, shorter, whole(25)) == [0, 1]


def test_lines_are_not_taken_as_shown_where_a_tool_writes_them_in_one() -> None:
    all_of_it: Said = ("read_file", {"path": "a"}, '{"content": "…"}')
    part: Said = ("read_file", {"path": "a", "start_line": 1, "end_line": 5}, '{"content": "…"}')
    assert stale(all_of_it, part) == []


@pytest.mark.parametrize(
    "notice",
    [
        "",
        " \n",
        "Error: ENOENT",
        "error reading file",
        "cat: a.py: No such file or directory",
        "File not found: a.py",
        "Tool execution aborted",
        "The user rejected this call",
        "[Request interrupted by user]",
        "Command timed out after 120 s",
        "Permission denied",
        "File unchanged since last read",
        '{"error": "busy"}',
        "[Old tool result content cleared]",
        "<tool_use_error>gone</tool_use_error>",
        "Chunk ID: 1\nWall time: 10 s\nProcess running with session ID 5\nOutput:\n" + LONG,
        "Script running with cell ID 5\nOutput:\n" + LONG,
    ],
)
def test_after_a_result_that_tells_nothing_the_earlier_one_is_still_the_last_known(
    notice: str,
) -> None:
    call = ("bash", {"command": "cat a.py"})
    assert stale((*call, LONG), (*call, notice)) == []
    assert stale((*call, LONG), (*call, LONG), (*call, notice)) == [0]


@pytest.mark.parametrize(
    "answer", ["ok", "120 passed", "0 errors", "nothing to commit", lines(20) + "\nError: 7 failed"]
)
def test_a_short_answer_is_an_answer(answer: str) -> None:
    call = ("bash", {"command": "npm test"})
    assert stale((*call, LONG), (*call, answer)) == [0]


@pytest.mark.parametrize("newest", [1, 3])
def test_what_many_reads_of_one_file_make_stale_is_what_each_of_them_does(newest: int) -> None:
    """Also where there are more than are looked through one by one."""
    random = Random(7)
    said = [read(random.randrange(1, 500), random.choice([5, 10, 80])) for _ in range(400)]
    results = results_of(chat(*said))
    ranges = [(one["offset"], one["offset"] + one["limit"]) for _, one, _ in said]
    expected = [
        number
        for number, (first, end) in enumerate(ranges)
        if sum(one <= first and other >= end for one, other in ranges[number + 1 :]) >= newest
    ]
    found = [results.index(one) for one, _ in stale_results(results, newest=newest)]
    assert found == expected[::-1]
    assert 20 < len(expected) < 380


def test_a_file_read_backwards_is_gone_through_in_little_more_than_one_look_at_each() -> None:
    """Nothing of these is shown again, which a search of all later ones would find out last."""
    results = results_of(chat(*(read(first, 4) for first in range(4001, 1, -4))))
    looked = 0

    def look(*_: object) -> None:
        nonlocal looked
        looked += 1

    sys.setprofile(look)
    try:
        assert list(stale_results(results, newest=1)) == []
    finally:
        sys.setprofile(None)
    assert looked < 400 * len(results)


def test_a_stub_makes_nothing_stale_and_is_not_stale() -> None:
    one: Said = ("read", {"path": "a"}, LONG)
    stub: Said = ("read", {"path": "a"}, f"{STUB_MARK} gone")
    assert stale(one, stub) == []
    assert stale(stub, one) == []


def test_further_results_of_one_call_are_left_out_of_account() -> None:
    body = chat(("exec", {}, LONG), ("exec", {}, LONG))
    first = body["messages"][3]
    body["messages"].insert(4, first)
    results = results_of(body)
    assert [one.place for one, _ in stale_results(results, newest=1)] == [3]
