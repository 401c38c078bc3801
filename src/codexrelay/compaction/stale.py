"""Which results in a history a later one has made stale.

A later result makes an earlier one stale if it is one of the same resource (`calls.Resource`) or,
of files, if it shows the lines again that the earlier one showed. What the file was before an edit
in between is stale for the same reason: the newest is the true one. Only a result that tells
something does so: after "file not found", "aborted" or nothing at all, the earlier result is still
the last that is known.

Whether a result is stale hangs on it and on what follows. So it stays stale, whatever is appended.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right, insort
from collections import Counter, defaultdict
from operator import attrgetter
from typing import TYPE_CHECKING, Final, NamedTuple

import attrs

from codexrelay.compaction.calls import Resource, resource_of
from codexrelay.compaction.settings import STUB_MARK

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from codexrelay.compaction.results import Result

#: Characters up to which a result may be no more than a notice.
_NOTICE_CHARACTERS: Final = 600
_NOTICE: Final = re.compile(
    r"""^\W*(?:tool\s+)?(?:(?:execution|call)\s+)?
        (?:errors?|failed|failure|exception|traceback|invalid|cannot|could\ not|unable)\b
      | no\ such\ file | not\ found | (?:does\ not|doesn't)\ exist | not\ permitted
      | \b(?:aborted | interrupted | cancell?ed | denied | rejected | refused)\b
      | time[d\ -]*out | unchanged | not\ changed
      | content\ (?:cleared | removed | omitted) | "error"\s*: | <(?:\w+_)?error>""",
    re.IGNORECASE | re.VERBOSE,
)
#: Codex: the command goes on, and what it puts out comes with later calls.
_UNFINISHED: Final = ("running with session ID", "running with cell ID")
#: How tools say that a file goes on where their result ends, at its head or its tail.
_CUT: Final = (
    "truncated",
    "capped",
    "more lines",
    "use offset",
    "to continue",
    "showing lines",
)
_EDGE_CHARACTERS: Final = 400
#: OpenCode: here it leaves the file, and tells at length what other files say to the model.
_REMINDER: Final = "\n<system-reminder>"
#: So many lines of a cut result may be the tool's own words.
_NOTICE_LINES: Final = 10


class _Shown(NamedTuple):
    """Lines of a file that a result showed, counted from 0, the end not included."""

    first: int
    #: Asked for; endless if no end was given.
    asked: float
    #: Surely shown, if another is to be stale because of it.
    end: int
    #: Perhaps shown, if it is to be stale itself.
    perhaps: int
    identity: str

    def reaches(self, earlier: _Shown) -> bool:
        """Tell whether it goes as far, by what was asked and by what came."""
        return self.asked >= earlier.asked and self.end >= earlier.perhaps


_first: Final = attrgetter("first")
#: A block of a shelf is cut in two when it is twice as long.
_BLOCK: Final = 64


@attrs.define(eq=False)
class _Block:
    """Some of the lines shown, by where they begin."""

    shown: list[_Shown]
    #: The furthest of them.
    asked: float
    end: int

    @staticmethod
    def of(shown: list[_Shown]) -> _Block:
        return _Block(shown, max(one.asked for one in shown), max(one.end for one in shown))

    def reaches(self, earlier: _Shown) -> bool:
        return self.asked >= earlier.asked and self.end >= earlier.perhaps


@attrs.define(eq=False)
class _Shelf:
    """What the later results showed of a file.

    A history may have read one file thousands of times, page by page, forwards or backwards: whole
    blocks are passed over of which none reaches as far.
    """

    #: In order, the first lines of their own are in `starts`.
    blocks: list[_Block] = attrs.field(factory=list)
    starts: list[int] = attrs.field(factory=list)

    def put(self, lines: _Shown) -> None:
        if not self.blocks:
            self.blocks, self.starts = [_Block.of([lines])], [lines.first]
            return
        place = max(bisect_right(self.starts, lines.first) - 1, 0)
        block = self.blocks[place]
        insort(block.shown, lines, key=_first)
        block.asked, block.end = max(block.asked, lines.asked), max(block.end, lines.end)
        halves = [block]
        if len(block.shown) > 2 * _BLOCK:
            halves = [_Block.of(block.shown[:_BLOCK]), _Block.of(block.shown[_BLOCK:])]
        self.blocks[place : place + 1] = halves
        self.starts[place : place + 1] = [half.shown[0].first for half in halves]

    def count_covering(self, lines: _Shown, *, at_most: int) -> int:
        """Count results of other calls that show the lines again, no further than `at_most`."""
        count = 0
        for block in self.blocks[: bisect_right(self.starts, lines.first)]:
            if not block.reaches(lines):
                continue
            for other in block.shown[: bisect_right(block.shown, lines.first, key=_first)]:
                count += other.reaches(lines) and other.identity != lines.identity
                if count >= at_most:
                    return count
        return count


def stale_results(results: Sequence[Result], *, newest: int) -> Iterator[tuple[Result, Resource]]:
    """Yield the results that are stale, from the last to the first.

    A result is stale if at least `newest` later ones make it so.
    """
    equal: Counter[str] = Counter()
    shown: defaultdict[str, _Shelf] = defaultdict(_Shelf)
    for result in reversed(results):
        if result.further or is_stub(result):
            continue
        resource = resource_of(result.call)
        if resource is None:
            continue
        lines = _shown(result, resource)
        later = equal[resource.identity]
        if lines is not None and later < newest:
            later += shown[resource.reader].count_covering(lines, at_most=newest - later)
        if later >= newest:
            yield result, resource
        # One that is stale itself counts too: what it made stale stays so.
        if _tells(result):
            equal[resource.identity] += 1
            if lines is not None:
                shown[resource.reader].put(lines)


def is_stub(result: Result) -> bool:
    """Tell whether the result was made a stub before."""
    return any(text.startswith(STUB_MARK) for text in result.texts)


def _shown(result: Result, resource: Resource) -> _Shown | None:
    """Return which lines of a file the result showed, by what was asked and what came."""
    span = resource.span
    if span is None or result.mixed:
        return None
    shown = [text.partition(_REMINDER)[0] for text in result.texts]
    surely = _lines(shown)
    if any(map(_is_cut, shown)):
        surely = max(surely - _NOTICE_LINES, 0)
    return _Shown(
        first=span.first,
        asked=math.inf if span.end is None else span.end,
        end=span.reach(surely),
        perhaps=span.reach(_lines(result.texts)),
        identity=resource.identity,
    )


def _lines(texts: Sequence[str]) -> int:
    return sum(text.count("\n") + 1 for text in texts)


def _tells(result: Result) -> bool:
    """Tell whether the result says anything of its resource."""
    if result.mixed:
        return True
    head = result.texts[0][:_EDGE_CHARACTERS] if result.texts else ""
    if any(words in head for words in _UNFINISHED):
        return False
    if sum(map(len, result.texts)) > _NOTICE_CHARACTERS:
        return True
    text = "\n".join(result.texts).strip()
    return bool(text) and _NOTICE.search(text) is None


def _is_cut(text: str) -> bool:
    """Tell whether the tool says that the file goes on."""
    edges = f"{text[:_EDGE_CHARACTERS]}\n{text[-_EDGE_CHARACTERS:]}".lower()
    return any(words in edges for words in _CUT)
