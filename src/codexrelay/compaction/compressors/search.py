"""Search results of grep, ripgrep and the like: grouped by file, as ripgrep shows them to a person.

Grouping loses nothing: the path stands once above its lines instead of in each of them. From
`balanced` on a file shows so many lines at most, and very long lines are cut; at `aggressive` the
lines around a match go too.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import attrs

from codexrelay.compaction.compressors.compressor import (
    LONG_LINE,
    Compressor,
    Context,
    Role,
    Steps,
    batches,
    has_failure,
    left_out,
    share,
    shortest,
    size_bytes,
)

if TYPE_CHECKING:
    from codexrelay.compaction.settings import Level

_PATH_NOUN: Final = "repeated path{s}"
_MATCH_NOUN: Final = "matching line{s}"
_AROUND_NOUN: Final = "line{s} around matches"
_CHARACTER_NOUN: Final = "further character{s}"


@attrs.frozen
class _Limits:
    """What stays; None: all."""

    #: Lines of one file.
    lines: int | None
    #: Characters of one line.
    characters: int | None
    #: Whether lines around matches stay.
    around: bool


_LIMITS: Final[dict[Level, _Limits]] = {
    "conservative": _Limits(None, None, around=True),
    "balanced": _Limits(25, 300, around=True),
    "aggressive": _Limits(8, 160, around=False),
}
#: `path:12:text`, and `path-12-text` around a match. A path has a dot or a slash in it.
_FOUND: Final = re.compile(r"((?=[^\s:]{0,200}[./])[^\s:]{1,250}):(\d{1,9}):(.*)")
_SHARE: Final = 0.6


def _fits(sample: str, _context: Context) -> bool:
    matches = sum(bool(_FOUND.match(line)) for line in sample.split("\n")[:8])
    return matches > 0 and share(_FOUND_OR_AROUND, sample) >= _SHARE


_FOUND_OR_AROUND: Final = re.compile(
    r"(?=[^\s:]{0,200}[./])[^\s:]{1,250}:\d{1,9}:|[^\s:]{1,250}?-\d{1,9}-|--$"
)


@attrs.define(eq=False)
class _Groups:
    """The lines that stay, grouped by file."""

    limits: _Limits
    #: The search was for a word of failure: what it has found tells of none.
    all_alike: bool
    out: list[str] = attrs.field(factory=list)
    path: str | None = None
    repeated: int = 0
    count: int = 0
    #: What is left out at this place, unless its mark would be longer.
    gone: list[str] = attrs.field(factory=list)
    gone_noun: str = ""

    def read(self, line: str) -> None:
        found = _FOUND.fullmatch(line) if len(line) <= LONG_LINE else _FOUND.match(line[:600])
        if found is not None:
            path, number, _ = found.groups()
            self._open(path)
            self._match(line[len(path) + 1 :], len(number) + 1)
        elif self.path is not None and line == "--":
            self._around(line)
        elif self.path is not None and line.startswith(f"{self.path}-"):
            self._around(line[len(self.path) + 1 :])
        else:
            self._say_gone()
            self.path = None
            self.out.append(line)

    def _open(self, path: str) -> None:
        if path == self.path:
            self.repeated += 1
            return
        self._say_gone()
        self.path, self.count = path, 0
        self.out.append(path)

    def _match(self, line: str, lead: int) -> None:
        self.count += 1
        matters = has_failure(line) and not self.all_alike
        if self.limits.lines is not None and self.count > self.limits.lines and not matters:
            self._leave_out(line, _MATCH_NOUN)
            return
        self._say_gone()
        limit = self.limits.characters
        if limit is not None and len(line) > limit + lead and not matters:
            rest = line[limit + lead :]
            cut = left_out(len(rest), _CHARACTER_NOUN)
            line = line[: limit + lead] + (cut if size_bytes(cut) < size_bytes(rest) else rest)
        self.out.append(line)

    def _around(self, line: str) -> None:
        self.repeated += line != "--"
        too_many = self.limits.lines is not None and self.count > self.limits.lines
        matters = has_failure(line) and not self.all_alike
        if matters or (self.limits.around and not too_many):
            self._say_gone()
            self.out.append(line)
        else:
            self._leave_out(line, _MATCH_NOUN if too_many else _AROUND_NOUN)

    def _leave_out(self, line: str, noun: str) -> None:
        if noun != self.gone_noun:
            self._say_gone()
        self.gone_noun = noun
        self.gone.append(line)

    def _say_gone(self) -> None:
        if self.gone:
            self.out += shortest(self.gone, left_out(len(self.gone), self.gone_noun))
            self.gone = []

    def end(self) -> str:
        self._say_gone()
        if self.repeated:
            self.out.insert(0, left_out(self.repeated, _PATH_NOUN))
        return "\n".join(self.out)


def _steps(text: str, context: Context, level: Level) -> Steps:
    groups = _Groups(_LIMITS[level], all_alike=has_failure(context.command))
    for lines in batches(text):
        for line in lines:
            groups.read(line)
        yield
    return groups.end()


COMPRESSOR: Final = Compressor(
    name="search",
    role=Role.KIND,
    order=4,
    fits=_fits,
    steps=_steps,
    nouns=(_PATH_NOUN, _MATCH_NOUN, _AROUND_NOUN, _CHARACTER_NOUN),
    alone=True,
)
