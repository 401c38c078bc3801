"""Unified diffs: what changed stays, what is only there for machines or context goes.

At every level binary data and most of the hunks of generated files (lock files, minified code) go;
from `balanced` on unchanged lines that are far from a change, and the middle of very long hunks.
Headers of files and hunks always stay, so that it can be seen what else has changed.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import attrs

from codexrelay.compaction.compressors.compressor import (
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

_HUNK_NOUN: Final = "line{s} of this hunk"
_SAME_NOUN: Final = "unchanged line{s}"
_BINARY_NOUN: Final = "line{s} of binary data"
_GENERATED_NOUN: Final = "line{s} of a generated file"


@attrs.frozen(kw_only=True)
class _Limits:
    """How much stays, in lines; None: all of it."""

    #: Of one hunk.
    hunk: int | None
    #: Of all hunks; what follows has `late` lines of each.
    total: int | None
    late: int = 10
    #: Unchanged lines on each side of a change.
    context: int | None
    #: Of one hunk of a generated file.
    generated: int


_LIMITS: Final[dict[Level, _Limits]] = {
    "conservative": _Limits(hunk=None, total=None, context=None, generated=60),
    "balanced": _Limits(hunk=120, total=600, context=3, generated=20),
    "aggressive": _Limits(hunk=60, total=240, context=1, generated=6),
}
_IS_DIFF: Final = re.compile(
    r"^diff --(?:git|cc) |^--- [^\n]+\n\+\+\+ [^\n]+\n@@ -\d|^Index: [^\n]+\n={20}", re.MULTILINE
)
_HUNK: Final = re.compile(r"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")
_FILE: Final = re.compile(r"diff --(?:git|cc) |Index: |--- ")
_GENERATED: Final = re.compile(
    r"(?:package-lock\.json|npm-shrinkwrap\.json|yarn\.lock|pnpm-lock\.yaml|bun\.lockb?|Cargo\.lock"
    r"|poetry\.lock|uv\.lock|Pipfile\.lock|composer\.lock|Gemfile\.lock|go\.sum|flake\.lock"
    r"|\.min\.(?:js|css)|\.map|\.snap|_pb2\.py|\.pb\.go)\s*$"
)


@attrs.define(eq=False)
class _Diff:
    """A diff's lines, and what each of them is."""

    lines: list[str] = attrs.field(factory=list)
    #: "+", "-" and " " inside hunks, "b" for binary data, else "h".
    kinds: list[str] = attrs.field(factory=list)
    #: Why a line is left out; None: it stays.
    nouns: list[str | None] = attrs.field(factory=list)
    #: First line, end, and whether the file is a generated one, of each hunk.
    hunks: list[tuple[int, int, bool]] = attrs.field(factory=list)


@attrs.define(eq=False)
class _Reader:
    """Tells what the lines are; a hunk has as many as its header says."""

    diff: _Diff = attrs.field(factory=_Diff)
    old_left: int = 0
    new_left: int = 0
    begun: int | None = None
    generated: bool = False
    binary: bool = False

    def read(self, line: str) -> None:
        kind = self._kind(line)
        self.diff.lines.append(line)
        self.diff.kinds.append(kind)
        self.diff.nouns.append(_BINARY_NOUN if kind == "b" else None)

    def _kind(self, line: str) -> str:
        first = line[:1]
        if self.begun is not None:
            if (self.old_left > 0 or self.new_left > 0) and first in ("+", "-", " ", "\\", ""):
                self.old_left -= first in ("-", " ", "")
                self.new_left -= first in ("+", " ", "")
                return first if first in ("+", "-", " ") else " "
            if first == "\\":
                return " "
            self.close(len(self.diff.lines))
        return self._kind_outside(line)

    def _kind_outside(self, line: str) -> str:
        if found := _HUNK.match(line):
            self.begun = len(self.diff.lines)
            self.old_left, self.new_left = (int(count or 1) for count in found.group(2, 4))
        elif _FILE.match(line):
            self.binary = False
            self.generated = len(line) < 1_000 and bool(_GENERATED.search(line))
        elif line == "GIT binary patch":
            self.binary = True
        elif self.binary and line and " " not in line:
            return "b"
        return "h"

    def close(self, end: int) -> None:
        """End the hunk that is open, if one is."""
        if self.begun is not None:
            self.diff.hunks.append((self.begun, end, self.generated))
            self.begun = None


def _fits(sample: str, _context: Context) -> bool:
    return bool(_IS_DIFF.search(sample))


def _steps(text: str, _context: Context, level: Level) -> Steps:
    limits, reader = _LIMITS[level], _Reader()
    for batch in batches(text):
        for line in batch:
            reader.read(line)
        yield
    diff = reader.diff
    reader.close(len(diff.lines))
    yield
    if limits.context is not None:
        yield from _leave_out_unchanged(diff, limits.context)
    yield from _limit_hunks(diff, limits)
    return (yield from with_marks(diff.lines, diff.nouns))


def _leave_out_unchanged(diff: _Diff, reach: int) -> Steps:
    """Leave out unchanged lines that are more than `reach` lines from any change or header."""
    near = bytearray(len(diff.lines))
    for backwards in (False, True):
        left = 0
        for places in paced(len(diff.kinds)):
            for number in places:
                place = len(diff.kinds) - 1 - number if backwards else number
                kind = diff.kinds[place]
                # What stands before the first change of a hunk is near that change alone.
                left = reach if kind in "+-" else 0 if kind != " " else left - 1
                near[place] |= left >= 0
            yield
    for places in paced(len(diff.lines)):
        for place in places:
            if diff.kinds[place] == " " and not near[place] and not is_failure(diff.lines[place]):
                diff.nouns[place] = _SAME_NOUN
        yield
    return ""


def _limit_hunks(diff: _Diff, limits: _Limits) -> Steps:
    """Leave out the middle of hunks that are too long, less what tells of failures."""
    total = work = 0
    for first, end, generated in diff.hunks:
        limit = limits.generated if generated else limits.hunk
        if limits.total is not None and limit is not None and total >= limits.total:
            limit = min(limit, limits.late)
        staying = [place for place in range(first, end) if diff.nouns[place] is None]
        work += end - first
        if limit is not None and len(staying) > limit:
            middle = range(staying[limit - limit // 3], staying[-(limit // 3)])
            noun = _GENERATED_NOUN if generated else _HUNK_NOUN
            for places in paced(len(middle)):
                for number in places:
                    place = middle[number]
                    if not is_failure(diff.lines[place]):
                        diff.nouns[place] = noun
                yield
            total += limit
        else:
            total += len(staying)
        if work > 2_000:
            work = 0
            yield
    return ""


COMPRESSOR: Final = Compressor(
    name="diff",
    role=Role.KIND,
    order=3,
    fits=_fits,
    steps=_steps,
    nouns=(_HUNK_NOUN, _SAME_NOUN, _BINARY_NOUN, _GENERATED_NOUN),
    alone=True,
)
