"""Every compressor keeps the seam's promises, on real outputs and on whatever else comes."""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codexrelay.compaction.compressors.compressor import (
    LONG_LINE,
    Context,
    has_failure,
    left_out,
    sample_of,
    size_bytes,
)
from tests.compaction.compressors.driven import (
    LEVELS,
    MEMBERS,
    NOWHERE,
    compressed,
    driven,
    lines_told,
    samples,
)

if TYPE_CHECKING:
    from codexrelay.compaction.compressors.compressor import Steps
    from codexrelay.compaction.settings import Level

SAMPLES = samples()
#: Those that leave out whole lines and nothing else.
BY_LINES = ("tests", "diff", "log", "progress", "repetitions")

every_member = pytest.mark.parametrize("name", sorted(MEMBERS))
every_level = pytest.mark.parametrize("level", LEVELS)

WORDS = st.sampled_from(
    [
        "alpha",
        "beta",
        "error:",
        "failed",
        "FAIL",
        "exception",
        "ok",
        "passed",
        "x",
        "12",
        "0x1f",
        "é",
    ]
)
#: Lines of all kinds, with words of any kind in them.
LINES = st.one_of(
    st.lists(WORDS, max_size=6).map(" ".join),
    st.sampled_from(
        [
            *("", " ", "}", "same line of a text that is long enough", "--", "@@ -1,3 +1,3 @@"),
            *("diff --git a/x b/x", "--- a/x", "+++ b/x", "+new", "-old", " same", "+an error"),
            *("t.py::test_a PASSED [ 1%]", "test_b ... ok", "ok 1 - x", "# Subtest: x", "  ---"),
            *("  ...", "=== RUN TestX", "2026-01-05 10:00:00 INFO a 1", "10:00:01 ERROR b 2"),
            *("src/a.py:1:def x", "src/a.py-2-    return error", "./a/b/c", "./a/b/d.txt"),
            *(
                "./a/node_modules/x",
                "-rw-r--r-- 1 me me 3 Jan  1 10:00 error.log",
                "├── a@1",
                "│ └─┬ b",
            ),
            *("abcdefabcdef: Downloading [==>   ] 1MB/2MB", "Fetching 7%", " 12% [====>    ]"),
            *("a 1%\ra 2%\ra 3%", "\x1b[31mred\x1b[0m", "[… 3 progress lines left out]"),
            *("[1, 2,", '{"a": "b"}', '"error"', "\ud83d", "Traceback (most recent call last):"),
        ]
    ),
)
TEXTS = st.lists(st.tuples(LINES, st.sampled_from((1, 1, 2, 3, 4, 70))), max_size=25).map(
    lambda runs: "\n".join(line for line, times in runs for _ in range(times))
)
LEVEL = st.sampled_from(LEVELS)
SPOKEN = re.compile(r"\x1b\[[0-9;]*m|[\x00-\x08\x0b-\x1f]")


def failure_words(text: str) -> set[str]:
    """Return the words of a text that tell of failures, but for those in names of passed tests."""
    lines = [line for line in SPOKEN.sub("", text).split("\n") if len(line) <= LONG_LINE]
    telling = [line for line in lines if not re.search(r"PASSED|\.\.\. ok$|^\s*[✓✔]|^ok ", line)]
    return {word for line in telling for word in re.findall(r"[\w:]+", line) if has_failure(word)}


@every_member
def test_it_is_there_under_one_name(name: str) -> None:
    assert MEMBERS[name].name == name
    assert all(other is MEMBERS[name] or other.name != name for other in MEMBERS.values())


@every_level
@pytest.mark.parametrize("sample", SAMPLES, ids=str)
def test_real_outputs_keep_the_promises(sample: str, level: Level) -> None:
    text = SAMPLES[sample]
    for name, member in MEMBERS.items():
        if not member.fits(sample_of(text), NOWHERE):
            continue
        shorter = compressed(name, text, level)
        assert shorter == text or size_bytes(shorter) < size_bytes(text), name
        assert compressed(name, shorter, level) == shorter, name
        assert failure_words(text) <= failure_words(shorter), name
        if name in BY_LINES:
            assert lines_told(shorter) == text.count("\n") + 1, name


@every_member
@settings(max_examples=25)
@given(text=TEXTS, level=LEVEL)
def test_any_text_keeps_the_promises(name: str, text: str, level: Level) -> None:
    shorter = compressed(name, text, level)
    assert shorter == text or size_bytes(shorter) < size_bytes(text)
    assert compressed(name, text, level) == shorter
    assert compressed(name, shorter, level) == shorter
    assert failure_words(text) <= failure_words(shorter)
    if name in BY_LINES and "left out]" not in text:
        assert lines_told(shorter) == text.count("\n") + 1


