"""What test runners say: passed tests go, failures, tracebacks and summaries stay.

Known are pytest, unittest, Jest, Vitest, Mocha, node's own runner, `go test`, `cargo test` and TAP;
of others what says of a test that it is ok or passed. From `balanced` on also the frames of
libraries in tracebacks; at `aggressive` of a long output what is far from any failure.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from codexrelay.compaction.compressors.compressor import (
    LONG_LINE,
    Compressor,
    Context,
    Role,
    Steps,
    batches,
    is_failure,
    paced,
    with_marks,
)

if TYPE_CHECKING:
    from codexrelay.compaction.settings import Level

_PASSED_NOUN: Final = "line{s} of passed tests"
_FRAME_NOUN: Final = "traceback line{s} of libraries"
_FAR_NOUN: Final = "line{s} far from any failure"
#: Fewer passed lines in a row stay.
_AT_LEAST: Final[dict[Level, int]] = {"conservative": 10, "balanced": 2, "aggressive": 1}
#: An output of so many lines is short enough at `aggressive`; else these stay round a failure.
_SHORT_LINES: Final = 120
_NEAR_LINES: Final = 5
_FIRST_LINES: Final = 6
_LAST_LINES: Final = 20

_RUNS_TESTS: Final = re.compile(
    r"""
      ^=+\ test\ session\ starts | ^Ran\ \d+\ tests? | ^running\ \d+\ tests?$
    | ^[ \t]*---\ (?:PASS|FAIL): | ^===\ RUN | ^(?:ok|FAIL)\ {2}\t | ^test\ result:
    | ^Test\ Suites: | ^[ ]*Test\ Files\ | ^[ ]*\d+\ passing\b | ^TAP\ version | ^\#\ pass\ \d
    | ^={3,}+\ [^=\n]{0,80}\d\ (?:passed|failed) | ^\d+\ (?:passed|failed)\b[^\n]*\ in\ [\d.]+s
    | ^[^\s:]++::\S++\ (?:PASSED|FAILED|ERROR) | ^(?:PASS|FAIL)\ \S+\.[cm]?[jt]sx?\b
    | ^[\u2139i]\ pass\ \d | ^(?:PASS|FAIL)ED\ [^\s:]+::
    """,
    re.VERBOSE | re.MULTILINE,
)
_SAYS_SO: Final = re.compile(r"pass|fail|✓|✔|\bok\b|\.{5}", re.IGNORECASE)
#: Jest, Vitest, Mocha, node.
_TICKS: Final = frozenset("✓✔√")
#: By its first character, what the rest of a line of a passed test looks like.
_BEGUN: Final[dict[str, re.Pattern[str]]] = {
    "o": re.compile(
        r"ok \d+\b(?!.*#\s*(?:skip|todo))|ok\s+\t\S|ok\s{2,}\S", re.IGNORECASE
    ),  # TAP, go
    "?": re.compile(r"\?\s{2,}\S"),  # go: a package without tests
    "=": re.compile(r"=== (?:RUN|PAUSE|CONT|NAME)\b"),
    "-": re.compile(r"--- PASS:"),
    ".": re.compile(r"\.{3,}\s*(?:\[\s*\d+%\])?$"),  # pytest -q, unittest
    "P": re.compile(r"PASS(?:ED)?\s+(?:\S+\.[cm]?[jt]sx?\b|[^\s:]++::)"),  # Jest; pytest -rA
    # pytest with xdist; googletest
    "[": re.compile(r"\[gw\d+\] \[\s*\d+%\] PASSED |\[\s*(?:OK|RUN|PASSED)\s*\]"),
}
#: unittest, cargo; others.
_ENDED: Final = ("... ok", "... OK", "... passed", " PASSED")
#: How a line begins that names a test before it says so: in the name a word of failure means none.
_NAMED: Final = re.compile(r"[^\s:]++::\S|test\s\S+\s|\w+\s\([\w.]+\)")
#: pytest, each test or each file with its share of the whole.
_SHARED: Final = re.compile(r"(?:[^\s:]++::.*\sPASSED|\S+\.py \.+)\s*(?:\[\s*\d+%\])?")
_TITLE: Final = re.compile(r"[ \t]*# Subtest: ")
_LIBRARY: Final = re.compile(
    r'\s+(?:File "|at\s)[^\n]{0,200}?(?:site-packages|dist-packages|node_modules|node:'
    r"|<frozen"
    r"|internal/modules|/lib/python3|/rustc/|/\.cargo/registry)"
)
_FRAME: Final = re.compile(r'\s*(?:File "|at\s)')


def _fits(sample: str, context: Context) -> bool:
    return bool(_RUNS_TESTS.search(sample)) or (
        context.category == "test_execution" and bool(_SAYS_SO.search(sample))
    )


def _steps(text: str, _context: Context, level: Level) -> Steps:
    lines: list[str] = []
    nouns: list[str | None] = []
    for batch in batches(text):
        lines += batch
        nouns += [_PASSED_NOUN if _is_passed(line) else None for line in batch]
        yield
    yield from _leave_out_details(lines, nouns)
    if level != "conservative":
        yield from _leave_out_libraries(lines, nouns)
    if level == "aggressive":
        yield from _leave_out_far(lines, nouns)
    return (yield from with_marks(lines, nouns, _AT_LEAST[level]))


def _is_passed(line: str) -> bool:
    """Tell whether a line says that a test (or all tests of a file or package) has passed.

    A word of failure in the name of a passed test is none.
    """
    line = line.strip()
    if not line or len(line) > LONG_LINE:
        return False
    if line[0] in _TICKS:
        return True
    begun = _BEGUN.get(line[0])
    if begun is not None and begun.match(line):
        return True
    if line.endswith(_ENDED):
        return bool(_NAMED.match(line)) or not is_failure(line)
    return line.endswith(("%]", ".")) and bool(_SHARED.fullmatch(line))


def _leave_out_details(lines: list[str], nouns: list[str | None]) -> Steps:
    """Leave out what TAP says before and behind a passed test: its title and its details."""
    inside = False
    for places in paced(len(lines)):
        for place in places:
            line = lines[place].lstrip()
            before = nouns[place - 1] if place else None
            if nouns[place] is not None:
                if place and _TITLE.match(lines[place - 1]) and not is_failure(lines[place - 1]):
                    nouns[place - 1] = _PASSED_NOUN
            elif line == "---" and before is not None:
                inside = True
            elif not inside:
                continue
            if inside:
                nouns[place] = None if is_failure(line) else _PASSED_NOUN
                inside = line != "..."
        yield
    return ""


def _only_named_so(line: str) -> bool:
    """Tell whether a word of failure is in a passed test's name alone, which is no failure."""
    return bool(re.search(r"PASSED|\.\.\. ok\s*$|^\s*[✓✔√] |^\s*--- PASS", line))


