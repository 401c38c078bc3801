"""Logs: of lines that say the same at different times the first and the last of a run stay.

At `conservative` only the time may differ; from `balanced` on also numbers and ids, and of a line
that comes again and again, others between, only the first ones stay. Of two lines that tell of
failures nothing but the time may differ at any level. Lines without a time or a level (traces,
continuations) stay.
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
    failures_among,
    share,
    with_marks,
)

if TYPE_CHECKING:
    from collections.abc import Generator

    from codexrelay.compaction.settings import Level

_NOUN: Final = "log line{s} like others"
#: So many lines of a kind stay, wherever they stand; None: all of them.
_OF_A_KIND: Final[dict[Level, int | None]] = {
    "conservative": None,
    "balanced": 10,
    "aggressive": 3,
}
#: So many kinds of lines at most are remembered of one text.
_REMEMBERED: Final = 20_000
_SHARE: Final = 0.5
_TIME: Final = (
    r"\d{4}[-/]\d\d[-/]\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?(?:Z| ?[+-]\d\d:?\d\d)?"
    r"|\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d(?: [+-]\d{4})?"
    r"|(?:[A-Z][a-z]{2},? )?[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d(?:[.,]\d{1,6})?"
    r"|\d\d:\d\d:\d\d(?:[.,]\d{1,9})?|[IWEF]\d{4} \d\d:\d\d:\d\d\.\d{6}"
)
_LEVEL: Final = (
    r"(?:TRACE|DEBUG|INFO|NOTICE|WARN(?:ING)?|ERROR|FATAL|CRITICAL|trace|debug|info|warn)"
)
#: A line of a log begins so, behind at most a name, an address or a bracket.
_RECORD: Final = re.compile(
    rf"[^\n]{{0,60}}?(?P<time>{_TIME})|\W{{0,2}}{_LEVEL}\b|[\w.-]{{1,40}} +\| "
)
_CLOCK: Final = re.compile(r"\d\d:\d\d:\d\d")
_HINTS: Final = (
    *("INFO", "DEBUG", "WARN", "ERROR", "TRACE", "NOTICE", "FATAL", "CRITICAL"),
    *("info", "debug", "warn", "trace", " | "),
)
_TIME_BEHIND: Final = re.compile(rf"[^\n]{{0,60}}?(?P<time>{_TIME})")
#: What differs between two lines that say the same: numbers, and the rest of an id in hexadecimal.
_NUMBERS: Final = re.compile(r"[0-9]+")
_AFTER_NUMBERS: Final = re.compile(r"#[a-f#-]+")


def _fits(sample: str, _context: Context) -> bool:
    if not _CLOCK.search(sample) and not any(word in sample for word in _HINTS):
        return False  # which costs less to find out
    return share(_RECORD, sample) >= _SHARE


def _steps(text: str, _context: Context, level: Level) -> Steps:
    lines: list[str] = []
    keys: list[str | None] = []
    for batch in batches(text):
        lines += batch
        keys += _keys(batch, timeless_only=level == "conservative")
        yield
    nouns = yield from _nouns(keys, _OF_A_KIND[level])
    return (yield from with_marks(lines, nouns))


def _keys(lines: list[str], *, timeless_only: bool) -> list[str | None]:
    """Return for each line what it has in common with those that say the same.

    None for a line that always stays.
    """
    if timeless_only:
        return [_timeless(line) for line in lines]
    short = [line if len(line) <= LONG_LINE else "" for line in lines]
    alike = _AFTER_NUMBERS.sub("#", _NUMBERS.sub("#", "\n".join(short))).split("\n")
    return [
        _timeless(line) if failing else key if _RECORD.match(line) else None
        for line, key, failing in zip(lines, alike, failures_among(lines), strict=True)
    ]


def _timeless(line: str) -> str | None:
    """Return a line without its time, None if it is no line of a log."""
    if not line or len(line) > LONG_LINE:
        return None
    record = _RECORD.match(line)
    if record is None:
        return None
    # Behind a level, or the name of a container, there may be a time too.
    timed = record if record["time"] else _TIME_BEHIND.match(line)
    return f"{line[: timed.start('time')]}{line[timed.end('time') :]}" if timed else line


def _nouns(
    keys: list[str | None], of_a_kind: int | None
) -> Generator[None, None, list[str | None]]:
    nouns: list[str | None] = []
    seen: dict[str, int] = {}
    for place, key in enumerate(keys):
        before = keys[place - 1] if place else None
        behind = keys[place + 1] if place + 1 < len(keys) else None
        noun = None
        if key is not None:
            count = seen.get(key, 0)
            if key == before == behind or (of_a_kind is not None and count >= of_a_kind):
                noun = _NOUN
            if count or len(seen) < _REMEMBERED:
                seen[key] = count + 1
        nouns.append(noun)
        if place % 2_000 == 1_999:
            yield
    return nouns


COMPRESSOR: Final = Compressor(
    name="log", role=Role.KIND, order=6, fits=_fits, steps=_steps, nouns=(_NOUN,)
)
