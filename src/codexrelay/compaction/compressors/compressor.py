"""The seam of a compressor: one file beside this one, exposing one `COMPRESSOR`.

A compressor makes one text shorter, in bounded steps: it is a generator that gives control back
after each piece of work of about a millisecond, so that whoever drives it can keep to a budget and
let others run. It knows nothing but the text, the call that put it out, and the level.

What every member promises, and the package's conformance test holds it to: the result is never
larger than the text; the same text gives the same bytes; a result is not shortened any further;
lines that tell of a failure stay; what was left out is said where it stood; and the time grows with
the length of the text, not faster, whatever the text holds.
"""

from __future__ import annotations

import enum
import functools
import re
from collections.abc import Callable, Generator, Iterator
from typing import Final, TypeAlias

import attrs

from codexrelay.compaction.settings import Category, Level

#: Yields after each bounded piece of work, returns the text that is left.
Steps: TypeAlias = Generator[None, None, str]

#: About this many characters are worked on between two yields.
STEP_CHARACTERS: Final = 24_000
#: And at most so many lines.
STEP_LINES: Final = 300
#: A longer line is nothing that a person reads: it stays as it is, and no pattern is tried on it.
LONG_LINE: Final = 4_000
#: What tells the kind of a text stands in its first so many characters, or its last.
_HEAD_CHARACTERS: Final = 6_000
_TAIL_CHARACTERS: Final = 2_000
#: And what kind most of its lines are, in so many of them.
_LOOKED_AT: Final = 60
#: How a line tells of a failure, in lower case. Such a line stays, whatever else goes.
_FAILURES: Final = (
    *("error", "fail", "exception", "traceback", "panic", "assert", "fatal", "abort", "segfault"),
    *("segmentation", "not ok", "critical", "✗", "✖", "✕"),
)
_MARK: Final = "[… "
_MARK_END: Final = " left out]"


class Role(enum.Enum):
    """When a compressor has its turn; the first here comes first."""

    #: On every text, before its kind is looked for.
    SURFACE = "surface"
    #: Knows one kind of output. Of several that fit, only the one of the lowest `order` acts.
    KIND = "kind"
    #: On what is left, unless it is of a kind in which each line counts.
    REST = "rest"


@attrs.frozen(kw_only=True)
class Context:
    """What is known of the call that put the text out."""

    tool: str = ""
    category: Category = "other"
    #: The command that was run; empty where the tool runs none.
    command: str = ""


@attrs.frozen(kw_only=True)
class Compressor:
    """What the package finds in each of its modules."""

    #: Its name in what the model is told.
    name: str
    role: Role
    #: Among those of its role, the lower one is asked first.
    order: int
    #: Tells from a sample (see `sample_of`) whether the text is one for this compressor.
    fits: Callable[[str, Context], bool]
    #: Makes a text shorter. It may give back something longer: `run` does not.
    steps: Callable[[str, Context, Level], Steps]
    #: What it says that it left out, as `left_out` takes it. By these it knows its own results.
    nouns: tuple[str, ...] = ()
    #: Whether those of the role REST leave its texts alone.
    alone: bool = False

    def run(self, text: str, context: Context, level: Level) -> Steps:
        """Make `text` shorter, in steps; gives it back as it is where that fails."""
        if self.has_marks(text):
            return text
        shorter = yield from self.steps(text, context, level)
        return shorter if size_bytes(shorter) < size_bytes(text) else text

    def has_marks(self, text: str) -> bool:
        """Tell whether this compressor has been at `text` before."""
        return bool(self.nouns) and _MARK in text and bool(_marks_of(self.nouns).search(text))


def left_out(count: int, noun: str) -> str:
    """Return what stands in the place of `count` things that were left out.

    `noun` has `{s}` where its plural has an s: `line{s} of passed tests`.
    """
    return f"{_MARK}{count:,} {noun.format(s='' if count == 1 else 's')}{_MARK_END}"


def is_mark(line: str) -> bool:
    """Tell whether a line is what stands for others; it is never left out in its turn."""
    return line.startswith(_MARK) and line.endswith(_MARK_END)


