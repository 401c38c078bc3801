"""Listings: long ones of `ls`, paths as `find` puts them out, trees as of `tree` and `npm ls`.

Nothing is lost by the first step: paths are grouped by folder, drawn branches become indentation,
columns lose their padding. From `balanced` on what lies in folders that nobody reads (installed
packages, caches) goes, and of long listings links, owner, group and time; at `aggressive` a folder
shows so many entries at most.
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
    sample_of,
    share,
    shortest,
    with_marks,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from codexrelay.compaction.settings import Level

_FOLDER_NOUN: Final = "repeated folder name{s}"
_ENTRY_NOUN: Final = "further line{s} of this folder"
_CELL_NOUN: Final = "cell{s} of links, owner, group and time"
_DRAWN_NOUN: Final = "drawing{s} of branches"
_AGAIN_NOUN: Final = "line{s} of packages that stand elsewhere in the tree"
_NOISE_NOUN: Final = "path{s} in folders of packages, caches and builds"
#: Folders that nobody reads who has not asked for them.
_NOISE: Final = (
    "node_modules .git .hg .svn __pycache__ .venv venv site-packages .mypy_cache .ruff_cache "
    ".pytest_cache .tox .nox .next .nuxt .gradle .terraform .cache target dist"
)
#: Stands for any of them.
_ANY_NOISE: Final = "\0"
_ENTRIES: Final = 30
_SHARE: Final = 0.7

_LONG: Final = re.compile(
    r"([-dlbcpsD][-rwxsStTlL]{9}[.+@]?)[ \t]+(\d+)[ \t]+(\S+)[ \t]+(\S+)[ \t]+([\d.]+[kKMGTP]?)"
    r"[ \t]+"
    r"([A-Z][a-z]{2}[ \t]+\d{1,2}[ \t]+(?:\d\d:\d\d|\d{4})"
    r"|\d{4}-\d\d-\d\d(?:[ \t]\d\d:\d\d(?::\d\d[.\d]*)?)?(?:[ \t][+-]\d{4})?)[ \t](.+)"
)
_LONG_LINE: Final = re.compile(r"[-dlbcpsD][-rwxsStTlL]{9}[.+@]?[ \t]+\d|total \d|\S.{0,250}:$")
_PATH: Final = re.compile(r"(?:[A-Za-z]:)?[^\s:|<>\"'`(){}=,;]{0,250}/[^\s:|<>\"'`(){}=,;]{0,250}$")
_TREE: Final = re.compile(r"[│|  \t]{0,200}(?:[├└+`]|[|\\]--)[─┬-]")
_BRANCHES: Final = re.compile(r"((?:[│|]?[  ]{2,3}|[│|] )*+)([├└+`|\\][─-]+(?:┬ ?| )?)")


def _fits(sample: str, _context: Context) -> bool:
    return _kind(sample) is not None


def _kind(sample: str) -> Callable[[str, Context, Level], Steps] | None:
    if share(_TREE, sample) >= _SHARE:
        return _tree_steps
    if share(_LONG_LINE, sample) >= _SHARE and _LONG.search(sample):
        return _long_steps
    if share(_PATH, sample) >= _SHARE:
        return _path_steps
    return None


def _steps(text: str, context: Context, level: Level) -> Steps:
    kind = _kind(sample_of(text))
    return text if kind is None else (yield from kind(text, context, level))


def _tree_steps(text: str, _context: Context, level: Level) -> Steps:
    lines: list[str] = []
    nouns: list[str | None] = []
    drawn = 0
    for batch in batches(text):
        for line in batch:
            lines.append(_indented(line))
            drawn += lines[-1] != line
            again = level != "conservative" and line.endswith(" deduped")
            nouns.append(_AGAIN_NOUN if again and not has_failure(line) else None)
        yield
    shorter = yield from with_marks(lines, nouns)
    return f"{left_out(drawn, _DRAWN_NOUN)}\n{shorter}" if drawn else shorter


def _indented(line: str) -> str:
    """Draw the branches of a line as blanks, half as many."""
    found = _BRANCHES.match(line[:LONG_LINE])
    if found is None:
        return line
    return f"{' ' * (found.end() // 2)}{line[found.end() :].lstrip()}"


def _long_steps(text: str, _context: Context, level: Level) -> Steps:
    lines: list[str] = []
    nouns: list[str | None] = []
    cells = rows = 0
    for batch in batches(text):
        for line in batch:
            row = _LONG.fullmatch(line) if len(line) < LONG_LINE else None
            noun = None
            if row is None:
                rows = 0
            else:
                rows += 1
                if level == "aggressive" and rows > _ENTRIES and not has_failure(line):
                    noun = _ENTRY_NOUN
                elif level == "conservative":
                    line = " ".join(row.groups())
                else:
                    line = " ".join(row.group(1, 5, 7))
                    cells += 4
            lines.append(line)
            nouns.append(noun)
        yield
    shorter = yield from with_marks(lines, nouns)
    return f"{left_out(cells, _CELL_NOUN)}\n{shorter}" if cells else shorter


def _path_steps(text: str, context: Context, level: Level) -> Steps:
    unread = frozenset(name for name in _NOISE.split() if name not in context.command)
    paths = _Paths(
        noise=frozenset() if level == "conservative" else unread,
        entries=_ENTRIES if level == "aggressive" else None,
    )
    for batch in batches(text):
        for line in batch:
            paths.read(line)
        yield
    return paths.end()


@attrs.define(eq=False)
class _Paths:
    """Paths, grouped by folder, in their order."""

    noise: frozenset[str]
    #: So many of a folder stay; None: all.
    entries: int | None
    out: list[str] = attrs.field(factory=list)
    folder: str = ""
    #: The first path of the folder, as long as it is the only one.
    first: str | None = None
    count: int = 0
    repeated: int = 0
    #: What is left out at this place, unless its mark would be longer.
    gone: list[str] = attrs.field(factory=list)

    def read(self, line: str) -> None:
        folder = _folder_of(line, self.noise)
        if folder != self.folder or not folder:
            self._close()
            self.folder = folder
        if folder == _ANY_NOISE:
            self.gone.append(line)
        elif folder in ("", "/", "./"):
            self.out.append(line)
        elif self.count == 0:
            self.first, self.count = line, 1
        else:
            self._add(line)

    def _add(self, line: str) -> None:
        if self.first is not None:
            self.out += [f"{self.folder}:", f"  {self.first[len(self.folder) :]}"]
            self.first = None
        self.count += 1
        self.repeated += 1
        name = f"  {line[len(self.folder) :]}"
        if self.entries is not None and self.count > self.entries and not has_failure(name):
            self.gone.append(name)
        else:
            self._say_gone()
            self.out.append(name)

    def _close(self) -> None:
        self._say_gone()
        if self.first is not None:
            self.out.append(self.first)
        self.first, self.count = None, 0

    def _say_gone(self) -> None:
        if self.gone:
            noun = _NOISE_NOUN if self.folder == _ANY_NOISE else _ENTRY_NOUN
            self.out += shortest(self.gone, left_out(len(self.gone), noun))
            self.gone = []

    def end(self) -> str:
        self._close()
        if self.repeated:
            self.out.insert(0, left_out(self.repeated, _FOLDER_NOUN))
        return "\n".join(self.out)


def _folder_of(line: str, noise: frozenset[str]) -> str:
    """Return the folder that a path is in, empty where the line is none."""
    if len(line) > LONG_LINE or not _PATH.match(line):
        return ""
    if noise and not noise.isdisjoint(line.split("/")) and not has_failure(line):
        return _ANY_NOISE
    return line[: line.rstrip("/").rfind("/") + 1]


COMPRESSOR: Final = Compressor(
    name="listing",
    role=Role.KIND,
    order=5,
    fits=_fits,
    steps=_steps,
    nouns=(_FOLDER_NOUN, _ENTRY_NOUN, _CELL_NOUN, _DRAWN_NOUN, _AGAIN_NOUN, _NOISE_NOUN),
    alone=True,
)
