"""How tests run a compressor, and what they read off its results."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from codexrelay.compaction.compressors import find_compressors
from codexrelay.compaction.compressors.compressor import Context

if TYPE_CHECKING:
    from collections.abc import Generator

    from codexrelay.compaction.compressors.compressor import Compressor
    from codexrelay.compaction.settings import Level

LEVELS: Final[tuple[Level, ...]] = ("conservative", "balanced", "aggressive")
MEMBERS: Final = {member.name: member for member in find_compressors()}
NOWHERE: Final = Context()
_SAMPLES: Final = Path(__file__).parents[1] / "samples"
_MARK: Final = re.compile(r"\[… ([\d,]+) ([^\n\]]*) left out\]")


def samples() -> dict[str, str]:
    """Return what real programs have put out, by file."""
    files = sorted(path for path in _SAMPLES.iterdir() if path.suffix in (".txt", ".log"))
    return {path.name: path.read_bytes().decode() for path in files}


def driven(steps: Generator[None, None, str]) -> str:
    """Return what the steps come to."""
    while True:
        try:
            next(steps)
        except StopIteration as done:
            result: str = done.value
            return result


def compressed(
    name: str, text: str, level: Level = "conservative", context: Context = NOWHERE
) -> str:
    """Return a text as one compressor leaves it."""
    member: Compressor = MEMBERS[name]
    return driven(member.run(text, context, level))


def told(text: str) -> dict[str, int]:
    """Return how much a text says was left out of it, by what it was (in the singular)."""
    counts: dict[str, int] = {}
    for count, noun in _MARK.findall(text):
        counts[noun] = counts.get(noun, 0) + int(count.replace(",", ""))
    return counts


def lines_told(text: str) -> int:
    """Return how many lines a text was, by what it shows and what it says was left out."""
    shown = [line for line in text.split("\n") if not _MARK.fullmatch(line)]
    total = len(shown)
    for noun, count in told(text).items():
        block = re.search(r"of the (\d+) lines above", noun)
        total += count * (int(block[1]) if block else 1)
    return total