def has_failure(text: str) -> bool:
    """Tell whether `text` tells of a failure."""
    lowered = text.lower()
    return any(word in lowered for word in _FAILURES)


def is_failure(line: str) -> bool:
    """Tell whether a line must stay: it tells of a failure, or is too long to be looked into."""
    return len(line) > LONG_LINE or has_failure(line)


def failures_among(lines: list[str]) -> list[bool]:
    """Tell of each line whether it must stay, as `is_failure` does, in less time."""
    # What is too long to be looked into stays anyway.
    lowered = "\n".join(line if len(line) <= LONG_LINE else "" for line in lines).lower()
    words = [word for word in _FAILURES if word in lowered]
    return [
        len(line) > LONG_LINE or any(word in lower for word in words)
        for line, lower in zip(lines, lowered.split("\n"), strict=True)
    ]


def size_bytes(text: str) -> int:
    """Return how many bytes a text has on the wire; half a surrogate pair counts as three."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def sample_of(text: str) -> str:
    """Return some of the first and the last lines of a text, as far as it has lines."""
    if len(text) <= _HEAD_CHARACTERS + _TAIL_CHARACTERS:
        return text
    head, tail = text[:_HEAD_CHARACTERS], text[-_TAIL_CHARACTERS:]
    whole_head, newline, _ = head.rpartition("\n")
    return f"{whole_head if newline else head}\n{tail.partition(chr(10))[2]}"


def share(pattern: re.Pattern[str], sample: str) -> float:
    """Return the share of the first lines of a sample, blank ones aside, that `pattern` matches."""
    lines = [line for line in sample.split("\n")[:_LOOKED_AT] if line and not line.isspace()]
    return sum(bool(pattern.match(line)) for line in lines) / len(lines) if lines else 0.0


def batches(text: str) -> Iterator[list[str]]:
    """Yield the lines of a text, without their ends, as many at once as make a step.

    Joined by newlines all of them are the text again.
    """
    start = 0
    while (end := text.find("\n", start + STEP_CHARACTERS)) >= 0:
        yield from _few(text[start:end].split("\n"))
        start = end + 1
    yield from _few(text[start:].split("\n"))


def _few(lines: list[str]) -> Iterator[list[str]]:
    return (lines[start : start + STEP_LINES] for start in range(0, len(lines), STEP_LINES))


def shortest(run: list[str], mark: str, at_least: int = 1) -> list[str]:
    """Return what stands for a run of lines: the mark, or the run where that is no longer."""
    worth = len(run) >= at_least and sum(map(len, run)) + len(run) - 1 > size_bytes(mark)
    return [mark] if worth else run


def with_marks(lines: list[str], nouns: list[str | None], at_least: int = 1) -> Steps:
    """Leave out the lines that have a noun, a mark of it in the place of each run of them.

    A run that is shorter than `at_least`, or no longer than its mark, stays.
    """
    kept: list[str] = []
    run: list[str] = []
    of_run: str | None = None
    for places in paced(len(lines)):
        for place in places:
            if nouns[place] != of_run:
                kept += _run_or_mark(run, of_run, at_least)
                run, of_run = [], nouns[place]
            run.append(lines[place])
        if of_run is None:
            kept += run
            run = []
        yield
    kept += _run_or_mark(run, of_run, at_least)
    return "\n".join(kept)


def _run_or_mark(run: list[str], noun: str | None, at_least: int) -> list[str]:
    return run if noun is None else shortest(run, left_out(len(run), noun), at_least)


def paced(count: int) -> Iterator[range]:
    """Cut `range(count)` into pieces that make a step each."""
    return (range(start, min(start + STEP_LINES, count)) for start in range(0, count, STEP_LINES))


@functools.cache
def _marks_of(nouns: tuple[str, ...]) -> re.Pattern[str]:
    said = "|".join(re.escape(noun).replace(r"\{s\}", "s?") for noun in nouns)
    return re.compile(rf"\[… [\d,]{{1,15}} (?:{said}) left out\]")
