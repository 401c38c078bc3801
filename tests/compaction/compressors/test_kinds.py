"""What each compressor makes of outputs, in small; what of real ones must be left."""

from __future__ import annotations

import json

import pytest

from codexrelay.compaction.compressors.compressor import sample_of
from tests.compaction.compressors.driven import LEVELS, MEMBERS, NOWHERE, compressed, samples, told

SAMPLES = samples()


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b]0;a title\x07prompt", "prompt"),
        ("\x1b]8;;https://x.example\x1b\\a link\x1b]8;;\x1b\\", "a link"),
        ("N\bNA\bAM\bME\bE", "NAME"),
        ("bell\x07 and \x00zero", "bell and zero"),
        (" 1%\r 50%\r100%\ndone", "100%\ndone"),
        ("\x1b[2K\x1b[1G⠋ 1/2\x1b[2K\x1b[1G⠙ 2/2\n", "⠙ 2/2\n"),
        ("get 1%\rerror: no net\rget 2%", "get 1%\rerror: no net\rget 2%"),
        ("one\rtwo\rthree", "one\rtwo\rthree"),
        ("dos\r\nlines\r\n", "dos\r\nlines\r\n"),
        ("\x1b\x1b[0m[31mx", "[31mx"),
    ],
)
def test_ansi(text: str, left: str) -> None:
    assert compressed("ansi", text) == left


def test_an_escape_at_the_end_of_a_step_goes_too() -> None:
    for before in range(23_970, 24_010):
        assert (
            compressed("ansi", "x" * before + "\x1b[31mred\x1b]8;;u\x1b\\.")
            == "x" * before + "red."
        )


def test_progress_leaves_the_last_of_each_kind() -> None:
    layers = [
        f"{layer}: Downloading [{'=' * n}>{' ' * (10 - n)}] {n}MB/10MB"
        for n in range(10)
        for layer in ("aaaaaaaaaaaa", "bbbbbbbbbbbb")
    ]
    text = "\n".join(["pulling", *layers, "done"])
    assert compressed("progress", text).splitlines() == [
        "pulling",
        "[… 18 progress lines left out]",
        *layers[-2:],
        "done",
    ]
    assert compressed("progress", text, "aggressive").splitlines()[1:3] == [
        "[… 19 progress lines left out]",
        layers[-1],
    ]


@pytest.mark.parametrize(
    "line",
    [
        "Receiving objects:  {}% (1/9)",
        "   ━━━━━━━━━━━━━━━━━━━━ {}.0/90.0 MB 1.2 MB/s",
        "⠙ resolving packages, {} of many, please wait",
        "{}% building modules of the shop",
        "Downloading model-{}.bin:  {}%",
        " {}  90M   {} 9216k    0     0  1024k      0  0:01:30  0:00:09  0:01:21 1100k",
    ],
)
def test_progress_of_many_programs_is_known(line: str) -> None:
    text = "\n".join(line.format(n, n, n) for n in range(10, 30))
    left = compressed("progress", text).splitlines()
    assert left == ["[… 19 progress lines left out]", line.format(29, 29, 29)]


def test_equal_lines_in_a_row_are_counted() -> None:
    text = "a\n" + "the same line of text\n" * 5 + "b"
    assert compressed("repetitions", text) == (
        "a\nthe same line of text\n[… 4 repetitions of the line above left out]\nb"
    )


def test_short_repetitions_stay_where_the_mark_is_longer() -> None:
    assert compressed("repetitions", "}\n" * 9, "aggressive") == "}\n" * 9


def test_blocks_that_come_again_are_counted_from_balanced_on() -> None:
    text = "connecting to the server\ntimed out, once more\n" * 6
    assert compressed("repetitions", text) == text
    assert compressed("repetitions", text, "balanced") == (
        "connecting to the server\ntimed out, once more\n"
        "[… 5 repetitions of the 2 lines above left out]\n"
    )


def test_lines_that_stood_above_go_at_aggressive_but_for_failures() -> None:
    line, failure = (
        "a line that is long enough to be known again",
        "an error that comes twice, here",
    )
    text = "\n".join([line, failure, "x", line, line + "!", line, failure])
    left = compressed("repetitions", text, "aggressive")
    assert left.count(line) == 2
    assert left.count(failure) == 2
    assert told(left) == {"line that stood above": 2}


def test_hunks_and_generated_files_are_cut_in_their_middle() -> None:
    new = "\n".join(f"+new line {n}" for n in range(400))
    hunk = f"--- a/x.py\n+++ b/x.py\n@@ -1 +1,401 @@\n one\n{new}"
    assert compressed("diff", hunk) == hunk
    left = compressed("diff", hunk, "balanced")
    assert told(left) == {"lines of this hunk": 282}
    assert left.startswith("--- a/x.py\n+++ b/x.py\n@@ -1 +1,401 @@\n one\n+new line 0\n")
    assert left.endswith("+new line 399")
    lock = hunk.replace("x.py", "package-lock.json")
    assert told(compressed("diff", lock)) == {"lines of a generated file": 342}


