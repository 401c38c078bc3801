"""Stacks that a sampler saw, added up by rooms and drawn as a flame."""

from __future__ import annotations

import re
from collections import Counter
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs

from benchmarks.rooms import RELAY, is_ours, room_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

#: `name (file)` or `name (file:line)`; both may hold blanks.
_FRAME: Final = re.compile(r"(?P<name>.*) \((?P<file>.*?)(?::(?P<line>\d+))?\)")
#: Below it every stack is the same: how the program was started.
_SCHEDULER: Final = "unrolled_run"
#: A worker thread that waits for work, which py-spy may take for busy.
_WAITING: Final = "WorkerThread._work "
#: Where our own part of a stack is no more than the start of the program.
_START: Final = frozenset({f"{RELAY}/cli", f"{RELAY}/__main__"})
NOBODY: Final = "(the scheduler itself, threads)"

_WIDTH: Final = 1160.0
_LINE: Final = 17
#: A narrower one cannot be seen, let alone read.
_NARROWEST: Final = 0.6
_LETTER: Final = 6.3
#: From the hue of a room's first letters: the same in every picture.
_HUES: Final = 360


@attrs.frozen
class Frame:
    """A function on a stack."""

    name: str
    room: str

    @classmethod
    def read(cls, text: str) -> Frame:
        """Read one frame as py-spy and `observed.py` write it."""
        match = _FRAME.fullmatch(text)
        if match is None:
            return cls(text, room_of(""))
        place = Path(match["file"]).name + (f":{match['line']}" if match["line"] else "")
        return cls(f"{match['name']} ({place})", room_of(match["file"]))

    def __str__(self) -> str:
        return f"{self.room}: {self.name}"


#: From the scheduler inwards.
Stack = tuple[Frame, ...]


def read_stacks(lines: Iterable[str]) -> Counter[Stack]:
    """Read collapsed stacks: `outermost;…;innermost COUNT`, one a line."""
    stacks: Counter[Stack] = Counter()
    for line in lines:
        text, _, times = line.rstrip("\n").rpartition(" ")
        if text:
            frames = tuple(Frame.read(each) for each in text.split(";"))
            if not frames[-1].name.startswith(_WAITING):
                stacks[_without_start(frames)] += int(times)
    return stacks


def _without_start(frames: Stack) -> Stack:
    for number, frame in enumerate(frames):
        if frame.name.startswith(_SCHEDULER):
            return frames[number:]
    return frames


@attrs.frozen
class Share:
    """What a room takes of all samples, 0 to 1."""

    room: str
    #: The innermost function is its own.
    own: float
    #: The innermost function of ours is its own: with the libraries that it calls.
    caused: float


def shares(stacks: Counter[Stack]) -> list[Share]:
    """Return every room's share, the relay's rooms first."""
    own: Counter[str] = Counter()
    caused: Counter[str] = Counter()
    for stack, times in stacks.items():
        own[stack[-1].room] += times
        caused[_cause(stack)] += times
    total = stacks.total() or 1
    rooms = {*own, *caused}
    ordered = sorted(rooms, key=lambda room: (not is_ours(room), -caused[room], -own[room]))
    return [Share(room, own[room] / total, caused[room] / total) for room in ordered]


def _cause(stack: Stack) -> str:
    for frame in reversed(stack):
        if is_ours(frame.room) and frame.room not in _START:
            return frame.room
    return NOBODY


def functions(stacks: Counter[Stack]) -> list[tuple[str, float, float]]:
    """Return functions with their own share and that with all they call; the first are largest."""
    own: Counter[Frame] = Counter()
    within: Counter[Frame] = Counter()
    for stack, times in stacks.items():
        own[stack[-1]] += times
        for frame in set(stack):
            within[frame] += times
    total = stacks.total() or 1
    return [
        (str(frame), times / total, within[frame] / total) for frame, times in own.most_common()
    ]


def collapsed(stacks: Counter[Stack]) -> str:
    """Return the stacks as the usual flame graph programs read them."""
    return "".join(f"{';'.join(map(str, stack))} {times}\n" for stack, times in stacks.items())


@attrs.define
class _Node:
    """A function called in one way, and what it calls."""

    frame: str
    room: str
    times: int = 0
    inner: dict[str, _Node] = attrs.field(factory=dict)


def flame(stacks: Counter[Stack], *, title: str) -> str:
    """Return a page with all stacks, outermost on top: as wide as the share of time."""
    root = _Node("all", "all")
    for stack, times in stacks.items():
        node = root
        node.times += times
        for frame in stack:
            node = node.inner.setdefault(str(frame), _Node(str(frame), frame.room))
            node.times += times
    total = root.times or 1
    parts = list(_drawn(root, 0.0, 0, total))
    depth = max((line for line, _ in parts), default=0) + 1
    height = depth * _LINE + 4
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        "<style>:root{color-scheme:light dark}body{font:14px system-ui,sans-serif;margin:1.5rem}"
        "text{font:11px ui-monospace,monospace;fill:#111;pointer-events:none}"
        "rect:hover{stroke:#000;stroke-width:1.5}</style></head>"
        f"<body><h1>{escape(title)}</h1><p>{total:,} samples; as wide as its share of the CPU time."
        " Point at a function for its name.</p>"
        f'<svg viewBox="0 0 {_WIDTH} {height}" width="100%">'
        f"{''.join(part for _, part in parts)}</svg></body></html>\n"
    )


def _drawn(node: _Node, x: float, line: int, total: int) -> Iterator[tuple[int, str]]:
    """Yield lines and pictures of a function and all it calls."""
    width = _WIDTH * node.times / total
    if width < _NARROWEST:
        return
    y = line * _LINE
    said = escape(f"{node.frame}  {node.times / total:.1%}")
    hue = sum(map(ord, node.room)) * 47 % _HUES
    colour = f"hsl({hue} {75 if is_ours(node.room) else 30}% {68 if is_ours(node.room) else 78}%)"
    picture = (
        f'<rect x="{x:.1f}" y="{y}" width="{max(width - 0.4, 0.3):.1f}" height="{_LINE - 1}" '
        f'rx="1.5" fill="{colour}"><title>{said}</title></rect>'
    )
    letters = int((width - 6) / _LETTER)
    if letters > 3:
        # The colour tells the room.
        short = escape(node.frame.rpartition(": ")[2][:letters])
        picture += f'<text x="{x + 3:.1f}" y="{y + 12}">{short}</text>'
    yield line, picture
    for inner in sorted(node.inner.values(), key=lambda each: -each.times):
        yield from _drawn(inner, x, line + 1, total)
        x += _WIDTH * inner.times / total
