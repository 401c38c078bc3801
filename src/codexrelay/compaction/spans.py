"""Ranges of lines in the arguments of tools that read files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from codexrelay.protocol.raw import Json

#: Names of the argument that says which file (OpenCode, Droid, pi, Codex, SDK programs).
PATH_KEYS: Final = (
    "filePath",
    "file_path",
    "path",
    "filepath",
    "file",
    "filename",
    "fileName",
    "target_file",
    "absolute_path",
    "relative_path",
)
_START_KEYS: Final = ("start_line", "startLine", "line_start", "start")
_END_KEYS: Final = ("end_line", "endLine", "line_end", "end")
_PAIR_KEYS: Final = ("view_range", "viewRange", "line_range", "lines")
#: Arguments that say which part of a file, in the order in which stubs name them.
RANGE_KEYS: Final = ("offset", "limit", *_START_KEYS, *_END_KEYS, *_PAIR_KEYS)

#: Tools whose `offset` is known to call the first line 1 (OpenCode and pi). All others are taken
#: to call it 0: should that be wrong, a result is kept that could have been left out, and nothing
#: is lost.
_COUNTED_FROM_ONE: Final = frozenset({"read"})


@attrs.frozen
class Span:
    """Lines that a read asked for, counted from 0."""

    #: Path of the file.
    path: str
    first: int
    #: The line before which it ends; None: it goes to the end, or as far as the tool lets it.
    end: int | None

    def reach(self, lines: int) -> int:
        """Return the line before which a result of so many lines ends.

        What a tool writes around the file makes a result longer, hence never beyond `end`.
        """
        return self.first + lines if self.end is None else min(self.first + lines, self.end)


def span_of(name: str, arguments: Mapping[str, Json]) -> Span | None:
    """Return what the tool of this name reads; None: nobody can tell.

    An argument that is neither path nor range may change what a range means: nobody can tell then.
    `arguments` hold no nulls.
    """
    paths = [arguments[key] for key in PATH_KEYS if key in arguments]
    ranges = {key: arguments[key] for key in RANGE_KEYS if key in arguments}
    if len(paths) != 1 or len(ranges) + 1 != len(arguments):
        return None
    path = paths[0]
    lines = _lines_of(name, ranges)
    if not isinstance(path, str) or lines is None:
        return None
    return Span(path, *lines)


def _lines_of(name: str, ranges: Mapping[str, Json]) -> tuple[int, int | None] | None:
    """Return first line and end, counted from 0; None: it is no range that is understood."""
    if not ranges:
        return (0, None)
    if ranges.keys() <= {"offset", "limit"}:
        return _by_offset(name, ranges)
    if len(ranges) == 1:
        pair = next((ranges[key] for key in _PAIR_KEYS if key in ranges), None)
        if isinstance(pair, list):
            return _by_numbers(pair[0], pair[1]) if len(pair) == 2 else None
    starts = [ranges[key] for key in _START_KEYS if key in ranges]
    ends = [ranges[key] for key in _END_KEYS if key in ranges]
    if len(starts) > 1 or len(ends) > 1 or len(starts) + len(ends) != len(ranges):
        return None
    return _by_numbers(starts[0] if starts else 1, ends[0] if ends else -1)


def _by_offset(name: str, ranges: Mapping[str, Json]) -> tuple[int, int | None] | None:
    offset = _whole(ranges.get("offset", 0))
    limit = _whole(ranges["limit"]) if "limit" in ranges else None
    if offset is None or offset < 0 or ("limit" in ranges and (limit is None or limit < 1)):
        return None  # from the end, or nothing at all
    first = max(offset - 1, 0) if name in _COUNTED_FROM_ONE else offset
    return (first, None if limit is None else first + limit)


def _by_numbers(start: Json, end: Json) -> tuple[int, int | None] | None:
    """Both are numbers of lines, from 1, the end included; -1 is the last line."""
    first, last = _whole(start), _whole(end)
    if first is None or last is None or first < 0 or (last != -1 and last < max(first, 1)):
        return None
    return (max(first - 1, 0), None if last == -1 else last)


def _whole(value: Json) -> int | None:
    """Return a whole number, also one that was written as a text."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10:
        return int(value)
    return None