def test_a_failure_inside_a_hunk_stays() -> None:
    new = "\n".join(f"+line {n}" if n != 200 else "+raise ValueError(n)" for n in range(400))
    text = f"diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -0,0 +1,400 @@\n{new}"
    assert "+raise ValueError(n)" in compressed("diff", text, "aggressive")


def test_unchanged_lines_far_from_a_change_go_from_balanced_on() -> None:
    same = "\n".join(f" this has not changed at all, {n}" for n in range(20))
    text = f"diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1,41 +1,40 @@\n{same}\n-gone\n{same}\n"
    assert compressed("diff", text) == text
    left = compressed("diff", text, "balanced")
    assert told(left) == {"unchanged lines": 34}
    assert "all, 17\n" in left
    assert "all, 16\n" not in left


def test_what_looks_like_a_header_inside_a_hunk_is_a_line_of_it() -> None:
    """A removed line `-- x` reads `--- x` in a diff."""
    text = (
        "--- a\n+++ b\n@@ -1,3 +1,2 @@\n one\n--- package-lock.json\n two\n" + "tail of text\n" * 3
    )
    assert compressed("diff", text, "aggressive") == text


def test_matches_are_grouped_by_file() -> None:
    text = "\n".join(
        [f"src/some/path/a.py:{n}:match {n}" for n in range(1, 5)]
        + ["src/some/path/b.py-7-before", "src/some/path/b.py:8:match"]
    )
    assert compressed("search", text).splitlines() == [
        "[… 3 repeated paths left out]",
        "src/some/path/a.py",
        *[f"{n}:match {n}" for n in range(1, 5)],
        "src/some/path/b.py-7-before",
        "src/some/path/b.py",
        "8:match",
    ]


def test_matches_of_one_file_are_limited() -> None:
    text = "\n".join(f"src/a.py:{n}:{'x' * 400}" for n in range(100))
    left = compressed("search", text, "balanced")
    assert told(left) == {
        "repeated paths": 99,
        "further characters": 25 * 100,
        "matching lines": 75,
    }


def test_paths_are_grouped_by_folder_and_noise_goes() -> None:
    text = "\n".join(
        ["./src/shop/a.py", "./src/shop/b.py", "./README"]
        + [f"./node_modules/package/file{n}.js" for n in range(9)]
    )
    assert compressed("listing", text, "balanced").splitlines() == [
        "[… 1 repeated folder name left out]",
        "./src/shop/:",
        "  a.py",
        "  b.py",
        "./README",
        "[… 9 paths in folders of packages, caches and builds left out]",
    ]


def test_a_tree_is_drawn_with_blanks() -> None:
    text = "shop\n├── a\n│   ├── b\n│   │   └── c\n│   └── d\n└── e"
    mark = "[… 5 drawings of branches left out]"
    assert compressed("listing", text) == f"{mark}\nshop\n  a\n    b\n      c\n    d\n  e"


def test_a_log_says_the_same_at_other_times_once() -> None:
    text = "\n".join(f"2026-01-05 10:00:{n:02} INFO still waiting for the lock" for n in range(30))
    assert compressed("log", text).splitlines() == [
        "2026-01-05 10:00:00 INFO still waiting for the lock",
        "[… 28 log lines like others left out]",
        "2026-01-05 10:00:29 INFO still waiting for the lock",
    ]


def test_numbers_in_a_log_differ_at_conservative_alone() -> None:
    text = "\n".join(f"10:00:{n:02} INFO request {n * 17} took {n} ms" for n in range(30))
    assert compressed("log", text) == text
    assert told(compressed("log", text, "balanced")) == {"log lines like others": 29}


def test_failures_in_a_log_stay_unless_they_are_the_same() -> None:
    text = "\n".join(f"10:00:{n:02} ERROR request {n} failed" for n in range(30))
    for level in LEVELS:
        assert compressed("log", text, level) == text


@pytest.mark.parametrize("level", LEVELS)
def test_json_keeps_its_tokens_as_they_were_written(level: str) -> None:
    text = '{ "a" : 1.10 , "b" : 12345678901234567890123 , "c" : "\\u00e9\\n" , "d" : [ ] }'
    assert compressed("json", text, level) == (  # type: ignore[arg-type]
        '{"a":1.10,"b":12345678901234567890123,"c":"\\u00e9\\n","d":[]}'
    )