def _leave_out_libraries(lines: list[str], nouns: list[str | None]) -> Steps:
    left = 0
    for places in paced(len(lines)):
        for place in places:
            line = lines[place]
            if _FRAME.match(line[:LONG_LINE]):
                is_library = bool(_LIBRARY.match(line[:LONG_LINE]))
                # In Python the source line and its ^^^^ follow, and belong to the frame.
                left = 0 if not is_library else 3 if 'File "' in line[:200] else 1
            elif not line.startswith("    "):
                left = 0
            if left > 0 and nouns[place] is None and not is_failure(line):
                nouns[place] = _FRAME_NOUN
            left -= 1
        yield
    return ""


def _leave_out_far(lines: list[str], nouns: list[str | None]) -> Steps:
    staying: list[int] = []
    for places in paced(len(nouns)):
        staying += [place for place in places if nouns[place] is None]
        yield
    if len(staying) <= _SHORT_LINES:
        return ""
    near_until = -1
    near = bytearray(len(staying))
    near[:_FIRST_LINES] = b"\1" * _FIRST_LINES
    near[-_LAST_LINES:] = b"\1" * _LAST_LINES
    for places in paced(len(staying)):
        for place in places:
            line = lines[staying[place]]
            if is_failure(line) or line.startswith(("E ", "> ")) or _RUNS_TESTS.match(line):
                first = max(place - _NEAR_LINES, near_until, 0)
                near_until = min(place + _NEAR_LINES + 1, len(near))
                near[first:near_until] = b"\1" * (near_until - first)
        yield
    for places in paced(len(staying)):
        for place in places:
            if not near[place]:
                nouns[staying[place]] = _FAR_NOUN
        yield
    return ""


COMPRESSOR: Final = Compressor(
    name="tests",
    role=Role.KIND,
    order=2,
    fits=_fits,
    steps=_steps,
    nouns=(_PASSED_NOUN, _FRAME_NOUN, _FAR_NOUN),
)
