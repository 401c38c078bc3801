"""Progress: of a run of bars, counters and wheels only the last of each kind stays.

`ansi` has dealt with what overwrites itself; here it is lines, as programs write them where they
see no terminal, or move the cursor up.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from codexrelay.compaction.compressors.compressor import (
    Compressor,
    Context,
    Role,
    Steps,
    batches,
    is_failure,
    left_out,
    shortest,
)

if TYPE_CHECKING:
    from codexrelay.compaction.settings import Level

_NOUN: Final = "progress line{s}"
#: Wheels: braille and quarter circles, and the old ones of ASCII before a word.
_WHEEL: Final = r"[⠀-⣿◐-◓◜-◡]"
_DRAWN: Final = "[━╸╺─█▉▊▋▌▍▎▏░▒▓■□▰▱#=]"
_BAR: Final = rf"(?<!{_DRAWN}){_DRAWN}{{4,}}+>?|\[[=#>. *-]{{6,}}+\]|\([=#>.-]{{6,}}+\)|\[\s?>"
_PROGRESS: Final = re.compile(
    rf"""
      \s*{_WHEEL}\s
    | [^\n]{{0,120}}?\b\d{{1,3}}(?:\.\d+)?\s?%[^\n]{{0,20}}(?:{_BAR}|\(\s?[\d.,]+\s?[A-Za-z]*\s?/)
    | [^\n]{{0,120}}?(?:{_BAR})\s?\]?\s{{0,3}}[\d.,]+\s?(?:%|[kKMGTi]{{0,2}}B\b|/)
    | (?:[\w.:/ -]{{0,60}}:\s{{1,6}})\d{{1,3}}\s?%\s\(\d+/\d+\)                   # git
    | [0-9a-f]{{12}}:\s(?:Pulling|Waiting|Verifying|Download|Extracting|Pushing|Preparing) # docker
    | \#\d+\s[\d.]+\s.{{0,40}}\d\s?/\s?[\d.]+\s?[kKMG]?B                             # buildkit
    | \s{{0,8}}(?:\d{{1,3}}\s+[\d.]+[kKMG]?\s+){{3}}                              # curl
      [\d.]+[kKMG]?\s+[\d.]+[kKMG]?\s+[-\d]+:[-\d]+
    | \s*\d+[KMG](?:\s[.,]{{2,10}}){{2,5}}\s+\d+%                                # wget
    | (?:<s>\s)?\[?\d{{1,3}}\s?%\]?\s(?:building|active|sealing|emitting|hashing|reading)\b
    | (?:Downloading|Uploading|Fetching|Progress)\b[^\n]{{0,80}}\b\d{{1,3}}(?:\.\d+)?\s?%
    """,
    re.VERBOSE,
)
_SKELETON: Final = re.compile(r"[^a-zA-Z:]+")
#: What a line must hold, if it is one of progress at all: cheaper to look for than the pattern.
_HINTS: Final = (
    *("%", "====", "####", "[>", "[ >", "[=", "[#", "[.", "--:--", "  0:", " MB / ", "MB/", "kB/"),
    *(": Pul", ": Wai", ": Ver", ": Dow", ": Ext", ": Pus", ": Pre"),
)
_DRAWN_HINTS: Final = tuple("━█▉░▒⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏⣾⣽⣻⢿⡿⣟⣯⣷◐◓◑◒◜◝◞◟")
#: No bar is longer than this.
_LONGEST: Final = 300
#: A longer run is cut into several.
_LONGEST_RUN: Final = 2_000
#: So many kinds of progress in one run are told apart.
_KINDS: Final = 200


def _fits(_sample: str, _context: Context) -> bool:
    return True  # progress is found in front of, behind and between everything else


def _steps(text: str, _context: Context, level: Level) -> Steps:
    kept: list[str] = []
    run: list[str] = []
    last_only = level == "aggressive"
    for lines in batches(text):
        # A very long line is none, and makes a batch of its own.
        if run or (len(lines) > 1 and _may_be_progress("\n".join(lines))):
            for line in lines:
                if len(run) < _LONGEST_RUN and _is_progress(line):
                    run.append(line)
                else:
                    if run:
                        kept += _of_run(run, last_only=last_only)
                        run = []
                    kept.append(line)
        else:
            kept += lines
        yield
    kept += _of_run(run, last_only=last_only)
    return "\n".join(kept)


def _is_progress(line: str) -> bool:
    return (
        len(line) <= _LONGEST
        and _may_be_progress(line)
        and bool(_PROGRESS.match(line))
        and not is_failure(line)
    )


def _may_be_progress(text: str) -> bool:
    return any(hint in text for hint in _HINTS) or (
        not text.isascii() and any(hint in text for hint in _DRAWN_HINTS)
    )


def _of_run(run: list[str], *, last_only: bool) -> list[str]:
    """Return the mark and, in their order, the last lines of each kind; at `last_only` of all."""
    if len(run) < 2:
        return run
    last = {} if last_only else {_look(line): place for place, line in enumerate(run)}
    staying = sorted(last.values())[-_KINDS:] or [len(run) - 1]
    stay = [run[place] for place in staying]
    gone = len(run) - len(stay)
    if not gone:
        return run
    short = [left_out(gone, _NOUN), *stay]
    return short if shortest(run, "\n".join(short)) != run else run


def _look(line: str) -> str:
    return _SKELETON.sub("", line)[:40]


COMPRESSOR: Final = Compressor(
    name="progress", role=Role.REST, order=1, fits=_fits, steps=_steps, nouns=(_NOUN,)
)