def test_json_arrays_and_texts_are_cut_where_nothing_failed() -> None:
    items = [{"id": n, "state": "failed" if n == 40 else "fine"} for n in range(60)]
    text = json.dumps({"items": items, "long": "words " * 200, "log": "an error " * 200})
    left = json.loads(compressed("json", text, "aggressive"))
    assert left["items"][12:] == ["[… 28 items left out]", items[40], "[… 19 items left out]"]
    assert left["long"] == ("words " * 200)[:400] + "[… 800 characters left out]"
    assert left["log"] == "an error " * 200


def test_an_escape_in_a_json_text_is_never_cut() -> None:
    for lead in range(8):
        text = json.dumps(["x" * (395 + lead) + "\U0001f600" * 100])
        (left,) = json.loads(compressed("json", text, "aggressive"))
        left.encode()


def test_lines_of_json_stay_lines_of_json() -> None:
    text = "\n".join(f'{{ "n": {n} }}' for n in range(5))
    assert compressed("json", text) == "\n".join(f'{{"n":{n}}}' for n in range(5))


@pytest.mark.parametrize(
    ("name", "sample", "left"),
    [
        (
            "tests",
            "unittest-verbose.txt",
            ["AssertionError: 1.5 != 1", "FAILED (failures=1, errors=1)"],
        ),
        ("tests", "pytest-quiet.txt", ["FAILURES", "short test summary", "2 failed, 120 passed"]),
        ("tests", "node-test.txt", ["✖ halving an odd number", "ℹ fail 1"]),  # noqa: RUF001
        ("tests", "node-test-tap.txt", ["not ok 61", "error: '1.5 == 1'", "# pass 60"]),
        ("tests", "cargo-test.txt", ["halving_three ... FAILED", "test result: FAILED. 80 passed"]),
        ("diff", "git-diff.txt", ["-    value = a * 3 + b", "+    value = a * 33 + b", "views.py"]),
        ("search", "grep.txt", ["1:def model_0(a, b):", "src/shop/stock/errors.py"]),
        ("listing", "find.txt", ["./src/shop/orders", "  model.py", "package-lock.json"]),
        ("listing", "ls-long.txt", ["package-lock.json", "./src/shop/basket:", "views.py"]),
        ("listing", "npm-ls.txt", ["package-23@1.0.0", "shop@1.0.0"]),
        ("log", "server.log", ["request 123 failed", "request 321 failed", "KeyError: 'basket'"]),
        ("progress", "docker-pull.txt", ["ERROR: failed to solve", "Digest: sha256:"]),
    ],
)
def test_what_matters_of_real_outputs_stays_at_every_level(
    name: str, sample: str, left: list[str]
) -> None:
    text = SAMPLES[sample]
    assert MEMBERS[name].fits(sample_of(text), NOWHERE)
    sizes = []
    for level in LEVELS:
        shorter = compressed(name, text, level)
        assert [words for words in left if words not in shorter] == []
        sizes.append(len(shorter))
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < len(text)


@pytest.mark.parametrize(
    ("line", "passed"),
    [
        ("tests/a.py::test_x[1-2] PASSED                [ 12%]", True),
        ("tests/a.py::test_error PASSED", True),
        ("tests/a.py::test_x FAILED                     [ 12%]", False),
        ("tests/a.py::test_x SKIPPED (no net)", False),
        ("tests/a.py ......                             [ 50%]", True),
        ("tests/a.py ..F...                             [ 50%]", False),
        ("[gw0] [ 12%] PASSED tests/a.py::test_x", True),
        ("[gw0] [ 12%] FAILED tests/a.py::test_x", False),
        ("test_x (m.C.test_x) ... ok", True),
        ("test_x (m.C.test_x) ... ERROR", False),
        ("test tests::it_works ... ok", True),
        ("PASS src/a.test.ts (5.1 s)", True),
        ("FAIL src/a.test.ts", False),
        ("  ✓ adds (2 ms)", True),
        ("  ✕ adds (2 ms)", False),
        ("--- PASS: TestX (0.00s)", True),
        ("--- FAIL: TestX (0.00s)", False),
        ("=== RUN   TestX", True),
        ("ok  \texample.com/shop\t0.1s", True),
        ("ok 3 - works", True),
        ("ok 3 - later # SKIP no net", False),
        ("not ok 3 - works", False),
        ("5 passed in 0.1s", False),
        ("everything is ok here", False),
        ("test error::is_told ... ok", True),
        ("test_error (m.C.test_error) ... ok", True),
        ("It adds up. ... ok", True),
        ("ERROR: connection lost, m::n is tried again ... ok", False),
        ("FAILED tests/a.py::test_x - expected PASSED", False),
        ("AssertionError: wanted a::b, got PASSED", False),
    ],
)
def test_a_line_of_a_passed_test_is_known(line: str, passed: bool) -> None:
    text = "\n".join(["===== test session starts =====", *[line] * 40, "the end"])
    left = compressed("tests", text, "aggressive")
    gone = told(left).get("lines of passed tests", 0)
    assert gone == (40 if passed else 0)
