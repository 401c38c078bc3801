"""Repetitions: of equal lines in a row the first stays, with the number of the others.

From `balanced` on also blocks of a few lines that come again and again; at `aggressive` a longer
line that stood anywhere before is left out too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from codexrelay.compaction.compressors.compressor import (
    Compressor,
    Context,
    Role,
    Steps,
    batches,
    is_failure,
    is_mark,
    left_out,
    shortest,
)

if TYPE_CHECKING:
    from collections.abc import Generator

    from codexrelay.compaction.settings import Level

_ABOVE: Final = "repetition{s} of the line above"
_BLOCK: Final = "repetition{s} of the %d lines above"
_BEFORE: Final = "line{s} that stood above"
_LONGEST_BLOCK: Final = 4
#: A block counts from so many times on, a line from so many at each level.
_BLOCK_TIMES: Final = 3
_TIMES: Final[dict[Level, int]] = {"conservative": 3, "balanced": 2, "aggressive": 2}
#: Shorter lines say too little to be looked up further above.
_WORTH_LOOKING_UP: Final = 30
#: So many lines at most are remembered of one text.
_REMEMBERED: Final = 50_000


def _fits(_sample: str, _context: Context) -> bool:
    return True


def _steps(text: str, _context: Context, level: Level) -> Steps:
    folded = yield from _fold_lines(text, _TIMES[level])
    if level != "conservative":
        folded = yield from _fold_blocks(folded)
    if level == "aggressive":
        folded = yield from _fold_all(folded)
    return "\n".join(folded)


@attrs.define(eq=False)
class _Runs:
    """Equal lines in a row."""

    times: int
    lines: list[str] = attrs.field(factory=list)
    line: str = ""
    count: int = 0

    def close(self) -> None:
        if self.count > 1:
            again = [self.line] * (self.count - 1)
            mark = left_out(self.count - 1, _ABOVE)
            self.lines += [self.line, *shortest(again, mark, self.times - 1)]
        elif self.count:
            self.lines.append(self.line)


def _fold_lines(text: str, times: int) -> Generator[None, None, list[str]]:
    runs = _Runs(times)
    for lines in batches(text):
        for line in lines:
            if runs.count and line == runs.line and not is_mark(line):
                runs.count += 1
            else:
                runs.close()
                runs.line, runs.count = line, 1
        yield
    runs.close()
    return runs.lines


def _fold_blocks(lines: list[str]) -> Generator[None, None, list[str]]:
    kept: list[str] = []
    place = done = 0
    while place < len(lines):
        size, times = _block_at(lines, place)
        kept += lines[place : place + size]
        if times > 1:
            rest = lines[place + size : place + size * times]
            kept += shortest(rest, left_out(times - 1, _BLOCK % size))
        place += size * times
        done += times * size
        if done >= 500:
            done = 0
            yield
    return kept


def _block_at(lines: list[str], place: int) -> tuple[int, int]:
    """Return size and number of the block that begins at `place`; 1 and 1 where there is none."""
    for size in range(2, _LONGEST_BLOCK + 1):
        # Almost always the first look says no.
        if place + size >= len(lines) or lines[place] != lines[place + size]:
            continue
        block = lines[place : place + size]
        if any(map(is_mark, block)):
            break
        times, behind = 1, place + size
        while lines[behind : behind + size] == block:
            times, behind = times + 1, behind + size
        if times >= _BLOCK_TIMES:
            return size, times
    return 1, 1


def _fold_all(lines: list[str]) -> Generator[None, None, list[str]]:
    seen: set[str] = set()
    kept: list[str] = []
    run: list[str] = []
    for place, line in enumerate(lines):
        if line in seen:  # which marks and failures never are
            run.append(line)
        else:
            if run:
                kept += shortest(run, left_out(len(run), _BEFORE))
                run = []
            kept.append(line)
            worth = len(line) >= _WORTH_LOOKING_UP and len(seen) < _REMEMBERED
            if worth and not is_mark(line) and not is_failure(line):
                seen.add(line)
        if place % 1_000 == 999:
            yield
    return kept + shortest(run, left_out(len(run), _BEFORE))


COMPRESSOR: Final = Compressor(
    name="repetitions",
    role=Role.REST,
    order=2,
    fits=_fits,
    steps=_steps,
    nouns=(_ABOVE, _BEFORE, *(_BLOCK % size for size in range(2, _LONGEST_BLOCK + 1))),
)
