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
      | time[d\ -]*out | unchanged | not\ changed | "error"\s*: | <(?:\w+_)?error>""",
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


def stale_results(results: Sequence[Result], *, newest: int) -> Iterator[tuple[Result, Resource]]:
    """Yield the results that are stale, from the last to the first.

    A result is stale if at least `newest` later ones make it so.
    """
    equal: Counter[str] = Counter()
    shown: defaultdict[str, list[_Shown]] = defaultdict(list)
    for result in reversed(results):
        if result.further or is_stub(result):
            continue
        resource = resource_of(result.call)
        if resource is None:
            continue
        lines = _shown(result, resource)
        later = equal[resource.identity]
        if lines is not None and later < newest:
            later += _covering(shown[resource.reader], lines)
        if later >= newest:
            yield result, resource
        # One that is stale itself counts too: what it made stale stays so.
        if _tells(result):
            equal[resource.identity] += 1
            if lines is not None:
                insort(shown[resource.reader], lines)


def is_stub(result: Result) -> bool:
    """Tell whether the result was made a stub before."""
    return any(text.startswith(STUB_MARK) for text in result.texts)


def _covering(later: Sequence[_Shown], lines: _Shown) -> int:
    """Count results of other calls that show the lines again. `later` are sorted.

    A history may have read one file a thousand times, page by page: those that begin further down
    are not looked at.
    """
    behind = bisect_right(later, lines.first, key=_first)
    return sum(
        other.reaches(lines) and other.identity != lines.identity for other in later[:behind]
    )


def _shown(result: Result, resource: Resource) -> _Shown | None:
    """Return which lines of a file the result showed, by what was asked and what came."""
    span = resource.span
    if span is None or result.mixed:
        return None
    count = sum(text.count("\n") + 1 for text in result.texts)
    cut = any(map(_is_cut, result.texts))
    surely = max(count - _NOTICE_LINES, 0) if cut else count
    return _Shown(
        first=span.first,
        asked=math.inf if span.end is None else span.end,
        end=span.reach(surely),
        perhaps=span.reach(count),
        identity=resource.identity,
    )


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