@every_member
@every_level
def test_what_has_its_own_mark_is_not_shortened_again(name: str, level: Level) -> None:
    for noun in MEMBERS[name].nouns:
        for count in (1, 2_000):
            text = f"{SAMPLES['retries.txt']}{left_out(count, noun)}\n{SAMPLES['server.log']}"
            assert compressed(name, text, level) == text


def test_what_would_be_larger_is_not_taken() -> None:
    def larger(text: str, context: Context, level: Level) -> Steps:
        yield
        return f"{text}!"

    member = attrs.evolve(MEMBERS["ansi"], steps=larger)
    assert driven(member.run("as it is", NOWHERE, "aggressive")) == "as it is"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8) | st.just("words " * 200) | st.just("an error here"),
    lambda inner: st.lists(inner, max_size=20)
    | st.dictionaries(st.text(max_size=5) | st.just("error"), inner, max_size=4),
    max_leaves=60,
)  # fmt: skip


@settings(max_examples=30)
@given(value=JSON, level=LEVEL, indent=st.sampled_from([None, 2]))
def test_json_stays_json(value: object, level: Level, indent: int | None) -> None:
    text = json.dumps(value, indent=indent)
    shorter = compressed("json", text, level)
    left = json.loads(shorter)
    assert failing_texts(json.loads(text)) <= failing_texts(left)
    if level == "conservative":
        assert left == json.loads(text)


def failing_texts(value: object) -> set[str]:
    """Return the texts in a JSON value that tell of failures; names of nothing tell of none."""
    if isinstance(value, str):
        return {value} if has_failure(value) else set()
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return set().union(*map(failing_texts, inner))


@settings(max_examples=20)
@given(text=TEXTS)
def test_what_is_no_json_is_left_alone(text: str) -> None:
    broken = f'{{"a": [1, 2, {text}'
    assert compressed("json", broken, "aggressive") == broken


#: Made so that a pattern that looks twice at what it has seen takes minutes.
HOSTILE = {
    **{f"only {char!r}": char for char in ' \n\r\x1b\x08["1=:'},
    "escapes without end": "\x1b]" + "x" * 3_000,
    "numbers in an escape": "\x1b[9;",
    "rewrites without end": "1%\r2% \r",
    "bars": "━" * 250 + " 1\n",
    "shares": "1%" * 140 + "\n",
    "colons": "::" * 1_500 + " PASSED x\n",
    "passed": "PASSED " * 400 + "x\n",
    "frames": '  File "' + "x" * 3_000 + "\n",
    "paths": "/" * 3_000 + "\n",
    "branches": "│   " * 700 + "├── x\n",
    "columns": "-rw-r--r--" + "\t" * 3_000 + "\n",
    "matches": "a.b:" * 800 + "\n",
    "times": "2026-01-01T00:00:00 " * 100 + "\n",
    "marks": "[… 1,",
    "arrays": '["error",' + "0," * 12 + "[",
    "hunks": "--- a\n+++ b\n@@ -1 +1 @@\n",
    "a hunk": "--- a\n+++ b\n@@ -1,999999 +1,999999 @@\n" + "+x\n-x\n" * 40,
}  # fmt: skip


@every_member
@pytest.mark.parametrize("piece", HOSTILE.values(), ids=HOSTILE.keys())
def test_the_time_grows_with_the_length_and_no_faster(name: str, piece: str) -> None:
    def seconds(size: int) -> float:
        text = (piece * (size // len(piece) + 1))[:size]
        begun = time.thread_time()
        MEMBERS[name].fits(sample_of(text), NOWHERE)
        compressed(name, text, "aggressive")
        return time.thread_time() - begun

    # So much that only another order of growth makes it: what is linear takes some 0.1 s at most.
    assert seconds(60_000) < 1.5


@pytest.mark.parametrize("tool", ["error", "ok"])
def test_a_search_for_a_word_of_failure_finds_no_failures(tool: str) -> None:
    text = "\n".join(f"src/a.py:{n}:raise SomeError({n})" for n in range(100))
    asked = Context(command=f"grep -rn {tool} src")
    shown = compressed("search", text, "aggressive", asked).count("raise")
    assert shown == (8 if tool == "error" else 100)
