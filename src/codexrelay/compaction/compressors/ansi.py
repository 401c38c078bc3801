r"""Escape sequences and control characters go; of what a `\r` has overwritten only the last stays.

Both are for terminals: a model sees noise where a person saw colour, or nothing at all. `\r\n` is
the end of a line and stays. A rewrite counts as one where the parts look alike, as counters and
bars do: a file with lone `\r` as line ends keeps its lines, and so does whatever is no rewrite.
"""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING, Final

from codexrelay.compaction.compressors.compressor import (
    LONG_LINE,
    STEP_CHARACTERS,
    Compressor,
    Context,
    Role,
    Steps,
    has_failure,
    is_failure,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from codexrelay.compaction.settings import Level

#: The longest text in an escape sequence (a title, a link) that is taken to belong to it.
_LONGEST: Final = 2_048
#: To the first column, or the whole line gone: what follows overwrites the line, as after `\r`.
_TO_COLUMN_1: Final = re.compile(r"(?:\x1b\[|\x9b)(?:[01]?G|2K)")
_ESCAPES: Final = re.compile(
    rf"""
    (?:\x1b\[|\x9b)[0-?]{{0,64}}[ -/]{{0,8}}[@-~]           # CSI: colours, cursor, erasing
    | (?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])               # OSC, DCS and the like, with a text
      [^\x07\x1b\x9c\n\r]{{0,{_LONGEST}}} (?:\x07|\x1b\\|\x9c)
    | \x1b[ -/]{{1,4}}[0-~]                                 # character sets
    | \x1b[0-Z\\^-~]                                        # the short ones
    | [\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]                 # whatever controls, all but \t \n \r
    """,
    re.VERBOSE,
)
#: Bold and underlined in the manner of typewriters: a character, back, a character.
_OVERSTRUCK: Final = re.compile(r"[^\n\r\x08]\x08")
_CONTROLS: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_PART: Final = re.compile(r"([^\r\n]*)(\r\n|\r|\n|\Z)")
_LETTERS: Final = re.compile(r"[^\W\d_]+")
#: Of so many parts of one line those that are overwritten are dropped at once.
_MANY_PARTS: Final = 600
#: What is rewritten again and again: a share, a count of a number, a bar, a wheel.
_MOVES: Final = re.compile(r"%|\d ?/ ?\d|[━█▉#=.-]{3}|[⠁-⣿◐-◓|/\\-] |\d ?(?:s|[kKMG]i?B)\b")
#: So many letters of a part say whether two parts are the same thing twice.
_ALIKE_LETTERS: Final = 12


def _fits(_sample: str, _context: Context) -> bool:
    return True  # whether there is anything to do shows at once


def _steps(text: str, _context: Context, _level: Level) -> Steps:
    shown: list[str] = []
    for piece in _pieces(text):
        shown.append(_without_escapes(piece) if _CONTROLS.search(piece) else piece)
        yield
    text = "".join(shown)
    if "\r" in text.replace("\r\n", "\n"):
        text = yield from _without_rewrites(text)
    return text


def _pieces(text: str) -> Iterator[str]:
    """Cut a text into pieces of a step, none of them inside an escape sequence."""
    start = 0
    while start < len(text):
        end = min(start + STEP_CHARACTERS, len(text))
        if end < len(text):
            begun = _begun_before(text, end)
            end = begun if begun > start else end
        yield text[start:end]
        start = end


def _begun_before(text: str, end: int) -> int:
    """Return where the last thing begins that may go on behind `end`, -1 if nothing does."""
    if text[end] == "\x08":
        return end - 1
    begun = end
    while (begun := text.rfind("\x1b", end - _LONGEST - 8, begun)) >= 0:
        if text[begun + 1] != "\\":  # which ends one
            return begun
    return -1


def _without_escapes(piece: str) -> str:
    if "\x1b" in piece or "\x9b" in piece:
        piece = _TO_COLUMN_1.sub("\r", piece)
    if "\x08" in piece:
        piece = _OVERSTRUCK.sub("", piece)
    return _ESCAPES.sub("", piece)


def _without_rewrites(text: str) -> Steps:
    shown: list[str] = []
    parts: list[str] = []
    done = 0
    for match in _PART.finditer(text):
        part, end = match.groups()
        if end == "\r":
            parts.append(part)
        else:
            shown += (_last_of_each([*parts, part]) if parts else part, end)
            parts = []
        done += len(part) + 30  # so much a part costs, however short
        if done > STEP_CHARACTERS:
            done = 0
            if len(parts) > _MANY_PARTS:  # one line of rewrites without end
                parts = _kept(parts)
            yield
    return "".join(shown)


def _last_of_each(parts: list[str]) -> str:
    return "\r".join(_kept(parts))


def _kept(parts: list[str]) -> list[str]:
    """Return the last of each run of parts that are alike, and what tells of a failure."""
    kept: list[str] = []
    for _, run in itertools.groupby((part for part in parts if part.strip()), key=_look):
        alike = list(run)
        kept += [part for part in alike[:-1] if has_failure(part)]
        kept.append(alike[-1])
    return kept


def _look(part: str) -> str:
    if is_failure(part) or not _MOVES.search(part):
        return part
    return "".join(_LETTERS.findall(part[:LONG_LINE]))[:_ALIKE_LETTERS]


COMPRESSOR: Final = Compressor(name="ansi", role=Role.SURFACE, order=1, fits=_fits, steps=_steps)
